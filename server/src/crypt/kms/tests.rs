use std::time::Duration;

use secrecy::SecretString;

use super::*;
use crate::outgoing::Proxies;

const CONTEXT: Context = Context { database_id: [7; 16], epoch: 3 };

fn local(byte: u8) -> Kms {
    let keys = vec![settings::MasterKey::Hex(SecretString::from(hex::encode([byte; 32])))];
    let provider = settings::Provider::Local(settings::Local { keys });
    let (timeout, grace) = (Duration::from_secs(30), Duration::from_hours(1));
    Kms::new(Settings { provider, timeout, grace, seal_grace: grace, proxies: Proxies::default() })
        .expect("good settings")
}

fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

#[test]
fn a_wrapped_key_carries_what_describe_says_and_comes_back() {
    let (kms, key) = (local(1), KeyBytes::new([42; 32]));
    let wrapped = run(kms.wrap(&key, CONTEXT)).unwrap();
    assert_eq!((wrapped.provider, &wrapped.key_id), (ProviderKind::Local, &run(kms.describe()).unwrap()));
    assert_eq!(run(kms.unwrap(&wrapped, CONTEXT)), Ok(key));
    assert_eq!(run(kms.check()), Ok(wrapped.key_id));
}

#[test]
fn what_another_provider_wrapped_is_refused_by_name() {
    let kms = local(1);
    let wrapped = Wrapped { provider: ProviderKind::Vault, key_id: "progressdb:v3".to_owned(), blob: vec![1] };
    let (wanted, have) = ("vault (progressdb:v3)".to_owned(), "the provider local".to_owned());
    assert_eq!(run(kms.unwrap(&wrapped, CONTEXT)), Err(Error::WrongKey { wanted, have }));
}

#[test]
fn a_probe_decides_health_and_one_bad_key_does_not() {
    let (kms, other) = (local(1), local(2));
    let foreign = run(other.wrap(&KeyBytes::new([42; 32]), CONTEXT)).unwrap();
    assert_eq!(run(kms.probe(None)), Ok(()));
    assert!(run(kms.unwrap(&foreign, CONTEXT)).is_err());
    assert_eq!(kms.health().failure, None);
    let error = run(kms.probe(Some((&foreign, CONTEXT)))).expect_err("wrapped by another key");
    assert_eq!((error.code(), kms.health().failure), ("wrong_key", Some(error.to_string())));
    assert_eq!(run(kms.probe(None)), Ok(()));
    assert_eq!(kms.health().failure, None);
}

#[test]
fn every_error_has_its_code_and_only_two_pass_by_themselves() {
    let message = || "w".to_owned();
    let errors = [
        Error::unavailable("w"),
        Error::throttled("w", None),
        Error::denied("w"),
        Error::key_unusable("w"),
        Error::invalid("w"),
        Error::WrongKey { wanted: message(), have: message() },
        Error::Settings(message()),
    ];
    let codes = ["unavailable", "throttled", "denied", "key_unusable", "invalid", "wrong_key", "settings"];
    assert_eq!(errors.each_ref().map(Error::code), codes);
    assert_eq!(errors.each_ref().map(Error::is_transient), [true, true, false, false, false, false, false]);
}
