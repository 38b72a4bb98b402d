//! How do HSM tokens and the authority's keys come into being?

use std::path::PathBuf;
use std::sync::Arc;

use hsm::{Hsm, KeyKind, Module, OpenOptions, Pin, Pkcs11Hsm};
use pki::lifecycle::KeyState;
use protocol::link;
use protocol::time::Timestamp;
use protocol::token::MachineToken;
use zeroize::Zeroizing;

use super::{InitError, Plan, TOKEN_LABEL, Workplace};
use crate::ids;
use crate::services::keyring::KeyPurpose;
use crate::store::KeyRecord;

/// Makes and opens the HSM token of seeds and signatures, or opens the one that exists.
pub(super) fn open(plan: &Plan, place: &Workplace) -> Result<Arc<Pkcs11Hsm>, InitError> {
    let module = Module::load(&plan.module)?;
    let pin = match &plan.existing_tokens {
        Some(files) => files.authority.clone(),
        None => make(
            &module,
            place,
            TOKEN_LABEL,
            "authority",
            "hsm/authority.pin",
        )?,
    };
    let options = OpenOptions::new(TOKEN_LABEL, Pin::from_file(&pin)?);
    Ok(Arc::new(Pkcs11Hsm::open(&module, options)?))
}

/// Makes every key of the authority and says what the keys table holds of them.
pub(super) async fn make_keys(hsm: &dyn Hsm, now: Timestamp) -> Result<Vec<KeyRecord>, InitError> {
    let mut records = Vec::new();
    for purpose in KeyPurpose::ALL {
        let label = purpose.label(1);
        hsm.generate_key(purpose.kind(), &label).await?;
        let point = match purpose.kind() {
            KeyKind::Signing => Some(hsm.public_key(&label).await?),
            KeyKind::Sealing | KeyKind::Binding | KeyKind::Cmac => None,
        };
        records.push(KeyRecord {
            // Nobody asks before the daemon runs, and then it tells of them.
            published_at: Some(now),
            ..KeyRecord::new(purpose, KeyState::Active, label, point, now)
        });
    }
    Ok(records)
}

/// An HSM token with random PINs; the path of its PIN file. The security officer's PIN goes with the
/// root key.
pub(super) fn make(
    module: &Module,
    place: &Workplace,
    label: &str,
    name: &str,
    pin_file: &str,
) -> Result<PathBuf, InitError> {
    if module.token_labels()?.iter().any(|taken| taken == label) {
        return Err(InitError::TokenExists(label.into()));
    }
    let (pin, so_pin) = (random_pin(), random_pin());
    place.private(pin_file, pin.as_bytes())?;
    place.private(&format!("root/{name}.so-pin"), so_pin.as_bytes())?;
    module.init_token(
        label,
        &Pin::new(so_pin.to_string())?,
        &Pin::new(pin.to_string())?,
    )?;
    Ok(place.at(pin_file))
}

/// 128 bits in letters and digits.
pub(super) fn random_pin() -> Zeroizing<String> {
    Zeroizing::new(link::encode(&MachineToken::from_bytes(ids::random())))
}
