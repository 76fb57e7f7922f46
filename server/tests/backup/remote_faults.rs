//! Object stores that refuse, fail, are slow, cut what they send or send something else; and uploads that are killed.

use std::collections::BTreeSet;

use rustix::process::{Pid, Signal};
use testing::servers::listen::{Call, Reply};
use testing::servers::object_store::{BUCKET, ObjectStore};
use testing::servers::proxy::Proxy;
use testing::{Setup, wait_until};

use crate::stores::{back_up, fill, json_of, list, objects, setup_for, verify};

/// A database of some megabytes, and a proxy between it and versitygw.
struct Behind {
    store: ObjectStore,
    proxy: Proxy,
    setup: Setup,
    url: String,
}

impl Behind {
    fn new(test: &str, megabytes: usize) -> Option<Self> {
        let store = ObjectStore::versitygw(test)?;
        let proxy = Proxy::before(store.addr);
        let (setup, url) = (setup_for(&store, proxy.addr), store.url("f"));
        fill(&setup, megabytes);
        Some(Self { store, proxy, setup, url })
    }
}

fn is_object(call: &Call) -> bool {
    call.target.contains("/objects/")
}

fn is_sent(call: &Call) -> bool {
    call.method == "PUT" && is_object(call)
}

pub(crate) fn is_read(call: &Call) -> bool {
    call.method == "GET" && is_object(call)
}

/// An error as S3 answers it.
fn s3_error(status: u16, code: &str, message: &str) -> Reply {
    let xml = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>{message}</Message></Error>");
    Reply::text(status, &xml).header("content-type", "application/xml")
}

#[test]
fn refusals_say_what_to_do() {
    let Some(Behind { store, proxy, setup, url }) = Behind::new("refusals_say_what_to_do", 1) else { return };
    proxy.always(s3_error(403, "AccessDenied", "Access Denied"));
    let denied = setup.run(&["backup", "--out", &url]);
    denied.check_code(1).check_says(&["refuses writing", "AccessDenied: Access Denied", "check the credentials"]);
    proxy.clear();
    proxy.always(s3_error(403, "RequestTimeTooSkewed", "The difference is too large"));
    setup.run(&["backup", "--out", &url]).check_code(1).check_says(&["refuses the time of this machine", "NTP"]);
    proxy.clear();
    let elsewhere = format!("s3://{BUCKET}-of-nobody/x");
    setup.run(&["backup", "--out", &elsewhere]).check_code(1).check_says(&["has no such bucket: create it"]);
    let stranger = Setup::new()
        .set("backup.endpoint", store.endpoint(store.addr))
        .set("backup.allow_http", true)
        .environment("AWS_ACCESS_KEY_ID", store.credentials()[0].1)
        .environment("AWS_SECRET_ACCESS_KEY", "not-the-secret");
    let refused = stranger.run(&["backup", "list", "--in", &url]);
    refused.check_code(1).check_says(&["SignatureDoesNotMatch", "check the credentials"]);
    assert!(!refused.said().contains("not-the-secret"));
    let plain = setup_for(&store, store.addr).set("backup.allow_http", false);
    plain.run(&["backup", "list", "--in", &url]).check_code(1).check_says(&["URL scheme is not allowed"]);
    assert_eq!(objects(&store, "f"), [], "nothing was sent");
}

#[test]
fn what_fails_for_a_moment_is_tried_again() {
    let Some(Behind { proxy, setup, url, store: _store }) = Behind::new("what_fails_for_a_moment_is_tried_again", 6)
    else {
        return;
    };
    proxy.times_when(2, is_sent, s3_error(500, "InternalError", "try again"));
    proxy.times_when(1, is_sent, s3_error(503, "SlowDown", "slow down"));
    proxy.times_when(1, |call| call.target.contains("/f/backups/"), s3_error(500, "InternalError", "try again"));
    proxy.times_when(1, is_sent, Reply::Cut);
    back_up(&setup, &url);
    proxy.times_when(2, is_read, s3_error(500, "InternalError", "try again"));
    verify(&setup, &url).check_code(0);
}

#[test]
fn a_manifest_whose_answer_is_lost_is_there_once() {
    let Some(Behind { proxy, setup, url, store: _store }) = Behind::new("a_manifest_whose_answer_is_lost", 1) else {
        return;
    };
    let is_manifest = |call: &Call| call.method == "PUT" && call.target.contains("/f/backups/");
    proxy.alter(Some(1), is_manifest, |_| Reply::Cut);
    back_up(&setup, &url);
    assert_eq!(list(&setup, &url).len(), 1);
}

