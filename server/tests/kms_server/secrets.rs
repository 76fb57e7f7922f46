//! Nothing that a KMS trusts us with is said to anybody.

use std::collections::BTreeSet;

use testing::http::Answer;
use testing::servers::Provider;

use crate::conversation::Conversation;
use crate::{encrypted, for_every, readiness, rotate, wait_until_kms_is, wait_until_sealed};

/// Secrets of the settings, tokens that were got with them, and keys as they were sent to be wrapped.
fn secrets(provider: &Provider) -> BTreeSet<String> {
    let mut secrets: BTreeSet<String> = provider.secrets.iter().cloned().collect();
    let calls = provider.proxy.as_ref().map_or_else(Vec::new, |proxy| proxy.calls());
    for call in calls {
        secrets.extend(call.header("x-vault-token").map(str::to_owned));
        let body = call.json();
        secrets.extend(["plaintext", "Plaintext"].iter().filter_map(|name| body[name].as_str()).map(str::to_owned));
    }
    secrets
}

#[test]
fn no_secret_of_the_kms_is_in_the_log_or_in_a_reply() {
    for_every("no_secret_of_the_kms_is_in_the_log_or_in_a_reply", |provider| {
        let setup = encrypted(&provider.base()).set("logging.level", "trace");
        let server = setup.start();
        let mut conversation = Conversation::begin(&server);
        let mut said: Vec<Answer> = Vec::new();
        let nothing: fn(&Provider) = |_| {};
        for (change, state) in [(nothing, "ok"), (Provider::go_away, "failing"), (Provider::come_back, "ok")] {
            change(&provider);
            wait_until_kms_is(&server, state);
            assert!(conversation.try_write());
            said.push(rotate(&server));
            said.push(readiness(&server));
            for target in [
                "encryption/status",
                "encryption/wrapped-keys",
                "keys?limit=1000",
                "keys?store=index&limit=1000",
                "keys/k:1?open=true",
            ] {
                said.push(server.admin(&format!("/admin/{target}")));
            }
            said.push(server.admin("/metrics"));
        }
        let statuses: Vec<u16> = said.iter().step_by(8).map(|answer| answer.status).collect();
        assert_eq!(statuses, [202, 503, 202], "rotations");
        wait_until_sealed(&server, 3);
        let log = server.stop().check_code(0).said();
        // The libraries that speak to a server say most.
        assert!(provider.proxy.is_none() || log.contains("TRACE"), "the log says too little:\n{log}");
        assert!(log.contains("kms.wrapped"), "the log was not heard");
        let secrets = secrets(&provider);
        assert!(provider.proxy.is_none() || secrets.iter().any(|secret| secret.len() >= 44), "no key was seen");
        for secret in secrets {
            let line = log.lines().find(|line| line.contains(&secret));
            assert_eq!(line, None, "{}: {secret} is logged", provider.name);
            let reply = said.iter().find(|answer| answer.text().contains(&secret));
            assert!(reply.is_none(), "{}: {secret} is in {}", provider.name, reply.unwrap());
        }
    });
}
