//! Why a reconcile ended early, by what is to be done about it.
//!
//! None of these says anything about the database: the reconcile is repeated, and what it has written stays written.

use std::iter::successors;

use kube::core::Status;

/// Why a reconcile ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another operator leads, or the lease could not be renewed in time: nothing may be written.
    #[error("this operator does not lead: nothing was written")]
    NotLeading,
    /// Something changed after it was read: reconcile again.
    #[error("{doing}: the cluster has moved on: {message}")]
    Stale {
        /// What was being done.
        doing: String,
        /// The API server's message.
        message: String,
    },
    /// The API server will say the same again until somebody changes something.
    #[error("{doing}: the API server refuses: {message}")]
    Refused {
        /// What was being done.
        doing: String,
        /// The API server's message.
        message: String,
    },
    /// No response, or one that means "later".
    #[error("{doing}: no answer from the API server")]
    Unavailable {
        /// What was being done.
        doing: String,
        /// Why there is none.
        #[source]
        source: Box<kube::Error>,
    },
}

impl Error {
    /// Sorts an error by what is to be done about it; `doing` says what was being done.
    pub fn new(doing: impl Into<String>, error: kube::Error) -> Self {
        let doing = doing.into();
        match error {
            kube::Error::Api(status) if status.is_conflict() || status.is_already_exists() || status.is_not_found() => {
                Self::Stale { doing, message: status.message }
            }
            kube::Error::Api(status) if is_about_the_past(&status) => Self::Stale { doing, message: status.message },
            kube::Error::Api(status) if is_final(&status) => Self::Refused { doing, message: status.message },
            source => Self::Unavailable { doing, source: Box::new(source) },
        }
    }

    /// One word for a metric's label.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NotLeading => "not_leading",
            Self::Stale { .. } => "stale",
            Self::Refused { .. } => "refused",
            Self::Unavailable { .. } => "unavailable",
        }
    }
}

/// An error with its sources, for a log line. A source whose text the error repeats is left out: some libraries do so.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    for source in successors(error.source(), |error| error.source()).map(ToString::to_string) {
        if !text.ends_with(&source) {
            text.push_str(": ");
            text.push_str(&source);
        }
    }
    text
}

/// Whether the cluster no longer serves a kind: its definition is gone, or is going.
pub fn is_gone(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.is_not_found() || status.code == 405)
}

/// The object was replaced by another one of its name, for which a patch gets the answer that the uid cannot change; or the
/// namespace is being deleted, and nothing can be created in it.
fn is_about_the_past(status: &Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating" || cause.field == "metadata.uid")
}

/// Asking again changes nothing: the request is wrong, or not allowed, or a webhook that must be asked does not answer.
/// What server-side apply cannot read (a quantity such as `1Gb`, two entries with one key) the API server answers as if
/// the fault were its own.
fn is_final(status: &Status) -> bool {
    let is_unreadable = status.message.contains("failed to create typed patch object")
        || status.message.contains("unable to convert unstructured object");
    let is_webhook = status.message.contains("failed calling webhook");
    matches!(status.code, 400 | 401 | 403 | 405 | 413 | 415 | 422)
        || (status.code == 500 && (is_unreadable || is_webhook))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_sorted_by_what_can_be_done_about_it() {
        let kind = |code: u16, reason: &str| {
            let status = Status::failure("no", reason).with_code(code).boxed();
            Error::new("trying", kube::Error::Api(status)).kind()
        };
        let answers = [
            (409, "Conflict"),
            (409, "AlreadyExists"),
            (404, "NotFound"),
            (403, "Forbidden"),
            (422, "Invalid"),
            (429, "TooManyRequests"),
            (500, "InternalError"),
        ];
        let kinds = answers.map(|(code, reason)| kind(code, reason));
        assert_eq!(kinds, ["stale", "stale", "stale", "refused", "refused", "unavailable", "unavailable"]);
    }

    #[test]
    fn a_webhook_that_does_not_answer_is_a_refusal() {
        let message = "Internal error occurred: failed calling webhook \"a.example.com\": connection refused";
        let status = Status::failure(message, "InternalError").with_code(500).boxed();
        assert_eq!(Error::new("trying", kube::Error::Api(status)).kind(), "refused");
    }

    #[test]
    fn what_apply_cannot_read_is_refused_though_it_is_called_an_internal_error() {
        let message =
            "failed to create typed patch object (ns/db; apps/v1, Kind=StatefulSet): .spec: duplicate entries for key";
        let status = Status::failure(message, "").with_code(500).boxed();
        assert_eq!(Error::new("trying", kube::Error::Api(status)).kind(), "refused");
    }

    #[test]
    fn a_chain_names_every_source_once() {
        let lost = kube::Error::Service("connection reset".into());
        let error = Error::new("reading the pod db-0", lost);
        let expected = "reading the pod db-0: no answer from the API server: ServiceError: connection reset";
        assert_eq!(chain(&error), expected);
    }

    #[test]
    fn a_lost_connection_is_no_verdict() {
        let lost = kube::Error::Service("connection reset".into());
        assert_eq!(Error::new("trying", lost).kind(), "unavailable");
    }
}
