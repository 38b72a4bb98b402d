//! What went wrong, what to do, and with which exit code does the command end?

use std::process::ExitCode;

use hsm::HsmError;
use pki::process::EnvironmentError;
use pki::{Move, PkiError};
use protocol::problem::{Problem, ProblemType};

use crate::app::{AssembleError, OpenError};
use crate::config::ConfigError;
use crate::init::InitError;
use crate::listen::BindError;
use crate::listen::tls::TlsError;
use crate::lock::LockError;
use crate::serve::ServeError;
use crate::services::Failure;
use crate::services::journey::StartError;
use crate::services::same_keys::OtherKeys;
use crate::services::trust::TrustFileError;
use crate::store::StoreError;

const OPERATOR_AGAIN: &str = "another operator sees why (operator list) and can add you with a new \
                              key (operator request, operator add)";

/// Whose move it is, as scripts read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Refused = 1,
    Usage = 2,
    TryLater = 3,
    OperatorNeeded = 4,
    OurBug = 5,
}

/// `error: …`, `hint: …`, and the exit code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CliError {
    pub message: String,
    pub hint: String,
    pub exit: Exit,
}

impl CliError {
    pub fn new(exit: Exit, message: impl ToString, hint: impl ToString) -> Self {
        Self {
            message: message.to_string(),
            hint: hint.to_string(),
            exit,
        }
    }

    /// Prints it; the code to end with.
    pub fn tell(&self) -> ExitCode {
        eprintln!("error: {}", self.message);
        for line in self.hint.lines() {
            eprintln!("hint: {line}");
        }
        ExitCode::from(self.exit as u8)
    }

    pub(super) fn operator(message: impl ToString, hint: impl ToString) -> Self {
        Self::new(Exit::OperatorNeeded, message, hint)
    }

    pub(super) fn log_filter(problem: &str) -> Self {
        let message = format!("log.filter: {problem}");
        Self::operator(
            message,
            "e.g. filter = \"info\" or \"info,authority=debug\"",
        )
    }

    /// Nothing is opened while the memory of this process could be written to a file.
    pub(super) fn core_dumps(error: &std::io::Error) -> Self {
        let message = format!("core dumps cannot be switched off ({error})");
        Self::operator(
            message,
            "let this account lower its own limits (setrlimit, prctl)",
        )
    }

    pub(super) fn no_runtime(error: &std::io::Error) -> Self {
        let message = format!("the system gives no threads ({error})");
        Self::operator(message, "check the limits of this account (ulimit -a)")
    }

    pub(super) fn file(path: &std::path::Path, error: &std::io::Error) -> Self {
        let message = format!("{}: {error}", path.display());
        Self::operator(message, "check the path, and who may read and write there")
    }
}

impl From<ConfigError> for CliError {
    fn from(error: ConfigError) -> Self {
        let hint = |m: &crate::config::Mistake| match m.key.as_str() {
            "" => m.hint.clone(),
            key => format!("{key}: {}", m.hint),
        };
        let hints: Vec<_> = error.mistakes.iter().map(hint).collect();
        Self::operator(&error, hints.join("\n"))
    }
}

impl From<EnvironmentError> for CliError {
    fn from(error: EnvironmentError) -> Self {
        Self::operator(
            &error,
            "set the variables of [hsm.environment] yourself and try again",
        )
    }
}

impl From<LockError> for CliError {
    fn from(error: LockError) -> Self {
        match &error {
            LockError::Held(_) => Self::operator(
                &error,
                "stop the running daemon first, or leave --offline out and ask it",
            ),
            LockError::Io { .. } => {
                Self::operator(&error, "let the account of the daemon write to run_dir")
            }
        }
    }
}

impl From<HsmError> for CliError {
    fn from(error: HsmError) -> Self {
        let (exit, hint) = hsm_advice(&error);
        Self::new(exit, &error, hint)
    }
}

