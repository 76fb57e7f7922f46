//! Where the store of a server is: in a directory of its own, or in an engine that it shares with other servers.

use std::sync::Arc;
use std::time::Duration;

use super::StartupError;
use super::open::{birth, open_directory, open_engine, open_error_at, open_error_of_directory, store_settings};
use crate::config::Config;
use crate::data_dir::{self, Birth, Directory};
use crate::db::{self, OpenError};
use crate::format::{Formats, Identity};
use crate::model::Incarnation;
use crate::store::{self, Engine, SharedSettings};

/// How long a command waits for a shared engine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where the store is, and whose it is.
#[derive(Clone)]
pub(super) enum Home {
    /// In this directory, which is locked.
    Own(Arc<Directory>),
    /// In a keyspace.
    Shared { keyspace: String, identity: Identity },
}

impl Home {
    pub(super) fn identity(&self) -> Identity {
        match self {
            Self::Own(directory) => directory.identity(),
            Self::Shared { identity, .. } => *identity,
        }
    }

    /// The directory, where there is one.
    pub(super) fn directory(&self) -> Option<&Arc<Directory>> {
        match self {
            Self::Own(directory) => Some(directory),
            Self::Shared { .. } => None,
        }
    }

    /// The database in it is whole. Nothing releases the lock of a directory before the process ends, so no other process
    /// can open it while this one may still write.
    pub(super) fn mark_ready(&mut self) -> Result<(), StartupError> {
        let Self::Own(directory) = self else { return Ok(()) };
        let only = Arc::get_mut(directory).expect("nobody else has the directory before it is ready");
        if only.is_new() {
            only.mark_ready()?;
        }
        std::mem::forget(Arc::clone(directory));
        Ok(())
    }

    /// The way back from a change of format, if there is one.
    pub(super) fn newest_checkpoint(&self) -> Option<String> {
        self.directory().and_then(|directory| directory.checkpoints().ok()?.pop())
    }

    /// What messages call it.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Own(directory) => directory.path().display().to_string(),
            Self::Shared { keyspace, .. } => format!("keyspace {keyspace}"),
        }
    }

    /// How to choose another.
    pub(super) fn elsewhere(&self) -> &'static str {
        match self {
            Self::Own(_) => "an empty or new directory with --db",
            Self::Shared { .. } => "a new keyspace with storage.cassandra.keyspace",
        }
    }

    /// Why the database in it does not open.
    pub(super) fn open_error(&self, error: OpenError) -> StartupError {
        match (self, error) {
            (Self::Own(directory), error) => open_error_of_directory(directory, error),
            (Self::Shared { .. }, OpenError::Importing) => {
                let undo = "drop the keyspace and make it anew with `progressdb schema apply`";
                StartupError::ImportUnfinished { place: self.name(), undo }
            }
            (Self::Shared { .. }, error) => open_error_at(self.name().as_ref(), error),
        }
    }
}

/// Whose store a shared engine holds: that of the database in it or, before there is one, of the tables.
pub(super) async fn shared_home(engine: &Engine, settings: &SharedSettings) -> Result<Home, StartupError> {
    let keyspace = settings.keyspace.clone();
    let unreadable = |error: db::Error| StartupError::io("the store could not be read", error);
    let identity = match db::stored_identity(&engine.store()).await.map_err(unreadable)? {
        Some(identity) => identity,
        None => {
            let database_id = engine.birth_id().unwrap_or(birth().identity.database_id);
            // The same for all servers that start on it at once.
            let incarnation = u64::from_be_bytes(database_id[..8].try_into().expect("eight of sixteen bytes"));
            Identity { database_id, incarnation: Incarnation(incarnation) }
        }
    };
    Ok(Home::Shared { keyspace, identity })
}

/// The settings of a shared engine for a program of these formats.
pub(super) fn of_program(settings: &SharedSettings, formats: &Formats) -> SharedSettings {
    SharedSettings { version: formats.version.to_owned(), formats: formats.works_in(), ..settings.clone() }
}

/// Why a shared engine does not open.
pub(super) fn shared_error(settings: &SharedSettings, error: store::OpenError) -> StartupError {
    match error {
        store::OpenError::Schema(what) => StartupError::Schema { what },
        store::OpenError::Tls(why) => StartupError::Config(format!("storage.cassandra.tls: {why}")),
        store::OpenError::Claimed => StartupError::Claimed,
        store::OpenError::FormatRaised(found) => {
            StartupError::TooNew { found, newest: settings.formats[1], checkpoint: None }
        }
        other => {
            let at = settings.contact_points.join(", ");
            StartupError::io(format!("the storage engine at {at} cannot be used"), other)
        }
    }
}

/// Refuses a command that works on a data directory where the configuration names a shared store.
pub(crate) fn needs_directory(config: &Config) -> Result<(), StartupError> {
    let why = "storage.cassandra.contact_points is set, and this command works on a data directory: unset it, or use `progressdb export` and `import`";
    if config.cassandra.is_some() { Err(StartupError::Config(why.to_owned())) } else { Ok(()) }
}

