//! How does a root agree to a change of the trusted roots?

use super::{Ceremony, RootSigner};
use crate::certificate::{Certificate, hex};
use crate::consent::step::{RootStep, root_name};
use crate::error::PkiError;
use crate::trust::{BadTrust, Draft};

const TRUST_SIGNED: &str = "trust-signed";

/// A signature under a list of roots that people have not agreed to yet.
#[derive(Debug)]
pub struct TrustPlan<'a> {
    /// The list; it gets the signature.
    pub draft: &'a mut Draft,
    /// Although this root has signed another list of this sequence.
    pub again: bool,
    /// What operators signed.
    pub transcript: Option<String>,
}

impl<'a> TrustPlan<'a> {
    pub fn new(draft: &'a mut Draft, again: bool) -> Self {
        Self {
            draft,
            again,
            transcript: None,
        }
    }

    /// What operators consent to.
    pub fn step(&self, root: &Certificate) -> RootStep {
        RootStep::trust(root_name(root), self.draft, self.again)
    }
}

impl Ceremony {
    /// Adds the signature of this root to the next list. A root that signed another list of the same
    /// sequence before refuses, unless `again`: two lists would split those who follow.
    pub async fn sign_trust(
        &mut self,
        plan: TrustPlan<'_>,
        signer: &RootSigner,
    ) -> Result<(), PkiError> {
        let root = self.root()?;
        let (list, sequence) = (hex(&plan.draft.list_sha256()), plan.draft.sequence());
        if !plan.again {
            self.refuse_second_list(sequence, &list)?;
        }
        let consents = self.clear_now(&plan.step(&root), plan.transcript.as_deref())?;
        let signature = signer.sign_digest(plan.draft.digest(&root)).await?;
        plan.draft.add(&root, &signature)?;
        self.adopt(&root)?;
        let mut facts = vec![
            ("sequence", sequence.to_string()),
            ("list", list),
            ("roots", plan.draft.roots().len().to_string()),
        ];
        facts.extend(consents);
        self.note_all(TRUST_SIGNED, &facts)
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
