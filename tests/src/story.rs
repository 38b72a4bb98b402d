//! How does one token travel, told so that a bank's engineer can follow?
//!
//! `play` goes through the steps in order; each says what happens and what was seen, and the first
//! that does not hold ends the story.

mod attacks;
mod places;
mod steps;
mod teller;

use std::path::Path;

use crate::{Failure, World};

pub use places::Places;
pub use teller::{Step, Teller};

/// The whole journey in `places`; what stays up afterwards.
pub async fn play(places: &Places, teller: &mut Teller) -> Result<World, Failure> {
    places.clear()?;
    let told = steps::tell(places, teller).await;
    teller.write_summary(&places.file("summary.json"))?;
    told
}

/// What the story needs to be built; the demo says so before it begins.
pub fn needs(dir: &Path) -> Result<Places, Failure> {
    for program in ["m2key-authority", "m2key-pki", "m2key-agent", "demo-bank"] {
        crate::process::program(program)?;
    }
    crate::tools::softhsm()?;
    Places::at(dir)
}
