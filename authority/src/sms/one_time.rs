//! Which number approves this payment, and who can know it?
//!
//! The number is an HMAC over all that it approves, under a secret that is in no database: it is kept
//! nowhere, sent to one phone, and computed again to compare. The same secret, under other labels, makes
//! what stands for the phone's cookie and what tells that a text came twice.

use std::path::{Path, PathBuf};

use hmac::{Hmac, KeyInit, Mac};
use protocol::ids::MerchantId;
use protocol::money::Money;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::number::PhoneNumber;
use super::talk::Talk;
use super::text::{ONE_TIME_DIGITS, Reply};

/// Length of the secret in its file, in characters.
const SECRET_CHARS: std::ops::RangeInclusive<usize> = 32..=128;
/// What can follow the number's own digits: six of them make this many.
const NUMBERS: u64 = 1_000_000;

/// What the gateway and the authority share. Mute.
#[derive(Clone)]
pub struct SmsSecret(Zeroizing<String>);

/// The file of a secret cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", .path.display())]
pub struct SecretError {
    pub path: PathBuf,
    pub problem: String,
}

impl SmsSecret {
    /// From a file that neither group nor others may read: letters and digits, and a line end at most.
    pub fn from_file(path: &Path) -> Result<Self, SecretError> {
        let text = read_private(path)?;
        let secret = text.trim_end();
        if !SECRET_CHARS.contains(&secret.len()) {
            let problem = "a secret has 32 to 128 characters: openssl rand -hex 32";
            return Err(refused(path, problem));
        }
        // It also stands in an address of the gateway's configuration.
        if !secret.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(refused(
                path,
                "a secret is letters and digits: openssl rand -hex 32",
            ));
        }
        Ok(Self(Zeroizing::new(secret.to_owned())))
    }

    /// Whether the gateway showed this very secret.
    pub fn matches(&self, shown: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(shown).into()
    }

    /// The number that approves what this talk has come to.
    pub fn number(&self, talk: &Talk, amount: Money, payee: MerchantId) -> OneTime {
        let amount = format!("{amount}");
        let parts = [
            talk.id.0.as_bytes().as_slice(),
            talk.claim.0.as_bytes(),
            payee.0.as_bytes(),
            talk.number.expose().as_bytes(),
            amount.as_bytes(),
        ];
        let mac = self.mac("m2key/sms/number/1", &parts);
        let (head, _) = mac.split_at(8);
        let head = u64::from_be_bytes(head.try_into().expect("eight bytes were split off"));
        let digits = format!("{:0width$}", head % NUMBERS, width = ONE_TIME_DIGITS);
        let digits = digits.as_bytes().try_into();
        OneTime(digits.expect("a remainder below a million has six digits"))
    }

    /// What a claim by SMS has for the secret in a phone's cookie.
    pub fn phone(&self, talk: &Talk) -> [u8; 32] {
        let number = talk.number.expose().as_bytes();
        let parts = [talk.id.0.as_bytes(), talk.claim.0.as_bytes(), number];
        self.mac("m2key/sms/phone/1", &parts)
    }

    /// The same for the same text, however it was typed, and of no use to anybody else.
    pub fn print(&self, number: &PhoneNumber, reading: &str) -> [u8; 32] {
        let parts = [number.expose().as_bytes(), reading.as_bytes()];
        self.mac("m2key/sms/print/1", &parts)
    }

    fn mac(&self, label: &str, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.0.as_bytes())
            .expect("HMAC takes keys of any length");
        mac.update(label.as_bytes());
        for part in parts {
            // Lengths first, so that no two lists of parts are the same bytes.
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }
}

impl std::fmt::Debug for SmsSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SmsSecret(..)")
    }
}

/// The number of one offer. Mute, but for the one SMS that carries it.
#[derive(Clone)]
pub struct OneTime([u8; ONE_TIME_DIGITS]);

impl OneTime {
    pub fn expose(&self) -> &str {
        std::str::from_utf8(&self.0).expect("made of ASCII digits")
    }

    pub fn matches(&self, reply: &Reply) -> bool {
        self.0.ct_eq(reply.digits()).into()
    }
}

impl std::fmt::Debug for OneTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OneTime(..)")
    }
}

