//! What is the shopper told, in one SMS?
//!
//! Every text fits into one SMS of the default alphabet as long as the payee's name does; so French here
//! has no ç and no ê. What is not yet sent is kept as a [`Say`], which holds neither phone number nor the
//! number that approves.

use std::fmt;
use std::str::FromStr;

use protocol::charge::Mark;
use protocol::ids::ReceiptId;
use protocol::money::Money;
use serde::{Deserialize, Serialize};

use super::one_time::OneTime;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    #[default]
    En,
    Fr,
}

impl Language {
    pub const fn name(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::Fr => "fr",
        }
    }
}

impl FromStr for Language {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "en" => Ok(Self::En),
            "fr" => Ok(Self::Fr),
            _ => Err("en or fr"),
        }
    }
}

/// What is said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Say {
    /// The one with the number in it.
    Offer {
        amount: Money,
        payee: String,
        mark: Mark,
        minutes: u32,
    },
    HowMuch {
        payee: String,
        cap: Money,
    },
    Paid {
        amount: Money,
        payee: String,
        receipt: ReceiptId,
        mark: Mark,
    },
    /// The rail takes its time, and a text will follow.
    Pending,
    NotPaid(Why),
    Wrong {
        left: u32,
    },
    HowToReply,
    NothingOpen,
    Help,
    Ended,
    Stopped,
}

/// Why nothing was paid, and so what the shopper can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// The code has so many digits.
    Digits(usize),
    Slip,
    AmountUnclear,
    CodeUnknown,
    CodeSpent,
    /// Too many wrong codes.
    Wait,
    NothingToPay,
    SomebodyElse,
    OutOfService,
    /// The till asks for this instead.
    AmountDiffers(Money),
    OverPayment(Money),
    OverMonth(Money),
    OverCap(Money),
    Currency,
    NoAccount,
    Declined,
    /// A lock or a limit of the shopper's own.
    Barred,
    /// The carrier did not answer in time.
    Silent,
    Late,
    WrongTooOften,
    /// Too many wrong numbers today.
    Locked,
    Unavailable,
}

impl Say {
    /// The text. `number` is the one of an offer.
    pub fn text(&self, language: Language, number: Option<&OneTime>) -> String {
        match language {
            Language::En => self.english(number),
            Language::Fr => self.french(number),
        }
    }

    /// What the database calls it.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Offer { .. } => "offer",
            Self::HowMuch { .. } => "how-much",
            Self::Paid { .. } => "paid",
            Self::Pending => "pending",
            Self::NotPaid(_) => "not-paid",
            Self::Wrong { .. } => "wrong",
            Self::HowToReply => "how-to-reply",
            Self::NothingOpen => "nothing-open",
            Self::Help => "help",
            Self::Ended => "ended",
            Self::Stopped => "stopped",
        }
    }

    fn english(&self, number: Option<&OneTime>) -> String {
        match self {
            Self::Offer {
                amount,
                payee,
                mark,
                minutes,
            } => format!(
                "Pay {amount} to {payee}? Reply {} within {minutes} min, or NO. Mark {mark}. It goes on \
                 your phone bill.",
                shown(number)
            ),
            Self::HowMuch { payee, cap } => {
                format!("How much to {payee}? Reply with the amount, at most {cap}, or NO.")
            }
            Self::Paid {
                amount,
                payee,
                receipt,
                mark,
            } => format!(
                "Paid {amount} to {payee}, mark {mark}. Receipt {receipt}. It is on your phone bill."
            ),
            Self::Pending => "Your payment is being made. We will tell you when it is.".into(),
            Self::NotPaid(why) => format!("Nothing was paid. {}", why.english()),
            Self::Wrong { left: 1 } => "That is not the number we sent. One more try.".into(),
            Self::Wrong { left } => {
                format!("That is not the number we sent. {left} more tries.")
            }
            Self::HowToReply => {
                "To pay, reply with the number we sent and nothing else. To stop, reply NO.".into()
            }
            Self::NothingOpen => {
                "There is nothing to approve. Text the code on the screen first.".into()
            }
            Self::Help => {
                "Text the code on the screen (15 digits), and the amount if the screen asks for \
                it: 4.20 12345 67890 12345. We answer before anything is paid. NO, STOP, FR."
                    .into()
            }
            Self::Ended => "Nothing was paid.".into(),
            Self::Stopped => {
                "Nothing was paid, and we write no more until you text a code again.".into()
            }
        }
    }

    fn french(&self, number: Option<&OneTime>) -> String {
        match self {
            Self::Offer {
                amount,
                payee,
                mark,
                minutes,
            } => format!(
                "Payer {} à {payee} ? Répondez {} avant {minutes} min, ou NON. Repère {mark}. Sera sur \
                 votre facture mobile.",
                comma(*amount),
                shown(number)
            ),
            Self::HowMuch { payee, cap } => format!(
                "Combien pour {payee} ? Répondez le montant, {} au plus, ou NON.",
                comma(*cap)
            ),
            Self::Paid {
                amount,
                payee,
                receipt,
                mark,
            } => format!(
                "Payé {} à {payee}, repère {mark}. Quittance {receipt}. Sur votre facture mobile.",
                comma(*amount)
            ),
            Self::Pending => "Le paiement est en cours. Nous vous dirons quand il est fait.".into(),
            Self::NotPaid(why) => format!("Rien n'est payé. {}", why.french()),
            Self::Wrong { left: 1 } => "Ce n'est pas le numéro envoyé. Encore un essai.".into(),
            Self::Wrong { left } => format!("Ce n'est pas le numéro envoyé. Encore {left} essais."),
            Self::HowToReply => {
                "Pour payer, répondez le numéro envoyé et rien d'autre. Sinon, répondez NON.".into()
            }
            Self::NothingOpen => {
                "Il n'y a rien à approuver. Envoyez d'abord le code à l'écran.".into()
            }
            Self::Help => {
                "Envoyez le code à l'écran (15 chiffres), et le montant s'il est demandé : 4,20 \
                12345 67890 12345. Nous répondons avant tout paiement. NON, STOP, EN."
                    .into()
            }
            Self::Ended => "Rien n'est payé.".into(),
            Self::Stopped => {
                "Rien n'est payé. Nous n'écrivons plus, sauf si vous envoyez un code.".into()
            }
        }
    }
}

