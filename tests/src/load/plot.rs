//! What does a run look like? One picture as SVG: latency by percentile, and payments over time.
//!
//! The same numbers are always the same bytes, and never more than a few kilobytes.

use hdrhistogram::Histogram;

use super::record::{Second, ms};

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 28.0;
const TOP: f64 = 36.0;
const BOTTOM: f64 = 44.0;
/// Points of one line; a longer run is told in longer steps.
const POINTS_MAX: usize = 120;
/// How far the percentiles go: one in ten thousand.
const NINES: f64 = 4.0;
const COLOURS: [&str; 4] = ["#c0392b", "#2471a3", "#1e8449", "#7d3c98"];

/// One line of a picture, and what it is.
pub struct Line {
    pub name: String,
    /// Within 0 to 1 on both axes.
    points: Vec<(f64, f64)>,
}

/// One picture with its axes.
pub struct Picture {
    title: String,
    lines: Vec<Line>,
    /// Place within 0 to 1, and what stands there.
    across: Vec<(f64, String)>,
    up: Vec<(f64, String)>,
}

/// Latency by percentile, milliseconds on a scale of powers of ten. A line ends where there are no more values.
pub fn by_percentile(title: &str, all: &[(&str, &Histogram<u64>)]) -> Picture {
    let present = || all.iter().filter(|(_, it)| !it.is_empty());
    let least = present()
        .map(|(_, it)| it.min())
        .min()
        .unwrap_or(1_000)
        .max(1);
    let most = present()
        .map(|(_, it)| it.max())
        .max()
        .unwrap_or(1_000)
        .max(2);
    let (low, high) = (ms(least).log10().floor(), ms(most).log10().ceil());
    let high = high.max(low + 1.0);
    let place = |us: u64| (ms(us.max(1)).log10() - low) / (high - low);
    let lines = present().map(|(name, histogram)| Line {
        name: (*name).into(),
        points: (0..=POINTS_MAX)
            .map(|n| n as f64 / POINTS_MAX as f64)
            .map(|x| {
                (
                    x,
                    histogram.value_at_quantile(1.0 - 10_f64.powf(-x * NINES)),
                )
            })
            .map(|(x, us)| (x, place(us)))
            .collect(),
    });
    let nines = ["0", "90", "99", "99.9", "99.99"];
    let across = nines.iter().enumerate();
    let powers = (low as i32)..=(high as i32);
    Picture {
        title: format!("{title}: milliseconds by percentile"),
        lines: lines.collect(),
        across: across
            .map(|(n, text)| (n as f64 / NINES, format!("{text} %")))
            .collect(),
        up: powers
            .map(|power| {
                let text = format!("{}", 10_f64.powi(power));
                ((f64::from(power) - low) / (high - low), text)
            })
            .collect(),
    }
}

/// Payments per second that were wanted, and that were made.
pub fn over_time(title: &str, seconds: &[Second]) -> Picture {
    let step = seconds.len().div_ceil(POINTS_MAX).max(1);
    let steps: Vec<_> = seconds.chunks(step).collect();
    let per_second = |of: fn(&Second) -> u64| -> Vec<f64> {
        let mean = |some: &&[Second]| some.iter().map(of).sum::<u64>() as f64 / some.len() as f64;
        steps.iter().map(mean).collect()
    };
    let (wanted, paid) = (per_second(|it| it.wanted), per_second(|it| it.paid));
    let most = wanted
        .iter()
        .chain(&paid)
        .fold(1.0, |most: f64, it| most.max(*it));
    let most = rounded_up(most);
    let last = (steps.len().saturating_sub(1)).max(1) as f64;
    let line = |name: &str, rates: &[f64]| Line {
        name: name.into(),
        points: rates
            .iter()
            .enumerate()
            .map(|(n, rate)| (n as f64 / last, rate / most))
            .collect(),
    };
    let fifths = (0..=5).map(|n| f64::from(n) / 5.0);
    let all_s = seconds.len() as f64;
    Picture {
        title: format!("{title}: payments per second over time"),
        lines: vec![line("wanted", &wanted), line("paid", &paid)],
        across: fifths
            .clone()
            .map(|share| (share, format!("{:.0} s", share * all_s)))
            .collect(),
        up: fifths
            .map(|share| (share, format!("{:.0}", share * most)))
            .collect(),
    }
}

/// The pictures below each other.
pub fn svg(pictures: &[Picture]) -> String {
    let height = HEIGHT * pictures.len() as f64;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"11\" fill=\"#333\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n"
    );
    for (number, picture) in pictures.iter().enumerate() {
        text += &format!(
            "<g transform=\"translate(0 {})\">\n",
            HEIGHT * number as f64
        );
        text += &picture.drawn();
        text += "</g>\n";
    }
    text + "</svg>\n"
}

