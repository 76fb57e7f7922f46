//! What a server asks of a KMS that works: little.

use serde_json::json;
use testing::servers::Provider;
use testing::servers::listen::Call;
use testing::{Server, wait_until};

use crate::conversation::Conversation;
use crate::{calls, encrypted, epochs, for_every, metric, rotate};

/// Waits until a server has made the calls of its start, and has nothing more to ask for an hour. The start is the first
/// probe.
fn settle(server: &Server) {
    wait_until("the newest key was asked for", || calls(server, "describe", "ok") == 1.0);
    assert_eq!(metric(server, "progressdb_kms_calls_total", &[("operation", "probe")]), 0.0);
}

/// All calls: as the server counts them, and as they arrived.
fn all_calls(provider: &Provider, server: &Server) -> (f64, usize) {
    let arrived = provider.proxy.as_ref().map_or(0, |proxy| proxy.count());
    (metric(server, "progressdb_kms_calls_total", &[]), arrived)
}

fn is_decryption(call: &Call) -> bool {
    call.target.contains("/decrypt") || call.header("x-amz-target") == Some("TrentService.Decrypt")
}

#[track_caller]
fn check_unwraps(provider: &Provider, server: &Server, seen: usize, epochs: usize) {
    settle(server);
    let unwraps = calls(server, "unwrap", "ok");
    assert_eq!((unwraps, calls(server, "wrap", "ok")), (epochs as f64, 0.0), "{}", provider.name);
    wait_until("each is audited", || server.log().matches("kms.unwrapped").count() == epochs);
    if let Some(proxy) = &provider.proxy {
        let decryptions = proxy.calls()[seen..].iter().filter(|call| is_decryption(call)).count();
        assert_eq!(decryptions, epochs, "{}: one for each epoch", provider.name);
    }
}

#[test]
fn requests_never_ask_the_kms_and_a_start_asks_once_for_each_epoch() {
    for_every("requests_never_ask_the_kms_and_a_start_asks_once_for_each_epoch", |provider| {
        // So slow that a rotation is not over when the server stops.
        let setup = encrypted(&provider.base()).set("encryption.rewrap_rate", 1);
        let setup = setup.set("encryption.kms.probe_interval", "1h");
        let server = setup.start();
        settle(&server);
        let before = all_calls(&provider, &server);
        let mut conversation = Conversation::begin(&server);
        for number in 0..5 {
            server.user(&format!("user-{number}")).create_thread("t");
            conversation.append();
            assert!(conversation.try_write() && conversation.try_read());
        }
        conversation.check_kept();
        assert_eq!(all_calls(&provider, &server), before, "{}", provider.name);
        server.stop().check_code(0);

        let seen = provider.proxy.as_ref().map_or(0, |proxy| proxy.count());
        let server = setup.start();
        check_unwraps(&provider, &server, seen, 1);
        conversation.go_on(&server);
        conversation.check_kept();
        rotate(&server).check_json(202, &json!({ "dry_run": false, "epoch": 2 }));
        server.stop().check_code(0);

        let seen = provider.proxy.as_ref().map_or(0, |proxy| proxy.count());
        let server = setup.start();
        check_unwraps(&provider, &server, seen, 2);
        assert_eq!(epochs(&server), [1, 2], "the rotation goes on");
        let before = all_calls(&provider, &server);
        conversation.go_on(&server);
        conversation.check_kept();
        assert_eq!(all_calls(&provider, &server), before, "{}", provider.name);
    });
}
