//! How a shared engine is reached. Contact points choose it; without them the store lies in the data directory.

use super::Source;
use super::check::{Checker, NOT_ALLOWED};
use super::settings::SETTINGS;
use crate::format::Formats;
use crate::store::{Credential, Credentials, SharedSettings, Tls};

const SECTION: &str = "storage.cassandra.";
const CONTACT_POINTS: &str = "storage.cassandra.contact_points";
const KEYSPACE: &str = "storage.cassandra.keyspace";
const DEFAULT_PORT: u16 = 9042;

impl Checker {
    pub(super) fn cassandra(&mut self) -> Option<SharedSettings> {
        let contact_points = self.values.texts(CONTACT_POINTS);
        if contact_points.is_empty() {
            self.warn_of_unused_storage();
            return None;
        }
        if let Some(wrong) = contact_points.iter().find(|point| !is_host_and_port(point)) {
            self.refuse(
                CONTACT_POINTS,
                &format!("has {wrong:?}, which {NOT_ALLOWED}"),
                "hosts, each with :port or without",
            );
        }
        let keyspace = self.values.text(KEYSPACE);
        if !is_keyspace(&keyspace) {
            self.refuse(KEYSPACE, NOT_ALLOWED, "at most 48 of a-z, 0-9 and _, beginning with a letter");
        }
        for key in ["backup.schedule", "backup.root"] {
            if self.values.get(key).1 != Source::Default {
                self.refuse(
                    key,
                    NOT_ALLOWED,
                    &format!(
                        "nothing, because {CONTACT_POINTS} is set: back up with the engine's own snapshots, or `progressdb export`"
                    ),
                );
            }
        }
        Some(SharedSettings {
            contact_points: contact_points.iter().map(|point| with_port(point)).collect(),
            datacenter: self.values.optional_text("storage.cassandra.datacenter"),
            keyspace,
            replication_factor: self.values.integer("storage.cassandra.replication_factor") as u32,
            credentials: self.credentials(),
            tls: self.tls(),
            version: Formats::CURRENT.version.to_owned(),
            formats: Formats::CURRENT.works_in(),
            read_only: false,
        })
    }

    fn credentials(&mut self) -> Option<Credentials> {
        let username = "storage.cassandra.credentials.username";
        let inline = self.values.optional_text(username).map(|name| Credential::Inline(name.into()));
        let file = self.values.optional_path("storage.cassandra.credentials.username_file").map(Credential::File);
        let name = self.either(username, "storage.cassandra.credentials.username_file", inline, file);
        let password = "storage.cassandra.credentials.password";
        let inline = self.values.optional_secret(password).map(Credential::Inline);
        let file = self.values.optional_path("storage.cassandra.credentials.password_file").map(Credential::File);
        let secret = self.either(password, "storage.cassandra.credentials.password_file", inline, file);
        match (name, secret) {
            (Some(username), Some(password)) => Some(Credentials { username, password }),
            (None, None) => None,
            (Some(_), None) => {
                self.miss_storage(password, "a password, here or in password_file, because there is a username")
            }
            (None, Some(_)) => {
                self.miss_storage(username, "a username, here or in username_file, because there is a password")
            }
        }
    }

    fn tls(&mut self) -> Option<Tls> {
        let certificate = "storage.cassandra.tls.certificate_file";
        let key = "storage.cassandra.tls.key_file";
        let ca_file = self.values.optional_path("storage.cassandra.tls.ca_file");
        let identity = match (self.values.optional_path(certificate), self.values.optional_path(key)) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(_), None) => self.miss_storage(key, "the key of the certificate"),
            (None, Some(_)) => self.miss_storage(certificate, "the certificate of the key"),
        };
        let wanted = self.values.flag("storage.cassandra.tls.enabled") || ca_file.is_some() || identity.is_some();
        wanted.then_some(Tls { ca_file, identity })
    }

    /// Refuses a value that is set inline and as a file: it would not be clear which one is in use.
    fn either<T>(&mut self, inline_key: &'static str, file_key: &str, inline: Option<T>, file: Option<T>) -> Option<T> {
        if inline.is_some() && file.is_some() {
            self.refuse(inline_key, NOT_ALLOWED, &format!("nothing, because {file_key} is set"));
        }
        file.or(inline)
    }

    fn miss_storage<T>(&mut self, key: &'static str, allowed: &str) -> Option<T> {
        let problem = super::Problem::new(key, None, &Source::Default, "not set", allowed);
        self.problems.push(problem);
        None
    }

    fn warn_of_unused_storage(&mut self) {
        for setting in SETTINGS.iter().filter(|setting| setting.key.starts_with(SECTION)) {
            let (value, source) = self.values.get(setting.key).clone();
            let is_default = value.to_yaml() == setting.default_value().to_yaml();
            if setting.key != CONTACT_POINTS && !is_default {
                let message = format!("{} from {source} has no effect without {CONTACT_POINTS}", setting.key);
                self.warn(setting.key, &source, message);
            }
        }
    }
}

fn is_keyspace(name: &str) -> bool {
    let mut bytes = name.bytes();
    name.len() <= 48
        && bytes.next().is_some_and(|first| first.is_ascii_lowercase())
        && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// An address of IPv6 stands in brackets if it has a port.
fn split(point: &str) -> (&str, Option<&str>) {
    match point.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
        _ => (point, None),
    }
}

fn is_host_and_port(point: &str) -> bool {
    let (host, port) = split(point);
    let is_name = |host: &str| {
        !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    (is_name(host) || bare.parse::<std::net::Ipv6Addr>().is_ok())
        && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

fn with_port(point: &str) -> String {
    match split(point) {
        (_, Some(_)) => point.to_owned(),
        (host, None) if host.contains(':') && !host.starts_with('[') => format!("[{host}]:{DEFAULT_PORT}"),
        (host, None) => format!("{host}:{DEFAULT_PORT}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contact_points_get_the_port_of_the_engine() {
        let points = ["node", "10.0.0.1:9142", "::1", "[::1]:1", "[fe80::1]"];
        let expected = ["node:9042", "10.0.0.1:9142", "[::1]:9042", "[::1]:1", "[fe80::1]:9042"];
        assert_eq!(points.map(with_port), expected);
        assert!(points.iter().all(|point| is_host_and_port(point)));
        for wrong in ["", ":9042", "node:", "node:0", "node:x", "a b", "http://node", "node/9042"] {
            assert!(!is_host_and_port(wrong), "{wrong}");
        }
    }

    #[test]
    fn a_keyspace_is_a_plain_name() {
        assert!(is_keyspace("progressdb") && is_keyspace("a_1"));
        for wrong in ["", "1a", "A", "a-b", "a.b", "a; DROP", &"a".repeat(49)] {
            assert!(!is_keyspace(wrong), "{wrong}");
        }
    }
}
