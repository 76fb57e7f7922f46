//! What a server answered, and checks of it against the contract.

use serde_json::{Value, json};

/// The codes that programs rely on, by how the text begins.
const CODES: [(&str, &str); 22] = [
    ("unauthorized", "unauthorized"),
    ("forbidden", "forbidden"),
    ("rate limit exceeded", "rate_limited"),
    ("signature required", "signature_required"),
    ("missing user id", "user_id_missing"),
    ("invalid signature", "invalid_signature"),
    ("author required", "author_required"),
    ("author too long", "author_too_long"),
    ("author mismatch", "author_mismatch"),
    ("not found", "not_found"),
    ("invalid thread key format", "invalid_key"),
    ("invalid message key format", "invalid_key"),
    ("expected ", "invalid_key"),
    ("invalid pagination: ", "invalid_pagination"),
    ("invalid thread ", "invalid_payload"),
    ("invalid message ", "invalid_payload"),
    ("validation errors: title", "validation_failed"),
    ("validation errors: body", "validation_failed"),
    ("access denied", "access_denied"),
    ("thread not found", "thread_not_found"),
    ("message not found in thread", "message_not_in_thread"),
    ("message not found", "message_not_found"),
];

/// What the server answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Method and target of the request, for failure messages.
    pub asked: String,
    /// The status code.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// As it was sent, without the framing.
    pub body: Vec<u8>,
}

impl Answer {
    /// The first value of a header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body, which must be labelled as JSON and be JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        let kind = self.header("content-type").unwrap_or_default();
        assert!(kind.contains("application/json"), "{}: content type {kind:?}: {self}", self.asked);
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{}: {error} in {self}", self.asked))
    }

    /// The status is this.
    #[track_caller]
    pub fn check_status(&self, status: u16) -> &Self {
        assert_eq!(self.status, status, "{}: {self}", self.asked);
        self
    }

    /// The status is this, and the body this JSON.
    #[track_caller]
    pub fn check_json(&self, status: u16, body: &Value) -> &Self {
        self.check_status(status);
        assert_eq!(self.json(), *body, "{}", self.asked);
        self
    }

    /// The contract's error: status, JSON of exactly `error` and `code`, a request id.
    #[track_caller]
    pub fn check_error(&self, status: u16, text: &str) -> &Self {
        self.check_refusal(status);
        assert_eq!(self.json()["error"], json!(text), "{}", self.asked);
        self
    }

    /// An error whose text begins so.
    #[track_caller]
    pub fn check_error_begins(&self, status: u16, text: &str) -> &Self {
        self.check_refusal(status);
        let body = self.json();
        assert!(body["error"].as_str().unwrap().starts_with(text), "{}: {body}, want {text}...", self.asked);
        self
    }

    /// An error with this status and whatever text.
    #[track_caller]
    pub fn check_refusal(&self, status: u16) -> &Self {
        self.check_status(status);
        self.check_error_shape();
        self
    }

    /// The shape that every error has.
    #[track_caller]
    pub fn check_error_shape(&self) {
        let body = self.json();
        let fields: Vec<&String> =
            body.as_object().unwrap_or_else(|| panic!("{}: {self}", self.asked)).keys().collect();
        assert_eq!(fields, ["code", "error"], "{}: {self}", self.asked);
        assert!(body["error"].as_str().is_some_and(|text| !text.is_empty()), "{}: {self}", self.asked);
        let code = body["code"].as_str().unwrap_or_default();
        let snake = !code.is_empty() && code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        assert!(snake, "{}: code {code:?}", self.asked);
        let text = body["error"].as_str().unwrap();
        if let Some((_, want)) = CODES.iter().find(|(begin, _)| text.starts_with(begin)) {
            assert_eq!(code, *want, "{}: {body}", self.asked);
        }
        assert!(self.header("x-request-id").is_some_and(|id| !id.is_empty()), "{}: no request id: {self}", self.asked);
    }

    /// The key of an accepted write: 202 and `{"key": ...}`, nothing else.
    #[track_caller]
    pub fn written(&self) -> String {
        self.check_status(202);
        let body = self.json();
        let key = body["key"].as_str().unwrap_or_else(|| panic!("{}: {self}", self.asked)).to_owned();
        assert_eq!(body, json!({ "key": key }), "{}", self.asked);
        key
    }

    /// The keys in a list of objects.
    #[track_caller]
    pub fn keys(&self, list: &str) -> Vec<String> {
        let body = self.json();
        let items = body[list].as_array().unwrap_or_else(|| panic!("{}: {self}", self.asked));
        items.iter().map(|item| item["key"].as_str().unwrap_or_default().to_owned()).collect()
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text: String = self.text().chars().take(600).collect();
        write!(f, "{} {:?} {text}", self.status, self.headers)
    }
}
