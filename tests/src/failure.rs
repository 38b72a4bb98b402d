//! What went wrong, in words that a person watching the demo understands?

use std::fmt::{self, Display};

/// One sentence; what caused it is part of it.
pub struct Failure(String);

impl Failure {
    pub fn new(what: impl Display) -> Self {
        Self(what.to_string())
    }

    /// `what: cause`, for `map_err`.
    pub fn of<E: Display>(what: impl Display) -> impl FnOnce(E) -> Self {
        move |cause| Self(format!("{what}: {cause}"))
    }
}

/// Refuses with `what` unless it holds.
pub fn ensure(holds: bool, what: impl Display) -> Result<(), Failure> {
    if holds {
        Ok(())
    } else {
        Err(Failure::new(what))
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// As `unwrap` in a test prints it: the sentence itself, with its line breaks.
impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(error)
    }
}
