//! Rotation of epochs while the KMS comes and goes, and rotation of the KMS's own key.

use serde_json::json;
use testing::servers::{Provider, Settings};
use testing::{Server, Setup, wait_until};

use crate::conversation::Conversation;
use crate::start::start_waiting;
use crate::{check_kms_unavailable, copy, encrypt, encrypted, epochs, for_every, rotate, status};
use crate::{wait_until_kms_is, wait_until_logged, wait_until_sealed};

#[test]
fn a_rotation_without_the_kms_begins_nothing_and_one_that_began_needs_no_kms() {
    for_every("a_rotation_without_the_kms_begins_nothing_and_one_that_began_needs_no_kms", |provider| {
        let setup = encrypted(&provider.base());
        let server = setup.start();
        let mut conversation = Conversation::begin(&server);
        for number in 0..10 {
            server.user(&format!("user-{number}")).create_thread("t");
        }
        wait_until_sealed(&server, 1);
        provider.go_away();
        wait_until_kms_is(&server, "failing");
        check_kms_unavailable(&rotate(&server));
        wait_until_kms_is(&server, "failing");
        assert_eq!(epochs(&server), [1]);
        assert!(conversation.try_write(), "an outage that has just begun changes nothing");
        conversation.check_kept();

        provider.come_back();
        wait_until_kms_is(&server, "ok");
        rotate(&server).check_json(202, &json!({ "dry_run": false, "epoch": 2 }));
        provider.go_away();
        wait_until_sealed(&server, 2);
        assert_eq!(epochs(&server), [2]);
        conversation.append();
        conversation.check_kept();
        wait_until_kms_is(&server, "failing");
        provider.come_back();
        server.stop().check_code(0);
        check_interrupted(&provider, &setup, conversation);
    });
}

/// A server stops in the middle of a rotation, and the next one starts in an outage.
fn check_interrupted(provider: &Provider, setup: &Setup, mut conversation: Conversation) {
    let slow = encrypt(Setup::with_db(setup.db()), &provider.base()).set("encryption.rewrap_rate", 1);
    let server = slow.start();
    rotate(&server).check_json(202, &json!({ "dry_run": false, "epoch": 3 }));
    provider.go_away();
    assert_eq!(epochs(&server), [2, 3]);
    conversation.go_on(&server);
    assert!(conversation.try_write());
    server.stop().check_code(0);

    let server = if provider.name == "local" {
        setup.refused_start().check_code(78);
        provider.come_back();
        setup.start()
    } else {
        let server = start_waiting(setup);
        provider.come_back();
        server.ready()
    };
    wait_until_sealed(&server, 3);
    assert_eq!(epochs(&server), [3]);
    wait_until_logged(&server, "encryption.epoch_retired");
    conversation.go_on(&server);
    conversation.check_kept();
    let all = server.admin("/admin/users").check_status(200).json();
    assert_eq!(all["users"].as_array().map(Vec::len), Some(11), "{all}");
}

/// Has the KMS take another key, or another version of it, for what is to come; false where it cannot.
fn rotate_kms_key(provider: &mut Provider) -> bool {
    match provider.name {
        "aws" => {
            let key = provider.moto().create_key();
            provider.moto().move_alias("alias/progressdb", &key);
        }
        "vault" => provider.real_vault().rotate_key(),
        "http" => provider.service().rotate_key(),
        _ => return false,
    }
    true
}

/// Settings under which a rotation can be seen.
fn rotatable(provider: &mut Provider) -> Settings {
    match provider.name {
        "aws" => {
            let arn = provider.base().get("key_id").to_owned();
            provider.moto().create_alias("alias/progressdb", &arn);
            return provider.base().set("key_id", "alias/progressdb");
        }
        "http" => provider.service().tell_versions(),
        _ => {}
    }
    provider.base()
}

fn wrapped_by(server: &Server) -> String {
    status(server)["epochs"][0]["wrapped_by"].as_str().unwrap().to_owned()
}

#[test]
fn a_rotated_kms_key_takes_over_in_the_running_server_and_an_old_copy_still_opens() {
    for_every("a_rotated_kms_key_takes_over_in_the_running_server_and_an_old_copy_still_opens", |mut provider| {
        let settings = rotatable(&mut provider);
        let setup = encrypted(&settings);
        let server = setup.start();
        let mut conversation = Conversation::begin(&server);
        let before = wrapped_by(&server);
        server.stop().check_code(0);
        let [old, older] = [(); 2].map(|()| encrypt(copy(&setup), &settings));

        let server = setup.start();
        if !rotate_kms_key(&mut provider) {
            return;
        }
        wait_until("the epoch key is wrapped anew", || wrapped_by(&server) != before);
        let after = wrapped_by(&server);
        assert_eq!(epochs(&server), [1], "the epoch stays");
        wait_until_logged(&server, "encryption.epoch_rewrapped");
        server.stop().check_code(0);
        conversation.check_in(&setup);
        conversation.check_in(&old);

        if provider.name == "vault" {
            provider.real_vault().configure_key(&json!({ "min_decryption_version": 2 }));
            let server = setup.start();
            assert_eq!((before.as_str(), after.as_str()), ("vault:progressdb:v1", "vault:progressdb:v2"));
            assert_eq!(wrapped_by(&server), after);
            start_waiting(&older).stop().check_code(0).check_says(&["too old"]);
        }
    });
}