/// The text of a file that is its owner's alone.
pub fn read_private(path: &Path) -> Result<Zeroizing<String>, SecretError> {
    let text = std::fs::read_to_string(path).map(Zeroizing::new);
    let text = text.map_err(|error| refused(path, error.to_string()))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        const GROUP_AND_OTHERS: u32 = 0o077;
        let metadata = std::fs::metadata(path).map_err(|error| refused(path, error.to_string()))?;
        if metadata.permissions().mode() & GROUP_AND_OTHERS != 0 {
            return Err(refused(path, "others can read it: chmod 600"));
        }
    }
    Ok(text)
}

fn refused(path: &Path, problem: impl Into<String>) -> SecretError {
    SecretError {
        path: path.into(),
        problem: problem.into(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sms::talk::tests::talk;
    use crate::sms::text::{self, Heard};
    use protocol::ids::{ClaimId, MerchantId};
    use protocol::money::Currency;

    fn secret(text: &str) -> SmsSecret {
        SmsSecret(Zeroizing::new(text.into()))
    }

    fn eur(minor: i64) -> Money {
        Money::new(minor, Currency::EUR).unwrap()
    }

    #[test]
    fn another_amount_payee_claim_phone_or_secret_has_another_number() {
        let payee = MerchantId::from_parts(1, &[1; 10]);
        let (one, talk) = (secret("one"), talk());
        let number = |secret: &SmsSecret, talk: &Talk, minor, payee| {
            secret.number(talk, eur(minor), payee).expose().to_owned()
        };
        let first = number(&one, &talk, 420, payee);
        assert_eq!(number(&one, &talk, 420, payee), first);
        let other_claim = Talk {
            claim: ClaimId::from_parts(9, &[9; 10]),
            ..talk.clone()
        };
        let other_phone = Talk {
            number: "+33698765432".parse().unwrap(),
            ..talk.clone()
        };
        let others = [
            number(&one, &talk, 421, payee),
            number(&one, &talk, 420, MerchantId::from_parts(2, &[2; 10])),
            number(&one, &other_claim, 420, payee),
            number(&one, &other_phone, 420, payee),
            number(&secret("two"), &talk, 420, payee),
        ];
        assert!(others.iter().all(|other| *other != first), "{others:?}");
    }

    #[test]
    fn the_number_is_matched_as_it_is_typed() {
        let number = secret("one").number(&talk(), eur(420), MerchantId::from_parts(1, &[1; 10]));
        let digits = number.expose();
        let typed = format!("ok {} {}", &digits[..3], &digits[3..]);
        let Heard::Reply(reply) = text::read(&typed) else {
            panic!("{typed}");
        };
        assert!(number.matches(&reply));
        let last = (digits.as_bytes()[5] - b'0' + 1) % 10;
        let Heard::Reply(wrong) = text::read(&format!("{}{last}", &digits[..5])) else {
            panic!("six digits");
        };
        assert!(!number.matches(&wrong));
    }

    #[test]
    fn numbers_are_spread_over_all_there_are() {
        let (secret, talk) = (secret("one"), talk());
        let payee = MerchantId::from_parts(1, &[1; 10]);
        let mut first_digits = [0; 10];
        for minor in 1..=2_000 {
            let number = secret.number(&talk, eur(minor), payee);
            first_digits[usize::from(number.0[0] - b'0')] += 1;
        }
        assert!(
            first_digits.iter().all(|count| (120..=280).contains(count)),
            "{first_digits:?}"
        );
    }

    #[test]
    fn nothing_of_a_secret_or_a_number_is_printed() {
        let secret = secret("verysecretindeed");
        let number = secret.number(&talk(), eur(1), MerchantId::from_parts(1, &[1; 10]));
        assert_eq!(
            format!("{secret:?} {number:?}"),
            "SmsSecret(..) OneTime(..)"
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_secret_that_others_can_read_or_that_is_short_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let write = |text: &str, mode| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            SmsSecret::from_file(&path)
                .map(drop)
                .map_err(|error| error.problem)
        };
        let good = "0123456789abcdef0123456789abcdef";
        assert_eq!(write(&format!("{good}\n"), 0o600), Ok(()));
        assert!(write(good, 0o640).is_err());
        assert!(write("short", 0o600).is_err());
        assert!(write(&good.replace('0', ":"), 0o600).is_err());
    }
}
