//! What HTTP requires of the head of a request, whatever its route (RFC 9110 and 9112).
//!
//! hyper reads the framing. Checked here: one valid `Host`, no repetition of a header that must occur once, no unknown
//! expectation and no unknown transfer coding. Bodies with a content coding are refused where bodies are read.

use std::net::Ipv6Addr;

use axum::http::request::Request;
use axum::http::{HeaderMap, HeaderValue, Version, header};

use super::auth::{API_KEY, USER_ID, USER_SIGNATURE};
use super::error::Error;
use super::request::IDEMPOTENCY_KEY;

/// Refuses a request that HTTP says must be refused.
pub(super) fn check<B>(request: &Request<B>) -> Result<(), Error> {
    check_host(request.headers(), request.version())?;
    check_single(request.headers())?;
    check_expectations(request.headers())?;
    check_transfer_coding(request.headers())
}

/// Exactly one `Host`, which HTTP/1.0 may leave out.
fn check_host(headers: &HeaderMap, version: Version) -> Result<(), Error> {
    let mut lines = headers.get_all(header::HOST).iter();
    match (lines.next(), lines.next()) {
        (None, _) if version <= Version::HTTP_10 => Ok(()),
        (Some(host), None) if is_host(host.as_bytes()) => Ok(()),
        _ => Err(Error::InvalidHost),
    }
}

/// `uri-host [ ":" port ]`.
fn is_host(value: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(value) else { return false };
    let (is_fine, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let Some((address, port)) = rest.split_once(']') else { return false };
            (address.parse::<Ipv6Addr>().is_ok(), port)
        }
        None => {
            let (name, port) = text.split_at(text.find(':').unwrap_or(text.len()));
            (is_registered_name(name), port)
        }
    };
    let port_is_fine = match port.strip_prefix(':') {
        Some(digits) => {
            digits.is_empty() || (digits.bytes().all(|b| b.is_ascii_digit()) && digits.parse::<u16>().is_ok())
        }
        None => port.is_empty(),
    };
    is_fine && port_is_fine
}

/// A name or an IPv4 address: `1*( unreserved / pct-encoded / sub-delims )`.
fn is_registered_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&byte);
    let mut pieces = name.split('%');
    let first = pieces.next().unwrap_or_default();
    let escaped = |piece: &str| {
        let bytes = piece.as_bytes();
        bytes.len() >= 2 && bytes[..2].iter().all(u8::is_ascii_hexdigit) && bytes[2..].iter().copied().all(plain)
    };
    !name.is_empty() && first.bytes().all(plain) && pieces.all(escaped)
}

/// Credentials and the idempotency key must occur once: a proxy may have checked the other line.
fn check_single(headers: &HeaderMap) -> Result<(), Error> {
    let single = [
        (header::AUTHORIZATION, "Authorization"),
        (API_KEY, "X-API-Key"),
        (USER_ID, "X-User-ID"),
        (USER_SIGNATURE, "X-User-Signature"),
        (IDEMPOTENCY_KEY, "Idempotency-Key"),
    ];
    let repeated = single.iter().find(|(name, _)| headers.get_all(name).iter().nth(1).is_some());
    repeated.map_or(Ok(()), |(_, shown)| Err(Error::RepeatedHeader(shown)))
}

/// `100-continue` is the only expectation that HTTP defines.
fn check_expectations(headers: &HeaderMap) -> Result<(), Error> {
    let known = |value: &[u8]| value.eq_ignore_ascii_case(b"100-continue");
    if elements(headers.get_all(header::EXPECT)).all(known) { Ok(()) } else { Err(Error::ExpectationFailed) }
}

/// hyper decodes `chunked` if it stands last, and would pass on a body that other codings have encoded.
fn check_transfer_coding(headers: &HeaderMap) -> Result<(), Error> {
    let known = |value: &[u8]| value.eq_ignore_ascii_case(b"chunked");
    let mut codings = elements(headers.get_all(header::TRANSFER_ENCODING));
    if codings.all(known) { Ok(()) } else { Err(Error::UnsupportedTransferCoding) }
}

/// Refuses a body with a content coding: none is supported.
pub(super) fn check_content_coding(headers: &HeaderMap) -> Result<(), Error> {
    let known = |value: &[u8]| value.eq_ignore_ascii_case(b"identity");
    let mut codings = elements(headers.get_all(header::CONTENT_ENCODING));
    if codings.all(known) { Ok(()) } else { Err(Error::UnsupportedContentCoding) }
}

/// The elements of a list, which may stand on several lines; empty ones do not count.
fn elements<'a>(lines: impl IntoIterator<Item = &'a HeaderValue>) -> impl Iterator<Item = &'a [u8]> {
    let elements = lines.into_iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    elements.map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address_with_or_without_a_port() {
        for host in [
            "example",
            "Example.com",
            "a_b-c.example:8080",
            "127.0.0.1",
            "127.0.0.1:1",
            "[::1]",
            "[::1]:8080",
            "h%C3%A9",
            "host:",
        ] {
            assert!(is_host(host.as_bytes()), "{host}");
        }
        for host in [
            "",
            ":80",
            "a b",
            "a/b",
            "user@host",
            "a:b",
            "a:1:2",
            "a:65536",
            "[::1",
            "::1",
            "[::g]",
            "[]",
            "[::1]x",
            "h%",
            "h%zz",
            "http://a",
            "h\u{e9}",
            "a,b:c",
            "a?b",
            "a#b",
            "a:+1",
        ] {
            assert!(!is_host(host.as_bytes()), "{host}");
        }
    }

    #[test]
    fn http_1_0_alone_may_leave_the_host_out() {
        let none = HeaderMap::new();
        assert!(check_host(&none, Version::HTTP_10).is_ok());
        assert!(matches!(check_host(&none, Version::HTTP_11), Err(Error::InvalidHost)));
        let two: HeaderMap =
            ["a", "a"].map(|host| (header::HOST, HeaderValue::from_static(host))).into_iter().collect();
        for version in [Version::HTTP_10, Version::HTTP_11] {
            assert!(matches!(check_host(&two, version), Err(Error::InvalidHost)));
        }
    }

    #[test]
    fn only_supported_codings_and_expectations_pass() {
        let with = |name, value| HeaderMap::from_iter([(name, HeaderValue::from_static(value))]);
        for (value, fine) in
            [("", true), ("100-continue", true), ("100-Continue, ", true), ("x", false), ("100-continue, x", false)]
        {
            assert_eq!(check_expectations(&with(header::EXPECT, value)).is_ok(), fine, "{value}");
        }
        for (value, fine) in [("chunked", true), ("Chunked", true), ("gzip, chunked", false)] {
            assert_eq!(check_transfer_coding(&with(header::TRANSFER_ENCODING, value)).is_ok(), fine, "{value}");
        }
        for (value, fine) in [("", true), ("identity", true), ("gzip", false), ("identity, br", false)] {
            assert_eq!(check_content_coding(&with(header::CONTENT_ENCODING, value)).is_ok(), fine, "{value}");
        }
    }
}
