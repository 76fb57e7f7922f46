//! Bodies: not JSON, too deep, too large, too many.

use serde_json::json;
use testing::http::{Connection, Request};
use testing::{BACKEND_KEY, Setup, THREADS, messages, wait_until};

use crate::victim::{MIB, Victim};

#[test]
fn json_that_is_none() {
    let victim = Victim::start(Setup::new());
    let deep = |open: &str, close: &str| {
        let nest = format!("{}{}", open.repeat(8_000), close.repeat(8_000));
        format!(r#"{{"title":{nest},"body":{nest}}}"#)
    };
    let bodies: Vec<Vec<u8>> = vec![
        b"".to_vec(),
        b"\0".to_vec(),
        b"\xef\xbb\xbf{\"title\":1}".to_vec(),
        b"\xff\xfe".to_vec(),
        b"{\"title\":\"\xc3\x28\",\"body\":\"\xc3\x28\"}".to_vec(),
        b"{\"title\":\"\n\",\"body\":\"\n\"}".to_vec(),
        br#"{"title":"a","body":NaN}, "#.to_vec(),
        br#"{"title":"a","body":01}x"#.to_vec(),
        br#"{"title":"a","body":[1,]}x"#.to_vec(),
        br#"{"title":"\ud800","body":"\x"}"#.to_vec(),
        br#"{"title":1e999,"body":-}"#.to_vec(),
        br#"{"title":"a","body":1"#.to_vec(),
        deep("[", "").into_bytes(),
        deep("{\"a\":", "").into_bytes(),
    ];
    for request in victim.routes() {
        for body in &bodies {
            let answer = victim.user.send(&request.clone().body(body));
            answer.check_refusal(400);
        }
    }
    for body in ["", "{", "\0", "[[[[", "{\"userId\":[]}"] {
        let request = Request::new("POST", "/backend/v1/sign").key(BACKEND_KEY).body(body);
        victim.server.send(&request).check_error(400, "invalid JSON payload");
    }
    victim.check_unharmed();
}

#[test]
fn nesting_a_hundred_thousand_deep_is_refused_or_kept_to_the_letter() {
    let victim = Victim::start(Setup::new().set("server.max_payload_size", "2MiB"));
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
        let inner = if open == "[" { "" } else { "1" };
        let nest = format!("{}{inner}{}", open.repeat(100_000), close.repeat(100_000));
        for (field, request) in [("title", &victim.routes()[0]), ("title", &victim.routes()[1])] {
            victim.user.send(&request.clone().body(format!(r#"{{"{field}":{nest}}}"#))).check_refusal(400);
        }
        let t = victim.server.user("deep").create_thread("deep");
        let deep = victim.server.user("deep");
        let answer = deep.send(&deep.request("POST", &messages(&t)).body(format!(r#"{{"body":{nest}}}"#)));
        match answer.status {
            202 => {
                let read = deep.get(&messages(&t));
                assert!(read.check_status(200).text().contains(&nest), "the body changed");
            }
            _ => {
                answer.check_refusal(400);
            }
        }
        let ignored = deep.send(&deep.request("POST", THREADS).body(format!(r#"{{"title":"x","unknown":{nest}}}"#)));
        assert!([202, 400].contains(&ignored.status), "{ignored}");
    }
    victim.server.send(&Request::get("/healthz")).check_status(200);
    victim.server.stop().check_code(0);
}

#[test]
fn bodies_of_four_megabytes() {
    let victim = Victim::start(Setup::new());
    let body = format!(r#"{{"title":"{0}","body":"{0}"}}"#, "x".repeat(2 << 20));
    for request in victim.routes() {
        let request = request.body(&body);
        for _ in 0..5 {
            victim.check_refused(&request.bytes(), &[413]);
        }
    }
    let without_key = Request::new("POST", THREADS).body(&body);
    victim.check_refused(&without_key.bytes(), &[401, 413]);
    victim.check_unharmed();
}

#[test]
fn large_bodies_at_once_are_bounded() {
    let setup = Setup::new().set("server.max_payload_size", "4MiB").set("server.max_body_memory", "8MiB");
    let victim = Victim::start(setup);
    let (declared, body) = (4_000_000, vec![b' '; 3_900_000]);
    let head = victim.user.request("POST", THREADS).header("Content-Length", declared.to_string()).bytes();
    let mut open: Vec<Connection> = Vec::new();
    for _ in 0..40 {
        let mut connection = victim.connect();
        // A server at its limit may answer 503 and close before it has read it all.
        let _ = connection.write(&head).and_then(|()| connection.write(&body));
        open.push(connection);
    }
    let grown = victim.server.resident_bytes().saturating_sub(victim.resident);
    assert!(grown < 100 * MIB, "memory grew by {} MiB", grown / MIB);
    victim.server.send(&Request::get("/healthz")).check_status(200);
    drop(open);
    wait_until("bodies are let go", || victim.user.post(THREADS, &json!({ "title": "" })).status == 400);
    victim.check_unharmed();
}
