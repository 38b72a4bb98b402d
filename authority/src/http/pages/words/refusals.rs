//! What does a page say when something is refused, and what is the next step?

use protocol::problem::{Problem, ProblemType};

use super::{Language, Words};
use crate::store::Reason;

/// What went wrong, and whose move it is now.
pub(in crate::http::pages) struct Refusal {
    pub(in crate::http::pages) title: &'static str,
    pub(in crate::http::pages) next: String,
}

impl Words {
    /// Refusals that no page can run into are said as our own fault.
    pub(in crate::http::pages) fn refusal(self, problem: &Problem) -> Refusal {
        let (title, next) = self.pair(problem.problem_type().unwrap_or(ProblemType::Internal));
        let next = match problem.retry_after_s {
            Some(seconds) if seconds > 0 => {
                format!("{next} {}", self.wait(self.duration(seconds.into())))
            }
            _ => next.to_owned(),
        };
        Refusal { title, next }
    }

    /// Why the account that was asked last did not pay.
    pub(in crate::http::pages) fn declined(self, reason: Reason) -> Refusal {
        let (title, next) = self.pair(match reason {
            Reason::FundsShort => ProblemType::FundsShort,
            Reason::Silent => ProblemType::RailSilent,
            Reason::Cancelled => ProblemType::ClaimOver,
            Reason::OverLimit
            | Reason::AccountUnknown
            | Reason::AccountClosed
            | Reason::Refused => ProblemType::RailDeclined,
        });
        let why = match reason {
            Reason::OverLimit => self.because_over_limit(),
            Reason::AccountUnknown => self.because_unknown(),
            Reason::AccountClosed => self.because_closed(),
            _ => "",
        };
        Refusal {
            title,
            next: format!("{why} {next}").trim_start().to_owned(),
        }
    }

    fn pair(self, problem: ProblemType) -> (&'static str, &'static str) {
        use ProblemType as P;
        let [english, french] = match problem {
            P::MalformedToken => MALFORMED_TOKEN,
            P::TokenUnknown => TOKEN_UNKNOWN,
            P::TokenSpent => TOKEN_SPENT,
            P::TokenPassed => TOKEN_PASSED,
            P::TapUnsigned => TAP_UNSIGNED,
            P::TagRefused => TAG_REFUSED,
            P::TagPaused => TAG_PAUSED,
            P::NothingToPay => NOTHING_TO_PAY,
            P::ChargeHeld => CHARGE_HELD,
            P::TerminalRefused => TERMINAL_REFUSED,
            P::ClaimUnknown => CLAIM_UNKNOWN,
            P::ClaimOver => CLAIM_OVER,
            P::AmountDiffers | P::AmountMissing => AMOUNT_DIFFERS,
            P::PayeeDiffers => PAYEE_DIFFERS,
            P::SignInNeeded => SIGN_IN_NEEDED,
            P::SignInRefused => SIGN_IN_REFUSED,
            P::NoAccount => NO_ACCOUNT,
            P::StepUpNeeded => STEP_UP_NEEDED,
            P::StepUpRefused => STEP_UP_REFUSED,
            P::LimitReached => LIMIT_REACHED,
            P::CapReached => CAP_REACHED,
            P::TooManyClaims => TOO_MANY_CLAIMS,
            P::TooManyRequests => TOO_MANY_REQUESTS,
            P::RailDeclined => RAIL_DECLINED,
            P::RailSilent => RAIL_SILENT,
            P::SignInOver => SIGN_IN_OVER,
            P::FreshSignInNeeded => FRESH_SIGN_IN_NEEDED,
            P::IdentityTaken => IDENTITY_TAKEN,
            P::IdentityLast => IDENTITY_LAST,
            P::ProfileInUse => PROFILE_IN_USE,
            P::ProfileLocked => PROFILE_LOCKED,
            P::ProviderRefused => PROVIDER_REFUSED,
            P::ProviderDown => PROVIDER_DOWN,
            P::FundsShort => FUNDS_SHORT,
            P::TooManyMisses => TOO_MANY_MISSES,
            P::CodePaused => CODE_PAUSED,
            P::MalformedRequest | P::BodyTooLarge | P::FormRefused => MALFORMED_REQUEST,
            P::NotFound | P::MethodNotAllowed => NOT_FOUND,
            P::Busy | P::AnswerLate => BUSY,
            P::NotReady | P::Fenced => NOT_READY,
            _ => INTERNAL,
        };
        match self.0 {
            Language::English => english,
            Language::French => french,
        }
    }
}

