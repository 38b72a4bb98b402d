//! Which passkeys confirm payments of this shopper?
//!
//! A passkey opens nothing by itself: it confirms what its signed-in shopper approves. Whoever adds one
//! or takes one away has signed in just now, and names the profile it is for, so that nobody adds theirs
//! to somebody else's.

use std::sync::Arc;

use protocol::problem::{Problem, ProblemType};
use protocol::step_up::CHALLENGE_LIFE_MS;
use protocol::time::Timestamp;
use protocol::wire::passkeys::{
    CreationOptions, PASSKEY_NAME_MAX, Parameters, PasskeyList, PasskeyOptions, PasskeyRequest,
    PasskeyView, Selection, User,
};

use super::Failure;
use super::sign_in::SignedIn;
use super::step_up::{TIMEOUT_MS, b64, descriptor, unb64};
use crate::app::App;
use crate::ids;
use crate::store::{
    About, AddPasskey, Challenge, NewPasskey, PASSKEYS_MAX, Passkey, Passkeys as OfProfile,
};

pub mod webauthn;

use self::webauthn::RelyingParty;

/// ES256, by its number of COSE.
const ES256: i32 = -7;

/// Adds, names and removes passkeys.
pub struct Passkeys {
    app: Arc<App>,
    party: RelyingParty,
}

impl Passkeys {
    pub fn new(app: Arc<App>) -> Self {
        let party = RelyingParty::of_host(app.config.public.link_host.as_str());
        Self { app, party }
    }

    /// How a browser makes a passkey for this profile.
    pub async fn options(
        &self,
        signed_in: &SignedIn,
        now: Timestamp,
    ) -> Result<PasskeyOptions, Failure> {
        self.demand_strength(signed_in, now)?;
        self.demand_unlocked(signed_in).await?;
        let (store, person) = (&self.app.store, signed_in.person());
        let challenge = Challenge {
            challenge: ids::random(),
            nonce: ids::random(),
            about: About::Registration,
            ends_at: now + CHALLENGE_LIFE_MS,
        };
        let random = challenge.challenge;
        store.add_challenge(person.clone(), challenge, now).await?;
        let of_profile = self.of_profile(signed_in).await?;
        Ok(PasskeyOptions {
            profile: b64(&of_profile.handle),
            public_key: self.creation(signed_in, &of_profile, &random),
        })
    }

    /// Adds the passkey that a browser made with those options.
    pub async fn add(
        &self,
        signed_in: &SignedIn,
        request: &PasskeyRequest,
        now: Timestamp,
    ) -> Result<PasskeyView, Failure> {
        self.demand_strength(signed_in, now)?;
        self.demand_unlocked(signed_in).await?;
        check_name(&request.name)?;
        let of_profile = self.of_profile(signed_in).await?;
        if unb64(&request.profile)? != of_profile.handle {
            return Err(refused("it was made for another profile"));
        }
        let client_data = unb64(&request.client_data)?;
        let challenge = webauthn::challenge_in(&client_data).map_err(refused)?;
        let object = unb64(&request.attestation_object)?;
        let made = webauthn::register(&self.party, &challenge, &client_data, &object);
        let made = made.map_err(refused)?;
        let new = NewPasskey {
            person: signed_in.person().clone(),
            challenge,
            id: made.id.clone(),
            public_point: made.public_point,
            counter: made.counter,
            name: request.name.clone(),
            at: now,
        };
        match self.app.store.add_passkey(new).await? {
            AddPasskey::Added => {}
            AddPasskey::ChallengeOver => return Err(refused("its challenge is over")),
            AddPasskey::Taken => return Err(refused("it is known already")),
            AddPasskey::TooMany => {
                return Err(refused(format!("a profile has {PASSKEYS_MAX} at most")));
            }
        }
        tracing::info!("a passkey was added");
        Ok(PasskeyView {
            id: b64(&made.id),
            name: request.name.clone(),
            added_at: now,
            used_at: None,
        })
    }

