//! The command line. Flags that set something are the same on every subcommand, so that all find the same store.

use std::path::PathBuf;
use std::time::Duration;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use reqwest::Url;

use crate::backup::Form;
use crate::config::{Flags, parse_duration, parse_size};

/// A database for chat threads: every acknowledged message is on disk.
#[derive(Debug, Parser)]
#[command(name = "progressdb", version, propagate_version = true)]
pub struct Args {
    /// YAML file with settings; must exist if given [default: ./config.yaml if there is one]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Data directory [default: ./database]
    #[arg(long, global = true, value_name = "DIR")]
    pub db: Option<PathBuf>,
    /// Where the API listens; `:8080` is all interfaces, IPv6 in brackets
    #[arg(long, global = true, value_name = "HOST:PORT")]
    pub addr: Option<String>,
    /// Accept tmpfs, NFS and other file systems that may lose acknowledged writes
    #[arg(long, global = true)]
    pub allow_volatile_fs: bool,
    /// Trust the machine's clock at this start, however far ahead it is
    #[arg(long, global = true)]
    pub accept_clock: bool,
    /// The command; `serve` if there is none.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// A command.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Run the server; this is the default
    Serve {
        /// Try this version on a copy of the data: no retention, sealing, compaction or new keys
        #[arg(long)]
        rehearsal: bool,
    },
    /// Print the effective configuration with the source of each value, secrets masked
    Config {
        /// What to do with it instead of printing it.
        #[command(subcommand)]
        command: Option<ConfigCommand>,
    },
    /// Print the OpenAPI document
    Openapi,
    /// Print the version, and which store formats it reads and writes
    Version(ReportArgs),
    /// Check the KMS, open every wrapped key, or move the keys to another KMS
    Kms {
        /// What to do with it.
        #[command(subcommand)]
        command: KmsCommand,
    },
    /// Write everything in a stopped store plain and destroy its keys, so that encryption can be turned off
    Decrypt,
    /// Copy the store into one file, read it again, and give it its name only then
    Backup(BackupArgs),
    /// Check a stopped database or a backup: every row, every counter, every index; changes nothing
    Verify(VerifyArgs),
    /// Put a backup in the place of a stopped database, or where there is none
    Restore {
        /// The backup: a path, or the URL of an object store, for the newest in it, or of one backup there
        #[arg(long = "in", value_name = "PATH|URL")]
        from: PathBuf,
        /// Where a backup of an object store is fetched to meanwhile [default: beside the data directory]
        #[arg(long, value_name = "DIR")]
        scratch: Option<PathBuf>,
        /// Replace the database that is there
        #[arg(long)]
        force: bool,
        /// Keep what is replaced beside it, as a store of its own
        #[arg(long, requires = "force")]
        keep_old: bool,
        /// Give up the database with this id for a backup of another database
        #[arg(long, value_name = "ID", value_parser = parse_database_id, requires = "force")]
        replace_database: Option<[u8; 16]>,
        /// Check everything that can be without writing, and stop
        #[arg(long)]
        dry_run: bool,
    },
    /// Write a stopped database as lines of JSON, one a row as it is stored, to move it to another storage engine
    Export(ExportArgs),
    /// Put an export into an empty store; an interrupted run is continued by the next
    Import {
        /// The export, or `-` for standard input
        #[arg(long, value_name = "FILE|-")]
        from: PathBuf,
        /// Print what was put as JSON on one line
        #[arg(long)]
        json: bool,
    },
    /// Remove a stopped database, and leave its API keys and whatever the configuration names; shows what without --confirm
    Reset {
        /// Remove it
        #[arg(long)]
        confirm: bool,
    },
    /// Try a running server as its users do, as a user of its own, and leave nothing: exit code 0, 1 or 78
    Smoke(SmokeArgs),
    /// Bring a stopped store to what this version expects
    ///
    /// Runs the migrations that a start would run, after which an older version still reads the store.
    Migrate {
        /// Also change the format of the store, after a checkpoint: older versions refuse it afterwards
        #[arg(long)]
        finalize: bool,
        /// Only say what would be done, how many rows it concerns, and how long a sample took
        #[arg(long)]
        dry_run: bool,
        /// How it is told.
        #[command(flatten)]
        report: ReportArgs,
    },
    /// Go back to the checkpoint that was made before the format of a stopped store was changed
    ///
    /// What was written since stays in the store of before, which is kept. A store that has that format already is left
    /// as it is, unless the checkpoint is named.
    Rollback {
        /// The checkpoint, as `inspect` lists it [default: the newest]
        #[arg(long, value_name = "NAME")]
        to: Option<String>,
        /// Go back though something was written since
        #[arg(long)]
        confirm: bool,
        /// As JSON on one line
        #[arg(long)]
        json: bool,
    },
    /// Report what a stopped store holds
    Inspect(ReportArgs),
    /// Make or check the tables of a store that servers share
    Schema {
        /// What to do with them.
        #[command(subcommand)]
        command: SchemaCommand,
    },
}

