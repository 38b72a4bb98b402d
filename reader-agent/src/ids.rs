//! Where do fresh ids and dice come from?

use protocol::ids::EventId;
use protocol::time::Timestamp;

/// A UUIDv7 of this moment.
pub fn event_id(at: Timestamp) -> EventId {
    let mut random = [0; 10];
    fill(&mut random);
    EventId::from_parts(at.ms().max(0) as u64, &random)
}

/// What this process calls itself towards the authority: 128 random bits, so that nobody guesses it.
pub fn instance() -> String {
    let mut random = [0; 16];
    fill(&mut random);
    random.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn random_u32() -> u32 {
    let mut bytes = [0; 4];
    fill(&mut bytes);
    u32::from_ne_bytes(bytes)
}

pub(crate) fn fill(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("every supported operating system gives random bytes");
}
