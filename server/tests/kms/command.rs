//! `progressdb kms check`: what an operator sees, with the exit code that a job is judged by.

use serde_json::{Value, json};
use testing::servers::listen::Reply;
use testing::servers::moto::{REGION, SECRET_ACCESS_KEY};
use testing::servers::proxy::{aws_error, vault_error};
use testing::servers::{Provider, Settings, providers, secret_file};
use testing::temporary_directory;
use testing::{Finished, finish, program};

/// Runs it under these settings and some more variables; nothing may be left behind, no secret shown.
#[track_caller]
fn check(words: &[&str], settings: &Settings, environment: &[(&str, &str)], secrets: &[String]) -> Finished {
    let directory = temporary_directory();
    let mut command = program(&[&["kms", "check"], words].concat(), directory.path());
    command.envs(settings.pairs()).envs(environment.iter().copied());
    let finished = finish(command);
    let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().collect();
    assert!(left.is_empty(), "it left {left:?}");
    for secret in secrets {
        assert!(!finished.said().contains(secret), "{secret} is shown:\n{}", finished.said());
    }
    finished
}

/// The one JSON line.
#[track_caller]
fn report(finished: &Finished) -> Value {
    assert_eq!(finished.stdout.trim_end().lines().count(), 1, "{}", finished.said());
    serde_json::from_str(&finished.stdout).unwrap()
}

#[track_caller]
fn check_refused(finished: &Finished, exit: i32, provider: &str, code: &str, words: &str) {
    finished.check_code(exit);
    let said = report(finished);
    assert_eq!((&said["ok"], &said["provider"]), (&json!(false), &json!(provider)), "{said}");
    assert_eq!(said["error"]["code"], json!(code), "{said}");
    assert!(said["error"]["message"].as_str().unwrap().contains(words), "nothing about {words:?} in {said}");
}

#[test]
fn a_kms_that_works_is_reported_with_its_key() {
    for provider in providers("a_kms_that_works_is_reported_with_its_key") {
        let finished = check(&["--json"], &provider.base(), &[], &provider.secrets);
        finished.check_code(0);
        let mut said = report(&finished);
        assert!(said["milliseconds"].as_f64().is_some_and(|taken| taken >= 0.0), "{said}");
        said.as_object_mut().unwrap().remove("milliseconds");
        let key_id = said["key_id"].as_str().unwrap().to_owned();
        assert_eq!(said, json!({ "ok": true, "provider": provider.name, "key_id": key_id }));
        let plain = check(&[], &provider.base(), &[], &provider.secrets);
        plain.check_code(0).check_says(&[provider.name, &key_id]);
    }
}

#[test]
fn a_kms_that_is_away_is_reported() {
    for provider in providers("a_kms_that_is_away_is_reported") {
        provider.go_away();
        let (exit, code) = if provider.name == "local" { (78, "settings") } else { (1, "unavailable") };
        let finished = check(&["--json"], &provider.base(), &[], &provider.secrets);
        check_refused(&finished, exit, provider.name, code, "");
        let named = format!("error: the KMS provider {}: ", provider.name);
        check(&[], &provider.base(), &[], &provider.secrets).check_code(exit).check_says(&[&named]);
    }
}

/// Refusals of a KMS in its own words; the proxy answers them.
#[test]
fn a_refusal_is_reported_in_the_words_of_the_kms() {
    for provider in providers("a_refusal_is_reported_in_the_words_of_the_kms") {
        let (reply, code, words) = match provider.name {
            "aws" => {
                (aws_error(400, "DisabledException", "the key is disabled."), "key_unusable", "the key is disabled.")
            }
            "vault" => (vault_error(403, "permission denied"), "denied", "permission denied"),
            "http" => (Reply::text(401, "who are you"), "denied", "who are you"),
            _ => continue,
        };
        provider.proxy().always(reply);
        let finished = check(&["--json"], &provider.base(), &[], &provider.secrets);
        check_refused(&finished, 1, provider.name, code, words);
        check(&[], &provider.base(), &[], &provider.secrets).check_code(1).check_says(&[provider.name, words]);
    }
}

#[test]
fn wrong_settings_are_refused_with_78() {
    let directory = temporary_directory();
    let short = secret_file(directory.path(), "short", [1; 31]);
    let refused = [
        (Settings::default(), "encryption.kms.master_key_file"),
        (Settings::of("gcp"), "encryption.kms.provider"),
        (Settings::of("local"), "encryption.kms.master_key_file"),
        (Settings::of("local").set("master_key_file", &short), short.as_str()),
        (Settings::of("local").set("master_key_hex", "00ff"), "encryption.kms.master_key_hex"),
        (Settings::of("aws"), "encryption.kms.key_id"),
        (Settings::of("vault").set("token", "t"), "encryption.kms.endpoint"),
        (Settings::of("vault").set("endpoint", "http://127.0.0.1:1"), "encryption.kms.token"),
    ];
    for (settings, words) in refused {
        let finished = check(&["--json"], &settings, &[("PROGRESSDB_ENCRYPTION_ENABLED", "true")], &[]);
        finished.check_code(78).check_says(&[words]);
        assert!(!finished.said().contains("00ff"), "{}", finished.said());
    }
}

#[test]
fn aws_credentials_come_from_the_environment_when_no_file_is_named() {
    let Some(provider) = Provider::aws("aws_credentials_come_from_the_environment_when_no_file_is_named") else {
        return;
    };
    let settings = provider.base().without("aws.credentials_file").without("aws.region");
    let environment = [
        ("AWS_ACCESS_KEY_ID", "AKIAENVIRONMENT"),
        ("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY),
        ("AWS_REGION", REGION),
    ];
    check(&["--json"], &settings, &environment, &provider.secrets).check_code(0);
    let calls = provider.proxy().calls();
    let sent = calls.last().unwrap().header("authorization").unwrap();
    assert!(sent.contains("Credential=AKIAENVIRONMENT/") && sent.contains(REGION), "{sent}");
}

#[test]
fn a_pods_service_account_becomes_an_aws_role() {
    let Some(mut provider) = Provider::aws("a_pods_service_account_becomes_an_aws_role") else { return };
    let token = "service-account-token-for-sts";
    let path = secret_file(provider.directory.path(), "web-identity", token);
    let settings = provider.base().without("aws.credentials_file");
    let sts = format!("http://{}", provider.moto().addr);
    let environment = [
        ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/progressdb"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", path.as_str()),
        ("AWS_ENDPOINT_URL_STS", sts.as_str()),
    ];
    check(&["--json"], &settings, &environment, &[token.to_owned()]).check_code(0);
    let calls = provider.proxy().calls();
    assert!(calls.last().unwrap().header("x-amz-security-token").is_some(), "as the role: {:?}", calls.last());
}
