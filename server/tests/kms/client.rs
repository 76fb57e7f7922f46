//! The library's handle for tests that wait for each call, and what they check.

use progressdb_server::config::{self, Sources};
use progressdb_server::crypt::KeyBytes;
use progressdb_server::crypt::kms::{Context, Error, Health, Kms, Wrapped};
use testing::servers::Settings;
use testing::temporary_directory;
use tokio::runtime::Runtime;

/// The database of most tests.
pub(crate) const DATABASE: [u8; 16] = *b"database-of-test";

/// An epoch of [`DATABASE`].
pub(crate) fn epoch(epoch: u32) -> Context {
    Context { database_id: DATABASE, epoch }
}

/// A key like no other.
pub(crate) fn random_key() -> KeyBytes {
    let mut key = KeyBytes::default();
    aws_lc_rs::rand::fill(key.as_mut_slice()).unwrap();
    key
}

/// A KMS as the server would have it under some settings.
pub(crate) struct Client {
    runtime: Runtime,
    pub(crate) kms: Kms,
}

impl Client {
    #[track_caller]
    pub(crate) fn new(settings: &Settings) -> Self {
        Self::open(settings).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Settings go the way of the server's: from variables through the configuration.
    #[track_caller]
    pub(crate) fn open(settings: &Settings) -> Result<Self, Error> {
        let directory = temporary_directory();
        std::fs::write(directory.path().join(".env"), settings.lines()).unwrap();
        let loaded = config::load(&Sources { directory: directory.path().to_owned(), ..Sources::default() });
        let config = loaded.config.unwrap_or_else(|error| panic!("{error}"));
        let settings = config.encryption.kms.expect("the settings of a provider are complete");
        // On the test's own thread, so that it can listen to what is logged.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let kms = {
            let _entered = runtime.enter();
            Kms::new(settings)?
        };
        Ok(Self { runtime, kms })
    }

    pub(crate) fn wrap(&self, key: &KeyBytes, context: Context) -> Result<Wrapped, Error> {
        self.runtime.block_on(self.kms.wrap(key, context))
    }

    pub(crate) fn open_key(&self, wrapped: &Wrapped, context: Context) -> Result<KeyBytes, Error> {
        self.runtime.block_on(self.kms.unwrap(wrapped, context))
    }

    pub(crate) fn describe(&self) -> Result<String, Error> {
        self.runtime.block_on(self.kms.describe())
    }

    pub(crate) fn probe(&self, canary: Option<(&Wrapped, Context)>) -> Result<(), Error> {
        self.runtime.block_on(self.kms.probe(canary))
    }

    pub(crate) fn health(&self) -> Health {
        self.kms.health()
    }

    /// Wraps a new key in the first epoch.
    #[track_caller]
    pub(crate) fn wrapped(&self) -> (KeyBytes, Wrapped) {
        let key = random_key();
        let wrapped = self.wrap(&key, epoch(1)).unwrap_or_else(|error| panic!("{error}"));
        (key, wrapped)
    }

    /// The blob of the first epoch still opens, to the same key.
    #[track_caller]
    pub(crate) fn check_opens(&self, (key, wrapped): &(KeyBytes, Wrapped)) {
        assert_eq!(self.open_key(wrapped, epoch(1)).as_ref(), Ok(key));
    }

    /// The blob of the first epoch does not open, and why.
    #[track_caller]
    pub(crate) fn check_refuses(&self, (_, wrapped): &(KeyBytes, Wrapped), code: &str, words: &[&str]) {
        check_error(self.open_key(wrapped, epoch(1)), code, words);
    }

    /// A new key is not wrapped, and why.
    #[track_caller]
    pub(crate) fn check_wraps_nothing(&self, code: &str, words: &[&str]) {
        check_error(self.wrap(&random_key(), epoch(1)), code, words);
    }
}

/// The error, by its code and by words that it must hold.
#[track_caller]
pub(crate) fn check_error<T>(result: Result<T, Error>, code: &str, words: &[&str]) {
    let Err(error) = result else { panic!("it succeeded, but want {code} {words:?}") };
    let said = error.to_string();
    assert_eq!(error.code(), code, "{said}");
    for word in words {
        assert!(said.contains(word), "nothing about {word:?} in: {said}");
    }
    let transient = ["unavailable", "throttled"].contains(&code);
    assert_eq!(error.is_transient(), transient, "{said}");
}
