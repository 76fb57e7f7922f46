//! A real Vault: its keys, policies, seal and end. What it does not do by itself, throttle, stands in `faults`.

use serde_json::json;
use testing::servers::Provider;
use testing::servers::proxy::vault_error;
use testing::servers::vault::KEY;
use testing::wait_until;

use crate::client::{Client, check_error, epoch};

#[test]
fn a_rotated_key_wraps_with_its_new_version_and_opens_the_old() {
    let test = "a_rotated_key_wraps_with_its_new_version_and_opens_the_old";
    let Some(mut provider) = Provider::vault(test) else { return };
    let client = Client::new(&provider.base());
    let old = client.wrapped();
    assert_eq!(old.1.key_id, "progressdb:v1");
    provider.real_vault().rotate_key();
    assert_eq!(client.describe().as_deref(), Ok("progressdb:v2"));
    let new = client.wrapped();
    assert_eq!(new.1.key_id, "progressdb:v2");
    client.check_opens(&old);
    client.check_opens(&new);
}

#[test]
fn a_version_that_is_no_longer_allowed_is_said() {
    let Some(mut provider) = Provider::vault("a_version_that_is_no_longer_allowed_is_said") else { return };
    let client = Client::new(&provider.base());
    let old = client.wrapped();
    provider.real_vault().rotate_key();
    let new = client.wrapped();
    provider.real_vault().configure_key(&json!({ "min_decryption_version": 2 }));
    client.check_refuses(&old, "key_unusable", &["too old"]);
    client.check_opens(&new);
    provider.real_vault().configure_key(&json!({ "min_decryption_version": 1 }));
    client.check_opens(&old);
}

#[test]
fn a_deleted_key_is_said() {
    let Some(mut provider) = Provider::vault("a_deleted_key_is_said") else { return };
    let client = Client::new(&provider.base());
    let kept = client.wrapped();
    provider.real_vault().delete_key();
    client.check_refuses(&kept, "key_unusable", &["encryption key not found"]);
    check_error(client.describe(), "key_unusable", &[]);
}

/// Vault makes a transit key of any name under which a token that may create encrypts.
#[test]
fn a_key_that_is_unknown_is_never_made() {
    let Some(mut provider) = Provider::vault("a_key_that_is_unknown_is_never_made") else { return };
    let root = provider.real_vault().root.clone();
    let client = Client::new(&provider.base().set("token", root).set("key_id", "misspelt"));
    client.check_wraps_nothing("key_unusable", &["misspelt"]);
    assert!(client.probe(None).is_err());
    assert!(client.describe().is_err());
    let answer = provider.real_vault().send("GET", "transit/keys/misspelt", &json!({}));
    assert_eq!(answer.status, 404, "{answer}");
}

#[test]
fn a_policy_without_a_verb_is_denied_in_vaults_words() {
    let Some(mut provider) = Provider::vault("a_policy_without_a_verb_is_denied_in_vaults_words") else { return };
    let client = Client::new(&provider.base());
    let kept = client.wrapped();
    let only_encrypt = r#"path "transit/encrypt/progressdb" { capabilities = ["update"] }"#;
    provider.real_vault().write("sys/policies/acl/progressdb", &json!({ "policy": only_encrypt }));
    client.check_refuses(&kept, "denied", &["permission denied"]);
    // The version is then told by what encrypting says.
    assert_eq!(client.describe().as_deref(), Ok("progressdb:v1"));
    client.wrapped();
    let nothing = r#"path "secret/nothing" { capabilities = ["read"] }"#;
    provider.real_vault().write("sys/policies/acl/progressdb", &json!({ "policy": nothing }));
    client.check_wraps_nothing("denied", &["permission denied"]);
    check_error(client.describe(), "denied", &["permission denied"]);
}

#[test]
fn a_refusal_names_what_was_asked() {
    let Some(mut provider) = Provider::vault("a_refusal_names_what_was_asked") else { return };
    provider.real_vault().write(&format!("transit/keys/{KEY}-2"), &json!({}));
    let client = Client::new(&provider.base().set("key_id", format!("{KEY}-2")));
    client.check_wraps_nothing("denied", &[&format!("POST /v1/transit/encrypt/{KEY}-2: "), "permission denied"]);
    let kept = Client::new(&provider.base()).wrapped();
    let nothing = r#"path "secret/nothing" { capabilities = ["read"] }"#;
    provider.real_vault().write("sys/policies/acl/progressdb", &json!({ "policy": nothing }));
    Client::new(&provider.base()).check_refuses(&kept, "denied", &[&format!("POST /v1/transit/decrypt/{KEY}: ")]);
    let wrong = provider.base().set("vault.mount", "transmit");
    Client::new(&wrong).check_wraps_nothing("denied", &[&format!("POST /v1/transmit/encrypt/{KEY}: ")]);
    let login = provider.base().without("token").set("vault.auth", "approle").set("vault.role_id", "nobody");
    let login = login.set("vault.secret_id", "hush-71d0b6");
    Client::new(&login).check_wraps_nothing("denied", &["POST /v1/auth/approle/login: "]);
    provider.real_vault().seal();
    Client::new(&provider.base()).check_wraps_nothing("unavailable", &[" /v1/", "Vault is sealed"]);
    let gone = Client::new(&provider.base().set("endpoint", "http://127.0.0.1:1"));
    gone.check_wraps_nothing("unavailable", &["GET /v1/auth/token/lookup-self: ", "refused"]);
}

