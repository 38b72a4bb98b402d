//! What is said between us and one provider, from the request to who it is?

use std::sync::Arc;

use protocol::jwk::JwkSet;
use protocol::time::{Millis, Timestamp};
use reqwest::{Client, RequestBuilder, StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::Choice;
use super::accounts::{Says, Who, brought};
use super::client::{Proof, prove, published};
use super::id_token::{self, IdToken};
use super::logout;
use super::metadata::{Kept, Metadata};
use super::trouble::Trouble;
use crate::config::{BrowserSignIn, IdentityProvider};
use crate::services::sign_in::FRESH_MS;
use crate::services::sign_in::ProviderError;
use crate::services::sign_in::keys::{answer, client};
use crate::services::sign_in::token::{BadToken, SignedClaims, Unverified};
use crate::store::{PersonKey, ProviderLogout};

/// Largest answer of a provider to a request of ours, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Longest token that is passed on to ask for accounts, in bytes.
const ACCESS_TOKEN_MAX: usize = 8 * 1024;
/// How long ago a provider may have asked for the password without asking again.
const PASSWORD_AGE_MS: Millis = 12 * 3_600_000;

/// One sign-in, as the request and its answer must agree.
pub(super) struct Asked {
    pub(super) state: String,
    pub(super) nonce: String,
    pub(super) verifier: String,
    /// The password is asked for even if the provider knows the browser.
    pub(super) fresh: bool,
}

impl Asked {
    /// How old the password may be: asked for, and held to when the answer comes.
    fn longest_age_ms(&self) -> Millis {
        match self.fresh {
            true => FRESH_MS,
            false => PASSWORD_AGE_MS,
        }
    }
}

/// A provider that browsers are sent to.
pub(super) struct Provider {
    config: IdentityProvider,
    sign_in: BrowserSignIn,
    redirect_uri: String,
    client: Client,
    metadata: Kept,
}

impl Provider {
    /// None if it is not for browsers.
    pub(super) fn new(
        config: &IdentityProvider,
        redirect_uri: &str,
    ) -> Result<Option<Self>, ProviderError> {
        let Some(sign_in) = config.sign_in.clone() else {
            return Ok(None);
        };
        let failed = |problem: String| ProviderError {
            name: config.name.clone(),
            problem,
        };
        let issuer = Url::parse(&config.issuer).map_err(|error| failed(error.to_string()))?;
        let client = client(config, &issuer).map_err(failed)?;
        Ok(Some(Self {
            metadata: Kept::new(config, client.clone()),
            config: config.clone(),
            sign_in,
            redirect_uri: redirect_uri.into(),
            client,
        }))
    }

    pub(super) fn id(&self) -> &str {
        self.sign_in.id.as_str()
    }

    pub(super) fn name(&self) -> &str {
        &self.config.name
    }

    pub(super) fn choice(&self) -> Choice {
        Choice {
            id: self.id().into(),
            name: self.config.name.clone(),
            issuer: self.config.issuer.clone(),
            kind: self.sign_in.kind,
        }
    }

    pub(super) async fn client_keys(&self) -> Result<JwkSet, Trouble> {
        published(&self.sign_in.client).await
    }

    pub(super) async fn metadata(&self, now: Timestamp) -> Result<Arc<Metadata>, Trouble> {
        self.metadata.get(now).await
    }

    /// Where the browser goes. What is asked stays between us and the provider, where it takes that.
    pub(super) async fn authorization(
        &self,
        metadata: &Metadata,
        asked: &Asked,
        now: Timestamp,
    ) -> Result<String, Trouble> {
        let request = self.request(asked);
        let mut address = metadata.authorization.clone();
        let Some(pushed) = &metadata.pushed else {
            address.query_pairs_mut().extend_pairs(&request);
            return Ok(address.into());
        };
        #[derive(Deserialize)]
        struct Pushed {
            request_uri: String,
        }
        let pushed: Pushed = self.post(pushed, &request, now).await?;
        address
            .query_pairs_mut()
            .append_pair("client_id", &self.sign_in.client_id)
            .append_pair("request_uri", &pushed.request_uri);
        Ok(address.into())
    }

    fn request(&self, asked: &Asked) -> Vec<(&'static str, String)> {
        let challenge = id_token::part(&Sha256::digest(asked.verifier.as_bytes()));
        let mut request = vec![
            ("response_type", "code".into()),
            ("client_id", self.sign_in.client_id.clone()),
            ("redirect_uri", self.redirect_uri.clone()),
            ("scope", self.sign_in.scopes.join(" ")),
            ("state", asked.state.clone()),
            ("nonce", asked.nonce.clone()),
            ("code_challenge", challenge),
            ("code_challenge_method", "S256".into()),
        ];
        // Asked for, the ID token must say when the password was.
        let age_s = asked.longest_age_ms() / 1_000;
        request.push(("max_age", age_s.to_string()));
        if asked.fresh {
            request.push(("prompt", "login".into()));
        }
        if !self.config.strong_acr.is_empty() {
            request.push(("acr_values", self.config.strong_acr.join(" ")));
        }
        request
    }

    /// Who signed in, for a code that the provider gave.
    pub(super) async fn who(
        &self,
        metadata: &Metadata,
        asked: &Asked,
        code: &str,
        now: Timestamp,
    ) -> Result<Who, Trouble> {
        #[derive(Deserialize)]
        struct Tokens {
            id_token: String,
            access_token: Option<String>,
        }
        let form = [
            ("grant_type", "authorization_code".to_owned()),
            ("code", code.to_owned()),
            ("redirect_uri", self.redirect_uri.clone()),
            ("code_verifier", asked.verifier.clone()),
        ];
        let tokens: Tokens = self.post(&metadata.token, &form, now).await?;
        let access_token = tokens.access_token.as_deref();
        let claims: IdToken = self
            .verified(metadata, &tokens.id_token, id_token::TAKEN, now)
            .await?;
        let expected = id_token::Expected {
            issuer: &self.config.issuer,
            client_id: &self.sign_in.client_id,
            nonce: &asked.nonce,
            access_token,
            longest_age_ms: asked.longest_age_ms(),
        };
        claims.check(&expected, now)?;
        let says = self.says(metadata, &claims, access_token).await;
        Ok(Who {
            brought: self.sign_in.rail.as_ref().and_then(|rail| {
                let accounts = says?;
                Some(brought(rail, &self.config.name, &claims.sub, accounts))
            }),
            authenticated_at: claims.authenticated_at(now)?,
            strong: claims.is_strong(&self.config.strong_acr),
            provider_session: claims.sid,
            person: PersonKey {
                issuer: self.config.issuer.clone(),
                subject: claims.sub,
            },
        })
    }

    /// What the provider says of accounts. None if it could not be asked: then they stay as they are.
    async fn says(
        &self,
        metadata: &Metadata,
        claims: &IdToken,
        access_token: Option<&str>,
    ) -> Option<Says> {
        self.sign_in.rail.as_ref()?;
        if let Some(accounts) = &claims.m2key_accounts {
            return Some(Says::These(accounts.clone()));
        }
        let (Some(user_info), Some(access_token)) = (&metadata.user_info, access_token) else {
            return Some(Says::Nothing);
        };
        match self.user_info(user_info, access_token, &claims.sub).await {
            Ok(says) => Some(says),
            Err(trouble) => {
                tracing::warn!(provider = self.name(), %trouble, "its accounts are not known");
                None
            }
        }
    }

    async fn user_info(
        &self,
        url: &Url,
        access_token: &str,
        subject: &str,
    ) -> Result<Says, Trouble> {
        #[derive(Deserialize)]
        struct UserInfo {
            sub: String,
            m2key_accounts: Option<serde_json::Value>,
        }
        if access_token.len() > ACCESS_TOKEN_MAX {
            return Err(Trouble::Refused("its access token is too long".into()));
        }
        let request = self.client.get(url.clone()).bearer_auth(access_token);
        let info: UserInfo = read(request).await?;
        if info.sub != subject {
            return Err(Trouble::Refused("its answer is of somebody else".into()));
        }
        Ok(info.m2key_accounts.map_or(Says::Nothing, Says::These))
    }

    /// What a logout token says, verified.
    pub(super) async fn logout(
        &self,
        token: &str,
        now: Timestamp,
    ) -> Result<ProviderLogout, Trouble> {
        let metadata = self.metadata(now).await?;
        let claims: logout::LogoutToken =
            self.verified(&metadata, token, logout::TAKEN, now).await?;
        claims.check(&self.config.issuer, &self.sign_in.client_id, now)
    }

    async fn verified<C: DeserializeOwned>(
        &self,
        metadata: &Metadata,
        token: &str,
        types: &[&str],
        now: Timestamp,
    ) -> Result<C, BadToken> {
        let token = Unverified::<C>::read(token, types)?;
        let algorithm = token.algorithm(&self.config.algorithms)?;
        let key = metadata.keys.find(token.kid()?, algorithm, now).await?;
        let SignedClaims(claims) = token.verify(&key, algorithm)?;
        Ok(claims)
    }

    /// Posts a form in our name and reads the JSON of the answer.
    async fn post<T: DeserializeOwned>(
        &self,
        url: &Url,
        form: &[(&'static str, String)],
        now: Timestamp,
    ) -> Result<T, Trouble> {
        let (key, name) = (&self.sign_in.client, &self.sign_in.client_id);
        let proof = prove(key, name, &self.config.issuer, now).await?;
        let mut all: Vec<(&str, &str)> = form.iter().map(|(k, v)| (*k, v.as_str())).collect();
        if let Proof::Assertion(_) = proof
            && !form.iter().any(|(field, _)| *field == "client_id")
        {
            all.push(("client_id", name));
        }
        all.extend(proof.fields());
        let body = serde_urlencoded::to_string(&all)
            .map_err(|error| Trouble::Ours(format!("a form: {error}")))?;
        let mut request = self
            .client
            .post(url.clone())
            .header("content-type", "application/x-www-form-urlencoded")
            .header("accept", "application/json")
            .body(body);
        if let Some(header) = proof.header() {
            request = request.header("authorization", header);
        }
        read(request).await
    }
}

/// The JSON of an answer. Errors of OAuth are told apart by whose move they are.
async fn read<T: DeserializeOwned>(request: RequestBuilder) -> Result<T, Trouble> {
    let (status, body) = answer(request, ANSWER_BYTES_MAX)
        .await
        .map_err(Trouble::Down)?;
    if status.is_success() {
        return serde_json::from_slice(&body)
            .map_err(|error| Trouble::Refused(format!("its answer: {error}")));
    }
    Err(of_error(status, &body))
}

fn of_error(status: StatusCode, body: &[u8]) -> Trouble {
    #[derive(Deserialize)]
    struct Error {
        error: String,
    }
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        return Trouble::Down(format!("it answered {status}"));
    }
    let error = serde_json::from_slice::<Error>(body);
    // Short and plain, because it goes into the log.
    let plain = |c: char| c.is_ascii_lowercase() || c == '_';
    match error.map(|it| it.error) {
        Ok(error) if error == "invalid_grant" => Trouble::Over("the code is not good".into()),
        Ok(error) if error.len() <= 40 && error.chars().all(plain) => {
            Trouble::Refused(format!("it answered {error}"))
        }
        _ => Trouble::Refused(format!("it answered {status}")),
    }
}
