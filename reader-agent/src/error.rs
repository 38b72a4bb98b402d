//! Whose move is it when a command ends badly, and what do they do?

use std::fmt;

use crate::authority::CallError;

/// A refusal as a merchant reads it: `error: …`, then `hint: …`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentError {
    whose: Whose,
    what: String,
    hint: String,
}

/// Who acts next; decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// The one who asked: the same request is refused again.
    Asker,
    /// The one who typed the command or wrote the configuration.
    Usage,
    /// Nobody: the same may succeed later.
    Later,
    /// Somebody with access to this machine or to the authority.
    Operator,
    /// We have a bug.
    Ours,
}

impl Whose {
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Asker => 1,
            Self::Usage => 2,
            Self::Later => 3,
            Self::Operator => 4,
            Self::Ours => 5,
        }
    }
}

impl AgentError {
    pub fn new(whose: Whose, what: impl fmt::Display, hint: impl fmt::Display) -> Self {
        Self {
            whose,
            what: what.to_string(),
            hint: hint.to_string(),
        }
    }

    pub fn usage(what: impl fmt::Display, hint: impl fmt::Display) -> Self {
        Self::new(Whose::Usage, what, hint)
    }

    pub fn operator(what: impl fmt::Display, hint: impl fmt::Display) -> Self {
        Self::new(Whose::Operator, what, hint)
    }

    pub fn bug(what: impl fmt::Display) -> Self {
        Self::new(
            Whose::Ours,
            what,
            "please report this with the message above",
        )
    }

    /// A file that cannot be read or written.
    pub fn file(path: &std::path::Path, error: &std::io::Error) -> Self {
        use std::io::ErrorKind;
        let hint = match error.kind() {
            ErrorKind::NotFound => "check the path; enrolment makes the files of a terminal",
            ErrorKind::PermissionDenied => "run as the account that owns this file",
            ErrorKind::StorageFull => "free some space on this disk; nothing was changed",
            ErrorKind::AlreadyExists => "choose another directory, or move the old one away",
            _ => "check the disk and the directory",
        };
        Self::operator(format!("{}: {error}", path.display()), hint)
    }

    pub fn whose(&self) -> Whose {
        self.whose
    }

    pub fn hint(&self) -> &str {
        &self.hint
    }
}

impl fmt::Display for AgentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for AgentError {}

impl From<pki::PkiError> for AgentError {
    fn from(error: pki::PkiError) -> Self {
        let whose = match error.whose_move() {
            pki::Move::Asker => Whose::Asker,
            pki::Move::Later => Whose::Later,
            pki::Move::Operator => Whose::Operator,
            pki::Move::Ours => Whose::Ours,
        };
        Self::new(whose, &error, error.hint())
    }
}

impl From<CallError> for AgentError {
    fn from(error: CallError) -> Self {
        Self::new(error.whose(), &error, error.hint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_says_to_free_space_and_calls_the_operator() {
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        let error = AgentError::file("agent.db".as_ref(), &full);
        assert_eq!(error.whose().exit_code(), 4);
        assert!(error.hint().contains("free some space"));
    }
}
