//! How does an app of a bank or a wallet pay at a terminal?
//!
//! ```text
//!  link or code ──▶ Wallet::view ──▶ the shopper looks ──▶ Wallet::pay ──▶ receipt
//!                      │ Request ▲                           │ Request ▲
//!                      ▼         │ Answer                    ▼         │ Answer
//!                    the app's own HTTP client, over TLS to the authority
//! ```
//! No I/O and no clock: requests come out, answers go in, and `now` is an argument. The app keeps the key
//! where its platform keeps keys; [`WalletKey`] is one in memory. `examples/pay.rs` walks the whole way.
#![forbid(unsafe_code)]

mod key;
mod wallet;

pub use key::{BadKey, NoRandom, WalletKey};
pub use wallet::{ANSWER_NONCE, Agreed, Answer, Refused, Request, Unsignable, Wallet};