fn hsm_advice(error: &HsmError) -> (Exit, &'static str) {
    use Exit::{OperatorNeeded, OurBug, TryLater};
    match error {
        HsmError::Busy { .. } => (TryLater, "try again in a few seconds"),
        HsmError::SessionLost { .. } => (TryLater, "try again; check the HSM if it stays"),
        HsmError::DeviceLost { .. } => (OperatorNeeded, "check the HSM and its connection"),
        HsmError::PinRefused { .. } => (
            OperatorNeeded,
            "check the pin_file of this HSM token; do not just try again: wrong PINs lock it",
        ),
        HsmError::TokenUnknown { .. } => (
            OperatorNeeded,
            "check token_label and [hsm.environment]; `pkcs11-tool --module M -L` lists HSM tokens",
        ),
        HsmError::ModuleAbsent { .. } => (
            OperatorNeeded,
            "check hsm.module; SoftHSM: apt-get install -y softhsm2",
        ),
        HsmError::KeyUnknown { .. } => (
            OperatorNeeded,
            "store and HSM token do not belong together: check [store] and [hsm]",
        ),
        HsmError::KeyDiffers { .. } => (
            OperatorNeeded,
            "this is not the HSM token that it was: put the right one back, or restore its keys with its maker's means",
        ),
        HsmError::LabelTaken { .. } => (
            OperatorNeeded,
            "this HSM token holds keys of another authority: use a fresh one",
        ),
        HsmError::NotOurKey { .. } => (
            OperatorNeeded,
            "the row was changed or the HSM token is another: compare with a backup",
        ),
        HsmError::Unsupported { .. } => (
            OperatorNeeded,
            "`m2key-authority check-hsm` says what this HSM lacks",
        ),
        HsmError::CallerFault { .. } => (OperatorNeeded, "check the PIN files and [hsm]"),
        HsmError::Bug { .. } => (OurBug, "report this with the message above"),
    }
}

impl From<PkiError> for CliError {
    fn from(error: PkiError) -> Self {
        let exit = match error.whose_move() {
            Move::Asker => Exit::Refused,
            Move::Later => Exit::TryLater,
            Move::Operator => Exit::OperatorNeeded,
            Move::Ours => Exit::OurBug,
        };
        Self::new(exit, &error, error.hint())
    }
}

impl From<StoreError> for CliError {
    fn from(error: StoreError) -> Self {
        let (exit, hint) = store_advice(&error);
        Self::new(exit, &error, hint)
    }
}

fn store_advice(error: &StoreError) -> (Exit, &'static str) {
    match error {
        StoreError::Busy => (Exit::TryLater, "try again in a moment"),
        StoreError::Late => (
            Exit::TryLater,
            "look whether it was done before you ask again; `pg_stat_activity` says what the database waits for",
        ),
        StoreError::CannotWrite { .. } => (
            Exit::OperatorNeeded,
            "free some space or make the store writable; nothing was changed",
        ),
        StoreError::Unjournalled { .. } => (
            Exit::OperatorNeeded,
            "make the place of [fence] journal writable; the same verb again then says when it is safe",
        ),
        StoreError::Unusable { .. } => (
            Exit::OperatorNeeded,
            "check [store] path or [store.postgres]; `m2key-authority init` makes a new authority, `m2key-authority migrate` a new database",
        ),
        StoreError::Corrupt { .. } => (
            Exit::OperatorNeeded,
            "run `m2key-authority audit verify --offline` and compare with a backup",
        ),
    }
}

impl From<TlsError> for CliError {
    fn from(error: TlsError) -> Self {
        let hint = "certificate: PEM, own one first, then the issuing ones; key: unencrypted PEM";
        Self::operator(&error, hint)
    }
}

/// Whatever it is, it is in a file of this machine.
impl From<TrustFileError> for CliError {
    fn from(error: TrustFileError) -> Self {
        Self::operator(&error, error.problem.hint())
    }
}

impl From<BindError> for CliError {
    fn from(error: BindError) -> Self {
        let hint = "choose another address, or stop what listens there (ss -ltnp)";
        Self::operator(&error, hint)
    }
}

impl From<OpenError> for CliError {
    fn from(error: OpenError) -> Self {
        let message = error.to_string();
        let inner: Self = match error {
            OpenError::Hsm { error, .. } => error.into(),
            OpenError::Pki(error) => error.into(),
            OpenError::Trust(error) => error.into(),
            OpenError::ForeignSigner { .. } => {
                Self::operator("", "[signer] and [trust] must belong to one authority")
            }
            OpenError::Store { error, .. } => error.into(),
            OpenError::Journal(_) => Self::operator(
                "",
                "let the account of the daemon write to the place of [fence] journal",
            ),
            OpenError::Assemble(AssembleError::Store(error)) => error.into(),
            OpenError::Assemble(AssembleError::Keys(error)) => {
                Self::operator(error, "this store was not made by `m2key-authority init`")
            }
            OpenError::Keys(OtherKeys::Store(error)) => error.into(),
            OpenError::Keys(OtherKeys::Hsm(error)) => error.into(),
            OpenError::Keys(OtherKeys::Swapped { .. }) => Self::operator(
                "",
                "put the HSM token of this database back, or restore its keys with the maker's means: nothing else \
                 opens what is sealed under them; docs/OPERATIONS.md, \"Is it well?\"",
            ),
            OpenError::Keys(OtherKeys::Differs { .. } | OtherKeys::Lacks { .. }) => Self::operator(
                "",
                "give this node an HSM token with the same keys, or another database: docs/OPERATIONS.md, \
                 \"Many nodes\"",
            ),
        };
        Self { message, ..inner }
    }
}

