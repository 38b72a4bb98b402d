//! How does a new terminal prove that an operator expects it?
//!
//! `m2j-<terminal>-<secret>`: 128 random bits in Crockford base32, good once and for one key. The
//! store keeps a hash.

use std::fmt;
use std::str::FromStr;

use protocol::ids::TerminalId;
use protocol::link;
use protocol::time::{Millis, Timestamp};
use protocol::token::MachineToken;
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::ids;
use crate::store;

/// How long a join token is good.
pub const JOIN_TOKEN_LIFE_MS: Millis = 24 * 3_600_000;

const PREFIX: &str = "m2j-";
const DOMAIN: &[u8] = b"m2key/join-token/1\0";

/// The secret half of a join token. Mute.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct JoinSecret([u8; 16]);

/// A join token as people carry it from the operator to the terminal. Mute.
#[derive(Clone)]
pub struct JoinToken {
    terminal: TerminalId,
    secret: JoinSecret,
}

/// It is not a join token, or damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a join token: it looks like m2j-12345678-… with 26 characters at the end")]
pub struct BadJoinToken;

/// Tells a join token apart in lists: the beginning of its hash. Nobody can enrol with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JoinTokenId([u8; 8]);

/// It is not what a list shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the id of a join token: 16 digits of 0-9 a-f, as `terminal join list` shows them")]
pub struct BadJoinTokenId;

impl JoinTokenId {
    pub fn of(hash: &[u8; 32]) -> Self {
        let mut prefix = [0; 8];
        prefix.copy_from_slice(&hash[..8]);
        Self(prefix)
    }

    /// How the hash begins.
    pub fn prefix(self) -> [u8; 8] {
        self.0
    }
}

impl fmt::Display for JoinTokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

impl FromStr for JoinTokenId {
    type Err = BadJoinTokenId;

    fn from_str(text: &str) -> Result<Self, BadJoinTokenId> {
        if text.len() != 16 || text.starts_with('+') {
            return Err(BadJoinTokenId);
        }
        let number = u64::from_str_radix(text, 16).map_err(|_| BadJoinTokenId)?;
        Ok(Self(number.to_be_bytes()))
    }
}

impl JoinToken {
    pub fn generate(terminal: TerminalId) -> Self {
        Self {
            terminal,
            secret: JoinSecret(ids::random()),
        }
    }

    /// What a terminal sends in HTTP Basic: its id as the name, and as the password the join token, or
    /// its secret part alone.
    pub fn from_credentials(name: &str, password: &str) -> Result<Self, BadJoinToken> {
        let terminal: TerminalId = name.parse().map_err(|_| BadJoinToken)?;
        let token = match password.starts_with(PREFIX) {
            true => password.parse()?,
            false => Self::of_secret(terminal, password)?,
        };
        // A join token names its terminal; another name in front of it is somebody's slip or try.
        if token.terminal == terminal {
            Ok(token)
        } else {
            Err(BadJoinToken)
        }
    }

    fn of_secret(terminal: TerminalId, secret: &str) -> Result<Self, BadJoinToken> {
        let secret = link::decode(secret).map_err(|_| BadJoinToken)?;
        Ok(Self {
            terminal,
            secret: JoinSecret(*secret.as_bytes()),
        })
    }

    pub fn terminal(&self) -> TerminalId {
        self.terminal
    }

    /// What the store keeps of it.
    pub fn hash(&self) -> [u8; 32] {
        let hash = Sha256::new().chain_update(DOMAIN);
        hash.chain_update(self.secret.0).finalize().into()
    }

    /// For the one place that hands it to the operator.
    pub fn expose(&self) -> Zeroizing<String> {
        let secret = link::encode(&MachineToken::from_bytes(self.secret.0));
        Zeroizing::new(format!("{PREFIX}{}-{secret}", self.terminal))
    }

    /// The row that lets it be redeemed until its time is over.
    pub fn record(&self, now: Timestamp) -> store::JoinToken {
        store::JoinToken {
            terminal: self.terminal,
            hash: self.hash(),
            expires_at: now + JOIN_TOKEN_LIFE_MS,
        }
    }
}

impl FromStr for JoinToken {
    type Err = BadJoinToken;

    fn from_str(text: &str) -> Result<Self, BadJoinToken> {
        let rest = text.trim().strip_prefix(PREFIX).ok_or(BadJoinToken)?;
        let (terminal, secret) = rest.split_once('-').ok_or(BadJoinToken)?;
        Self::of_secret(terminal.parse().map_err(|_| BadJoinToken)?, secret)
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken({}, ..)", self.terminal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_join_token_reads_back_and_stays_mute() {
        let terminal = TerminalId::from_number(42).expect("below the limit");
        let token = JoinToken::generate(terminal);
        let text = token.expose();
        let back: JoinToken = text.parse().expect("it was written by us");
        assert_eq!(back.terminal(), terminal);
        assert_eq!(back.hash(), token.hash());
        let secret = text.rsplit('-').next().expect("it has a last part");
        assert!(!format!("{token:?}").contains(secret));
    }

    #[test]
    fn a_damaged_join_token_is_refused() {
        let terminal = TerminalId::from_number(42).expect("below the limit");
        let text = JoinToken::generate(terminal).expose().to_string();
        let cut = &text[..text.len() - 1];
        for bad in ["", "m2j-", "m2j-00000000", cut, &text.replace("m2j", "m3j")] {
            assert_eq!(
                bad.parse::<JoinToken>().map(|_| ()),
                Err(BadJoinToken),
                "{bad}"
            );
        }
    }
}