    pub async fn list(&self, signed_in: &SignedIn) -> Result<PasskeyList, Failure> {
        let found = self.app.store.passkeys(signed_in.person().clone()).await?;
        let passkeys = found.map_or(Vec::new(), |it| it.passkeys);
        Ok(PasskeyList {
            passkeys: passkeys.into_iter().map(view).collect(),
        })
    }

    pub async fn rename(
        &self,
        signed_in: &SignedIn,
        id: &str,
        name: &str,
        now: Timestamp,
    ) -> Result<(), Failure> {
        check_name(name)?;
        let (store, person) = (&self.app.store, signed_in.person().clone());
        let renamed = store.rename_passkey(person, unb64(id)?, name.into(), now);
        known(renamed.await?)
    }

    pub async fn remove(
        &self,
        signed_in: &SignedIn,
        id: &str,
        now: Timestamp,
    ) -> Result<(), Failure> {
        signed_in.demand_fresh(now)?;
        let (store, person) = (&self.app.store, signed_in.person().clone());
        known(store.remove_passkey(person, unb64(id)?, now).await?)
    }

    /// What is made now will confirm any amount: where the provider can authenticate strongly, a password
    /// alone does not make it (PSD2 RTS, Article 24).
    fn demand_strength(&self, signed_in: &SignedIn, now: Timestamp) -> Result<(), Failure> {
        signed_in.demand_fresh(now)?;
        let providers = &self.app.config.identity_providers;
        let provider = providers.iter().find(|it| it.name == signed_in.provider());
        let can_be_strong = provider.is_some_and(|it| !it.strong_acr.is_empty());
        match signed_in.strong() || !can_be_strong {
            true => Ok(()),
            false => Err(ProblemType::FreshSignInNeeded.into()),
        }
    }

    fn creation(
        &self,
        signed_in: &SignedIn,
        of_profile: &OfProfile,
        challenge: &[u8; 32],
    ) -> CreationOptions {
        let required = || "required".to_owned();
        CreationOptions {
            rp: protocol::wire::passkeys::RelyingParty {
                id: self.party.id().into(),
                name: self.app.config.pages.service_name.trim().into(),
            },
            user: User {
                id: b64(&of_profile.handle),
                name: signed_in.provider().into(),
                display_name: signed_in.provider().into(),
            },
            challenge: b64(challenge),
            pub_key_cred_params: vec![Parameters {
                kind: "public-key".into(),
                alg: ES256,
            }],
            timeout: TIMEOUT_MS,
            exclude_credentials: of_profile
                .passkeys
                .iter()
                .map(|it| descriptor(&it.id))
                .collect(),
            authenticator_selection: Selection {
                resident_key: "discouraged".into(),
                user_verification: required(),
            },
            attestation: "none".into(),
        }
    }

    async fn of_profile(&self, signed_in: &SignedIn) -> Result<OfProfile, Failure> {
        let found = self.app.store.passkeys(signed_in.person().clone()).await?;
        found.ok_or_else(|| refused("there is no profile yet"))
    }

    async fn demand_unlocked(&self, signed_in: &SignedIn) -> Result<(), Failure> {
        match self.app.store.lock_of(signed_in.person().clone()).await? {
            None => Ok(()),
            Some(_) => Err(ProblemType::ProfileLocked.into()),
        }
    }
}

fn check_name(name: &str) -> Result<(), Failure> {
    if name.is_empty() || name.len() > PASSKEY_NAME_MAX || name.chars().any(char::is_control) {
        let detail = format!("a passkey's name has 1 to {PASSKEY_NAME_MAX} bytes");
        return Err(Problem::new(ProblemType::MalformedRequest)
            .with_detail(detail)
            .into());
    }
    Ok(())
}

fn view(passkey: Passkey) -> PasskeyView {
    PasskeyView {
        id: b64(&passkey.id),
        name: passkey.name,
        added_at: passkey.added_at,
        used_at: passkey.used_at,
    }
}

fn known(there: bool) -> Result<(), Failure> {
    match there {
        true => Ok(()),
        false => Err(ProblemType::Unknown.into()),
    }
}

fn refused(why: impl std::fmt::Display) -> Failure {
    Problem::new(ProblemType::PasskeyRefused)
        .with_detail(why)
        .into()
}