impl From<ServeError> for CliError {
    fn from(error: ServeError) -> Self {
        match error {
            ServeError::Lock(error) => error.into(),
            ServeError::Open(error) => error.into(),
            ServeError::Start(StartError::Sms(_)) => Self::operator(
                &error,
                "compare [sms] with config/authority.full.toml: both files are the daemon's own, mode 0600",
            ),
            ServeError::Start(StartError::Webhooks(_)) => Self::operator(
                &error,
                "ca_file of [webhooks] holds PEM certificates that the account of the daemon may read",
            ),
            ServeError::Start(_) => Self::operator(
                &error,
                "compare [[identity_providers]] with config/authority.full.toml",
            ),
            ServeError::Tls(error) => error.into(),
            ServeError::Bind(error) => error.into(),
            ServeError::Addresses { .. } => {
                Self::operator(&error, "let the account of the daemon write to run_dir")
            }
            ServeError::Manager(_) => Self::operator(
                &error,
                "start it by the unit that came with it, or without NOTIFY_SOCKET",
            ),
            ServeError::Signals(_) => Self::new(Exit::OurBug, &error, "report this"),
        }
    }
}

impl From<InitError> for CliError {
    fn from(error: InitError) -> Self {
        let message = error.to_string();
        let inner: Self = match error {
            InitError::AlreadyThere(dir) => Self::new(
                Exit::Refused,
                "",
                format!(
                    "use it: m2key-authority serve --config {0}/authority.toml\n\
                     or choose another --dir; to begin again, move {0} away first: with it go \
                     all seeds and keys",
                    dir.display()
                ),
            ),
            InitError::ForeignFolder(_) => Self::new(
                Exit::Refused,
                "",
                "choose a --dir that is empty or does not exist",
            ),
            InitError::Io { .. } => Self::operator(
                "",
                "choose a --dir that this account can write to; nothing was made",
            ),
            InitError::TokenExists(_) => Self::operator(
                "",
                "unset SOFTHSM2_CONF so that init makes its own token folder, or give the PINs of \
                 empty HSM tokens with --pin-file and --issuing-pin-file",
            ),
            InitError::Hsm(error) => error.into(),
            InitError::Open(error) => error.into(),
            InitError::Pki(error) => error.into(),
            InitError::Store(error) => error.into(),
            InitError::Public(error) => error.into(),
            InitError::Config(error) => error.into(),
        };
        Self { message, ..inner }
    }
}

impl From<Failure> for CliError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(problem) => problem.into(),
            Failure::Store(error) => error.into(),
            Failure::Hsm(error) => error.into(),
            Failure::Pki(error) => error.into(),
            unbelieved @ Failure::Unbelieved(_) => unbelieved.into_operator_problem().into(),
        }
    }
}

impl From<Problem> for CliError {
    fn from(problem: Problem) -> Self {
        let message = match &problem.detail {
            Some(detail) => format!("{}: {detail}", problem.title),
            None => problem.title.to_string(),
        };
        let exit = match problem.problem_type() {
            Some(ProblemType::Busy | ProblemType::AnswerLate) => Exit::TryLater,
            Some(ProblemType::NotReady | ProblemType::Fenced | ProblemType::ConsentNeeded) => {
                Exit::OperatorNeeded
            }
            Some(ProblemType::Internal) => Exit::OurBug,
            _ => Exit::Refused,
        };
        let hint = match problem.problem_type() {
            // Terminals are told to enrol; who types verbs is an operator.
            Some(ProblemType::CertificateRefused) => OPERATOR_AGAIN,
            _ => &problem.next_step,
        };
        Self::new(exit, message, hint)
    }
}
