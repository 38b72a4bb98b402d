//! What issues, stores and lists here, and what stands beside it?

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use authority::store::SqlStore;
use authority::store::sqlite::{self, SqliteOptions};
use authority::store::{self, Identities, Revocations, Subject};
use hsm::{Hsm, KeyKind, KeyLabel, Module, OpenOptions, Pin, Pkcs11Hsm, SealingKeys};
use pki::crl::{CrlRequest, RevocationList, Revoked, SignedCrl};
use pki::{
    Chain, HsmIssuer, IssueRequest, IssueTo, IssuedCertificate, Issuer, RootKey, SoftwareKey,
    TrustDomain, csr,
};
use protocol::time::Timestamp;

use super::Fault;
use super::crowd::{self, REVOKED};

/// How long one rate is measured.
const SPAN: Duration = Duration::from_millis(1_500);
/// Requests under way at a time.
const CALLERS: usize = 64;
const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
const TOKEN: &str = "bench";
/// Of an HSM token that exists for this run only.
const PIN: &str = "271828";
const DAY_SECONDS: u64 = 24 * 60 * 60;

pub(crate) struct Bench {
    bare: hsm::bare::Bare,
    issuer: HsmIssuer,
    empty: SqlStore,
    crowded: SqlStore,
    requests: Vec<(IssueTo, Vec<u8>)>,
    /// As the store keeps it beside every certificate.
    issuer_key: String,
    now: u64,
}

impl Bench {
    pub(crate) async fn open(dir: &Path, now: u64) -> Result<Self, Fault> {
        let module = Module::load(Path::new(MODULE))?;
        let pin = Pin::new(PIN.into())?;
        module.init_token(TOKEN, &pin, &pin)?;
        let hsm = Arc::new(Pkcs11Hsm::open(
            &module,
            OpenOptions::new(TOKEN, pin.clone()),
        )?);
        let keys = make_keys(&hsm).await?;
        let issuer = issuer(hsm, now).await?;
        let issuer_key = issuer.chain().issuing().key_id_hex().unwrap_or_default();
        let crowded = dir.join("crowded.sqlite");
        drop(open_store(&crowded)?);
        crowd::fill(&crowded, &issuer_key, now as i64 * 1000)?;
        Ok(Self {
            bare: hsm::bare::Bare::open(&module, TOKEN, &pin, &keys, &issuing())?,
            requests: (0..CALLERS).map(request).collect::<Result<_, Fault>>()?,
            empty: open_store(&dir.join("store.sqlite"))?,
            crowded: open_store(&crowded)?,
            issuer_key,
            issuer,
            now,
        })
    }

    pub(crate) fn signatures(&self) -> Result<f64, Fault> {
        let (start, mut done) = (Instant::now(), 0);
        while start.elapsed() < SPAN {
            self.bare.sign(&[7; 32])?;
            done += 1;
        }
        Ok(f64::from(done) / start.elapsed().as_secs_f64())
    }

    pub(crate) async fn issued(&self) -> Result<f64, Fault> {
        self.rate(async |caller| self.issue(caller).await.map(drop))
            .await
    }

    pub(crate) async fn stored(&self) -> Result<f64, Fault> {
        self.rate(async |caller| self.store_one(&self.empty, caller).await)
            .await
    }

    pub(crate) async fn stored_in_a_crowd(&self) -> Result<f64, Fault> {
        self.rate(async |caller| self.store_one(&self.crowded, caller).await)
            .await
    }

    /// The same, while one list after the other is made. `number` is of the first; answers the next.
    pub(crate) async fn stored_beside_lists(&self, number: &mut u64) -> Result<f64, Fault> {
        let lists = async {
            loop {
                *number += 1;
                if let Err(why) = self.list(*number).await {
                    return why;
                }
            }
        };
        tokio::select! {
            rate = self.stored_in_a_crowd() => rate,
            why = lists => Err(why),
        }
    }

    /// As the authority makes it: read from the store, sorted, encoded, signed.
    pub(crate) async fn list(&self, number: u64) -> Result<SignedCrl, Fault> {
        let from = Timestamp::from_ms(self.now as i64 * 1000);
        let revoked = self.crowded.revoked(&self.issuer_key, from).await?;
        let entry = |it: store::RevokedSerial| Revoked {
            serial: it.serial,
            at: self.now,
            reason: it.revocation.reason,
        };
        let request = CrlRequest {
            issuer: self.issuer.chain().issuing().spki_sha256(),
            number,
            this_update: self.now,
            next_update: self.now + DAY_SECONDS,
            revoked: revoked.into_iter().map(entry).collect(),
        };
        Ok(self.issuer.sign_crl(request).await?)
    }

