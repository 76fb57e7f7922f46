//! Connections that the server opens itself: to a KMS, to AWS, to a collector of traces. All use the same proxies, and
//! a request that belongs to a trace carries the trace's headers.
//!
//! The configuration reads the proxies from the usual variables. Loopback and the metadata addresses of clouds are
//! always reached directly: they are about this machine alone.

use std::fmt;

use aws_smithy_http_client::proxy::ProxyConfig;
use axum::http::HeaderMap;
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry_http::HeaderInjector;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use reqwest::NoProxy;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// Reached directly whatever the variables say: this machine, and the metadata services of clouds.
const ALWAYS_DIRECT: &str = "localhost,127.0.0.0/8,::1,169.254.0.0/16,fd00:ec2::254,fd00:ec2::23";

/// The proxies for connections to other machines; none of them by default.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    http: Option<String>,
    https: Option<String>,
    direct: String,
}

impl Proxies {
    /// Proxies for `http` and `https` addresses, each an http(s) URL that may hold a name and a password, and what is
    /// reached directly: hosts and their subdomains, IP addresses, networks as `10.0.0.0/8`, or `*`, comma separated.
    pub fn new(http: Option<String>, https: Option<String>, direct: &str) -> Self {
        // `*.example.com` is a common spelling of `.example.com`.
        let direct = direct.split(',').map(str::trim).filter(|host| !host.is_empty());
        let direct = direct.map(|host| host.strip_prefix('*').filter(|rest| !rest.is_empty()).unwrap_or(host));
        let direct = direct.chain([ALWAYS_DIRECT]).collect::<Vec<_>>().join(",");
        Self { http, https, direct }
    }

    /// For a client of `reqwest`, which would otherwise read the environment itself.
    pub(crate) fn to_reqwest(&self) -> reqwest::Result<Vec<reqwest::Proxy>> {
        let direct = || NoProxy::from_string(&self.direct);
        let http = self.http.iter().map(|url| Ok(reqwest::Proxy::http(url)?.no_proxy(direct())));
        let https = self.https.iter().map(|url| Ok(reqwest::Proxy::https(url)?.no_proxy(direct())));
        http.chain(https).collect()
    }

    /// For the clients of AWS. They take one proxy: of two, the one for the scheme of their own address.
    pub(crate) fn to_aws(&self, is_plain: bool) -> ProxyConfig {
        let (url, config): (_, fn(&str) -> _) = match (&self.http, &self.https) {
            (Some(http), Some(https)) if http == https => (Some(http), |url| ProxyConfig::all(url)),
            (http @ Some(_), _) if is_plain => (http.as_ref(), |url| ProxyConfig::http(url)),
            (http @ Some(_), None) => (http.as_ref(), |url| ProxyConfig::http(url)),
            (_, https) => (https.as_ref(), |url| ProxyConfig::https(url)),
        };
        let config = url.and_then(|url| config(url).ok());
        config.map_or_else(ProxyConfig::disabled, |config| config.no_proxy(&self.direct))
    }
}

/// The headers that name the current trace to a service that is called; empty without one.
pub(crate) fn trace_headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    TraceContextPropagator::new().inject_context(&Span::current().context(), &mut HeaderInjector(&mut headers));
    headers
}

/// Without the addresses: they may hold a password.
impl fmt::Debug for Proxies {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Proxies(http: {}, https: {})", self.http.is_some(), self.https.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        let proxies = Proxies::new(Some("http://u:hush@proxy:1".to_owned()), None, "*.internal, 10.0.0.0/8,");
        assert_eq!(format!("{proxies:?}"), "Proxies(http: true, https: false)");
        assert!(proxies.direct.starts_with(".internal,10.0.0.0/8,localhost,"), "{}", proxies.direct);
        assert_eq!(Proxies::new(None, None, "*").direct, format!("*,{ALWAYS_DIRECT}"));
    }

    #[test]
    fn aws_takes_the_proxy_of_its_address() {
        let (a, b) = (|| Some("http://a:1".to_owned()), || Some("http://b:2".to_owned()));
        let shown = |http, https, is_plain| format!("{:?}", Proxies::new(http, https, "").to_aws(is_plain));
        assert!(Proxies::default().to_aws(false).is_disabled());
        for (shown, kind, url) in [
            (shown(a(), a(), false), "All", "http://a:1"),
            (shown(a(), b(), false), "Https", "http://b:2"),
            (shown(a(), b(), true), "Http", "http://a:1"),
            (shown(None, b(), true), "Https", "http://b:2"),
            (shown(a(), None, false), "Http", "http://a:1"),
        ] {
            assert!(shown.contains(&format!("{kind} {{")) && shown.contains(url), "{shown}");
        }
    }
}
