//! AWS KMS, played by moto. What moto does not enforce (key states, throttling, credentials) the proxy answers in the
//! documented words; each test says so by its name or here.

use progressdb_server::crypt::kms::Context;
use serde_json::json;
use testing::servers::listen::Call;
use testing::servers::moto::credentials;
use testing::servers::proxy::aws_error;
use testing::servers::{Provider, secret_file};
use testing::wait_until;

use crate::client::{Client, check_error, epoch, random_key};

#[test]
fn the_context_goes_along_as_encryption_context() {
    let Some(mut provider) = Provider::aws("the_context_goes_along_as_encryption_context") else { return };
    let client = Client::new(&provider.base());
    let context = Context { database_id: [0xab; 16], epoch: 258 };
    let wrapped = client.wrap(&random_key(), context).unwrap();
    client.open_key(&wrapped, context).unwrap();
    let want = json!({ "progressdb:database": "ab".repeat(16), "progressdb:epoch": "258" });
    let arn = provider.base().get("key_id").to_owned();
    for action in ["TrentService.Encrypt", "TrentService.Decrypt"] {
        let calls = provider.proxy().calls();
        let call = calls.iter().find(|call| call.header("x-amz-target") == Some(action)).unwrap();
        let body = call.json();
        assert_eq!(body["EncryptionContext"], want, "{action}");
        assert_eq!(body["KeyId"], json!(arn), "{action}: only this key, whatever the blob says");
    }
    assert!(provider.moto().create_key().starts_with("arn:aws:kms:eu-central-1:"));
}

#[test]
fn a_key_is_known_by_its_arn_however_it_is_named() {
    let Some(mut provider) = Provider::aws("a_key_is_known_by_its_arn_however_it_is_named") else { return };
    let arn = provider.base().get("key_id").to_owned();
    provider.moto().create_alias("alias/progressdb", &arn);
    let id = arn.rsplit('/').next().unwrap();
    for name in [id, "alias/progressdb", &arn] {
        let client = Client::new(&provider.base().set("key_id", name));
        let wrapped = client.wrapped();
        assert_eq!(wrapped.1.key_id, arn, "{name}");
        assert_eq!(client.describe().as_ref(), Ok(&arn), "{name}");
        client.check_opens(&wrapped);
    }
}

#[test]
fn an_alias_that_moved_wraps_with_the_new_key_and_opens_with_the_old() {
    let test = "an_alias_that_moved_wraps_with_the_new_key_and_opens_with_the_old";
    let Some(mut provider) = Provider::aws(test) else { return };
    let first = provider.base().get("key_id").to_owned();
    let second = provider.moto().create_key();
    provider.moto().create_alias("alias/progressdb", &first);
    let client = Client::new(&provider.base().set("key_id", "alias/progressdb"));
    let old = client.wrapped();
    provider.moto().move_alias("alias/progressdb", &second);
    assert_eq!(client.describe().as_ref(), Ok(&second), "so that what is wrapped is found to be old");
    client.check_opens(&old);
    let new = client.wrapped();
    assert_eq!((&old.1.key_id, &new.1.key_id), (&first, &second));
    client.check_opens(&new);
}

#[test]
fn a_multi_region_key_opens_through_its_replica() {
    let Some(mut provider) = Provider::aws("a_multi_region_key_opens_through_its_replica") else { return };
    let (here, there) = provider.moto().create_key_in_two_regions();
    assert!(
        here.contains(":eu-central-1:") && there.contains(":us-east-1:") && there.contains(":key/mrk-"),
        "{here} {there}"
    );
    let first = Client::new(&provider.base().set("key_id", &here));
    let kept = first.wrapped();
    let replica = provider.base().set("key_id", &there).without("aws.region");
    // AWS KMS knows no key of another region: moto, which does, is kept from answering for one.
    let foreign = here.clone();
    let asks_for_it = move |call: &Call| {
        let signed = call.header("authorization").is_some_and(|signed| signed.contains("/us-east-1/kms/"));
        signed && call.json()["KeyId"] == json!(foreign)
    };
    provider.proxy().when(asks_for_it, aws_error(400, "NotFoundException", "Invalid arn eu-central-1"));
    let second = Client::new(&replica);
    second.check_opens(&kept);
    let new = second.wrapped();
    assert_eq!(new.1.key_id, there);
    second.check_opens(&new);
    first.check_opens(&new);

    // A key of one region alone has no replica, and is asked for as it is.
    let single = Client::new(&provider.base()).wrapped();
    second.check_refuses(&single, "key_unusable", &[]);
}