super::sentences! {
    wait(time) "Wait {time}." "Attendez {time}.";
    because_over_limit "A limit of the account is reached." "Une limite du compte est atteinte.";
    because_unknown "The account is not known there any more." "Le compte n’y est plus connu.";
    because_closed "The account is closed." "Le compte est fermé.";
}

/// English and French, each title and next step.
type Pair = [(&'static str, &'static str); 2];

const MALFORMED_TOKEN: Pair = [
    (
        "That is not a code of a terminal",
        "Compare it with the screen: 15 digits in groups of five. Or tap or scan instead.",
    ),
    (
        "Ce n’est pas le code d’un terminal",
        "Comparez avec l’écran : 15 chiffres, en groupes de cinq. Ou approchez votre téléphone, ou scannez.",
    ),
];
const TOKEN_UNKNOWN: Pair = [
    (
        "No terminal shows this code now",
        "Tap or scan the terminal in front of you, or type what its screen shows now.",
    ),
    (
        "Aucun terminal n’affiche ce code en ce moment",
        "Approchez votre téléphone du terminal devant vous, scannez, ou tapez ce que son écran affiche maintenant.",
    ),
];
const TOKEN_SPENT: Pair = [
    (
        "This code was used already",
        "Tap or scan again: the terminal shows a new one.",
    ),
    (
        "Ce code a déjà servi",
        "Approchez votre téléphone ou scannez à nouveau : le terminal en affiche un autre.",
    ),
];
const TOKEN_PASSED: Pair = [
    (
        "This code has run out",
        "Tap or scan again: the terminal shows a new one.",
    ),
    (
        "Ce code a expiré",
        "Approchez votre téléphone ou scannez à nouveau : le terminal en affiche un autre.",
    ),
];
const TAP_UNSIGNED: Pair = [
    (
        "This link was not read from the terminal’s tag",
        "Hold your phone to the tag itself, or scan the code on the screen.",
    ),
    (
        "Ce lien n’a pas été lu sur l’étiquette du terminal",
        "Approchez votre téléphone de l’étiquette elle-même, ou scannez le code à l’écran.",
    ),
];
const TAG_REFUSED: Pair = [
    (
        "This tag does not count at this terminal",
        "Scan the code on the screen instead, and tell the merchant.",
    ),
    (
        "Cette étiquette n’est pas valable sur ce terminal",
        "Scannez plutôt le code à l’écran, et prévenez le commerçant.",
    ),
];
const NOTHING_TO_PAY: Pair = [
    (
        "There is nothing to pay here yet",
        "Wait until the terminal’s screen shows the amount, then tap or scan again.",
    ),
    (
        "Il n’y a encore rien à payer ici",
        "Attendez que l’écran du terminal affiche le montant, puis approchez votre téléphone ou scannez à nouveau.",
    ),
];
const CHARGE_HELD: Pair = [
    (
        "Another phone is paying this",
        "If that is nobody you know, wait until the screen asks again, then tap or scan.",
    ),
    (
        "Un autre téléphone est en train de payer",
        "Si ce n’est personne que vous connaissez, attendez que l’écran redemande le paiement, puis approchez votre téléphone ou scannez.",
    ),
];
const TERMINAL_REFUSED: Pair = [
    (
        "This terminal is out of service",
        "Ask the merchant for another way to pay.",
    ),
    (
        "Ce terminal est hors service",
        "Demandez au commerçant un autre moyen de payer.",
    ),
];
const CLAIM_UNKNOWN: Pair = [
    (
        "This phone is not paying that",
        "Tap or scan the terminal with the phone that is to pay.",
    ),
    (
        "Ce téléphone n’est pas celui qui paie",
        "Approchez du terminal le téléphone qui doit payer, ou scannez avec lui.",
    ),
];
const CLAIM_OVER: Pair = [
    (
        "The time to pay is over",
        "Nothing was paid. Tap or scan the terminal again.",
    ),
    (
        "Le temps pour payer est écoulé",
        "Rien n’a été payé. Approchez à nouveau votre téléphone du terminal, ou scannez.",
    ),
];
const AMOUNT_DIFFERS: Pair = [
    (
        "That is not the amount the terminal asks for",
        "Nothing was paid. Look at the amount again before you approve.",
    ),
    (
        "Ce n’est pas le montant que demande le terminal",
        "Rien n’a été payé. Regardez à nouveau le montant avant d’approuver.",
    ),
];
const PAYEE_DIFFERS: Pair = [
    (
        "That is not whom this terminal belongs to",
        "Nothing was paid. Tap or scan again, and compare the name.",
    ),
    (
        "Ce n’est pas à qui appartient ce terminal",
        "Rien n’a été payé. Approchez votre téléphone ou scannez à nouveau, et comparez le nom.",
    ),
];
const SIGN_IN_NEEDED: Pair = [
    ("Sign in first", "Nothing was paid. Sign in, then approve."),
    (
        "Connectez-vous d’abord",
        "Rien n’a été payé. Connectez-vous, puis approuvez.",
    ),
];
const SIGN_IN_REFUSED: Pair = [
    (
        "The sign-in did not work",
        "Nothing was paid. Try again, or sign in with another account.",
    ),
    (
        "La connexion n’a pas abouti",
        "Rien n’a été payé. Réessayez, ou connectez-vous avec un autre compte.",
    ),
];
const NO_ACCOUNT: Pair = [
    (
        "There is no account to pay from",
        "Nothing was paid. Link an account in your profile, or ask the merchant for another way to pay.",
    ),
    (
        "Il n’y a pas de compte pour payer",
        "Rien n’a été payé. Reliez un compte dans votre profil, ou demandez au commerçant un autre moyen de payer.",
    ),
];
const FUNDS_SHORT: Pair = [
    (
        "The account does not hold enough",
        "Nothing was paid. Choose another account, or top this one up.",
    ),
    (
        "Le compte n’est pas assez approvisionné",
        "Rien n’a été payé. Choisissez un autre compte, ou approvisionnez celui-ci.",
    ),
];
const TOO_MANY_MISSES: Pair = [
    ("Too many wrong codes", "Tap or scan instead, or wait."),
    (
        "Trop de codes erronés",
        "Approchez votre téléphone ou scannez, ou attendez.",
    ),
];
const TAG_PAUSED: Pair = [
    (
        "The tag of this terminal pauses",
        "Scan the code on the screen instead, or wait.",
    ),
    (
        "L’étiquette de ce terminal est en pause",
        "Scannez plutôt le code affiché à l’écran, ou attendez.",
    ),
];
const CODE_PAUSED: Pair = [
    (
        "The typed code of this terminal pauses",
        "Tap or scan instead, or wait for the next code.",
    ),
    (
        "Le code à taper de ce terminal est en pause",
        "Approchez votre téléphone ou scannez, ou attendez le prochain code.",
    ),
];
const MALFORMED_REQUEST: Pair = [
    (
        "This page has grown old",
        "Go back to the start, or tap or scan again. Nothing was paid by this.",
    ),
    (
        "Cette page a vieilli",
        "Retournez au début, ou approchez votre téléphone ou scannez à nouveau. Rien n’a été payé par là.",
    ),
];
const NOT_FOUND: Pair = [
    (
        "There is nothing here",
        "Tap or scan the terminal, or begin at the start.",
    ),
    (
        "Il n’y a rien ici",
        "Approchez votre téléphone du terminal ou scannez, ou commencez au début.",
    ),
];
const BUSY: Pair = [
    (
        "Too much at once",
        "Try again in a moment; nothing is paid twice.",
    ),
    (
        "Trop de monde à la fois",
        "Réessayez dans un instant ; rien n’est payé deux fois.",
    ),
];
const NOT_READY: Pair = [
    (
        "The service is not ready",
        "Try again later, or ask the merchant for another way to pay.",
    ),
    (
        "Le service n’est pas prêt",
        "Réessayez plus tard, ou demandez au commerçant un autre moyen de payer.",
    ),
];
const INTERNAL: Pair = [
    (
        "Something went wrong here",
        "That is our fault. Try again; if it stays, tell the operator the time. Nothing is paid twice.",
    ),
    (
        "Quelque chose n’a pas marché ici",
        "C’est notre faute. Réessayez ; si cela persiste, dites l’heure à l’exploitant. Rien n’est payé deux fois.",
    ),
];
const RAIL_DECLINED: Pair = [
    (
        "The account does not pay this",
        "Nothing was paid. Choose another account, or ask the merchant for another way to pay.",
    ),
    (
        "Le compte ne paie pas cela",
        "Rien n’a été payé. Choisissez un autre compte, ou demandez au commerçant un autre moyen de payer.",
    ),
];
const RAIL_SILENT: Pair = [
    (
        "Your bank did not answer in time",
        "Nothing is paid, and nothing stays taken. Choose another account, or tap or scan again.",
    ),
    (
        "Votre banque n’a pas répondu à temps",
        "Rien n’est payé, et rien ne restera débité. Choisissez un autre compte, ou approchez votre téléphone ou scannez à nouveau.",
    ),
];
const SIGN_IN_OVER: Pair = [
    (
        "This sign-in has ended",
        "Start the sign-in again; nothing was lost.",
    ),
    (
        "Cette connexion est terminée",
        "Recommencez la connexion ; rien n’est perdu.",
    ),
];
const FRESH_SIGN_IN_NEEDED: Pair = [
    (
        "Sign in once more",
        "This changes who gets in or how much is paid, so it takes a sign-in of the last minutes. Sign in again, then repeat it.",
    ),
    (
        "Connectez-vous encore une fois",
        "Cela change qui a accès ou combien est payé : il faut une connexion des dernières minutes. Reconnectez-vous, puis recommencez.",
    ),
];
const IDENTITY_TAKEN: Pair = [
    (
        "This account opens another profile",
        "Unlink it there, or delete that profile; then link it here.",
    ),
    (
        "Ce compte ouvre un autre profil",
        "Déliez-le là-bas, ou supprimez ce profil ; puis reliez-le ici.",
    ),
];
const IDENTITY_LAST: Pair = [
    (
        "It is the only account that opens your profile",
        "Link another one first, or delete the profile.",
    ),
    (
        "C’est le seul compte qui ouvre votre profil",
        "Reliez-en d’abord un autre, ou supprimez le profil.",
    ),
];
const PROFILE_IN_USE: Pair = [
    (
        "The profile cannot go yet",
        "A payment is under way, or money lies in it. Settle that, then try again.",
    ),
    (
        "Le profil ne peut pas encore disparaître",
        "Un paiement est en cours, ou il contient de l’argent. Réglez cela, puis réessayez.",
    ),
];
const PROFILE_LOCKED: Pair = [
    (
        "This profile is locked",
        "Nothing was paid. Only the operator unlocks it: ask there.",
    ),
    (
        "Ce profil est verrouillé",
        "Rien n’a été payé. Seul l’exploitant le déverrouille : adressez-vous à lui.",
    ),
];
const PROVIDER_REFUSED: Pair = [
    (
        "The sign-in did not work",
        "What came back cannot be believed. Sign in with another account; the operator sees why.",
    ),
    (
        "La connexion n’a pas abouti",
        "La réponse reçue n’est pas crédible. Connectez-vous avec un autre compte ; l’exploitant voit pourquoi.",
    ),
];
const PROVIDER_DOWN: Pair = [
    (
        "The sign-in service does not answer",
        "Wait a moment and try again, or sign in with another account; nothing was lost.",
    ),
    (
        "Le service de connexion ne répond pas",
        "Attendez un instant et réessayez, ou connectez-vous avec un autre compte ; rien n’est perdu.",
    ),
];
const STEP_UP_NEEDED: Pair = [
    (
        "Confirm this payment",
        "Nothing is paid yet. An amount like this takes your passkey.",
    ),
    (
        "Confirmez ce paiement",
        "Rien n’est encore payé. Un tel montant demande votre clé d’accès.",
    ),
];
const STEP_UP_REFUSED: Pair = [
    (
        "The confirmation does not count",
        "Nothing was paid. Confirm again with your passkey.",
    ),
    (
        "La confirmation ne compte pas",
        "Rien n’a été payé. Confirmez à nouveau avec votre clé d’accès.",
    ),
];
const LIMIT_REACHED: Pair = [
    (
        "A limit is reached",
        "Nothing was paid. Pay less, or wait until the limit ends.",
    ),
    (
        "Une limite est atteinte",
        "Rien n’a été payé. Payez moins, ou attendez que la limite se termine.",
    ),
];
const TOO_MANY_CLAIMS: Pair = [
    (
        "You hold other payments already",
        "Finish them, or wait until they end.",
    ),
    (
        "Vous avez déjà d’autres paiements en cours",
        "Terminez-les, ou attendez leur fin.",
    ),
];
const TOO_MANY_REQUESTS: Pair = [
    (
        "Too many requests from here",
        "Wait a minute, then try again.",
    ),
    (
        "Trop de demandes d’ici",
        "Attendez une minute, puis réessayez.",
    ),
];
const CAP_REACHED: Pair = [
    (
        "A limit on this account is reached",
        "Nothing was paid. Choose another account, or ask the merchant for another way to pay.",
    ),
    (
        "Une limite de ce compte est atteinte",
        "Rien n’a été payé. Choisissez un autre compte, ou demandez au commerçant un autre moyen de payer.",
    ),
];