#[test]
fn a_sealed_vault_is_an_outage_until_it_is_unsealed() {
    let Some(mut provider) = Provider::vault("a_sealed_vault_is_an_outage_until_it_is_unsealed") else { return };
    let client = Client::new(&provider.base());
    let kept = client.wrapped();
    provider.real_vault().seal();
    client.check_refuses(&kept, "unavailable", &["Vault is sealed"]);
    check_error(client.probe(None), "unavailable", &["Vault is sealed"]);
    assert!(client.health().failure.unwrap().contains("Vault is sealed"));
    provider.real_vault().unseal();
    wait_until("it is unsealed", || client.probe(None).is_ok());
    client.check_opens(&kept);
}

#[test]
fn a_vault_that_is_sealed_at_the_start_is_an_outage_too() {
    let Some(mut provider) = Provider::vault("a_vault_that_is_sealed_at_the_start_is_an_outage_too") else { return };
    provider.real_vault().seal();
    let client = Client::new(&provider.base());
    client.check_wraps_nothing("unavailable", &["Vault is sealed"]);
    provider.real_vault().unseal();
    wait_until("it is unsealed", || client.probe(None).is_ok());
}

#[test]
fn a_vault_that_hangs_and_goes_on_is_an_outage_in_between() {
    let test = "a_vault_that_hangs_and_goes_on_is_an_outage_in_between";
    let Some(mut provider) = Provider::vault(test) else { return };
    let client = Client::new(&provider.base().set("timeout", "1s"));
    let kept = client.wrapped();
    provider.hang();
    client.check_refuses(&kept, "unavailable", &["1s"]);
    assert!(client.probe(None).is_err());
    provider.go_on();
    wait_until("it answers again", || client.probe(None).is_ok());
    client.check_opens(&kept);
}

#[test]
fn a_vault_that_was_killed_is_unavailable() {
    let Some(mut provider) = Provider::vault("a_vault_that_was_killed_is_unavailable") else { return };
    let addr = provider.real_vault().addr;
    let client = Client::new(&provider.base().set("endpoint", format!("http://{addr}")));
    let kept = client.wrapped();
    provider.kill();
    client.check_refuses(&kept, "unavailable", &[]);
    client.check_wraps_nothing("unavailable", &[]);
}

#[test]
fn mounts_and_namespaces_are_as_configured() {
    let Some(mut provider) = Provider::vault("mounts_and_namespaces_are_as_configured") else { return };
    let root = provider.real_vault().root.clone();
    provider.real_vault().write("sys/mounts/teams/chat", &json!({ "type": "transit" }));
    provider.real_vault().write(&format!("teams/chat/keys/{KEY}"), &json!({}));
    let settings = provider.base().set("token", root).set("vault.mount", "teams/chat");
    let client = Client::new(&settings);
    client.check_opens(&client.wrapped());
    assert!(provider.proxy().count_of("/v1/teams/chat/encrypt/progressdb") > 0, "{:?}", provider.proxy().calls());

    // Namespaces are not in the free Vault: what it would make of them is not the question here.
    let client = Client::new(&settings.set("vault.namespace", "admin/chat"));
    let before = provider.proxy().count();
    provider.proxy().always(vault_error(400, "no such namespace"));
    assert!(client.probe(None).is_err());
    for call in &provider.proxy().calls()[before..] {
        assert_eq!(call.header("x-vault-namespace"), Some("admin/chat"), "{call:?}");
    }
    assert!(provider.proxy().count() > before);
}

/// The words of Vault for refusals that are hard to bring about; the proxy answers them.
#[test]
fn each_status_is_an_error_by_what_can_be_done() {
    let Some(provider) = Provider::vault("each_status_is_an_error_by_what_can_be_done") else { return };
    let answers = [
        (400, "cipher: message authentication failed", "invalid"),
        (400, "invalid ciphertext: no prefix", "invalid"),
        (400, "ciphertext or signature version is disallowed by policy (too old)", "key_unusable"),
        (400, "encryption key not found", "key_unusable"),
        (403, "permission denied", "denied"),
        (404, "no handler for route", "key_unusable"),
        (429, "request path quota exceeded", "throttled"),
        (500, "internal error", "unavailable"),
        (502, "proxy error", "unavailable"),
        (503, "Vault is sealed", "unavailable"),
    ];
    for (status, words, code) in answers {
        let client = Client::new(&provider.base());
        let kept = client.wrapped();
        provider.proxy().always(vault_error(status, words));
        check_error(client.open_key(&kept.1, epoch(1)), code, &[words]);
        provider.proxy().clear();
    }
}
