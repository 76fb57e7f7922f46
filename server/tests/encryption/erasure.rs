//! Erasure: the keys go first, and after a compaction no file holds what they opened.

use serde_json::json;
use testing::http::{Answer, Request};
use testing::{BACKEND_KEY, FRONTEND_KEY, SIGNING_KEY, Setup, THREADS, User, thread, wait_until};

use crate::files::{check_none, holding};
use crate::{CANARY, encrypted, post, status, write_canaries};

#[test]
fn an_erased_thread_is_gone_at_once_and_its_receipt_says_what_went_and_until_when_files_may_hold_it() {
    let setup = encrypted(Setup::new());
    let server = setup.start();
    let user = server.user("ann");
    let (kept, gone) = (user.create_thread("kept"), user.create_thread("gone"));
    user.append(&gone, "secret");
    let key = server.admin(&format!("/admin/keys/{gone}:key:1")).check_status(200).json();
    let answer = user.delete(&format!("{}?purge=true", thread(&gone)));
    answer.check_status(202);
    let body = answer.json();
    let receipt = &body["receipt"];
    assert_eq!(body["key"], json!(gone));
    assert_eq!(receipt["key_ids"], json!([key["key_id"]]));
    assert_eq!(receipt["checkpoints"], json!([]));
    let horizon = receipt["horizon_ts"].as_u64().unwrap() - receipt["erased_ts"].as_u64().unwrap();
    assert_eq!(horizon, 24 * 3_600_000_000_000);
    user.get(&thread(&gone)).check_error(403, "access denied: not thread owner or participant");
    user.delete(&format!("{}?purge=true", thread(&gone))).check_refusal(403);
    assert_eq!(user.get("/frontend/v1/threads").keys("threads"), [kept.as_str()]);
    server.admin(&format!("/admin/keys/{gone}:key:1")).check_refusal(404);
    let listed = server.admin(&format!("/admin/keys?prefix={gone}")).json();
    assert_eq!(listed["keys"], json!([]));
    assert!(server.log().contains("thread.erased"), "an erasure is audited");
}

#[test]
fn only_a_backend_key_erases() {
    let setup = encrypted(Setup::new());
    let server = setup.start();
    let owner = server.user("ann");
    let key = owner.create_thread("t");
    let target = format!("{}?purge=true", thread(&key));
    server.send(&Request::new("DELETE", &target).signed("ann")).check_error(403, "forbidden");
    server.user("bob").delete(&target).check_refusal(403);
    owner.delete(&format!("{}?purge=maybe", thread(&key))).check_refusal(400);
    owner.get(&thread(&key)).check_status(200);
    owner.delete(&format!("{}?purge=false", thread(&key))).written();
    owner.get(&thread(&key)).check_refusal(404);
    owner.delete(&target).check_status(202);
    assert_ne!((BACKEND_KEY, FRONTEND_KEY), (FRONTEND_KEY, SIGNING_KEY));
}

/// Threads that are never encrypted can be erased too; then the compaction is what drives the text out.
#[test]
fn after_a_compaction_no_file_holds_an_erased_text_or_a_wrapped_key() {
    for setup in [Setup::new(), encrypted(Setup::new())] {
        let server = setup.start();
        let erased = write_canaries(&server);
        let user = server.user(&format!("user-{CANARY}"));
        let kept = user.create_thread("kept");
        user.append(&kept, "stays");
        let key = server.admin(&format!("/admin/keys/{erased}:key:1"));
        let key_id = (key.status == 200).then(|| hex::decode(key.json()["key_id"].as_str().unwrap()).unwrap());
        if let Some(key_id) = &key_id {
            assert!(!holding(setup.db(), key_id).is_empty(), "the commitment stands beside the wrapped key");
        }
        std::fs::create_dir_all(setup.db().join("checkpoints/before")).unwrap();
        std::fs::write(setup.db().join("checkpoints/before/000001.sst"), CANARY).unwrap();
        // A store that a restore kept.
        std::fs::create_dir(setup.db().join("store-9")).unwrap();
        let receipt = user.delete(&format!("{}?purge=true", thread(&erased))).json()["receipt"].clone();
        assert_eq!(receipt["checkpoints"], json!(["before", "store-9"]));
        let compacted = post(&server, "compact", None);
        compacted.check_json(200, &json!({ "status": "ok", "checkpoints_deleted": ["before"] }));
        // The user's own name and records stay: the user has another thread.
        let title = format!("\"m\":\"{CANARY}\"");
        wait_until("no file holds the text", || holding(setup.db(), title.as_bytes()).is_empty());
        if let Some(key_id) = &key_id {
            wait_until("no file holds the wrapped key", || holding(setup.db(), key_id).is_empty());
            check_none(&holding(setup.db(), CANARY.as_bytes()));
        }
        assert_eq!(user.get(&testing::messages(&kept)).json()["messages"][0]["body"], json!("stays"));
    }
}