impl Why {
    fn english(self) -> String {
        match self {
            Self::Digits(digits) => format!("A code has 15 digits, yours has {digits}."),
            Self::Slip => "There is a slip in the code: compare it with the screen.".into(),
            Self::AmountUnclear => "The amount is not clear: write it like 4.20.".into(),
            Self::CodeUnknown => "The screen shows another code now: text that one.".into(),
            Self::CodeSpent => "This code was used already: text the one on the screen now.".into(),
            Self::Wait => "Too many wrong codes: wait 15 minutes, or pay in another way.".into(),
            Self::NothingToPay => "The screen asks for no payment at the moment.".into(),
            Self::SomebodyElse => {
                "Somebody else is paying this: wait for the screen to ask again.".into()
            }
            Self::OutOfService => {
                "This terminal is out of service: ask for another way to pay.".into()
            }
            Self::AmountDiffers(asked) => {
                format!("{asked} is asked for: text the new code without an amount.")
            }
            Self::OverPayment(most) => {
                format!("By SMS you can pay at most {most} at a time.")
            }
            Self::OverMonth(most) => {
                format!("By SMS you can pay at most {most} a month.")
            }
            Self::OverCap(most) => format!("At most {most} can be paid here."),
            Self::Currency => "This currency cannot go on a phone bill.".into(),
            Self::NoAccount => "This number cannot pay by phone bill.".into(),
            Self::Declined => "Your operator does not take this payment.".into(),
            Self::Barred => "A limit or a lock of your account does not allow it.".into(),
            Self::Silent => {
                "Your operator did not answer: text the code on the screen again.".into()
            }
            Self::Late => "The time was over: text the code on the screen now.".into(),
            Self::WrongTooOften => {
                "That was not the number we sent. Text the code on the screen again.".into()
            }
            Self::Locked => "Too many wrong numbers: try again tomorrow.".into(),
            Self::Unavailable => {
                "We could not do it just now: text the code on the screen again.".into()
            }
        }
    }