/// What to do with the tables of a shared store.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum SchemaCommand {
    /// Make the keyspace and the tables that are missing; repeating it changes nothing
    Apply(ReportArgs),
    /// Say whether this version can work with them; exit code 78 if not
    Check(ReportArgs),
}

/// How the result of a command is told.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct ReportArgs {
    /// As JSON on one line
    #[arg(long)]
    pub json: bool,
    /// Also write it to this file, as JSON: a new file is created atomically, an existing one overwritten
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// What to write, and where.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct BackupArgs {
    /// What to do with backups that are there instead of making one.
    #[command(subcommand)]
    pub command: Option<BackupCommand>,
    /// Where it goes: a new name, a directory to get a dated name in it, or the URL of an object store
    #[arg(long, value_name = "PATH|URL", required = true)]
    pub out: Option<PathBuf>,
    /// One file, or a directory
    #[arg(long, value_enum, default_value_t)]
    pub format: Form,
    /// Read and write at most this many bytes a second, such as 50MB
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub rate_limit: Option<u64>,
    /// Print what was made as JSON on one line
    #[arg(long)]
    pub json: bool,
}

/// Where an export goes.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct ExportArgs {
    /// A new file, or `-` for standard output
    #[arg(long, value_name = "FILE|-")]
    pub to: PathBuf,
    /// Go on with an export that was interrupted
    #[arg(long)]
    pub resume: bool,
    /// Print what was written as JSON on one line; to standard error if the export goes to standard output
    #[arg(long)]
    pub json: bool,
}

/// What to do with backups that are there.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum BackupCommand {
    /// List the backups in a directory or an object store, the oldest first
    List {
        /// The directory, or `s3://bucket/prefix`, `gs://…`, `az://…`, `file:///…`
        #[arg(long = "in", value_name = "DIR|URL")]
        place: String,
        /// As JSON on one line
        #[arg(long)]
        json: bool,
    },
    /// Read a whole backup and compare every digest; of several, the newest
    Verify {
        /// A directory, an artefact, an object store, or a backup in it as `list` shows it
        #[arg(long = "in", value_name = "PATH|URL")]
        place: String,
        /// Read at most this many bytes a second, such as 50MB
        #[arg(long, value_name = "SIZE", value_parser = parse_size)]
        rate_limit: Option<u64>,
        /// As JSON on one line
        #[arg(long)]
        json: bool,
    },
    /// Remove old backups, never the newest nor the last one that was verified
    Prune(PruneArgs),
}

/// What may be removed.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct PruneArgs {
    /// The directory, or the URL of an object store
    #[arg(long = "in", value_name = "DIR|URL")]
    pub place: String,
    /// Keep so many of each database, the newest
    #[arg(long, value_name = "N")]
    pub keep: Option<usize>,
    /// Remove those that are older, such as 720h
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub max_age: Option<Duration>,
    /// Keep objects that no backup names for this long: an upload that was interrupted goes on with them
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "24h")]
    pub grace: Duration,
    /// Say what would be removed, and remove nothing
    #[arg(long)]
    pub dry_run: bool,
    /// As JSON on one line
    #[arg(long)]
    pub json: bool,
}

/// What is checked, and how it is reported.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct VerifyArgs {
    /// The backup to check, instead of the database of --db: a path, or the URL of an object store or of one backup there
    #[arg(long = "in", value_name = "PATH|URL", conflicts_with = "digest")]
    pub from: Option<PathBuf>,
    /// Where a backup is unpacked meanwhile [default: beside it; of an object store, beside the data directory]
    #[arg(long, value_name = "DIR", requires = "from")]
    pub scratch: Option<PathBuf>,
    /// Only print one digest of all threads, equal for two copies of the same data, sealed or plain
    #[arg(long)]
    pub digest: bool,
    /// How it is told.
    #[command(flatten)]
    pub report: ReportArgs,
    /// Write the digest of each thread to this file, one line a thread
    #[arg(long, value_name = "FILE", requires = "digest")]
    pub threads: Option<PathBuf>,
}