#[test]
fn a_compaction_comes_by_itself_before_the_horizon() {
    let setup = encrypted(Setup::new()).set("encryption.erasure_horizon", "4s");
    let server = setup.start();
    let user = server.user("ann");
    let gone = user.create_thread("gone");
    let key = server.admin(&format!("/admin/keys/{gone}:key:1")).json()["key_id"].as_str().unwrap().to_owned();
    let key_id = hex::decode(key).unwrap();
    user.delete(&format!("{}?purge=true", thread(&gone))).check_status(202);
    assert!(status(&server)["erasure_pending_since_ts"].is_u64());
    wait_until("no file holds the wrapped key", || holding(setup.db(), &key_id).is_empty());
    wait_until("the compaction is audited", || server.log().contains("encryption.compacted"));
}

#[test]
fn a_repeated_erasure_answers_the_first_receipt_also_after_kill_and_restart() {
    for setup in [encrypted(Setup::new()), Setup::new()] {
        let server = setup.start();
        let user = server.user("ann");
        let t = user.create_thread("t");
        user.append(&t, "secret");
        let target = format!("{}?purge=true", thread(&t));
        let erase = |user: &User, key: &str| user.send(&user.request("DELETE", &target).header("Idempotency-Key", key));
        let first = erase(&user, "once");
        first.check_status(202);
        assert_eq!(first.header("idempotency-replayed"), None, "{first}");
        let check = |again: &Answer| {
            assert_eq!((again.status, again.text()), (first.status, first.text()));
            assert_eq!(again.header("idempotency-replayed"), Some("true"), "{again}");
        };
        check(&erase(&user, "once"));
        server.kill();
        let server = setup.start();
        let user = server.user("ann");
        check(&erase(&user, "once"));
        erase(&user, "another").check_refusal(403);
        erase(&server.user("bob"), "once").check_refusal(403);
        // The path and the key are the same, the request is not.
        let plain = user.request("DELETE", &thread(&t)).header("Idempotency-Key", "once");
        user.send(&plain).check_refusal(403);
        assert_eq!(user.thread_keys(""), [""; 0]);
    }
}

#[test]
fn a_deletion_and_an_erasure_are_two_requests() {
    let setup = Setup::new();
    let server = setup.start();
    let user = server.user("ann");
    let t = user.create_thread("t");
    let with_key = |target: &str| user.send(&user.request("DELETE", target).header("Idempotency-Key", "k"));
    with_key(&thread(&t)).check_status(202);
    with_key(&format!("{}?purge=true", thread(&t))).check_refusal(422);
    with_key(&format!("{}?purge=false", thread(&t))).check_status(202);
}

#[test]
fn an_erasure_with_a_stale_etag_is_412_and_erases_nothing() {
    let setup = encrypted(Setup::new());
    let server = setup.start();
    let user = server.user("ann");
    let t = user.create_thread("t");
    let target = format!("{}?purge=true", thread(&t));
    let etag = || user.get(&thread(&t)).header("etag").unwrap().to_owned();
    let stale = etag();
    user.put(&thread(&t), &json!({ "title": "renamed" })).written();
    let erase = |etag: &str| user.send(&user.request("DELETE", &target).header("If-Match", etag));
    let refused = erase(&stale);
    refused.check_refusal(412);
    assert_eq!(refused.header("etag"), Some(etag().as_str()), "{refused}");
    user.get(&thread(&t)).check_status(200);
    erase("nonsense").check_refusal(400);
    erase(&etag()).check_status(202);
    user.get(&thread(&t)).check_refusal(403);
}

#[test]
fn a_repeated_creation_does_not_bring_an_erased_thread_back() {
    let setup = Setup::new();
    let server = setup.start();
    let user = server.user("ann");
    let create = || {
        let request = user.request("POST", THREADS).header("Idempotency-Key", "k");
        user.send(&request.json(&json!({ "title": "t" })))
    };
    let t = create().written();
    user.delete(&format!("{}?purge=true", thread(&t))).check_status(202);
    let again = create();
    assert_eq!((again.written(), again.header("idempotency-replayed")), (t.clone(), Some("true")));
    user.get(&thread(&t)).check_refusal(403);
    assert_eq!(user.thread_keys(""), [""; 0]);
}
