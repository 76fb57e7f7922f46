//! How one is known to Vault: tokens and their lives, AppRole, Kubernetes service accounts.

use serde_json::json;
use testing::servers::proxy::vault_error;
use testing::servers::review::{TokenReview, service_account_token};
use testing::servers::{Provider, Settings, secret_file};
use testing::wait_until;

use crate::client::{Client, check_error, epoch};

/// Uses the client until `enough`; every call must succeed.
#[track_caller]
fn use_until(what: &str, client: &Client, enough: impl Fn() -> bool) {
    let kept = client.wrapped();
    wait_until(what, || {
        client.check_opens(&kept);
        enough()
    });
}

fn approle(provider: &mut Provider, mount: &str, life: serde_json::Value) -> Settings {
    let (role_id, secret_id) = provider.real_vault().approle(mount, life);
    let path = secret_file(provider.directory.path(), "secret-id", format!("{secret_id}\n"));
    let settings = provider.base().without("token").set("vault.auth", "approle").set("vault.role_id", role_id);
    settings.set("vault.secret_id_file", path)
}

#[test]
fn a_token_is_renewed_before_it_expires() {
    let Some(mut provider) = Provider::vault("a_token_is_renewed_before_it_expires") else { return };
    let token = provider.real_vault().token(json!({ "period": "3s" }));
    let client = Client::new(&provider.base().set("token", token));
    use_until("it was renewed twice", &client, || provider.proxy().count_of("/auth/token/renew-self") >= 2);
}

#[test]
fn a_token_that_cannot_be_renewed_is_denied_when_it_expires() {
    let Some(mut provider) = Provider::vault("a_token_that_cannot_be_renewed_is_denied_when_it_expires") else {
        return;
    };
    let token = provider.real_vault().token(json!({ "ttl": "3s", "renewable": false }));
    let client = Client::new(&provider.base().set("token", &token));
    let kept = client.wrapped();
    client.check_opens(&kept);
    wait_until("it expires", || client.open_key(&kept.1, epoch(1)).is_err());
    client.check_refuses(&kept, "denied", &["permission denied"]);
    assert!(!client.health().failure.unwrap_or_default().contains(&token));
}

#[test]
fn a_token_file_that_is_replaced_is_used_without_a_restart() {
    let Some(mut provider) = Provider::vault("a_token_file_that_is_replaced_is_used_without_a_restart") else { return };
    let first = provider.base().get("token").to_owned();
    let path = secret_file(provider.directory.path(), "token", format!("{first}\n"));
    let client = Client::new(&provider.base().without("token").set("token_file", &path));
    let kept = client.wrapped();
    let second = provider.real_vault().token(json!({ "ttl": "1h" }));
    secret_file(provider.directory.path(), "token", format!("{second}\n"));
    client.check_opens(&kept);
    let sent = provider.proxy().calls().last().unwrap().header("x-vault-token").map(str::to_owned);
    assert_eq!(sent.as_ref(), Some(&second), "although the first one is still good");

    provider.real_vault().write("auth/token/revoke", &json!({ "token": second }));
    client.check_refuses(&kept, "denied", &["permission denied"]);
    secret_file(provider.directory.path(), "token", format!("{first}\n"));
    client.check_opens(&kept);
    std::fs::remove_file(&path).unwrap();
    let error = match Client::open(&provider.base().without("token").set("token_file", &path)) {
        Ok(client) => client.probe(None).unwrap_err(),
        Err(error) => error,
    };
    check_error(Err::<(), _>(error), "settings", &[&path]);
}

#[test]
fn an_approle_token_is_renewed_and_not_made_anew() {
    let Some(mut provider) = Provider::vault("an_approle_token_is_renewed_and_not_made_anew") else { return };
    let settings = approle(&mut provider, "approle", json!({ "token_ttl": "3s", "token_max_ttl": "1h" }));
    let client = Client::new(&settings);
    use_until("it was renewed twice", &client, || provider.proxy().count_of("/auth/token/renew-self") >= 2);
    let calls = provider.proxy().count_of("/encrypt/progressdb") + provider.proxy().count_of("/decrypt/progressdb");
    assert!(provider.proxy().count_of("/login") < calls / 4, "not a login for each call");
}

#[test]
fn an_approle_token_that_cannot_be_renewed_is_made_anew() {
    let Some(mut provider) = Provider::vault("an_approle_token_that_cannot_be_renewed_is_made_anew") else { return };
    let life = json!({ "token_ttl": "3s", "token_type": "batch" });
    let client = Client::new(&approle(&mut provider, "approle", life));
    use_until("a second login", &client, || provider.proxy().count_of("/v1/auth/approle/login") >= 2);
}