#[test]
fn an_unknown_key_is_said() {
    let Some(provider) = Provider::aws("an_unknown_key_is_said") else { return };
    let kept = Client::new(&provider.base()).wrapped();
    let unknown = "00000000-0000-4000-8000-000000000000";
    let client = Client::new(&provider.base().set("key_id", unknown));
    client.check_wraps_nothing("key_unusable", &["NotFoundException", unknown]);
    check_error(client.describe(), "key_unusable", &["NotFoundException"]);
    // What a key that is still there wrapped is not lost by a wrong setting.
    client.check_opens(&kept);
}

/// Errors of AWS KMS, in its words; the proxy answers them, because moto knows neither key states nor identities.
#[test]
fn each_documented_error_is_one_of_ours() {
    let Some(provider) = Provider::aws("each_documented_error_is_one_of_ours") else { return };
    let errors = [
        (400, "DisabledException", "arn:aws:kms:key is disabled.", "key_unusable"),
        (400, "KMSInvalidStateException", "arn:aws:kms:key is pending deletion.", "key_unusable"),
        (400, "NotFoundException", "Key 'arn:aws:kms:key' does not exist", "key_unusable"),
        (400, "AccessDeniedException", "User is not authorized to perform: kms:Decrypt", "denied"),
        (400, "ExpiredTokenException", "The security token included in the request is expired", "denied"),
        (400, "UnrecognizedClientException", "The security token included in the request is invalid.", "denied"),
        (400, "InvalidSignatureException", "Signature expired: 20200101T000000Z is now earlier than", "denied"),
        (400, "IncompleteSignatureException", "Credential must have exactly 5 slash-delimited elements", "denied"),
        (400, "ThrottlingException", "You have exceeded the rate at which you may call KMS.", "throttled"),
        (400, "LimitExceededException", "quota", "throttled"),
        (400, "InvalidCiphertextException", "the ciphertext has been altered", "invalid"),
        (400, "IncorrectKeyException", "The key ID in the request does not identify a CMK", "invalid"),
        (500, "KMSInternalException", "please retry", "unavailable"),
        (500, "DependencyTimeoutException", "timed out", "unavailable"),
        (500, "KeyUnavailableException", "the key is not available", "unavailable"),
        (500, "InternalFailure", "please retry", "unavailable"),
    ];
    for (status, code, words, ours) in errors {
        let client = Client::new(&provider.base());
        let kept = client.wrapped();
        provider.proxy().always(aws_error(status, code, words));
        client.check_refuses(&kept, ours, &[code, words]);
        if !["invalid"].contains(&ours) {
            client.check_wraps_nothing(ours, &[code]);
        }
        provider.proxy().clear();
    }
}

/// The proxy knows one access key, because moto believes every one.
#[test]
fn a_credentials_file_that_is_replaced_is_used_without_a_restart() {
    let test = "a_credentials_file_that_is_replaced_is_used_without_a_restart";
    let Some(provider) = Provider::aws(test) else { return };
    let client = Client::new(&provider.base());
    let kept = client.wrapped();
    let refusal =
        aws_error(400, "UnrecognizedClientException", "The security token included in the request is invalid.");
    let unknown = |call: &testing::servers::listen::Call| {
        !call.header("authorization").is_some_and(|value| value.contains("Credential=AKIASECOND/"))
    };
    provider.proxy().when(unknown, refusal);
    client.check_refuses(&kept, "denied", &["UnrecognizedClientException", "security token"]);
    secret_file(provider.directory.path(), "credentials", credentials("AKIASECOND"));
    wait_until("the new credentials are used", || client.open_key(&kept.1, epoch(1)).is_ok());
    client.check_opens(&kept);
}

#[test]
fn a_credentials_file_that_is_not_there_is_named() {
    let Some(provider) = Provider::aws("a_credentials_file_that_is_not_there_is_named") else { return };
    let missing = provider.directory.path().join("missing").to_str().unwrap().to_owned();
    let settings = provider.base().set("aws.credentials_file", &missing);
    let error = match Client::open(&settings) {
        Ok(client) => client.wrap(&random_key(), epoch(1)).unwrap_err(),
        Err(error) => error,
    };
    assert!(["settings", "denied"].contains(&error.code()), "{}: {error}", error.code());
    assert!(error.to_string().contains(&missing), "{error}");
    assert_eq!(provider.proxy().count(), 0);
}

#[test]
fn a_server_that_hangs_and_goes_on_is_an_outage_in_between() {
    let test = "a_server_that_hangs_and_goes_on_is_an_outage_in_between";
    let Some(mut provider) = Provider::aws(test) else { return };
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
fn a_server_that_was_killed_is_unavailable() {
    let Some(mut provider) = Provider::aws("a_server_that_was_killed_is_unavailable") else { return };
    let addr = provider.moto().addr;
    let client = Client::new(&provider.base().set("endpoint", format!("http://{addr}")));
    let kept = client.wrapped();
    provider.kill();
    client.check_refuses(&kept, "unavailable", &[]);
    client.check_wraps_nothing("unavailable", &[]);
}
