//! What does a PKCS#11 return code mean for us?
//!
//! One exhaustive table: a new code in cryptoki does not compile until someone has decided.
//! Four codes lie. A tampered blob makes C_UnwrapKey answer CKR_GENERAL_ERROR (SoftHSM) or
//! CKR_DEVICE_ERROR (kryoptic), which is no device fault; a key handle that was good a moment ago
//! and is invalid now means that somebody in this process logged out; and CKR_GENERAL_ERROR of a
//! starting SoftHSM means that another process logs in at the same moment. So may
//! CKR_USER_PIN_NOT_INITIALIZED, which uses up no PIN and goes away with a restart.

use cryptoki::{
    context::Function,
    error::{Error, RvError},
};

use crate::failure::{Class, Failure};

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Pkcs11(code, function) => Self::new(
                classify(&code, &function),
                format!("{function:?}: {code:?}"),
            ),
            Error::NotSupported | Error::NullFunctionPointer | Error::MissingSymbol(_) => {
                Self::new(Class::Unsupported, error.to_string())
            }
            Error::LibraryLoading(_) => Self::new(Class::LostDevice, error.to_string()),
            Error::TryFromInt(_)
            | Error::TryFromSlice(_)
            | Error::ParseInt(_)
            | Error::Utf8(_)
            | Error::NulError(_)
            | Error::InvalidValue
            | Error::PinNotSet => Self::new(Class::Bug, error.to_string()),
        }
    }
}

/// The codes that a concurrent start of another process provokes, and that pass by themselves.
pub(crate) fn passes_by_itself(failure: &Error) -> bool {
    matches!(failure, Error::Pkcs11(RvError::GeneralError, _))
}

pub(crate) fn classify(code: &RvError, function: &Function) -> Class {
    match (function, code) {
        (
            Function::UnwrapKey,
            RvError::GeneralError
            | RvError::DeviceError
            | RvError::FunctionFailed
            | RvError::DataInvalid
            | RvError::DataLenRange
            | RvError::KeySizeRange,
        ) => Class::NotOurKey,
        _ => classify_code(code),
    }
}

