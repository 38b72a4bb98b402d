//! Who pays in the crowd?

use authority::app::App;
use authority::services::journey::Journey;
use authority::services::sign_in::SignedIn;
use wallet_client::WalletKey;

use super::Fault;
use super::shoppers::{access_token, open_account, sign_in};

/// Gives each shopper an account with a full purse.
pub(crate) async fn open_accounts(app: &App, bank: &str, shoppers: usize) -> Result<(), Fault> {
    for n in 0..shoppers {
        open_account(app, bank, n).await?;
    }
    Ok(())
}

/// As the phones of these shoppers would be known by requests of their own.
pub(crate) async fn signed_in(
    journey: &Journey,
    bank: &str,
    shoppers: usize,
) -> Result<Vec<SignedIn>, Fault> {
    let mut known = Vec::with_capacity(shoppers);
    for n in 0..shoppers {
        let (key, now) = (WalletKey::generate()?, journey.app.clock.now());
        let token = access_token(bank, n, &key, now).await?;
        known.push(sign_in(journey, &key, &token, now).await?);
    }
    Ok(known)
}
