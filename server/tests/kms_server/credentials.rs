//! Who the server is to its KMS, and how that changes while it runs.

use serde_json::json;
use testing::servers::listen::Call;
use testing::servers::moto::credentials;
use testing::servers::proxy::aws_error;
use testing::servers::{Provider, Settings, secret_file};
use testing::{Server, wait_until};

use crate::conversation::Conversation;
use crate::{calls, encrypted, for_every, readiness, status};

/// The file in which the server finds who it is.
const FILE: &str = "identity";

/// Settings under which that is in a file.
fn from_file(provider: &mut Provider) -> Option<Settings> {
    let file = |provider: &Provider, content: String| secret_file(provider.directory.path(), FILE, content);
    let base = provider.base();
    match provider.name {
        "aws" => Some(base.set("aws.credentials_file", file(provider, credentials("AKIAFIRST")))),
        "vault" | "http" => {
            let path = file(provider, format!("{}\n", base.get("token")));
            Some(base.without("token").set("token_file", path))
        }
        _ => None,
    }
}

/// Puts another identity into the file and revokes the one before.
fn replace(provider: &mut Provider) {
    let file = |provider: &Provider, content: &str| secret_file(provider.directory.path(), FILE, content);
    match provider.name {
        // moto believes everybody, so the proxy does not.
        "aws" => {
            file(provider, &credentials("AKIASECOND"));
            let old = |call: &Call| call.header("authorization").is_some_and(|value| value.contains("AKIAFIRST"));
            let words = "The security token included in the request is invalid.";
            provider.proxy().when(old, aws_error(400, "UnrecognizedClientException", words));
        }
        "vault" => {
            let token = provider.real_vault().token(json!({ "ttl": "1h" }));
            file(provider, &token);
            let old = provider.base().get("token").to_owned();
            provider.real_vault().write("auth/token/revoke", &json!({ "token": old }));
        }
        _ => {
            file(provider, "the-second-service-token");
            provider.service().accept("the-second-service-token");
        }
    }
}

/// Waits until the KMS was asked again, with success.
fn wait_for_probes(server: &Server) {
    let before = calls(server, "probe", "ok");
    wait_until("two more probes succeed", || calls(server, "probe", "ok") >= before + 2.0);
    assert_eq!(status(server)["kms"]["failure"], json!(null));
}

/// Stops a server whose KMS did all that it was asked to.
#[track_caller]
fn check_never_failed(server: Server) {
    let log = server.stop().check_code(0).said();
    assert!(log.contains("kms.wrapped") && !log.contains("kms.failing"), "{log}");
}

#[test]
fn an_identity_that_is_replaced_in_its_file_is_used_without_a_restart() {
    for_every("an_identity_that_is_replaced_in_its_file_is_used_without_a_restart", |mut provider| {
        let Some(settings) = from_file(&mut provider) else { return };
        let setup = encrypted(&settings);
        let mut server = setup.start();
        let process = server.pid();
        let mut conversation = Conversation::begin(&server);
        wait_for_probes(&server);
        replace(&mut provider);
        wait_for_probes(&server);
        assert!(conversation.try_write());
        crate::rotate(&server).check_status(202);
        conversation.check_kept();
        assert!(server.runs());
        assert_eq!(server.pid(), process);
    });
}

fn approle(provider: &mut Provider, life: serde_json::Value) -> Settings {
    let (role_id, secret_id) = provider.real_vault().approle("approle", life);
    let path = secret_file(provider.directory.path(), FILE, secret_id);
    let settings = provider.base().without("token").set("vault.auth", "approle").set("vault.role_id", role_id);
    settings.set("vault.secret_id_file", path)
}

#[test]
fn a_secret_id_that_is_replaced_is_used_for_the_next_login() {
    let Some(mut provider) = Provider::vault("a_secret_id_that_is_replaced_is_used_for_the_next_login") else { return };
    let settings = approle(&mut provider, json!({ "token_ttl": "1h" }));
    let setup = encrypted(&settings);
    let server = setup.start();
    wait_for_probes(&server);
    let old = std::fs::read_to_string(settings.get("vault.secret_id_file")).unwrap();
    let new = provider.real_vault().secret_id("approle");
    secret_file(provider.directory.path(), FILE, new);
    provider.real_vault().write("auth/approle/role/server/secret-id/destroy", &json!({ "secret_id": old }));
    provider.real_vault().revoke_all("approle");
    wait_for_probes(&server);
    assert_eq!(provider.proxy().count_of("/login"), 2);
    check_never_failed(server);
}

#[test]
fn tokens_that_expire_one_after_another_are_not_noticed() {
    let Some(mut provider) = Provider::vault("tokens_that_expire_one_after_another_are_not_noticed") else { return };
    let settings = approle(&mut provider, json!({ "token_ttl": "2s", "token_max_ttl": "3s" }));
    let setup = encrypted(&settings);
    let server = setup.start();
    let mut conversation = Conversation::begin(&server);
    wait_until("the server has logged in for the fourth time", || {
        assert_eq!(readiness(&server).check_status(200).json()["kms"]["status"], json!("ok"), "{}", server.log());
        assert!(conversation.try_write());
        provider.proxy().count_of("/login") >= 4
    });
    conversation.check_kept();
    check_never_failed(server);
}
