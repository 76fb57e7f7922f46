//! `POST /admin/backup`: backups that a running server makes of itself.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use testing::http::Request;
use testing::{ADMIN_KEY, Server, Setup};

use crate::online::{checkpoints, path, place};
use crate::stores::fill;
use crate::tree::names;

fn admin_backup(server: &Server, body: &Value) -> testing::Answer {
    server.send(&Request::new("POST", "/admin/backup").key(ADMIN_KEY).json(body))
}

#[test]
fn an_administrator_has_a_backup_made_in_the_root_and_nowhere_else() {
    let setup = Setup::new();
    let server = setup.start();
    let refused = admin_backup(&server, &json!({}));
    refused.check_error(409, "backup.root is not set: set it to a directory for backups and start the server again");
    server.stop().check_code(0);

    let root = place(&setup);
    let setup = setup.set("backup.root", path(&root));
    let server = setup.start();
    server.user("writer").create_thread("kept");
    let made = admin_backup(&server, &json!({ "name": "first", "format": "dir" })).check_status(201).json();
    let first = root.join("first");
    assert_eq!((&made["path"], &made["sequence"]), (&json!(first), &json!(1)), "{made}");
    let manifest = fs::read(first.join("manifest.json")).unwrap();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &manifest);
    assert_eq!(made["sha256"], json!(hex::encode(digest)));
    server.wait_for_line("admin.backup_made");
    let dated = admin_backup(&server, &json!({})).check_status(201).json();
    let dated = Path::new(dated["path"].as_str().unwrap());
    assert_eq!((dated.parent(), fs::metadata(dated).unwrap().permissions().mode() & 0o777), (Some(&*root), 0o600));

    symlink(setup.root(), root.join("link")).unwrap();
    symlink("nowhere", root.join("dangling")).unwrap();
    for name in ["first", "link", "dangling"] {
        let refused = admin_backup(&server, &json!({ "name": name }));
        assert_eq!((refused.status, &refused.json()["code"]), (409, &json!("backup_exists")), "{name}: {refused}");
    }
    for name in ["", ".", "..", "a/b", "/etc/x", ".hidden", "a b"] {
        let refused = admin_backup(&server, &json!({ "name": name }));
        assert_eq!((refused.status, &refused.json()["code"]), (400, &json!("validation_failed")), "{name}: {refused}");
    }
    assert_eq!(fs::read_dir(&root).unwrap().count(), 4, "nothing else is there");
    assert_eq!(checkpoints(&setup), [""; 0].map(PathBuf::from));
    fs::remove_dir_all(&root).unwrap();
    admin_backup(&server, &json!({})).check_refusal(409);
    server.stop().check_code(0);
}

#[test]
fn a_second_backup_is_refused_while_one_is_made() {
    let setup = Setup::new();
    fill(&setup, 12);
    let root = place(&setup);
    let setup = setup.set("backup.root", path(&root));
    let server = setup.start();
    let refused = (0..20).find_map(|round| {
        let first = json!({ "name": format!("{round}.pdbk") });
        std::thread::scope(|scope| {
            let first = scope.spawn(|| admin_backup(&server, &first));
            while !first.is_finished() && !names(&root).iter().any(|name| name.ends_with(".tmp")) {
                std::thread::yield_now();
            }
            let second = admin_backup(&server, &json!({ "name": format!("{round}-second.pdbk") }));
            first.join().unwrap().check_status(201);
            // The first may have come to its end before.
            (second.status != 201).then_some((round, second))
        })
    });
    let (round, refused) = refused.expect("one of twenty was asked for in time");
    refused.check_error(409, "another backup is being made: wait until it has ended");
    assert_eq!(refused.json()["code"], json!("backup_running"));
    assert!(!names(&root).contains(&format!("{round}-second.pdbk")), "{:?}", names(&root));
    admin_backup(&server, &json!({ "name": "after.pdbk" })).check_status(201);
    server.stop().check_code(0);
}