/// A store that a command works on, with the runtime of its connections.
pub(super) struct AtHand {
    pub(super) home: Home,
    pub(super) engine: Engine,
    pub(super) runtime: tokio::runtime::Runtime,
}

impl AtHand {
    /// Opened read-only.
    pub(super) fn to_read(config: &Config, formats: &Formats) -> Result<Self, StartupError> {
        let runtime = runtime()?;
        if let Some(settings) = &config.cassandra {
            let opened = Self::connect(runtime, SharedSettings { read_only: true, ..of_program(settings, formats) })?;
            let nothing = opened.runtime.block_on(db::has_no_database(&opened.engine.store()));
            return match nothing.map_err(|error| StartupError::io("the store could not be read", error))? {
                true => Err(StartupError::NoDatabase { place: opened.home.name() }),
                false => Ok(opened),
            };
        }
        let directory = Directory::open_existing(&config.db_path)?;
        let engine = open_engine(&directory, formats, store_settings(&directory, config, true)?)?;
        Ok(Self { home: Home::Own(Arc::new(directory)), engine, runtime })
    }

    /// Opened to be changed, by nobody else meanwhile.
    pub(super) fn to_change(config: &Config, formats: &Formats) -> Result<Self, StartupError> {
        let runtime = runtime()?;
        if let Some(settings) = &config.cassandra {
            let opened = Self::connect(runtime, of_program(settings, formats))?;
            let others = opened.runtime.block_on(opened.engine.claim());
            return match others.map_err(|error| StartupError::io("the store could not be claimed", error)) {
                Ok(0) => Ok(opened),
                refused => {
                    // Its slot would keep the next one away until it expires.
                    opened.close()?;
                    Err(refused.map_or_else(|error| error, |servers| StartupError::InUse { servers }))
                }
            };
        }
        let directory = open_directory(config, true)?;
        let engine = open_engine(&directory, formats, store_settings(&directory, config, false)?)?;
        Ok(Self { home: Home::Own(Arc::new(directory)), engine, runtime })
    }

    /// Opened to be filled with the database of this id, by nobody else meanwhile; a directory is made if there is none. What
    /// holds another database is opened as it is. A directory that was made is removed when this is dropped before it is
    /// marked as ready.
    pub(super) fn to_fill(config: &Config, formats: &Formats, database_id: [u8; 16]) -> Result<Self, StartupError> {
        let Birth { identity, created_ns } = birth();
        let identity = Identity { database_id, ..identity };
        if config.cassandra.is_some() {
            let mut opened = Self::to_change(config, formats)?;
            if let Home::Shared { identity: of, .. } = &mut opened.home {
                *of = identity;
            }
            return Ok(opened);
        }
        data_dir::check_owner(&config.db_path)?;
        let birth = Birth { identity, created_ns };
        let directory = Directory::open(&config.db_path, birth, config.storage.allow_volatile_fs)?;
        let engine = open_engine(&directory, formats, store_settings(&directory, config, false)?)?;
        Ok(Self { home: Home::Own(Arc::new(directory)), engine, runtime: runtime()? })
    }

    /// Opened to be changed while servers of the shared store run.
    pub(super) fn beside_servers(settings: &SharedSettings, formats: &Formats) -> Result<Self, StartupError> {
        Self::connect(runtime()?, of_program(settings, formats))
    }

    fn connect(runtime: tokio::runtime::Runtime, settings: SharedSettings) -> Result<Self, StartupError> {
        let opened = runtime.block_on(async {
            let connected = tokio::time::timeout(PATIENCE, Box::pin(Engine::connect(&settings))).await;
            let connected = connected.map_err(|_| {
                let error = store::Error::Unavailable(format!("no answer within {} s", PATIENCE.as_secs()));
                shared_error(&settings, store::OpenError::Failed(error))
            })?;
            let engine = connected.map_err(|error| shared_error(&settings, error))?;
            Ok::<_, StartupError>((shared_home(&engine, &settings).await?, engine))
        });
        let (home, engine) = opened?;
        Ok(Self { home, engine, runtime })
    }

    /// Leaves nothing for the next start to repeat.
    pub(super) fn close(&self) -> Result<(), StartupError> {
        let _runtime = self.runtime.enter();
        self.engine.close().map_err(|error| StartupError::command("the store could not be flushed", error))
    }
}

/// Refuses a store that servers use, this process apart.
pub(super) async fn refuse_servers(engine: &Engine) -> Result<(), StartupError> {
    let servers = engine.servers().await.map_err(|error| StartupError::io("the store could not be read", error))?;
    let others = servers.unwrap_or(0).saturating_sub(usize::from(engine.store().slot().is_some()));
    if others > 0 { Err(StartupError::InUse { servers: others }) } else { Ok(()) }
}

pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, StartupError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.map_err(|error| StartupError::io("cannot start the runtime", error))
}
