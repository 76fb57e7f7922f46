//! Settings of backups: when, where to, how many, and how object stores are reached.
//!
//! Credentials for object stores come from the variables that the tools of the clouds read. They are no settings: nothing
//! shows them, and no file of ours holds them.

use std::path::PathBuf;
use std::time::Duration;

use super::check::{Checker, NOT_ALLOWED};
use super::outgoing::proxies;
use super::value::parse_cron;
use super::{Environment, Problem};
use crate::backup::Keep;
use crate::backup::remote::{Access, Location};

/// The backups of a server, and how every command reaches object stores.
#[derive(Clone, Debug)]
pub struct Backup {
    /// When the server makes one, in UTC; none by itself if unset.
    pub schedule: Option<croner::Cron>,
    /// A directory, or the URL of an object store.
    pub destination: Option<String>,
    /// Which of them stay there.
    pub keep: Keep,
    /// A backup in an object store is read again.
    pub verify: bool,
    /// Bytes a second.
    pub rate_limit: Option<u64>,
    /// The directory for those that an administrator asks for.
    pub root: Option<PathBuf>,
    /// How object stores are reached.
    pub access: Access,
}

const SCHEDULE: &str = "backup.schedule";
const DESTINATION: &str = "backup.destination";
const ROOT: &str = "backup.root";

/// The variables of the clouds.
const CLOUDS: [&str; 3] = ["AWS_", "AZURE_", "GOOGLE_"];

impl Checker {
    /// Proxies that cannot be used are a problem only if they are needed.
    pub(super) fn backup(&mut self, environment: &Environment) -> Backup {
        let values = &self.values;
        let destination = values.optional_text(DESTINATION);
        let schedule = values.optional_text(SCHEDULE);
        let (proxies, unusable) = proxies(environment);
        let above_zero = |duration: Duration| (!duration.is_zero()).then_some(duration);
        let backup = Backup {
            schedule: schedule.as_deref().and_then(parse_cron),
            keep: Keep {
                newest: Some(values.count("backup.keep")).filter(|newest| *newest > 0),
                max_age: above_zero(values.duration("backup.max_age")),
            },
            verify: values.text("backup.verify") == "after",
            rate_limit: Some(values.size("backup.rate_limit")).filter(|rate| *rate > 0),
            access: Access {
                endpoint: values.optional_text("backup.endpoint"),
                region: values.optional_text("backup.region"),
                allow_http: values.flag("backup.allow_http"),
                ca_file: values.optional_path("backup.ca_file"),
                timeout: values.duration("backup.timeout"),
                proxies,
                variables: environment.starting_with(&CLOUDS),
            },
            root: values.optional_path(ROOT),
            destination: destination.clone(),
        };
        if backup.root.as_ref().is_some_and(|root| !root.is_absolute()) {
            self.refuse(ROOT, NOT_ALLOWED, "an absolute path");
        }
        match destination {
            Some(text) if Location::is_url(&text) => {
                self.problems.extend(unusable);
                if let Err(error) = Location::parse(&text) {
                    self.refuse(DESTINATION, NOT_ALLOWED, &error.to_string());
                }
            }
            None if schedule.is_some() => {
                let source = self.values.get(SCHEDULE).1.clone();
                let what = format!("not set, but {SCHEDULE} is, from {source}");
                let allowed = "a directory, or the URL of an object store";
                self.problems.push(Problem::new(DESTINATION, None, &source, &what, allowed));
            }
            _ => {}
        }
        if schedule.is_none() {
            self.warn_of_useless(&backup);
        }
        backup
    }

    fn warn_of_useless(&mut self, backup: &Backup) {
        let set = [
            (DESTINATION, backup.destination.is_some()),
            ("backup.keep", backup.keep.newest.is_some()),
            ("backup.max_age", backup.keep.max_age.is_some()),
        ];
        for (key, _) in set.into_iter().filter(|(_, is_set)| *is_set) {
            let (_, source) = self.values.get(key).clone();
            self.warn(key, &source, format!("{key} from {source} has no effect without {SCHEDULE}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::super::{Loaded, Sources, load};
    use super::*;

    fn loaded<const N: usize>(variables: [(&str, &str); N]) -> Loaded {
        let environment = Environment::from(variables);
        load(&Sources { environment, directory: "/nonexistent".into(), ..Sources::default() })
    }

    #[test]
    fn the_root_for_backups_on_request_is_an_absolute_path() {
        let root = |path| loaded([("PROGRESSDB_BACKUP_ROOT", path)]).config.map(|config| config.backup.root);
        assert_eq!(root("/var/backups").unwrap(), Some("/var/backups".into()));
        let problem = root("backups").unwrap_err().to_string();
        assert_eq!(
            problem,
            "backup.root: \"backups\" from PROGRESSDB_BACKUP_ROOT is not allowed: want an absolute path"
        );
    }

    #[test]
    fn a_schedule_needs_a_destination_that_can_be_one() {
        let schedule = ("PROGRESSDB_BACKUP_SCHEDULE", "@daily");
        let problem = loaded([schedule]).config.unwrap_err().to_string();
        let expected = "backup.destination: not set, but backup.schedule is, from PROGRESSDB_BACKUP_SCHEDULE: want a directory, or the URL of an object store";
        assert_eq!(problem, expected);
        let problem = loaded([schedule, ("PROGRESSDB_BACKUP_DESTINATION", "ftp://b")]).config.unwrap_err().to_string();
        assert!(problem.contains("its scheme is none of s3, gs, az, file"), "{problem}");
        let good = loaded([schedule, ("PROGRESSDB_BACKUP_DESTINATION", "s3://b/p"), ("PROGRESSDB_BACKUP_KEEP", "7")]);
        let backup = good.config.unwrap().backup;
        assert_eq!(backup.keep, Keep { newest: Some(7), max_age: None });
        assert!(backup.schedule.is_some() && backup.verify);
    }

    #[test]
    fn what_has_no_effect_is_said() {
        let loaded = loaded([("PROGRESSDB_BACKUP_KEEP", "7")]);
        let said: Vec<_> = loaded.warnings.iter().map(|warning| warning.key.as_str()).collect();
        assert_eq!(said, ["backup.keep"]);
    }

    #[test]
    fn the_variables_of_clouds_are_taken_and_never_shown() {
        let loaded = loaded([("AWS_SECRET_ACCESS_KEY", "hush"), ("AZURE_STORAGE_ACCOUNT_KEY", "hush"), ("OTHER", "x")]);
        let yaml = loaded.to_yaml();
        let access = loaded.config.unwrap().backup.access;
        let names: Vec<_> = access.variables.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["AWS_SECRET_ACCESS_KEY", "AZURE_STORAGE_ACCOUNT_KEY"]);
        assert_eq!(access.variables[0].1.expose_secret(), "hush");
        assert!(!format!("{access:?}{yaml}").contains("hush"));
    }
}
