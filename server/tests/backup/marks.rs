//! Uploads and prunes leave marks for each other: a prune takes nothing away that an upload relies on.

use std::fs;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

use testing::servers::listen::{Call, Reply};
use testing::servers::object_store::ObjectStore;
use testing::servers::proxy::Proxy;
use testing::{finish, wait_until};

use crate::stores::{back_up, files_in, fill, list, objects, prune, setup_for, verify};

#[test]
fn a_prune_leaves_the_objects_while_an_upload_is_under_way() {
    let Some(store) = ObjectStore::versitygw("a_prune_leaves_the_objects_while_an_upload") else { return };
    let proxy = Proxy::before(store.addr);
    let (uploader, pruner) = (setup_for(&store, proxy.addr).set("backup.timeout", "2s"), setup_for(&store, store.addr));
    let url = store.url("m");
    fill(&uploader, 1);
    back_up(&uploader, &url);
    // Now nothing names the objects, and the next upload relies on them.
    fs::remove_dir_all(store.files.as_ref().unwrap().join("m/backups")).unwrap();
    let before = objects(&store, "m");
    let is_manifest = |call: &Call| call.method == "PUT" && call.target.contains("/m/backups/");
    proxy.when(is_manifest, Reply::Stall);
    thread::scope(|scope| {
        let upload = scope.spawn(|| back_up(&uploader, &url));
        let manifests = || proxy.calls().into_iter().filter(is_manifest).count();
        wait_until("the second manifest is about to be written", || manifests() > 1);
        let pruned = prune(&pruner, &url, 1, &[]);
        proxy.clear();
        assert_eq!(pruned["objects_kept_because"], "an upload is under way", "{pruned}");
        let made = upload.join().unwrap();
        assert_eq!(made["bytes"], 0, "it relied on what was there: {made}");
    });
    assert_eq!(objects(&store, "m"), before);
    assert_eq!(list(&pruner, &url).len(), 1);
    verify(&pruner, &url).check_code(0);
}

#[test]
fn an_upload_waits_while_a_prune_is_under_way() {
    let Some(store) = ObjectStore::versitygw("an_upload_waits_while_a_prune_is_under_way") else { return };
    let (setup, url) = (setup_for(&store, store.addr), store.url("m"));
    fill(&setup, 1);
    let running = store.files.as_ref().unwrap().join("m/running");
    fs::create_dir_all(&running).unwrap();
    let mark = running.join(format!("prune-{}.json", "00".repeat(16)));
    fs::write(&mark, "{}").unwrap();
    let log = setup.root().join("log");
    let command = logging_to(setup.command(&["backup", "--out", &url]), &log);
    let ended = Arc::new(Mutex::new(false));
    thread::scope(|scope| {
        let upload = scope.spawn(|| {
            let finished = finish(command);
            *ended.lock().unwrap() = true;
            finished
        });
        let says = || fs::read_to_string(&log).unwrap_or_default().contains("backup.waits_for_prune");
        wait_until("the upload waits or ends", || says() || *ended.lock().unwrap());
        assert!(!*ended.lock().unwrap(), "it did not wait");
        assert_eq!(objects(&store, "m"), [], "nothing was sent yet");
        fs::remove_file(&mark).unwrap();
        upload.join().unwrap().check_code(0);
    });
    verify(&setup, &url).check_code(0);
    assert_eq!(files_in(&running), [], "its own mark is gone");
}

/// The same command, whose standard error goes to a file.
fn logging_to(command: Command, log: &std::path::Path) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", "log=$1; shift; exec \"$@\" 2>\"$log\"", "sh"]).arg(log);
    shell.arg(command.get_program()).args(command.get_args()).env_clear();
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.current_dir(command.get_current_dir().unwrap());
    shell
}
