//! What is the same for all four providers.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use progressdb_server::crypt::KeyBytes;
use progressdb_server::crypt::kms::{Context, Wrapped};
use testing::servers::{Provider, providers};
use testing::wait_until;

use crate::client::{Client, DATABASE, check_error, epoch, random_key};

/// Runs `check` for every provider, and says for which it failed.
fn for_every(test: &str, check: impl Fn(&Provider, &Client)) {
    for provider in providers(test) {
        println!("provider {}", provider.name);
        check(&provider, &Client::new(&provider.base()));
    }
}

#[test]
fn a_wrapped_key_opens_in_its_context_and_in_no_other() {
    for_every("a_wrapped_key_opens_in_its_context_and_in_no_other", |provider, client| {
        let key = random_key();
        let wrapped = client.wrap(&key, epoch(7)).unwrap();
        assert_eq!(client.open_key(&wrapped, epoch(7)).as_ref(), Ok(&key));
        check_error(client.open_key(&wrapped, epoch(8)), "invalid", &[]);
        let elsewhere = Context { database_id: *b"another-database", epoch: 7 };
        check_error(client.open_key(&wrapped, elsewhere), "invalid", &[]);
        assert_eq!(client.open_key(&wrapped, epoch(7)), Ok(key), "after refusals");
        assert_eq!(wrapped.provider, client.kms.kind());
        assert_eq!(wrapped.provider.as_str(), provider.name);
        assert_eq!(Ok(wrapped.key_id), client.describe(), "it is wrapped under what describe says");
    });
}

#[test]
fn a_wrapped_key_shows_nothing_of_the_key() {
    for_every("a_wrapped_key_shows_nothing_of_the_key", |_, client| {
        let key = random_key();
        let blobs: BTreeSet<Vec<u8>> = (0..3).map(|_| client.wrap(&key, epoch(1)).unwrap().blob).collect();
        assert_eq!(blobs.len(), 3, "the same key is wrapped differently each time");
        for blob in blobs {
            assert!(!blob.windows(4).any(|window| key.windows(4).any(|part| part == window)), "{blob:02x?}");
        }
    });
}

/// What a KMS may say to a blob that is not its own: it finds the key's name or version in it, or nothing.
const DAMAGED: [&str; 4] = ["invalid", "key_unusable", "denied", "wrong_key"];

#[test]
fn a_blob_that_was_cut_or_altered_never_opens() {
    for_every("a_blob_that_was_cut_or_altered_never_opens", |provider, client| {
        let (key, wrapped) = client.wrapped();
        let whole = &wrapped.blob;
        let mut damaged: Vec<Vec<u8>> = [0, 1, 8, whole.len() / 2, whole.len() - 1]
            .iter()
            .map(|&length| whole[..length].to_vec())
            .chain([[whole.as_slice(), b"A"].concat()])
            .collect();
        // The last two digits of base64 have bits that mean nothing.
        let count = whole.len() - 3;
        for position in (0..count).step_by(count.div_ceil(24)) {
            let mut flipped = whole.clone();
            flipped[position] ^= 1;
            damaged.push(flipped);
        }
        for blob in damaged {
            let given = Wrapped { blob, ..wrapped.clone() };
            let Err(error) = client.open_key(&given, epoch(1)) else {
                panic!("{}: {:02x?} opens as {whole:02x?}", provider.name, given.blob);
            };
            assert!(DAMAGED.contains(&error.code()), "{}: {error}", provider.name);
        }
        // Nor does damage count as an outage.
        client.check_opens(&(key, wrapped));
    });
}

#[test]
fn a_blob_of_another_provider_is_refused() {
    let local = Client::new(&Provider::local().base()).wrapped();
    let http = Client::new(&Provider::http().base()).wrapped();
    for_every("a_blob_of_another_provider_is_refused", |provider, client| {
        let (_, foreign) = if provider.name == "local" { &http } else { &local };
        let error = client.open_key(foreign, epoch(1)).unwrap_err();
        assert!(!error.is_transient(), "{error}");
    });
}

