//! Classifies the errors of the SDK by what the caller can do about them.

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_kms::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};

use super::super::Error;
use crate::error_chain::with_causes;

/// Which of our errors it is, with the message and the code of AWS.
pub(crate) fn classify<E>(error: SdkError<E, HttpResponse>) -> Error
where
    E: std::error::Error + ProvideErrorMetadata + 'static,
{
    if let SdkError::ServiceError(response) = &error {
        let status = response.raw().status().as_u16();
        let code = response.err().code().unwrap_or_default();
        return classify_response(status, code, response.err().message().unwrap_or("no message"));
    }
    if let Some(refused) = credentials_error(&error) {
        return classify_credentials(refused);
    }
    match error {
        SdkError::ConstructionFailure(_) => Error::Settings(format!("cannot call AWS: {}", with_causes(&error))),
        _ => Error::unavailable(with_causes(&error)),
    }
}

fn classify_response(status: u16, code: &str, text: &str) -> Error {
    let message = if code.is_empty() { format!("{text} ({status})") } else { format!("{code}: {text}") };
    // Over JSON the codes of some errors end in Exception, and of others not.
    match code.strip_suffix("Exception").unwrap_or(code) {
        "Disabled" | "KMSInvalidState" | "NotFound" | "InvalidKeyUsage" | "InvalidArn" | "Validation" => {
            Error::key_unusable(message)
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
        | "RequestExpired" => Error::denied(message),
        "Throttling"
        | "Throttled"
        | "ThrottledRequest"
        | "RequestThrottled"
        | "TooManyRequests"
        | "LimitExceeded"
        | "RequestLimitExceeded"
        | "SlowDown" => Error::throttled(message, None),
        "InvalidCiphertext" | "IncorrectKey" => Error::invalid(message),
        "KMSInternal" | "DependencyTimeout" | "KeyUnavailable" | "ServiceUnavailable" | "InternalFailure"
        | "InternalServer" => Error::unavailable(message),
        _ => match status {
            401 | 403 => Error::denied(message),
            429 => Error::throttled(message, None),
            400..500 => Error::key_unusable(message),
            _ => Error::unavailable(message),
        },
    }
}

/// Without credentials KMS was never called, but to the caller that is a denial too.
fn classify_credentials(error: &CredentialsError) -> Error {
    let message = format!("no AWS credentials: {}", with_causes(error));
    let refused = ["AccessDenied", "ExpiredToken", "InvalidIdentityToken", "InvalidClientTokenId", "IDPRejectedClaim"];
    match error {
        CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_) => Error::denied(message),
        _ if refused.iter().any(|code| message.contains(code)) => Error::denied(message),
        _ => Error::unavailable(message),
    }
}

fn credentials_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a CredentialsError> {
    anyhow::Chain::new(error).skip(1).find_map(|cause| cause.downcast_ref())
}

#[cfg(test)]
mod tests {
    use aws_sdk_kms::{error::ErrorMetadata, operation::decrypt::DecryptError, types::error::DisabledException};

    use super::*;

    #[test]
    fn responses_are_classified_by_their_code() {
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
            assert_eq!(classify_response(status, code, "message").code(), wanted, "{status} {code}");
        }
    }

    #[test]
    fn the_message_of_aws_is_kept() {
        let meta = ErrorMetadata::builder().code("DisabledException").message("k is disabled.").build();
        let error = DecryptError::DisabledException(DisabledException::builder().meta(meta).build());
        let raw = HttpResponse::new(400.try_into().expect("a status"), "".into());
        let error = classify(SdkError::service_error(error, raw));
        assert_eq!(error, Error::key_unusable("DisabledException: k is disabled."));
    }

    #[test]
    fn no_credentials_are_a_denial_and_a_provider_that_is_down_is_not() {
        let code = |error| {
            let error: SdkError<DecryptError, HttpResponse> = SdkError::construction_failure(error);
            classify(error).code()
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
        assert_eq!(classify(error), Error::unavailable("request has timed out: too slow"));
    }
}