/// Which server to try, and how.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct SmokeArgs {
    /// The server [default: where the configuration says that it listens]
    #[arg(long, value_name = "URL", value_parser = parse_url)]
    pub url: Option<Url>,
    /// Write nothing: health, a list of threads, metrics
    #[arg(long)]
    pub read_only: bool,
    /// File with a backend key [default: that of the configuration, or of a development server in --db]
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// File with an admin key, for /metrics [default: as for the backend key]
    #[arg(long, value_name = "FILE", conflicts_with = "management_url")]
    pub admin_key_file: Option<PathBuf>,
    /// The management listener, whose /metrics needs no key
    #[arg(long, value_name = "URL", value_parser = parse_url)]
    pub management_url: Option<Url>,
    /// PEM certificates that the server is trusted by, in place of the system's
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// The longest that one step may take
    #[arg(long, value_name = "DURATION", value_parser = parse_timeout, default_value = "10s")]
    pub timeout: Duration,
    /// How it is told.
    #[command(flatten)]
    pub report: ReportArgs,
}

fn parse_database_id(text: &str) -> Result<[u8; 16], String> {
    let mut id = [0; 16];
    hex::decode_to_slice(text, &mut id).map_err(|_| "want 32 hexadecimal digits, as `inspect` shows them")?;
    Ok(id)
}

fn parse_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let url = url.ok_or("want http(s)://HOST[:PORT]")?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("want a URL without a name and a password: keys are in files, see --key-file".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("want a URL without a query".to_owned());
    }
    Ok(url)
}

fn parse_timeout(text: &str) -> Result<Duration, String> {
    parse_duration(text).and_then(|timeout| match timeout.is_zero() {
        true => Err("want more than no time".to_owned()),
        false => Ok(timeout),
    })
}

/// What to do with the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum ConfigCommand {
    /// Check the configuration without starting anything: exit code 0 or 78
    Check {
        /// As JSON
        #[arg(long)]
        json: bool,
        /// The file to check instead of the one that would be found
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
}

/// What to do with the KMS.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum KmsCommand {
    /// Open every wrapped key of a stopped store and name those that do not open: exit code 0, 1 or 78
    Verify {
        /// As JSON on one line
        #[arg(long)]
        json: bool,
    },
    /// Have the keys of a stopped store wrapped by another KMS; an interrupted run is continued by the next
    Migrate {
        /// A configuration file whose `encryption.kms` is where the keys go
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
    /// Wrap a random key and unwrap it again, without touching a store: exit code 0, 1 or 78
    Check {
        /// Also open every key in this file: the response of `GET /admin/encryption/wrapped-keys`
        #[arg(long, value_name = "FILE")]
        wrapped_keys: Option<PathBuf>,
        /// As JSON on one line
        #[arg(long)]
        json: bool,
    },
}

impl Args {
    /// Those of this process, whose version is this one. Ends it if they are wrong, or ask for help or for the version.
    pub fn of_process(version: &'static str) -> Self {
        let command = Self::command().version(version);
        Self::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit())
    }

    /// What the command line sets.
    pub fn flags(&self) -> Flags {
        let file = match &self.command {
            Some(Command::Config { command: Some(ConfigCommand::Check { file, .. }) }) => file.clone(),
            _ => None,
        };
        Flags {
            config: file.or_else(|| self.config.clone()),
            db: self.db.clone(),
            addr: self.addr.clone(),
            allow_volatile_fs: self.allow_volatile_fs,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Args {
        Args::try_parse_from(line.split(' ')).expect(line)
    }

    #[test]
    fn the_definition_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn flags_mean_the_same_before_and_behind_the_subcommand_and_without_one() {
        let lines = [
            ("progressdb --db ./data --addr :8080", None),
            ("progressdb serve --db ./data --addr :8080", Some(Command::Serve { rehearsal: false })),
            ("progressdb --db ./data --addr :8080 config", Some(Command::Config { command: None })),
            (
                "progressdb version --json --db ./data --addr :8080",
                Some(Command::Version(ReportArgs { json: true, out: None })),
            ),
        ];
        for (line, command) in lines {
            let args = parse(line);
            assert_eq!(args.command, command, "{line}");
            let flags = args.flags();
            assert_eq!((flags.db, flags.addr), (Some("./data".into()), Some(":8080".into())), "{line}");
        }
    }

    #[test]
    fn the_file_to_check_goes_before_the_configured_one() {
        let flags = parse("progressdb --config a.yaml config check --file b.yaml").flags();
        assert_eq!(flags.config, Some("b.yaml".into()));
        let flags = parse("progressdb config check --config a.yaml").flags();
        assert_eq!(flags.config, Some("a.yaml".into()));
    }

    #[test]
    fn wrong_usage_exits_with_2() {
        for line in ["progressdb --no-such-flag", "progressdb nonsense", "progressdb --db"] {
            let error = Args::try_parse_from(line.split(' ')).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }
}
