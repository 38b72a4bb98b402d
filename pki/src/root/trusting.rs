//! How does a root agree to a change of the trusted roots?

use super::{Ceremony, RootSigner};
use crate::certificate::hex;
use crate::error::PkiError;
use crate::trust::{BadTrust, Draft};

const TRUST_SIGNED: &str = "trust-signed";

impl Ceremony {
    /// Adds the signature of this root to the next list. A root that signed another list of the same
    /// sequence before refuses, unless `again`: two lists would split those who follow.
    pub async fn sign_trust(
        &mut self,
        draft: &mut Draft,
        signer: &RootSigner,
        again: bool,
    ) -> Result<(), PkiError> {
        let root = self.root()?;
        let (list, sequence) = (hex(&draft.list_sha256()), draft.sequence());
        if !again {
            self.refuse_second_list(sequence, &list)?;
        }
        let signature = signer.sign_digest(draft.digest(&root)).await?;
        draft.add(&root, &signature)?;
        self.adopt(&root)?;
        let facts = [
            ("sequence", sequence.to_string()),
            ("list", list),
            ("roots", draft.roots().len().to_string()),
        ];
        let facts = facts.each_ref().map(|(key, value)| (*key, value.as_str()));
        self.note(TRUST_SIGNED, &facts)
    }

    fn refuse_second_list(&self, sequence: u64, list: &str) -> Result<(), BadTrust> {
        let other = self.steps_of(TRUST_SIGNED).find(|entry| {
            let signed = entry
                .fact("sequence")
                .and_then(|number| number.parse().ok());
            signed.is_some_and(|signed: u64| signed >= sequence) && entry.fact("list") != Some(list)
        });
        match other {
            Some(_) => Err(BadTrust::SignedOther { sequence }),
            None => Ok(()),
        }
    }
}
