//! How do the two HSM tokens and their keys come into being?

use std::path::PathBuf;
use std::sync::Arc;

use hsm::{Hsm, KeyKind, KeyLabel, Module, OpenOptions, Pin, Pkcs11Hsm};
use pki::lifecycle::KeyState;
use protocol::link;
use protocol::time::Timestamp;
use protocol::token::MachineToken;
use zeroize::Zeroizing;

use super::{ISSUING_KEY_LABEL, ISSUING_TOKEN_LABEL, InitError, Plan, TOKEN_LABEL, Workplace};
use crate::ids;
use crate::services::keyring::KeyPurpose;
use crate::store::KeyRecord;

/// Both HSM tokens, open.
pub(super) struct Tokens {
    pub(super) authority: Arc<Pkcs11Hsm>,
    pub(super) issuing: Arc<Pkcs11Hsm>,
}

/// Makes and opens both, or opens the ones that exist.
pub(super) fn open(plan: &Plan, place: &Workplace) -> Result<Tokens, InitError> {
    let module = Module::load(&plan.module)?;
    let (pin, issuing_pin) = match &plan.existing_tokens {
        Some(files) => (files.authority.clone(), files.issuing.clone()),
        None => (
            make(&module, place, TOKEN_LABEL, "authority")?,
            make(&module, place, ISSUING_TOKEN_LABEL, "issuing")?,
        ),
    };
    let open = |label: &str, pin: PathBuf| {
        let options = OpenOptions::new(label, Pin::from_file(&pin)?);
        Ok::<_, InitError>(Arc::new(Pkcs11Hsm::open(&module, options)?))
    };
    Ok(Tokens {
        authority: open(TOKEN_LABEL, pin)?,
        issuing: open(ISSUING_TOKEN_LABEL, issuing_pin)?,
    })
}

/// Makes every key of the authority and says what the keys table holds of them.
pub(super) async fn make_keys(hsm: &dyn Hsm, now: Timestamp) -> Result<Vec<KeyRecord>, InitError> {
    let mut records = Vec::new();
    for purpose in KeyPurpose::ALL {
        let label = purpose.label(1);
        hsm.generate_key(purpose.kind(), &label).await?;
        let point = match purpose.kind() {
            KeyKind::Signing => Some(hsm.public_key(&label).await?),
            KeyKind::Sealing | KeyKind::Binding => None,
        };
        records.push(KeyRecord {
            // Nobody asks before the daemon runs, and then it tells of them.
            published_at: Some(now),
            ..KeyRecord::new(purpose, KeyState::Active, label, point, now)
        });
    }
    Ok(records)
}

/// Makes the issuing CA's key; its public key.
pub(super) async fn make_issuing_key(hsm: &dyn Hsm) -> Result<[u8; 65], InitError> {
    let label = KeyLabel(ISSUING_KEY_LABEL.into());
    hsm.generate_key(KeyKind::Signing, &label).await?;
    Ok(hsm.public_key(&label).await?)
}

/// An HSM token with random PINs; the path of its PIN file. The security officer's PIN goes with the
/// root key.
fn make(module: &Module, place: &Workplace, label: &str, name: &str) -> Result<PathBuf, InitError> {
    if module.token_labels()?.iter().any(|taken| taken == label) {
        return Err(InitError::TokenExists(label.into()));
    }
    let (pin, so_pin) = (random_pin(), random_pin());
    let pin_file = format!("hsm/{name}.pin");
    place.private(&pin_file, pin.as_bytes())?;
    place.private(&format!("root/{name}.so-pin"), so_pin.as_bytes())?;
    module.init_token(
        label,
        &Pin::new(so_pin.to_string())?,
        &Pin::new(pin.to_string())?,
    )?;
    Ok(place.at(&pin_file))
}

/// 128 bits in letters and digits.
pub(super) fn random_pin() -> Zeroizing<String> {
    Zeroizing::new(link::encode(&MachineToken::from_bytes(ids::random())))
}
