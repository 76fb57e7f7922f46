//! No key is in anything that the process says, whatever happens to it.

use rustix::process::Signal;
use serde_json::json;
use testing::{Setup, thread};

use crate::{MASTER_KEY, OTHER_KEY, encrypted, key_file, post, status};

/// The forms in which a key could slip out.
fn forms(key: &str) -> Vec<Vec<u8>> {
    let bytes = hex::decode(key).unwrap();
    let listed = format!("{:?}", &bytes[..8]);
    vec![
        key.as_bytes().to_vec(),
        key.to_uppercase().into_bytes(),
        bytes,
        listed.as_bytes()[1..listed.len() - 1].to_vec(),
    ]
}

#[track_caller]
fn check_hidden(what: &str, said: &[u8]) {
    for form in [MASTER_KEY, OTHER_KEY].into_iter().flat_map(forms) {
        let found = said.windows(form.len()).any(|window| window == form);
        assert!(!found, "a key is in {what}:\n{}", String::from_utf8_lossy(said));
    }
}

#[test]
fn no_key_is_in_logs_replies_errors_or_files() {
    let setup = encrypted(Setup::new()).set("logging.level", "trace").argument("--allow-volatile-fs");
    let server = setup.start();
    let user = server.user("ann");
    let key = user.create_thread("t");
    user.append(&key, 1);
    let mut said = Vec::new();
    for name in [
        "status",
        "wrapped-keys",
        "../keys?limit=1000",
        "../keys?store=index&limit=1000",
        "../stats",
        "../debug/prometheus",
    ] {
        let target = format!("/admin/encryption/{name}").replace("encryption/../", "");
        said.extend(server.admin(&target).check_status(200).body.clone());
    }
    for name in [format!("{key}:key:1"), "k:1".to_owned(), "s:secret".to_owned()] {
        let shown = server.admin(&format!("/admin/keys/{name}?open=true")).check_status(200).body.clone();
        assert!(!String::from_utf8_lossy(&shown).contains("blob"), "a wrapped key is in the reply");
        said.extend(shown);
    }
    for what in ["rotate", "compact"] {
        said.extend(post(&server, what, None).body);
    }
    said.extend(user.delete(&format!("{}?purge=true", thread(&key))).body);
    assert!(status(&server)["enabled"] == json!(true));
    check_hidden("a reply", &said);
    let finished = server.stop();
    check_hidden("the log", finished.said().as_bytes());

    for words in [vec!["config"], vec!["config", "check", "--json"], vec!["kms", "check"], vec!["kms", "verify"]] {
        check_hidden("the output", setup.run(&words).said().as_bytes());
    }
    let inline = Setup::with_db(setup.db()).set("encryption.enabled", true);
    let inline = inline.set("encryption.kms.master_key_hex", OTHER_KEY);
    let refused = inline.refused_start();
    check_hidden("a refusal", refused.check_code(78).said().as_bytes());
    check_hidden("the configuration", inline.run(&["config"]).said().as_bytes());
    let broken = Setup::with_db(setup.db()).set("encryption.enabled", true);
    let broken = broken.set("encryption.kms.master_key_hex", &MASTER_KEY[1..]);
    let refused = broken.refused_start();
    refused.check_code(78);
    assert!(!refused.said().contains(&MASTER_KEY[1..40]), "part of a key is in the refusal");
    for form in forms(MASTER_KEY) {
        assert!(crate::files::holding(setup.db(), &form).is_empty(), "the master key is in a file");
    }
}

/// A process that dies in the middle leaves no core file, and nobody of the same user reads its memory.
#[test]
fn a_crash_leaves_no_core_file() {
    let setup = encrypted(Setup::new());
    let file = key_file(&setup, "unused.key", OTHER_KEY);
    assert!(file.exists());
    let server = setup.start();
    let process = server.pid();
    let limits = std::fs::read_to_string(format!("/proc/{process}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).collect::<Vec<_>>(), ["0", "0", "bytes"]);
    server.signal(Signal::ABORT);
    let _ = server.wait();
    let cores: Vec<_> = std::fs::read_dir(setup.root()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert!(cores.iter().all(|name| !name.to_string_lossy().starts_with("core")), "{cores:?}");
}
