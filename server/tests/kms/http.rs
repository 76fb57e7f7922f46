//! A service that speaks the protocol of `prgkms`.

use testing::servers::listen::Reply;
use testing::servers::{Provider, secret_file};

use crate::client::{Client, check_error, epoch};

#[test]
fn a_key_that_is_unknown_is_never_made() {
    let provider = Provider::http();
    let client = Client::new(&provider.base());
    let kept = client.wrapped();
    provider.service().delete_key();
    client.check_refuses(&kept, "key_unusable", &["progressdb"]);
    client.check_wraps_nothing("key_unusable", &["progressdb", "/deks"]);
    assert!(client.probe(None).is_err());
    assert_eq!(provider.proxy().count_of("/deks"), 0, "the old service replaces a key without asking");
}

#[test]
fn a_version_that_the_service_tells_is_part_of_the_key_id() {
    let provider = Provider::http();
    let client = Client::new(&provider.base());
    assert_eq!(client.describe().as_deref(), Ok("progressdb"));
    provider.service().tell_versions();
    let first = client.wrapped();
    assert_eq!(client.describe().as_ref(), Ok(&first.1.key_id));
    provider.service().rotate_key();
    let second = client.wrapped();
    assert_ne!(first.1.key_id, second.1.key_id);
    assert_eq!(client.describe().as_ref(), Ok(&second.1.key_id));
    client.check_opens(&first);
    client.check_opens(&second);
}

#[test]
fn a_key_made_anew_opens_nothing_old() {
    let provider = Provider::http();
    let client = Client::new(&provider.base());
    let kept = client.wrapped();
    let body = r#"{"key_id":"progressdb"}"#;
    let authorization = format!("Bearer {}", provider.base().get("token"));
    let made = testing::http::Request::new("POST", "/deks").header("Authorization", authorization).body(body);
    let mut connection = testing::http::Connection::open(provider.service().addr()).unwrap();
    connection.send(&made).unwrap().check_status(201);
    client.check_refuses(&kept, "invalid", &["message authentication failed"]);
    client.check_opens(&client.wrapped());
}

#[test]
fn a_token_file_that_is_replaced_is_used_without_a_restart() {
    let provider = Provider::http();
    let token = provider.base().get("token").to_owned();
    let path = secret_file(provider.directory.path(), "token", format!("{token}\n"));
    let client = Client::new(&provider.base().without("token").set("token_file", &path));
    let kept = client.wrapped();
    provider.service().accept("another");
    client.check_refuses(&kept, "denied", &["who are you"]);
    secret_file(provider.directory.path(), "token", "another\n");
    client.check_opens(&kept);
    let sent = provider.proxy().calls().last().unwrap().header("authorization").map(str::to_owned);
    assert_eq!(sent.as_deref(), Some("Bearer another"));
    std::fs::remove_file(&path).unwrap();
    check_error(client.probe(Some((&kept.1, epoch(1)))), "settings", &[&path]);
}

#[test]
fn a_refused_token_is_asked_once_and_not_shown() {
    let provider = Provider::http();
    let client = Client::new(&provider.base().set("token", "token-that-is-wrong"));
    client.check_wraps_nothing("denied", &["401", "who are you"]);
    assert_eq!(provider.proxy().count(), 1, "{:?}", provider.proxy().calls());
    let failure = client.health().failure.unwrap_or_default();
    assert!(!failure.contains("token-that-is-wrong"), "{failure}");
}

/// Faults of other services of this protocol; the proxy answers them.
#[test]
fn each_status_is_an_error_by_what_can_be_done() {
    let provider = Provider::http();
    let answers = [
        (400, "bad request of ours", "invalid"),
        (401, "nobody", "denied"),
        (403, "not you", "denied"),
        (404, "no such key", "key_unusable"),
        (422, "not a ciphertext", "invalid"),
        (429, "slowly", "throttled"),
        (500, "key not found", "key_unusable"),
        (500, "cipher: message authentication failed", "invalid"),
        (500, "disk is full", "unavailable"),
        (502, "no backend", "unavailable"),
        (503, "later", "unavailable"),
    ];
    for (status, text, code) in answers {
        let client = Client::new(&provider.base());
        let kept = client.wrapped();
        provider.proxy().always(Reply::text(status, text));
        client.check_refuses(&kept, code, &[text]);
        provider.proxy().clear();
    }
}

#[test]
fn an_endpoint_may_be_an_address_or_a_url() {
    let provider = Provider::http();
    let addr = provider.proxy().addr;
    for endpoint in [addr.to_string(), format!("http://{addr}"), format!("http://{addr}/")] {
        let client = Client::new(&provider.base().set("endpoint", &endpoint));
        client.check_opens(&client.wrapped());
    }
}
