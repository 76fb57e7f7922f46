//! A KMS that is not of use when a server starts.

use serde_json::json;
use testing::http::Request;
use testing::servers::Provider;
use testing::servers::proxy::aws_error;
use testing::servers::vault::POLICY;
use testing::{Server, Setup, THREADS, wait_until};

use crate::conversation::Conversation;
use crate::{calls, encrypted, for_every, metric, readiness, throttled, wait_until_logged};

/// Starts a server whose KMS is not of use, and checks that it lives and waits.
pub(crate) fn start_waiting(setup: &Setup) -> Server {
    let server = setup.start_listening();
    let waiting = json!({ "error": "not ready", "code": "not_ready", "reason": "waiting for the KMS" });
    wait_until("the server waits for the KMS", || readiness(&server).json() == waiting);
    readiness(&server).check_status(503);
    server.send(&Request::get("/healthz")).check_json(200, &json!({ "status": "ok" }));
    let refused = server.user("ann").get(THREADS);
    refused.check_status(503);
    assert_eq!(refused.json()["code"], json!("not_ready"));
    assert_eq!(refused.header("retry-after"), Some("1"));
    wait_until_logged(&server, "kms.awaited");
    server
}

#[test]
fn a_server_that_starts_in_an_outage_waits_and_then_serves() {
    for_every("a_server_that_starts_in_an_outage_waits_and_then_serves", |provider| {
        let setup = encrypted(&provider.base());
        provider.go_away();
        if provider.name == "local" {
            // There is nothing to wait for: a file is put there by the one who starts us.
            setup.refused_start().check_code(78).check_says(&["master.key"]);
            provider.come_back();
            setup.start();
            return;
        }
        // A directory that never had a key.
        start_waiting(&setup).stop().check_code(0);
        let server = start_waiting(&setup);
        provider.come_back();
        let server = server.ready();
        let mut conversation = Conversation::begin(&server);
        server.stop().check_code(0);

        provider.go_away();
        start_waiting(&setup).stop().check_code(0);
        let mut server = start_waiting(&setup);
        provider.come_back();
        server = server.ready();
        assert!(server.runs());
        conversation.go_on(&server);
        assert!(conversation.try_write());
        conversation.check_kept();
    });
}

#[test]
fn a_start_that_is_throttled_takes_longer_and_succeeds() {
    for_every("a_start_that_is_throttled_takes_longer_and_succeeds", |provider| {
        let Some(proxy) = &provider.proxy else { return };
        let setup = encrypted(&provider.base()).set("encryption.kms.probe_interval", "1h");
        let server = setup.start();
        let mut conversation = Conversation::begin(&server);
        server.stop().check_code(0);
        proxy.times(2, throttled(&provider));
        let server = setup.start();
        assert_eq!((calls(&server, "unwrap", "throttled"), calls(&server, "unwrap", "ok")), (2.0, 1.0));
        assert_eq!(metric(&server, "progressdb_kms_throttled_total", &[("provider", provider.name)]), 2.0);
        conversation.go_on(&server);
        conversation.check_kept();
        let log = server.stop().check_code(0).said();
        assert!(!log.contains("kms.awaited"), "the tries of one call were enough:\n{log}");
    });
}

/// A refusal that somebody has to end: how it begins, how it ends, and words of it.
type Refusal = (fn(&mut Provider), fn(&mut Provider), &'static str);

/// moto knows neither key states nor identities, so the proxy answers in the words of AWS.
fn refusals(provider: &Provider) -> Vec<Refusal> {
    fn end(provider: &mut Provider) {
        provider.proxy().clear();
    }
    fn policy(provider: &mut Provider, policy: &str) {
        provider.real_vault().write("sys/policies/acl/progressdb", &json!({ "policy": policy }));
    }
    match provider.name {
        "aws" => vec![
            (|p| p.proxy().always(aws_error(400, "DisabledException", "the key is disabled.")), end, "is disabled."),
            (
                |p| p.proxy().always(aws_error(400, "KMSInvalidStateException", "the key is pending deletion.")),
                end,
                "is pending deletion.",
            ),
            (|p| p.proxy().always(aws_error(400, "AccessDeniedException", "not you.")), end, "not you."),
        ],
        "vault" => vec![(
            |p| policy(p, r#"path "transit/encrypt/progressdb" { capabilities = ["update"] }"#),
            |p| policy(p, POLICY),
            "permission denied",
        )],
        "http" => vec![(
            |p| p.service().accept("another token"),
            |p| p.service().accept(p.base().get("token")),
            "who are you",
        )],
        _ => Vec::new(),
    }
}

#[test]
fn a_start_that_is_refused_waits_with_the_words_of_the_kms() {
    for_every("a_start_that_is_refused_waits_with_the_words_of_the_kms", |mut provider| {
        let setup = encrypted(&provider.base());
        let server = setup.start();
        let mut conversation = Conversation::begin(&server);
        server.stop().check_code(0);
        for (begin, end, words) in refusals(&provider) {
            begin(&mut provider);
            let server = start_waiting(&setup);
            let said = server.log();
            let line = said.lines().find(|line| line.contains("kms.awaited")).unwrap();
            assert!(line.contains(words), "nothing about {words:?} in {line}");
            end(&mut provider);
            let server = server.ready();
            conversation.go_on(&server);
            assert!(conversation.try_write());
            conversation.check_kept();
            server.stop().check_code(0);
        }
        if provider.name == "vault" {
            // For good: Vault does not bring a key back.
            provider.real_vault().delete_key();
            start_waiting(&setup).stop().check_code(0).check_says(&["encryption key not found"]);
        }
    });
}