fn classify_code(code: &RvError) -> Class {
    use RvError as R;
    match code {
        R::Cancel
        | R::FunctionCanceled
        | R::SessionCount
        | R::DeviceMemory
        | R::FunctionRejected => Class::Busy,
        R::SessionClosed
        | R::SessionHandleInvalid
        | R::UserNotLoggedIn
        | R::UserAnotherAlreadyLoggedIn
        | R::SessionReadOnly
        | R::SessionReadWriteSoExists
        | R::KeyHandleInvalid
        | R::ObjectHandleInvalid
        | R::WrappingKeyHandleInvalid
        | R::UnwrappingKeyHandleInvalid
        | R::OperationActive
        | R::OperationNotInitialized
        | R::FunctionFailed => Class::LostSession,
        R::HostMemory
        | R::SlotIdInvalid
        | R::GeneralError
        | R::DeviceError
        | R::DeviceRemoved
        | R::TokenNotPresent
        | R::TokenNotRecognized
        | R::CryptokiNotInitialized
        | R::LibraryLoadFailed
        | R::FipsSelfTestFailed
        | R::MutexBad
        | R::MutexNotLocked
        | R::UserPinNotInitialized
        | R::VendorDefined(_)
        | R::UnknownErrorCode(_) => Class::LostDevice,
        R::WrappedKeyInvalid
        | R::WrappedKeyLenRange
        | R::EncryptedDataInvalid
        | R::EncryptedDataLenRange => Class::NotOurKey,
        R::PinIncorrect
        | R::PinInvalid
        | R::PinLenRange
        | R::PinExpired
        | R::PinLocked
        | R::PinTooWeak
        | R::NewPinMode
        | R::NextOtp
        | R::ExceededMaxIterations => Class::Pin,
        R::FunctionNotSupported
        | R::CurveNotSupported
        | R::MechanismInvalid
        | R::MechanismParamInvalid
        | R::AttributeTypeInvalid
        | R::AttributeValueInvalid
        | R::TemplateIncomplete
        | R::TemplateInconsistent
        | R::KeySizeRange
        | R::WrappingKeySizeRange
        | R::UnwrappingKeySizeRange
        | R::DomainParamsInvalid
        | R::RandomNoRng
        | R::RandomSeedNotSupported
        | R::NeedToCreateThreads
        | R::CantLock
        | R::SessionParallelNotSupported
        | R::FunctionNotParallel
        | R::TokenWriteProtected => Class::Unsupported,
        R::KeyTypeInconsistent
        | R::KeyFunctionNotPermitted
        | R::KeyNotWrappable
        | R::KeyUnextractable
        | R::KeyNotNeeded
        | R::KeyChanged
        | R::KeyNeeded
        | R::KeyIndigestible
        | R::WrappingKeyTypeInconsistent
        | R::UnwrappingKeyTypeInconsistent
        | R::ActionProhibited
        | R::AttributeReadOnly
        | R::AttributeSensitive
        | R::DataInvalid
        | R::DataLenRange
        | R::PublicKeyInvalid
        | R::SignatureInvalid
        | R::SignatureLenRange => Class::CallersFault,
        R::ArgumentsBad
        | R::NoEvent
        | R::BufferTooSmall
        | R::SavedStateInvalid
        | R::InformationSensitive
        | R::StateUnsaveable
        | R::CryptokiAlreadyInitialized
        | R::SessionExists
        | R::SessionReadOnlyExists
        | R::UserAlreadyLoggedIn
        | R::UserTypeInvalid
        | R::UserTooManyTypes => Class::Bug,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(code: RvError, function: Function) -> Class {
        classify(&code, &function)
    }

    #[test]
    fn a_tampered_blob_is_not_a_lost_device_on_either_implementation() {
        for code in [RvError::GeneralError, RvError::DeviceError] {
            assert_eq!(class(code, Function::UnwrapKey), Class::NotOurKey);
            assert_eq!(class(code, Function::Sign), Class::LostDevice);
        }
    }

    #[test]
    fn what_a_stray_logout_leaves_behind_is_a_lost_session() {
        for code in [
            RvError::ObjectHandleInvalid,
            RvError::KeyHandleInvalid,
            RvError::WrappingKeyHandleInvalid,
            RvError::UnwrappingKeyHandleInvalid,
            RvError::UserNotLoggedIn,
        ] {
            for function in [Function::SignInit, Function::UnwrapKey, Function::WrapKey] {
                assert_eq!(class(code, function), Class::LostSession);
            }
        }
    }

    #[test]
    fn a_session_closed_by_others_is_a_lost_session() {
        for code in [RvError::SessionClosed, RvError::SessionHandleInvalid] {
            assert_eq!(class(code, Function::SignInit), Class::LostSession);
        }
    }

    #[test]
    fn a_device_that_went_away_asks_for_the_ladder() {
        for code in [
            RvError::DeviceRemoved,
            RvError::TokenNotPresent,
            RvError::CryptokiNotInitialized,
            RvError::SlotIdInvalid,
            RvError::VendorDefined(0x8000_0001),
        ] {
            assert_eq!(class(code, Function::OpenSession), Class::LostDevice);
        }
    }

    #[test]
    fn every_pin_trouble_is_final() {
        for code in [
            RvError::PinIncorrect,
            RvError::PinLocked,
            RvError::PinExpired,
        ] {
            assert_eq!(class(code, Function::Login), Class::Pin);
        }
    }

    #[test]
    fn a_missing_mechanism_is_named_with_its_function() {
        let failure = Failure::from(Error::Pkcs11(
            RvError::MechanismInvalid,
            Function::GenerateKey,
        ));
        assert_eq!(failure.class, Class::Unsupported);
        let text = failure.error.to_string();
        assert!(text.contains("GenerateKey: MechanismInvalid"), "{text}");
    }
}
