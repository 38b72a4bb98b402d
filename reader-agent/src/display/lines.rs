//! What stands on two lines of twenty characters?

use crate::scene::Scene;
use crate::words::Words;

/// Characters in a line.
pub const COLUMNS: usize = 20;

/// Upper and lower line, each of at most [`COLUMNS`] characters.
pub type Lines = [String; 2];

/// The amount above, what to do about it below.
pub fn lines(scene: &Scene, words: Words, shop: Option<&str>) -> Lines {
    let nothing = String::new;
    let [upper, lower] = match scene.screen {
        "idle" => [shop.unwrap_or(words.idle()).into(), code(scene, words)],
        "standing" | "offered" => [amount(scene, words.brief_pay(), words), code(scene, words)],
        "offline" if scene.link.is_some() || scene.code.is_some() => {
            [amount(scene, words.brief_pay(), words), code(scene, words)]
        }
        "held" => [
            amount(scene, words.brief_held(), words),
            number(scene, words),
        ],
        "paid" => [amount(scene, words.paid(), words), number(scene, words)],
        "ended" => [
            amount(scene, words.ended(), words),
            words.brief_nothing().into(),
        ],
        "out-of-service" => [words.out_of_service().into(), words.brief_out().into()],
        _ => [scene.title.into(), nothing()],
    };
    [clip(&upper), clip(&lower)]
}

/// A word on the left, the amount on the right; a long amount alone.
fn amount(scene: &Scene, word: &str, words: Words) -> String {
    match &scene.amount {
        Some(it) => spread(word, &format!("{} {}", it.number, it.currency)),
        None => words.brief_pay_open().into(),
    }
}

fn number(scene: &Scene, words: Words) -> String {
    let mark = scene.mark.map(|mark| mark.to_string());
    spread(words.your_number(), &mark.unwrap_or_default())
}

fn code(scene: &Scene, words: Words) -> String {
    match (&scene.code, &scene.link) {
        (Some(code), _) => centred(&code.text),
        (None, Some(_)) => words.scan_how().into(),
        (None, None) => words.brief_boundary().into(),
    }
}

fn spread(left: &str, right: &str) -> String {
    let (taken, wide) = (left.chars().count() + 1, right.chars().count());
    match COLUMNS.checked_sub(taken) {
        Some(room) if room >= wide => format!("{left} {right:>room$}"),
        _ => format!("{right:>COLUMNS$}"),
    }
}

fn centred(text: &str) -> String {
    format!("{text:^COLUMNS$}")
}

fn clip(text: &str) -> String {
    text.chars().take(COLUMNS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::boards;
    use crate::words::Language;

    fn of(name: &str, language: Language) -> Lines {
        let scene = Scene::of(&boards::board(name), language);
        lines(&scene, Words(language), None)
    }

    #[test]
    fn every_state_says_amount_and_what_to_do() {
        for (name, english, french) in [
            (
                "idle",
                ["Ready", " 48201-93746-02915  "],
                ["Prêt", " 48201-93746-02915  "],
            ),
            (
                "offered",
                ["To pay      4.20 EUR", " 48201-93746-02915  "],
                ["À payer     4,20 EUR", " 48201-93746-02915  "],
            ),
            (
                "offered-long",
                ["   12,345,678.90 EUR", " 48201-93746-02915  "],
                ["   12\u{202f}345\u{202f}678,90 EUR", " 48201-93746-02915  "],
            ),
            (
                "offered-boundary",
                ["To pay      4.20 EUR", "New code soon"],
                ["À payer     4,20 EUR", "Nouveau code bientôt"],
            ),
            (
                "standing-open",
                ["Amount on phone", " 48201-93746-02915  "],
                ["Montant au tél.", " 48201-93746-02915  "],
            ),
            (
                "held",
                ["Approve     4.20 EUR", "Your number       07"],
                ["Approuvez   4,20 EUR", "Votre nombre      07"],
            ),
            (
                "paid",
                ["Paid        4.20 EUR", "Your number       07"],
                ["Payé        4,20 EUR", "Votre nombre      07"],
            ),
            (
                "ended-declined",
                ["Not paid    4.20 EUR", "Nothing was charged."],
                ["Non payé    4,20 EUR", "Rien n’a été débité"],
            ),
            ("offline", ["No connection", ""], ["Pas de connexion", ""]),
            (
                "offline-standing",
                ["To pay      3.50 EUR", " 48201-93746-02915  "],
                ["À payer     3,50 EUR", " 48201-93746-02915  "],
            ),
            (
                "out-of-service",
                ["Out of service", "Pay another way"],
                ["Hors service", "Payer autrement"],
            ),
        ] {
            assert_eq!(of(name, Language::English), english, "{name}");
            assert_eq!(of(name, Language::French), french, "{name}");
        }
    }

    #[test]
    fn nothing_is_longer_than_a_line() {
        for (name, board) in boards::ALL {
            for language in Language::ALL {
                let scene = Scene::of(&board(), language);
                let long = "A shop with a name of thirty-two";
                for line in lines(&scene, Words(language), Some(long)) {
                    assert!(line.chars().count() <= COLUMNS, "{name}: {line}");
                }
            }
        }
        assert_eq!(
            spread("To pay", "1,000,000,000.00 EUR"),
            "1,000,000,000.00 EUR"
        );
    }
}
