//! Which verbs are there?
//!
//! One list: the routes, the requests that others consent to, and the tests of gates are made of it.

use std::pin::Pin;

use serde_json::Value;

use super::nodes::{NodeForget, NodeList, NodeRenew};
use super::{
    AccountCredit, AccountOpen, AlarmClose, AlarmList, AuditVerify, CertificateIssue,
    CertificateList, CertificateRevoke, CertificateShow, ConsentAsk, ConsentCarryOut, ConsentDraft,
    ConsentList, ConsentRefuse, ConsentShow, ConsentSign, DisputeShow, FenceCompare, FenceRaise,
    FenceStatus, Gate, IntentList, IntentShow, IssuingAgree, JoinTokenList, JoinTokenRevoke,
    KeyList, KeyStep, LedgerCheck, MerchantAdd, MerchantHistory, MerchantLimit, MerchantList,
    MerchantPin, MerchantSet, MerchantShow, OperationList, OperationShow, OperationTranscript,
    OperatorAdd, OperatorList, OperatorRevoke, PolicySet, PolicyShow, RefundGive, RootAgree,
    SeedRotate, SettlementClose, SettlementExport, SettlementList, ShopperLock, ShopperShow,
    ShopperUnlock, TagForecast, TagKeys, TagList, TagRetire, TagShow, TerminalAdd, TerminalBan,
    TerminalJoin, TerminalList, TerminalShow, TerminalUnban, TrustInstall, TrustShow, TrustStage,
    Verb, WebhookList, WebhookRemove, WebhookRetry, WebhookSet, carry_out_request, malformed,
    written,
};
use crate::app::App;
use crate::services::Failure;
use crate::store::RequestId;

/// Calls the macro `$use` with every verb there is.
#[macro_export]
#[doc(hidden)]
macro_rules! every_verb {
    ($use:ident) => {
        $use! {
            TerminalAdd, TerminalJoin, TerminalList, TerminalShow, TerminalBan, TerminalUnban,
            JoinTokenList, JoinTokenRevoke,
            TagKeys, TagList, TagShow, TagRetire, TagForecast,
            ShopperLock, ShopperUnlock, ShopperShow,
            MerchantAdd, MerchantList, MerchantSet, MerchantShow, MerchantPin, MerchantHistory, MerchantLimit,
            RefundGive, SettlementClose, SettlementList, SettlementExport,
            WebhookSet, WebhookList, WebhookRemove, WebhookRetry, DisputeShow,
            IntentList, IntentShow,
            AccountOpen, AccountCredit, LedgerCheck,
            AuditVerify, AlarmList, AlarmClose,
            CertificateIssue, CertificateList, CertificateShow, CertificateRevoke,
            NodeRenew, NodeList, NodeForget,
            KeyList, KeyStep, SeedRotate,
            TrustShow, TrustStage, TrustInstall,
            OperationList, OperationShow, OperationTranscript,
            OperatorAdd, OperatorList, OperatorRevoke, PolicyShow, PolicySet,
            ConsentDraft, ConsentAsk, ConsentList, ConsentShow, ConsentSign, ConsentRefuse,
            ConsentCarryOut, IssuingAgree, RootAgree,
            FenceStatus, FenceRaise, FenceCompare,
        }
    };
}
pub use every_verb;

type Answered<'a> = Pin<Box<dyn Future<Output = Result<Value, Failure>> + Send + 'a>>;

/// A verb that is known by its name only.
pub struct Named {
    read: fn(Value) -> Result<(Gate, String), Failure>,
    carry_out: for<'a> fn(&'a App, &'a str, Value, RequestId) -> Answered<'a>,
}

impl Named {
    fn of<V: Verb>() -> Self {
        Self {
            read: |body| {
                let verb: V = serde_json::from_value(body).map_err(malformed)?;
                Ok((verb.gate(), written(&verb)?))
            },
            carry_out: |app, by, body, request| {
                Box::pin(async move {
                    let verb: V = serde_json::from_value(body).map_err(malformed)?;
                    let answer = carry_out_request(app, by, verb, Some(request)).await?;
                    serde_json::to_value(answer).map_err(malformed)
                })
            },
        }
    }

    /// The gate of what `body` asks for, and the body as the verb writes itself.
    pub fn read(&self, body: Value) -> Result<(Gate, String), Failure> {
        (self.read)(body)
    }

    pub(super) fn carry_out<'a>(
        &self,
        app: &'a App,
        by: &'a str,
        body: Value,
        request: RequestId,
    ) -> Answered<'a> {
        (self.carry_out)(app, by, body, request)
    }
}

/// The verb of this name.
pub fn named(name: &str) -> Option<Named> {
    macro_rules! find {
        ($($verb:ident),+ $(,)?) => {
            $(if name == <$verb as Verb>::NAME {
                return Some(Named::of::<$verb>());
            })+
        };
    }
    every_verb!(find);
    None
}

/// The names of all verbs.
pub fn names() -> Vec<&'static str> {
    macro_rules! list {
        ($($verb:ident),+ $(,)?) => { vec![$(<$verb as Verb>::NAME),+] };
    }
    every_verb!(list)
}