    pub(crate) fn read(&self, list: &SignedCrl) -> Result<(), Fault> {
        let read = RevocationList::verified(&list.der, self.issuer.chain().issuing())?;
        match read.revoked.len() {
            entries if entries == REVOKED as usize => Ok(()),
            other => Err(format!("the list has {other} entries").into()),
        }
    }

    async fn issue(&self, caller: usize) -> Result<IssuedCertificate, Fault> {
        let (to, request) = &self.requests[caller];
        let request = IssueRequest {
            csr: csr::check(request)?,
            to: to.clone(),
            now: self.now,
        };
        Ok(self.issuer.issue(request).await?)
    }

    async fn store_one(&self, store: &SqlStore, caller: usize) -> Result<(), Fault> {
        let issued = self.issue(caller).await?;
        let at = Timestamp::from_ms(self.now as i64 * 1000);
        Ok(store.add_certificate(self.row(issued, caller), at).await?)
    }

    fn row(&self, issued: IssuedCertificate, caller: usize) -> store::Certificate {
        let time = |unix: u64| Timestamp::from_ms(unix as i64 * 1000);
        store::Certificate {
            serial: issued.serial,
            subject: Subject::Operator(name(caller)),
            spki_sha256: issued.spki_sha256,
            not_before: time(issued.not_before),
            not_after: time(issued.not_after),
            issuer_key: self.issuer_key.clone(),
            der: issued.der,
        }
    }

    /// How much a second is done with every caller busy.
    async fn rate<F>(&self, step: impl Fn(usize) -> F) -> Result<f64, Fault>
    where
        F: Future<Output = Result<(), Fault>>,
    {
        let start = Instant::now();
        let callers = (0..CALLERS).map(|caller| {
            let step = &step;
            async move {
                let mut done = 0_u32;
                while start.elapsed() < SPAN {
                    step(caller).await?;
                    done += 1;
                }
                Ok::<_, Fault>(done)
            }
        });
        let done = futures_util::future::try_join_all(callers).await?;
        Ok(f64::from(done.into_iter().sum::<u32>()) / start.elapsed().as_secs_f64())
    }
}

fn open_store(path: &Path) -> Result<SqlStore, Fault> {
    let options = SqliteOptions {
        node: "bench".into(),
        queue_max: 1024,
        readers: 1,
    };
    Ok(sqlite::open(path, options)?)
}

fn issuing() -> KeyLabel {
    KeyLabel("m2key-issuing-1".into())
}

/// The issuing CA's key, and the two that the bare loop also looks up.
async fn make_keys(hsm: &Pkcs11Hsm) -> Result<SealingKeys, Fault> {
    let keys = SealingKeys {
        sealing: KeyLabel("m2key-sealing-1".into()),
        binding: KeyLabel("m2key-binding-1".into()),
    };
    hsm.generate_key(KeyKind::Signing, &issuing()).await?;
    hsm.generate_key(KeyKind::Sealing, &keys.sealing).await?;
    hsm.generate_key(KeyKind::Binding, &keys.binding).await?;
    Ok(keys)
}

async fn issuer(hsm: Arc<Pkcs11Hsm>, now: u64) -> Result<HsmIssuer, Fault> {
    let point = hsm.public_key(&issuing()).await?;
    let key = RootKey::generate()?;
    let root = key.certificate(now)?;
    let chain = Chain::new(key.sign_issuing(&root, &point, now)?, root)?;
    Ok(HsmIssuer::open(hsm, issuing(), chain, TrustDomain::default()).await?)
}

fn request(caller: usize) -> Result<(IssueTo, Vec<u8>), Fault> {
    let to = IssueTo::Operator(name(caller).parse()?);
    let key = SoftwareKey::generate()?;
    let request = csr::new(&key, &to.spiffe_id(), &TrustDomain::default())?;
    Ok((to, request))
}

fn name(caller: usize) -> String {
    format!("operator-{caller}")
}