#[test]
fn an_outage_is_noticed_by_a_probe_and_so_is_its_end() {
    for_every("an_outage_is_noticed_by_a_probe_and_so_is_its_end", |provider, client| {
        let kept = client.wrapped();
        let canary = Some((&kept.1, epoch(1)));
        assert_eq!(client.probe(canary), Ok(()));
        assert_eq!(client.probe(None), Ok(()));
        assert_eq!(client.health().failure, None);

        provider.go_away();
        let error = client.probe(canary).unwrap_err();
        let code = if provider.name == "local" { "settings" } else { "unavailable" };
        assert_eq!(error.code(), code, "{error}");
        let health = client.health();
        assert!(health.failure.as_ref().is_some_and(|words| !words.is_empty()), "{health:?}");
        assert!(health.may_open && health.may_seal, "an outage that has just begun changes nothing: {health:?}");

        provider.come_back();
        assert_eq!(client.probe(canary), Ok(()));
        let health = client.health();
        assert_eq!((health.failure, health.may_open, health.may_seal), (None, true, true));
        client.check_opens(&kept);
    });
}

#[test]
fn a_lasting_outage_stops_sealing_before_opening() {
    for provider in providers("a_lasting_outage_stops_sealing_before_opening") {
        let client = Client::new(&provider.base().set("seal_grace", "1s").set("grace", "1h"));
        let short = Client::new(&provider.base().set("seal_grace", "1s").set("grace", "1s"));
        assert_eq!((client.probe(None), short.probe(None)), (Ok(()), Ok(())));
        provider.go_away();
        assert!(client.probe(None).is_err() && short.probe(None).is_err());
        wait_until("sealing stops", || !client.health().may_seal);
        assert!(client.health().may_open, "{}: {:?}", provider.name, client.health());
        wait_until("opening stops", || !short.health().may_open);
        provider.come_back();
        assert_eq!(client.probe(None), Ok(()));
        let health = client.health();
        assert!(health.may_seal && health.may_open, "{}: {health:?}", provider.name);
    }
}

#[test]
fn a_probe_fails_when_the_canary_does_not_open() {
    for_every("a_probe_fails_when_the_canary_does_not_open", |_, client| {
        let (_, canary) = client.wrapped();
        check_error(client.probe(Some((&canary, epoch(2)))), "invalid", &[]);
    });
}

#[test]
fn nothing_secret_is_shown_for_debugging() {
    for_every("nothing_secret_is_shown_for_debugging", |provider, client| {
        let shown = format!("{:?}", client.kms);
        for secret in &provider.secrets {
            assert!(!shown.contains(secret), "{}: {shown}", provider.name);
        }
    });
}

/// What was logged, whoever asks.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A key as a careless line of a log would show it: as bytes, in digits, in base64 alone or behind a context.
fn forms(key: &KeyBytes) -> Vec<String> {
    let bound = [DATABASE.as_slice(), &1u32.to_be_bytes(), key.as_slice()].concat();
    let bytes = format!("{:?}", key.as_slice());
    vec![bytes.trim_matches(['[', ']']).to_owned(), hex::encode(key), STANDARD.encode(key), STANDARD.encode(bound)]
}

#[test]
fn nothing_secret_is_logged_at_any_level() {
    for provider in providers("nothing_secret_is_logged_at_any_level") {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        let key = tracing::subscriber::with_default(subscriber, || {
            let client = Client::new(&provider.base());
            let kept = client.wrapped();
            client.check_opens(&kept);
            client.describe().unwrap();
            provider.go_away();
            assert!(client.probe(Some((&kept.1, epoch(1)))).is_err());
            kept.0
        });
        let said = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
        assert!(said.contains("kms.unwrapped"), "{}: the log was not heard: {said}", provider.name);
        for secret in provider.secrets.iter().cloned().chain(forms(&key)) {
            let line = said.lines().find(|line| line.contains(&secret));
            assert_eq!(line, None, "{}: {secret} is logged", provider.name);
        }
    }
}