impl Picture {
    fn drawn(&self) -> String {
        let mut text = format!(
            "<text x=\"{LEFT}\" y=\"18\" font-size=\"13\">{}</text>\n",
            escaped(&self.title)
        );
        for (place, label) in &self.up {
            let y = y_of(*place);
            text += &format!(
                "<path d=\"M{LEFT} {y:.1}H{:.1}\" stroke=\"#ddd\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n",
                WIDTH - RIGHT,
                LEFT - 6.0,
                y + 4.0,
                escaped(label)
            );
        }
        for (place, label) in &self.across {
            text += &format!(
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n",
                x_of(*place),
                HEIGHT - BOTTOM + 16.0,
                escaped(label)
            );
        }
        for (number, line) in self.lines.iter().enumerate() {
            text += &line.drawn(number);
        }
        text
    }
}

impl Line {
    fn drawn(&self, number: usize) -> String {
        let colour = COLOURS[number % COLOURS.len()];
        let point = |(x, y): &(f64, f64)| format!("{:.1} {:.1}", x_of(*x), y_of(*y));
        let points: Vec<_> = self.points.iter().map(point).collect();
        let legend_x = LEFT + 150.0 * number as f64;
        format!(
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\" points=\"{}\"/>\n\
             <text x=\"{legend_x}\" y=\"{:.1}\" fill=\"{colour}\">{}</text>\n",
            points.join(" "),
            HEIGHT - 8.0,
            escaped(&self.name)
        )
    }
}

fn x_of(share: f64) -> f64 {
    LEFT + share * (WIDTH - LEFT - RIGHT)
}

fn y_of(share: f64) -> f64 {
    HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)
}

/// The next 1, 2 or 5 with as many noughts as it takes.
fn rounded_up(most: f64) -> f64 {
    let power = 10_f64.powf(most.log10().floor());
    let round = [1.0, 2.0, 5.0].into_iter().find(|it| it * power >= most);
    round.unwrap_or(10.0) * power
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::record::{Both, Lap};
    use std::time::Duration;

    fn both() -> Both {
        let mut both = Both::default();
        for n in 1..=1_000 {
            both.add(&Lap {
                due: Duration::ZERO,
                sent: Duration::ZERO,
                done: Duration::from_millis(n),
            });
        }
        both
    }

    fn picture() -> String {
        let both = both();
        let all = [
            ("from the intent", &both.from_intent),
            ("from the send", &both.from_send),
        ];
        let seconds: Vec<_> = (0..4_000)
            .map(|n| Second {
                wanted: n % 7,
                paid: n % 5,
            })
            .collect();
        svg(&[by_percentile("a & b", &all), over_time("a < b", &seconds)])
    }

    /// Every number of every line, as places on the picture.
    fn points(svg: &str) -> Vec<Vec<f64>> {
        let lines = svg.split("points=\"").skip(1);
        let numbers = |line: &str| {
            let until = line.split('"').next().unwrap();
            until.split(' ').map(|it| it.parse().unwrap()).collect()
        };
        lines.map(numbers).collect()
    }

    #[test]
    fn the_same_numbers_are_the_same_bytes_and_few() {
        assert_eq!(picture(), picture());
        assert!(picture().len() < 16_000, "{}", picture().len());
    }

    #[test]
    fn every_line_lies_within_the_picture() {
        let lines = points(&picture());
        assert_eq!(lines.len(), 4);
        for line in lines {
            assert!(line.len() <= 2 * (POINTS_MAX + 1));
            assert!(
                line.chunks(2)
                    .all(|at| (LEFT..=WIDTH - RIGHT).contains(&at[0]))
            );
            assert!(
                line.chunks(2)
                    .all(|at| (TOP..=HEIGHT - BOTTOM).contains(&at[1]))
            );
        }
    }

    #[test]
    fn latency_rises_with_the_percentile_and_text_is_escaped() {
        let svg = picture();
        let line = points(&svg).remove(0);
        let heights: Vec<_> = line.chunks(2).map(|at| at[1]).collect();
        assert!(heights.windows(2).all(|two| two[1] <= two[0]));
        assert!(svg.contains("a &amp; b") && svg.contains("a &lt; b"));
        let (opened, closed) = (svg.matches("<g ").count(), svg.matches("</g>").count());
        assert_eq!((opened, closed), (2, 2));
    }

    #[test]
    fn a_run_of_nothing_is_a_picture_too() {
        let none = Both::default().from_send;
        let svg = svg(&[
            by_percentile("none", &[("none", &none)]),
            over_time("none", &[]),
        ]);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn axes_end_at_round_numbers() {
        for (most, round) in [(1.0, 1.0), (3.0, 5.0), (7.0, 10.0), (120.0, 200.0)] {
            assert!((rounded_up(most) - round).abs() < 1e-9, "{most}");
        }
    }
}
