//! Faults between us and a server, the same for the three providers that have one; all of them come from the proxy.

use std::time::Duration;

use progressdb_server::crypt::KeyBytes;
use progressdb_server::crypt::kms::Wrapped;
use testing::servers::listen::Reply;
use testing::servers::proxy::{Proxy, aws_error, vault_error};
use testing::servers::{Provider, Settings, providers, secret_file, tls};
use testing::temporary_directory;
use testing::wait_until;

use crate::client::{Client, epoch};

/// Tries of one call.
const TRIES: usize = 3;

/// A key and its blob, which opening asks the server for once.
type Kept = (KeyBytes, Wrapped);

/// Runs `check` for every provider that is a server, logged in already.
fn for_every_server(test: &str, change: impl Fn(Settings) -> Settings, check: impl Fn(&Provider, &Client, &Kept)) {
    for provider in providers(test).into_iter().filter(|provider| provider.proxy.is_some()) {
        println!("provider {}", provider.name);
        let client = Client::new(&change(provider.base()));
        let kept = client.wrapped();
        check(&provider, &client, &kept);
    }
}

/// "Too many requests", as each of them says it.
fn throttled(provider: &Provider) -> Reply {
    match provider.name {
        "aws" => aws_error(400, "ThrottlingException", "Rate exceeded"),
        "vault" => vault_error(429, "Rate exceeded"),
        _ => Reply::text(429, "Rate exceeded"),
    }
}

#[test]
fn a_fault_that_passes_is_not_noticed() {
    for_every_server(
        "a_fault_that_passes_is_not_noticed",
        |all| all,
        |provider, client, kept| {
            let proxy = provider.proxy();
            for fault in [Reply::Cut, Reply::text(503, "busy"), throttled(provider)] {
                let before = proxy.count();
                proxy.times(TRIES - 1, fault);
                client.check_opens(kept);
                assert_eq!(proxy.count() - before, TRIES, "{}: {:?}", provider.name, proxy.calls());
            }
        },
    );
}

#[test]
fn a_fault_that_lasts_is_tried_three_times_and_named() {
    for_every_server(
        "a_fault_that_lasts_is_tried_three_times_and_named",
        |all| all,
        |provider, client, kept| {
            let proxy = provider.proxy();
            let internal = match provider.name {
                "aws" => aws_error(500, "KMSInternalException", "words of the KMS"),
                "vault" => vault_error(500, "words of the KMS"),
                _ => Reply::text(500, "words of the KMS"),
            };
            let faults =
                [(throttled(provider), "throttled", "Rate exceeded"), (internal, "unavailable", "words of the KMS")];
            for (fault, code, words) in faults {
                let before = proxy.count();
                proxy.always(fault);
                client.check_refuses(kept, code, &[words]);
                assert_eq!(proxy.count() - before, TRIES, "{}: not hammered", provider.name);
                proxy.clear();
                client.probe(None).unwrap();
            }
        },
    );
}

#[test]
fn tries_wait_as_long_as_the_server_asks() {
    for_every_server(
        "tries_wait_as_long_as_the_server_asks",
        |all| all,
        |provider, client, kept| {
            if provider.name == "aws" {
                return;
            }
            let before = provider.proxy().count();
            provider.proxy().times(1, throttled(provider).header("retry-after", "1"));
            client.check_opens(kept);
            let calls = provider.proxy().calls();
            assert_eq!(calls.len() - before, 2, "{}", provider.name);
            assert!(
                calls[before + 1].at - calls[before].at >= Duration::from_secs(1),
                "{}: asked too soon",
                provider.name
            );
        },
    );
}

#[test]
fn a_server_that_hangs_is_given_up_on() {
    for_every_server(
        "a_server_that_hangs_is_given_up_on",
        |all| all.set("timeout", "1s"),
        |provider, client, kept| {
            provider.proxy().always(Reply::Stall);
            client.check_refuses(kept, "unavailable", &["1s"]);
            provider.proxy().clear();
            assert_eq!(client.probe(None), Ok(()));
        },
    );
}

#[test]
fn a_server_that_keeps_failing_is_left_alone_for_a_while() {
    for_every_server(
        "a_server_that_keeps_failing_is_left_alone_for_a_while",
        |all| all,
        |provider, client, kept| {
            let proxy = provider.proxy();
            proxy.always(Reply::Cut);
            for _ in 0..2 {
                client.check_refuses(kept, "unavailable", &[]);
            }
            let before = proxy.count();
            client.check_refuses(kept, "unavailable", &[]);
            assert_eq!(proxy.count(), before, "{}: the breaker is open", provider.name);
            // A probe asks nonetheless, and closes it.
            assert!(client.probe(None).is_err());
            assert!(proxy.count() > before, "{}: the probe asks", provider.name);
            client.check_refuses(kept, "unavailable", &[]);
            proxy.clear();
            assert_eq!(client.probe(None), Ok(()));
            client.check_opens(kept);
        },
    );
}

#[test]
fn a_server_that_was_left_alone_is_tried_again_by_itself() {
    for_every_server(
        "a_server_that_was_left_alone_is_tried_again_by_itself",
        |all| all,
        |provider, client, kept| {
            provider.proxy().always(Reply::Cut);
            for _ in 0..2 {
                client.check_refuses(kept, "unavailable", &[]);
            }
            provider.proxy().clear();
            let open = || client.open_key(&kept.1, epoch(1)).is_ok();
            assert!(!open(), "{}: the breaker is open", provider.name);
            wait_until("the breaker closes", open);
        },
    );
}

#[test]
fn an_answer_that_makes_no_sense_is_an_error() {
    for_every_server(
        "an_answer_that_makes_no_sense_is_an_error",
        |all| all,
        |provider, client, kept| {
            let nonsense = [
                "",
                "{",
                "[]",
                "{}",
                r#"{"data":{}}"#,
                r#"{"data":{"plaintext":"!","ciphertext":7}}"#,
                r#"{"plaintext":"AAAA","Plaintext":"AAAA","data":{"plaintext":"AAAA"}}"#,
            ];
            for body in nonsense {
                provider.proxy().always(Reply::text(200, body).header("content-type", "application/json"));
                assert!(client.open_key(&kept.1, epoch(1)).is_err(), "{}: {body}", provider.name);
                provider.proxy().clear();
                client.probe(None).unwrap();
            }
            client.check_opens(kept);
        },
    );
}

#[test]
fn tls_needs_the_authority_that_the_settings_name() {
    for (name, settings) in [("vault", Settings::of("vault")), ("http", Settings::of("http"))] {
        let provider = if name == "http" {
            Some(Provider::http())
        } else {
            Provider::vault("tls_needs_the_authority_that_the_settings_name")
        };
        let Some(provider) = provider else { continue };
        let (authority, other, directory) = (tls::Authority::new(), tls::Authority::new(), temporary_directory());
        let proxy = Proxy::with_tls(provider.proxy().addr, &authority);
        let base = settings
            .set("endpoint", format!("https://{}", proxy.addr))
            .set("key_id", provider.base().get("key_id"))
            .set("token", provider.base().get("token"));
        let right = secret_file(directory.path(), "ca.pem", &authority.pem);
        let wrong = secret_file(directory.path(), "other.pem", &other.pem);
        let client = Client::new(&base.clone().set("ca_file", right));
        client.check_opens(&client.wrapped());
        let before = proxy.count();
        for refused in [base.clone().set("ca_file", wrong), base] {
            Client::new(&refused).check_wraps_nothing("unavailable", &["certificate"]);
        }
        assert_eq!(proxy.count(), before, "{name}: nothing was sent to a server that is not trusted");
    }
}
