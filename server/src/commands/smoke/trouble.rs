//! Why a step failed, in one line that says what to do.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::Value;

/// So much of what a server said is repeated.
const LONGEST: usize = 300;

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error("{asked}: cannot connect to {base}: {why}: {}", advice_to_connect(why))]
    Unreachable { asked: String, base: String, why: String },
    #[error("{asked}: no whole HTTP response: {why}: see the log of the server and of what is in front of it")]
    Broken { asked: String, why: String },
    #[error("{asked}: no response within {limit:?}: see the log of the server, or allow more with --timeout")]
    Late { asked: String, limit: Duration },
    #[error("{asked}: {status}, {said}{}", advice(*status, said))]
    Refused { asked: String, status: StatusCode, said: String, is_ours: bool },
    #[error("{asked}: {what}")]
    Wrong { asked: String, what: String },
}

impl Trouble {
    /// A server that answered so has certainly not done what it was asked to.
    pub(super) fn is_certain(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { status, is_ours, .. } => *is_ours && *status != StatusCode::INTERNAL_SERVER_ERROR,
            Self::Broken { .. } | Self::Late { .. } | Self::Wrong { .. } => false,
        }
    }

    /// A response with another status than the one that was wanted.
    pub(super) fn refused(asked: String, status: StatusCode, location: Option<&str>, body: &[u8]) -> Self {
        let error = serde_json::from_slice::<Value>(body).unwrap_or_default();
        let field = |name: &str| error[name].as_str().map(str::to_owned);
        let is_ours = field("error").is_some() && field("code").is_some();
        let said = match (location, field("error")) {
            (Some(location), _) if status.is_redirection() => format!("to {location}"),
            (_, Some(text)) => {
                let code = field("code").map(|code| format!(" ({code})")).unwrap_or_default();
                let reason = field("reason").map(|reason| format!(": {reason}")).unwrap_or_default();
                format!("{text}{code}{reason}")
            }
            _ => quote(body),
        };
        Self::Refused { asked, status, said, is_ours }
    }
}

/// Some of a body, on one line.
pub(super) fn quote(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(4 * LONGEST)]);
    let words: Vec<&str> = text.split_whitespace().collect();
    let line: String = words.join(" ").chars().filter(|c| !c.is_control()).take(LONGEST).collect();
    if line.is_empty() { "an empty body".to_owned() } else { line }
}

fn advice_to_connect(why: &str) -> &'static str {
    match why.contains("certificate") {
        true => "name the certificate of the authority that the server is to be trusted by with --ca",
        false => "see whether the server runs, and whether --url is right",
    }
}

fn advice(status: StatusCode, said: &str) -> &'static str {
    match status.as_u16() {
        300..=399 => ": redirects are not followed; name the address itself with --url",
        401 => ": the server does not know the key; name a file with the right one (--key-file, --admin-key-file)",
        403 if said.contains("(forbidden)") => {
            ": the key is of another role, or server.ip_whitelist lacks this machine"
        }
        404 => ": see whether --url is that of a ProgressDB server",
        429 => ": more requests than server.rate_limit allows; try again",
        500 if said.contains("signing_keys_missing") => ": set server.api_keys.signing",
        500.. => ": see /readyz and the log of the server",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, location: Option<&str>, body: &str) -> Trouble {
        Trouble::refused("GET /x".into(), StatusCode::from_u16(status).unwrap(), location, body.as_bytes())
    }

    #[test]
    fn a_refusal_says_what_the_server_said_and_what_to_do() {
        for (status, location, body, said) in [
            (401, None, r#"{"error":"unauthorized","code":"unauthorized"}"#, "unauthorized (unauthorized): the server"),
            (
                503,
                None,
                r#"{"error":"not ready","code":"not_ready","reason":"draining"}"#,
                "(not_ready): draining: see",
            ),
            (301, Some("https://other/"), "", "to https://other/: redirects are not followed"),
            (502, None, "<html>\n bad\tgateway</html>", "502 Bad Gateway, <html> bad gateway</html>: see"),
            (500, None, "", "an empty body"),
        ] {
            let text = refused(status, location, body).to_string();
            assert!(text.starts_with("GET /x: ") && text.contains(said), "{text}");
        }
    }

    #[test]
    fn only_the_server_itself_can_say_that_nothing_was_done() {
        let ours = r#"{"error":"disk almost full","code":"disk_full"}"#;
        assert!(refused(507, None, ours).is_certain());
        assert!(!refused(500, None, ours).is_certain());
        assert!(!refused(504, None, "gateway timeout").is_certain());
        assert!(!Trouble::Late { asked: String::new(), limit: Duration::ZERO }.is_certain());
    }
}
