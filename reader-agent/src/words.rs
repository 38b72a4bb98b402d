//! In which language do the screens speak, and what do they say?
//!
//! Every sentence is one line with a column per language: a missing translation does not compile.

use protocol::money::Money;
use serde::Deserialize;

/// The languages there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum Language {
    #[default]
    #[serde(rename = "en")]
    English,
    #[serde(rename = "fr")]
    French,
}

/// All sentences, in one language.
#[derive(Debug, Clone, Copy)]
pub struct Words(pub Language);

impl Language {
    pub const ALL: [Self; 2] = [Self::English, Self::French];

    /// BCP 47, for the `lang` attribute.
    pub fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::French => "fr",
        }
    }

    /// Where its lines begin, for the `dir` attribute. The style sheet knows no left and no right.
    pub fn direction(self) -> &'static str {
        match self {
            Self::English | Self::French => "ltr",
        }
    }

    fn decimal_mark(self) -> char {
        match self {
            Self::English => '.',
            Self::French => ',',
        }
    }

    /// Between thousands; in French a narrow space that does not break.
    fn group_mark(self) -> char {
        match self {
            Self::English => ',',
            Self::French => '\u{202f}',
        }
    }
}

/// An amount as people write it, in two parts so that the number can be large.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figure {
    pub number: String,
    pub currency: String,
}

impl Figure {
    pub fn of(money: Money, language: Language) -> Self {
        let exponent = money.currency().exponent();
        let unit = 10i64.pow(exponent);
        let mut number = grouped(money.amount_minor() / unit, language.group_mark());
        if exponent > 0 {
            let (mark, width) = (language.decimal_mark(), exponent as usize);
            number += &format!("{mark}{:0width$}", money.amount_minor() % unit);
        }
        Self {
            number,
            currency: money.currency().to_string(),
        }
    }
}

fn grouped(whole: i64, mark: char) -> String {
    let digits = whole.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(mark);
        }
        text.push(digit);
    }
    text
}

macro_rules! sentences {
    ($($name:ident $english:literal $french:literal;)+) => {
        impl Words {
            $(pub fn $name(self) -> &'static str {
                match self.0 {
                    Language::English => $english,
                    Language::French => $french,
                }
            })+
        }
    };
}

sentences! {
    // what the terminal says
    starting "One moment" "Un instant";
    starting_note "Connecting to the payment service." "Connexion au service de paiement.";
    idle "Ready" "Prêt";
    idle_note "When the amount is shown, tap, scan or type." "Quand le montant s’affiche : approchez, scannez ou tapez.";
    pay "Tap, scan or type to pay" "Approchez, scannez ou tapez pour payer";
    pay_open_note "You choose the amount on your phone." "Vous choisissez le montant sur votre téléphone.";
    boundary_note "A new code appears in a moment." "Un nouveau code apparaît dans un instant.";
    held "Continue on your phone" "Continuez sur votre téléphone";
    held_note "Compare amount and number with your phone before you approve." "Comparez montant et nombre avec votre téléphone avant d’approuver.";
    paid "Paid" "Payé";
    paid_note "Thank you." "Merci.";
    ended "Not paid" "Non payé";
    cancelled_note "The payment was cancelled. Nothing was charged." "Le paiement a été annulé. Rien n’a été débité.";
    released_note "The payment was not approved. Nothing was charged." "Le paiement n’a pas été approuvé. Rien n’a été débité.";
    expired_note "The time for this payment is over. Nothing was charged." "Le temps pour ce paiement est écoulé. Rien n’a été débité.";
    offline_pay_note "No connection here: only your phone shows whether it was paid." "Pas de connexion ici : seul votre téléphone dit si c’est payé.";
    offline "No connection" "Pas de connexion";
    offline_note "Payment is not possible at the moment. This screen continues by itself." "Le paiement est impossible pour le moment. Cet écran reprend de lui-même.";
    stranger_note "Something else answers in place of the payment service. Does this network ask you to sign in?" "Autre chose répond à la place du service de paiement. Ce réseau demande-t-il une connexion ?";
    out_of_service "Out of service" "Hors service";
    out_of_service_note "Please ask for another way to pay." "Demandez un autre moyen de payer.";

    // on two lines of twenty characters
    brief_pay "To pay" "À payer";
    brief_pay_open "Amount on phone" "Montant au tél.";
    brief_boundary "New code soon" "Nouveau code bientôt";
    brief_held "Approve" "Approuvez";
    brief_nothing "Nothing was charged." "Rien n’a été débité";
    brief_out "Pay another way" "Payer autrement";

    // what stands around it
    page_title "Pay here" "Payez ici";
    terminal "Terminal" "Terminal";
    no_connection "no connection" "pas de connexion";
    your_number "Your number" "Votre nombre";
    qr_label "QR code of this payment" "Code QR de ce paiement";
    scan_how "Scan or tap" "Scannez ou approchez";
    type_how "or type this code" "ou tapez ce code";
    type_how_at "or type this code at" "ou tapez ce code sur";
    window_small "Make this window larger for the QR code." "Agrandissez cette fenêtre pour le code QR.";
    agent_gone "The agent does not answer" "L’agent ne répond pas";
    alone_note "This screen continues by itself." "Cet écran reprend de lui-même.";
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn number(minor: i64, currency: &str, language: Language) -> String {
        let money = Money::new(minor, currency.parse().unwrap()).unwrap();
        Figure::of(money, language).number
    }

    #[test]
    fn amounts_are_written_as_the_shoppers_phone_writes_them() {
        for (minor, currency, english, french) in [
            (420, "EUR", "4.20", "4,20"),
            (420, "JPY", "420", "420"),
            (5, "KWD", "0.005", "0,005"),
            (100_000, "EUR", "1,000.00", "1\u{202f}000,00"),
            (
                123_456_789,
                "EUR",
                "1,234,567.89",
                "1\u{202f}234\u{202f}567,89",
            ),
        ] {
            assert_eq!(number(minor, currency, Language::English), english);
            assert_eq!(number(minor, currency, Language::French), french);
        }
    }
}