#[test]
fn a_token_at_the_end_of_its_longest_life_is_made_anew() {
    let Some(mut provider) = Provider::vault("a_token_at_the_end_of_its_longest_life_is_made_anew") else { return };
    let life = json!({ "token_ttl": "3s", "token_max_ttl": "5s" });
    let client = Client::new(&approle(&mut provider, "approle", life));
    use_until("a second login", &client, || provider.proxy().count_of("/v1/auth/approle/login") >= 2);
}

/// What Vault answers shortly before the end of the longest life; the proxy makes sure that it does.
#[test]
fn a_token_whose_renewal_fails_is_made_anew() {
    let Some(mut provider) = Provider::vault("a_token_whose_renewal_fails_is_made_anew") else { return };
    let settings = approle(&mut provider, "approle", json!({ "token_ttl": "3s", "token_max_ttl": "1h" }));
    let client = Client::new(&settings);
    let refusal = vault_error(500, "past the max TTL, cannot renew");
    provider.proxy().when(|call| call.target.ends_with("/renew-self"), refusal);
    use_until("a second login", &client, || provider.proxy().count_of("/v1/auth/approle/login") >= 2);
    assert!(provider.proxy().count_of("/renew-self") > 0);
}

#[test]
fn a_revoked_token_is_made_anew_with_the_secret_of_now() {
    let Some(mut provider) = Provider::vault("a_revoked_token_is_made_anew_with_the_secret_of_now") else { return };
    let settings = approle(&mut provider, "machines", json!({ "token_ttl": "1h" })).set("vault.auth_mount", "machines");
    let client = Client::new(&settings);
    let kept = client.wrapped();
    assert_eq!(provider.proxy().count_of("/v1/auth/machines/login"), 1);
    provider.real_vault().revoke_all("machines");
    client.check_opens(&kept);
    assert_eq!(provider.proxy().count_of("/v1/auth/machines/login"), 2);

    let secret_id = provider.real_vault().secret_id("machines");
    let old = std::fs::read_to_string(settings.get("vault.secret_id_file")).unwrap();
    let destroy = "auth/machines/role/server/secret-id/destroy";
    provider.real_vault().write(destroy, &json!({ "secret_id": old.trim() }));
    secret_file(provider.directory.path(), "secret-id", secret_id);
    provider.real_vault().revoke_all("machines");
    client.check_opens(&kept);
    assert_eq!(provider.proxy().count_of("/v1/auth/machines/login"), 3);
}

#[test]
fn a_wrong_secret_id_is_denied_in_vaults_words_and_not_shown() {
    let Some(mut provider) = Provider::vault("a_wrong_secret_id_is_denied_in_vaults_words_and_not_shown") else {
        return;
    };
    let settings = approle(&mut provider, "approle", json!({ "token_ttl": "1h" })).without("vault.secret_id_file");
    let client = Client::new(&settings.set("vault.secret_id", "secret-id-of-nobody"));
    client.check_wraps_nothing("denied", &["invalid"]);
    let shown = format!("{:?} {:?}", client.kms, client.health());
    assert!(!shown.contains("secret-id-of-nobody"), "{shown}");
    assert!(provider.proxy().count_of("/login") <= 2, "a refusal is not hammered: {:?}", provider.proxy().calls());
}

#[test]
fn a_service_account_token_is_read_at_each_login() {
    let Some(mut provider) = Provider::vault("a_service_account_token_is_read_at_each_login") else { return };
    let first = service_account_token(1);
    let review = TokenReview::start(&first);
    provider.real_vault().kubernetes("kubernetes", review.addr(), json!({ "token_ttl": "1h" }));
    let path = secret_file(provider.directory.path(), "jwt", &first);
    let settings = provider.base().without("token").set("vault.auth", "kubernetes").set("vault.role", "server");
    let client = Client::new(&settings.set("vault.jwt_file", &path));
    let kept = client.wrapped();

    let second = service_account_token(2);
    review.accept(&second);
    provider.real_vault().revoke_all("kubernetes");
    client.check_refuses(&kept, "denied", &["permission denied"]);
    secret_file(provider.directory.path(), "jwt", &second);
    client.check_opens(&kept);
    assert!(provider.proxy().count_of("/v1/auth/kubernetes/login") >= 3, "{:?}", provider.proxy().calls());
    std::fs::remove_file(&path).unwrap();
    provider.real_vault().revoke_all("kubernetes");
    check_error(client.open_key(&kept.1, epoch(1)), "settings", &[&path]);
}
