//! What an error of the SDK means to the caller.

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_kms::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};

use super::super::{Error, rest::with_causes};

/// The meaning of an error, with the words of AWS and their code.
pub(crate) fn meaning<E>(error: SdkError<E, HttpResponse>) -> Error
where
    E: std::error::Error + ProvideErrorMetadata + 'static,
{
    if let SdkError::ServiceError(reply) = &error {
        let status = reply.raw().status().as_u16();
        let code = reply.err().code().unwrap_or_default();
        let message = reply.err().message().unwrap_or("no words");
        return meaning_of_reply(status, code, message);
    }
    if let Some(refused) = credentials_error(&error) {
        return meaning_of_credentials(refused);
    }
    match error {
        SdkError::ConstructionFailure(_) => Error::Settings(format!("cannot ask AWS: {}", with_causes(&error))),
        _ => Error::unavailable(with_causes(&error)),
    }
}

fn meaning_of_reply(status: u16, code: &str, message: &str) -> Error {
    let words = if code.is_empty() { format!("{message} ({status})") } else { format!("{code}: {message}") };
    // Over JSON the codes of some errors end in Exception, and of others not.
    match code.strip_suffix("Exception").unwrap_or(code) {
        "Disabled" | "KMSInvalidState" | "NotFound" | "InvalidKeyUsage" | "InvalidArn" | "Validation" => {
            Error::key_unusable(words)
        }
        "AccessDenied"
        | "ExpiredToken"
        | "UnrecognizedClient"
        | "InvalidSignature"
        | "SignatureDoesNotMatch"
        | "InvalidClientTokenId"
        | "MissingAuthenticationToken"
        | "IncompleteSignature"
        | "NotAuthorized"
        | "OptInRequired"
        | "RequestExpired" => Error::denied(words),
        "Throttling"
        | "Throttled"
        | "ThrottledRequest"
        | "RequestThrottled"
        | "TooManyRequests"
        | "LimitExceeded"
        | "RequestLimitExceeded"
        | "SlowDown" => Error::throttled(words, None),
        "InvalidCiphertext" | "IncorrectKey" => Error::invalid(words),
        "KMSInternal" | "DependencyTimeout" | "KeyUnavailable" | "ServiceUnavailable" | "InternalFailure"
        | "InternalServer" => Error::unavailable(words),
        _ => match status {
            401 | 403 => Error::denied(words),
            429 => Error::throttled(words, None),
            400..500 => Error::key_unusable(words),
            _ => Error::unavailable(words),
        },
    }
}

/// Who never got an identity was not refused by KMS, but has none all the same.
fn meaning_of_credentials(error: &CredentialsError) -> Error {
    let words = format!("no AWS credentials: {}", with_causes(error));
    let refused = ["AccessDenied", "ExpiredToken", "InvalidIdentityToken", "InvalidClientTokenId", "IDPRejectedClaim"];
    match error {
        CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_) => Error::denied(words),
        _ if refused.iter().any(|code| words.contains(code)) => Error::denied(words),
        _ => Error::unavailable(words),
    }
}

fn credentials_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a CredentialsError> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use aws_sdk_kms::{error::ErrorMetadata, operation::decrypt::DecryptError, types::error::DisabledException};

    use super::*;

    #[test]
    fn replies_mean_what_their_code_says() {
        for (status, code, wanted) in [
            (400, "DisabledException", "key_unusable"),
            (400, "KMSInvalidStateException", "key_unusable"),
            (400, "NotFoundException", "key_unusable"),
            (400, "AccessDeniedException", "denied"),
            (400, "ExpiredTokenException", "denied"),
            (400, "UnrecognizedClientException", "denied"),
            (400, "InvalidSignatureException", "denied"),
            (400, "ThrottlingException", "throttled"),
            (400, "Throttling", "throttled"),
            (400, "TooManyRequestsException", "throttled"),
            (400, "LimitExceededException", "throttled"),
            (400, "InvalidCiphertextException", "invalid"),
            (400, "IncorrectKeyException", "invalid"),
            (500, "KMSInternalException", "unavailable"),
            (503, "DependencyTimeoutException", "unavailable"),
            (500, "KeyUnavailableException", "unavailable"),
            (500, "SomethingNewException", "unavailable"),
            (400, "SomethingNewException", "key_unusable"),
            (503, "", "unavailable"),
            (403, "", "denied"),
            (429, "", "throttled"),
        ] {
            assert_eq!(meaning_of_reply(status, code, "words").code(), wanted, "{status} {code}");
        }
    }

    #[test]
    fn the_words_of_aws_are_kept() {
        let meta = ErrorMetadata::builder().code("DisabledException").message("k is disabled.").build();
        let error = DecryptError::DisabledException(DisabledException::builder().meta(meta).build());
        let raw = HttpResponse::new(400.try_into().expect("a status"), "".into());
        let error = meaning(SdkError::service_error(error, raw));
        assert_eq!(error, Error::key_unusable("DisabledException: k is disabled."));
    }

    #[test]
    fn no_credentials_are_a_denial_and_a_provider_that_is_down_is_not() {
        let code = |error| {
            let error: SdkError<DecryptError, HttpResponse> = SdkError::construction_failure(error);
            meaning(error).code()
        };
        let codes = [
            CredentialsError::not_loaded("no providers in chain"),
            CredentialsError::invalid_configuration("a syntax error"),
            CredentialsError::provider_error("AccessDenied: not you"),
            CredentialsError::provider_error("connection refused"),
            CredentialsError::provider_timed_out(std::time::Duration::from_secs(1)),
        ]
        .map(code);
        assert_eq!(codes, ["denied", "denied", "denied", "unavailable", "unavailable"]);
    }

    #[test]
    fn what_never_arrived_is_unavailable() {
        let error: SdkError<DecryptError, HttpResponse> = SdkError::timeout_error("too slow");
        assert_eq!(meaning(error), Error::unavailable("request has timed out: too slow"));
    }
}
