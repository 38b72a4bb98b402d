//! How do metrics learn what the HSM did, without this crate knowing a metrics library?

/// What [`Observer::command`] is told of.
/// A `proof` is whatever a key is asked to show that it is the same as before.
pub const COMMANDS: [&str; 8] = [
    "mac", "unwrap", "destroy", "sign", "wrap", "generate", "random", "proof",
];

/// Told of every request once it is answered.
pub trait Observer: Send + Sync + 'static {
    /// `operation` is the trait's method, `outcome` is `"ok"` or [`crate::HsmError::outcome`];
    /// `seconds` run from the call to its answer, the wait in the queue included.
    fn observe(&self, operation: &'static str, outcome: &'static str, seconds: f64);

    /// One of [`COMMANDS`] goes to the device: what a slow HSM counts. Called by the owner threads, so it must
    /// not wait for anything.
    fn command(&self, kind: &'static str) {
        let _ = kind;
    }
}