#[test]
fn what_fails_for_good_ends_with_what_to_do() {
    let Some(Behind { store, proxy, setup, url }) = Behind::new("what_fails_for_good_ends", 1) else { return };
    let setup = setup.set("backup.timeout", "300ms");
    proxy.when(is_sent, Reply::Stall);
    let slow = setup.run(&["backup", "--out", &url]);
    slow.check_code(1).check_says(&["fails at writing objects/", "timed out", "try again later", "cli.backup_failed"]);
    proxy.clear();
    proxy.when(is_sent, s3_error(500, "InternalError", "broken"));
    setup.run(&["backup", "--out", &url]).check_code(1).check_says(&["InternalError: broken"]);
    proxy.clear();
    assert_eq!(list(&setup, &url), Vec::<serde_json::Value>::new(), "there is no backup without its manifest");
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let unreached = setup.set("backup.endpoint", store.endpoint(nobody));
    unreached.run(&["backup", "list", "--in", &url]).check_code(1).check_says(&["Connection refused"]);
}

#[test]
fn a_body_that_is_cut_is_read_on_and_other_bytes_are_refused() {
    let Some(Behind { proxy, setup, url, store: _store }) = Behind::new("a_body_that_is_cut_is_read_on", 6) else {
        return;
    };
    back_up(&setup, &url);
    let cut = |reply| match reply {
        Reply::Answer { status, headers, body } => Reply::CutBody { status, headers, sent: body.len() / 2, body },
        other => other,
    };
    proxy.alter(Some(5), is_read, cut);
    verify(&setup, &url).check_code(0);
    let other = |reply| match reply {
        Reply::Answer { status, headers, mut body } => {
            if let Some(first) = body.first_mut() {
                *first ^= 1;
            }
            Reply::Answer { status, headers, body }
        }
        other => other,
    };
    proxy.alter(Some(1), is_read, other);
    verify(&setup, &url).check_code(0);
    proxy.alter(None, is_read, other);
    verify(&setup, &url).check_code(7).check_says(&["is damaged: store/", "with the SHA-256"]);
    proxy.clear();
    proxy.alter(None, |call| call.method == "GET" && call.target.contains("/f/backups/"), other);
    verify(&setup, &url).check_code(7).check_says(&["is damaged"]);
    let listed = json_of(&setup.run(&["backup", "list", "--in", &url, "--json"]));
    assert!(listed[0]["problem"].is_string(), "{listed}");
    let pruned = crate::stores::prune(&setup, &url, 1, &[]);
    assert!(pruned["objects_kept_because"].as_str().unwrap().contains("cannot be read"), "{pruned}");
}

/// Requests that sent an object, or the last piece of one, as a whole.
fn sent_whole(proxy: &Proxy) -> Vec<String> {
    let whole = |call: &Call| match call.method.as_str() {
        "PUT" => is_object(call) && !call.target.contains('?'),
        "POST" => is_object(call) && call.target.contains("uploadId="),
        _ => false,
    };
    let name = |call: Call| call.target.split('?').next().unwrap().rsplit('/').next().unwrap().to_owned();
    proxy.calls().into_iter().filter(whole).map(name).collect()
}

#[test]
fn an_upload_that_was_killed_goes_on_and_sends_nothing_twice() {
    let Some(Behind { store, proxy, setup, url }) = Behind::new("an_upload_that_was_killed_goes_on", 24) else {
        return;
    };
    let mut command = setup.command(&["backup", "--out", &url, "--rate-limit", "8MB"]);
    let mut child = command.spawn().unwrap();
    let part = |call: &Call| call.target.contains("partNumber=2");
    wait_until("a part of the large file is sent, and others are", || {
        proxy.calls().iter().any(part) && sent_whole(&proxy).len() >= 3
    });
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
    child.wait().unwrap();
    assert_eq!(list(&setup, &url).len(), 0, "there is no backup without its manifest");
    assert!(objects(&store, "f").iter().all(|(_, bytes)| *bytes < 5_000_000), "no part of an object is seen");
    let made = back_up(&setup, &url);
    verify(&setup, &url).check_code(0);
    let sent = sent_whole(&proxy);
    assert_eq!(sent.len(), sent.iter().collect::<BTreeSet<_>>().len(), "twice: {sent:?}");
    assert!(made["bytes"].as_u64() < made["store_bytes"].as_u64(), "{made}");
}