    fn french(self) -> String {
        match self {
            Self::Digits(digits) => format!("Un code a 15 chiffres, pas {digits}."),
            Self::Slip => "Il y a une erreur dans le code : comparez avec l'écran.".into(),
            Self::AmountUnclear => "Le montant n'est pas clair : écrivez-le ainsi, 4,20.".into(),
            Self::CodeUnknown => "L'écran montre un autre code : envoyez celui-là.".into(),
            Self::CodeSpent => "Ce code a déjà servi : envoyez celui de l'écran.".into(),
            Self::Wait => "Trop de codes faux : attendez 15 minutes, ou payez autrement.".into(),
            Self::NothingToPay => "L'écran ne demande rien en ce moment.".into(),
            Self::SomebodyElse => "Quelqu'un d'autre paie ceci : attendez un nouveau code.".into(),
            Self::OutOfService => "Ce terminal est hors service : payez autrement.".into(),
            Self::AmountDiffers(asked) => format!(
                "Il est demandé {} : envoyez le nouveau code sans montant.",
                comma(asked)
            ),
            Self::OverPayment(most) => {
                format!("Par SMS on paie {} au plus à la fois.", comma(most))
            }
            Self::OverMonth(most) => format!("Par SMS on paie {} au plus par mois.", comma(most)),
            Self::OverCap(most) => format!("Ici on paie {} au plus.", comma(most)),
            Self::Currency => "Cette monnaie ne va pas sur une facture mobile.".into(),
            Self::NoAccount => "Ce numéro ne peut pas payer sur facture mobile.".into(),
            Self::Declined => "Votre opérateur ne prend pas ce paiement.".into(),
            Self::Barred => "Une limite ou un blocage de votre compte ne le permet pas.".into(),
            Self::Silent => "Votre opérateur n'a pas répondu : envoyez le code à l'écran.".into(),
            Self::Late => "Le délai est passé : envoyez le code à l'écran.".into(),
            Self::WrongTooOften => {
                "Ce n'était pas le numéro envoyé. Envoyez le code à l'écran.".into()
            }
            Self::Locked => "Trop de numéros faux : essayez demain.".into(),
            Self::Unavailable => "Impossible pour le moment : envoyez le code à l'écran.".into(),
        }
    }
}

/// `4,20 EUR`, as French writes it.
fn comma(amount: Money) -> String {
    amount.to_string().replace('.', ",")
}

/// An offer without its number is never sent; whoever makes one shows the mistake.
fn shown(number: Option<&OneTime>) -> &str {
    number.map_or("------", OneTime::expose)
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sms::gsm::{Coding, coding, is_one};
    use protocol::money::Currency;

    fn all() -> Vec<Say> {
        // As long as names of merchants and amounts get.
        let payee = || "Boulangerie Pâtisserie Müller".replace('â', "a");
        let (amount, mark) = (
            Money::new(4_999, Currency::EUR).unwrap(),
            Mark::try_from(42).unwrap(),
        );
        let receipt = ReceiptId::from_parts(1, &[1; 10]);
        let mut all = vec![
            Say::Offer {
                amount,
                payee: payee(),
                mark,
                minutes: 5,
            },
            Say::HowMuch {
                payee: payee(),
                cap: amount,
            },
            Say::Paid {
                amount,
                payee: payee(),
                receipt,
                mark,
            },
            Say::Pending,
            Say::Wrong { left: 1 },
            Say::Wrong { left: 2 },
            Say::HowToReply,
            Say::NothingOpen,
            Say::Help,
            Say::Ended,
            Say::Stopped,
        ];
        all.extend(
            [
                Why::Digits(14),
                Why::Slip,
                Why::AmountUnclear,
                Why::CodeUnknown,
                Why::CodeSpent,
                Why::Wait,
                Why::NothingToPay,
                Why::SomebodyElse,
                Why::OutOfService,
                Why::AmountDiffers(amount),
                Why::OverPayment(amount),
                Why::OverMonth(amount),
                Why::OverCap(amount),
                Why::Currency,
                Why::NoAccount,
                Why::Declined,
                Why::Barred,
                Why::Silent,
                Why::Late,
                Why::WrongTooOften,
                Why::Locked,
                Why::Unavailable,
            ]
            .map(Say::NotPaid),
        );
        all
    }

    #[test]
    fn every_text_is_one_sms_of_the_default_alphabet() {
        for say in all() {
            for language in [Language::En, Language::Fr] {
                let text = say.text(language, None);
                assert_eq!(coding(&text), Coding::Gsm, "{text}");
                assert!(is_one(&text), "{} too long: {text}", text.chars().count());
            }
        }
    }

    #[test]
    fn what_waits_in_the_database_reads_back() {
        for say in all() {
            let kept = serde_json::to_string(&say).unwrap();
            assert_eq!(serde_json::from_str::<Say>(&kept).unwrap(), say);
        }
    }

    #[test]
    fn a_payee_of_another_script_is_named_in_full_all_the_same() {
        let say = Say::Offer {
            amount: Money::new(420, Currency::EUR).unwrap(),
            payee: "مخبز الحي".into(),
            mark: Mark::try_from(7).unwrap(),
            minutes: 5,
        };
        let text = say.text(Language::Fr, None);
        assert!(text.contains("مخبز الحي") && text.contains("4,20 EUR"));
        assert_eq!(coding(&text), Coding::Ucs2);
    }
}
