//! In which language does a page speak, and what does it say?
//!
//! Every sentence is one line of one table with a column per language: a missing translation does not
//! compile, and a sentence nobody shows is a warning.

use std::fmt::Display;

mod refusals;
mod table;

pub(super) use refusals::Refusal;

/// The cookie that holds a choice of language, and nothing else.
pub(in crate::http::pages) const LANGUAGE_COOKIE: &str = "__Host-m2key-language";

/// The languages there are; the first is for whoever asks for none of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http::pages) enum Language {
    English,
    French,
}

/// All sentences, in one language.
#[derive(Debug, Clone, Copy)]
pub(super) struct Words(pub(super) Language);

impl Language {
    pub(in crate::http::pages) const ALL: [Self; 2] = [Self::English, Self::French];

    /// BCP 47, for `lang` attributes and the cookie.
    pub(in crate::http::pages) fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::French => "fr",
        }
    }

    /// What its readers call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::English => "English",
            Self::French => "Français",
        }
    }

    /// Where its lines begin, for `dir` attributes. The style sheet knows no left and no right.
    pub(super) fn direction(self) -> &'static str {
        match self {
            Self::English | Self::French => "ltr",
        }
    }

    pub(in crate::http::pages) fn of_tag(tag: &str) -> Option<Self> {
        let primary = tag.split('-').next().unwrap_or_default();
        let known = |it: &Self| it.tag().eq_ignore_ascii_case(primary);
        Self::ALL.into_iter().find(known)
    }

    /// The best of ours for an `Accept-Language` header (RFC 9110, section 12.5.4).
    pub(in crate::http::pages) fn negotiate(accept: &str) -> Self {
        let mut best = (Self::ALL[0], 0);
        for range in accept.split(',').take(RANGES_MAX) {
            let (tag, quality) = weigh(range);
            if let Some(language) = Self::of_tag(tag)
                && quality > best.1
            {
                best = (language, quality);
            }
        }
        best.0
    }
}

/// Ranges of a header that are read; browsers send fewer than ten.
const RANGES_MAX: usize = 32;

/// Tag and weight in thousandths; a weight that cannot be read counts as none.
fn weigh(range: &str) -> (&str, u16) {
    let (tag, parameters) = range.split_once(';').unwrap_or((range, ""));
    let weight = match parameters.trim().strip_prefix("q=") {
        None => 1000,
        Some(text) => text.trim().parse::<f32>().map_or(0, thousandths),
    };
    (tag.trim(), weight)
}

fn thousandths(quality: f32) -> u16 {
    (quality.clamp(0.0, 1.0) * 1000.0) as u16
}

/// One method per sentence, and in it one arm per language.
macro_rules! sentences {
    ($($name:ident $(($($blank:ident),+))? $english:literal $french:literal;)+) => {
        impl $crate::http::pages::words::Words {
            $($crate::http::pages::words::sentence!($name $(($($blank),+))? $english $french);)+
        }
    };
}

macro_rules! sentence {
    ($name:ident $english:literal $french:literal) => {
        pub(in crate::http::pages) fn $name(self) -> &'static str {
            match self.0 {
                $crate::http::pages::words::Language::English => $english,
                $crate::http::pages::words::Language::French => $french,
            }
        }
    };
    ($name:ident ($($blank:ident),+) $english:literal $french:literal) => {
        pub(in crate::http::pages) fn $name(self, $($blank: impl std::fmt::Display),+) -> String {
            match self.0 {
                $crate::http::pages::words::Language::English => format!($english),
                $crate::http::pages::words::Language::French => format!($french),
            }
        }
    };
}
use {sentence, sentences};

impl Words {
    /// `1 minute`, `4 minutes`: the plural as the language counts.
    fn counted(self, number: u64, one: impl Display, many: impl Display) -> String {
        let singular = match self.0 {
            Language::English => number == 1,
            Language::French => number < 2,
        };
        match singular {
            true => format!("{number}\u{a0}{one}"),
            false => format!("{number}\u{a0}{many}"),
        }
    }

    /// A time to wait, in words: `40 seconds`, `4 minutes`.
    pub(super) fn duration(self, seconds: u64) -> String {
        match seconds {
            0..90 => self.counted(seconds, self.second(), self.seconds()),
            _ => {
                let minutes = seconds.div_ceil(60);
                self.counted(minutes, self.minute(), self.minutes())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_is_the_best_of_ours_that_the_browser_asks_for() {
        let cases = [
            ("", Language::English),
            ("fr", Language::French),
            ("fr-CA,fr;q=0.9,en;q=0.8", Language::French),
            ("en;q=0.3,fr;q=0.7", Language::French),
            ("de,ar;q=0.9", Language::English),
            ("fr;q=0", Language::English),
            ("fr;q=nonsense,en;q=0.1", Language::English),
            ("*", Language::English),
        ];
        for (accept, expected) in cases {
            assert_eq!(Language::negotiate(accept), expected, "{accept:?}");
        }
    }

    #[test]
    fn who_deletes_a_profile_reads_how_long_something_stays() {
        let days = crate::store::PARTED_KEPT_MS / (24 * 3_600_000);
        for language in [Language::English, Language::French] {
            let note = Words(language).me_delete_note();
            assert!(note.contains(&format!("{days} ")), "{note}");
        }
    }

    #[test]
    fn times_are_counted_as_the_language_counts() {
        let (english, french) = (Words(Language::English), Words(Language::French));
        assert_eq!(english.duration(1), "1\u{a0}second");
        assert_eq!(english.duration(0), "0\u{a0}seconds");
        assert_eq!(french.duration(0), "0\u{a0}seconde");
        assert_eq!(english.duration(89), "89\u{a0}seconds");
        assert_eq!(english.duration(241), "5\u{a0}minutes");
    }
}
