//! The name of everything that is made for a resource. A resource's own name has at most 40 characters, so the longest
//! of these is a label, and a Job's name is one of its pods.

use super::labels::Track;
use crate::kind::Kind;

/// A claim with data. Which one holds the data now is said by its label [`super::labels::ROLE`], not by its number.
pub fn claim(name: &str, number: u32) -> String {
    format!("{name}-data-{number}")
}

/// The pod of the server.
pub fn pod(name: &str) -> String {
    format!("{name}-0")
}

/// A Deployment of a fleet.
pub fn deployment(name: &str, track: Track) -> String {
    match track {
        Track::Stable => name.to_owned(),
        Track::Canary => format!("{name}-canary"),
    }
}

/// The service account of the pods. Every namespace has one called `default`, which is Kubernetes'; no resource has a
/// name with a dot.
pub fn service_account(name: &str) -> String {
    match name {
        "default" => "default.progressdb".to_owned(),
        name => name.to_owned(),
    }
}

/// The Service that gives the pod a name; it is not for clients.
pub fn headless_service(name: &str) -> String {
    format!("{name}-headless")
}

/// The ConfigMap with the settings and the pod template of a release; `hash` is of both.
pub fn config_map(name: &str, hash: &str) -> String {
    format!("{name}-config-{}", &hash[..8])
}

/// What is made for an upgrade; `id` is its id, and `what` says which of its things it is.
pub fn of_upgrade(name: &str, id: &str, what: &str) -> String {
    format!("{name}-{id}-{what}")
}

/// The Secret with generated API keys.
pub fn api_keys(name: &str) -> String {
    format!("{name}-api-keys")
}

/// The Job that judges settings; `hash` is of what it judges.
pub fn config_check(name: &str, hash: &str) -> String {
    format!("{name}-config-check-{}", &hash[..8])
}

/// The Job that tries the KMS; `hash` is of what it tries.
pub fn kms_check(name: &str, hash: &str) -> String {
    format!("{name}-kms-check-{}", &hash[..8])
}

/// The Job that makes the tables of a fleet; `hash` is of what it makes them with.
pub fn schema(name: &str, hash: &str) -> String {
    format!("{name}-schema-{}", &hash[..8])
}

/// The Job in which an image looks at the data of a fleet; `hash` is of what it looks with.
pub fn data_check(name: &str, hash: &str) -> String {
    format!("{name}-data-check-{}", &hash[..8])
}

/// The ConfigMap with the settings that checks judge; `hash` is of these settings.
pub fn check_settings(name: &str, hash: &str) -> String {
    format!("{name}-check-{}", &hash[..8])
}

/// The ConfigMap with what ran before, while its successor has not shown that it starts.
pub fn former(name: &str) -> String {
    format!("{name}-former")
}

/// The pod as which a successor is shown to the API server, and which is never made.
pub fn successor(name: &str) -> String {
    format!("{name}-successor")
}

/// The snapshot that is left when the resource of this uid is deleted.
pub fn final_snapshot(name: &str, uid: &str) -> String {
    format!("{name}-final-{}", uid.chars().filter(char::is_ascii_alphanumeric).take(8).collect::<String>())
}

/// The resource whose name is in that of an object that outlives it; `None` for other names and kinds.
pub fn instance_of(kind: Kind, name: &str) -> Option<&str> {
    match kind {
        Kind::Claim => name.rsplit_once("-data-").filter(|(_, number)| is_number(number)).map(|(instance, _)| instance),
        Kind::Secret => name.strip_suffix("-api-keys"),
        Kind::VolumeSnapshot => name.rsplit_once("-final-").map(|(instance, _)| instance),
        _ => None,
    }
}

/// Whether a name is one of these, of any kind, for this resource; pods of Jobs have a random end.
pub fn is_of(instance: &str, name: &str) -> bool {
    let Some(rest) = name.strip_prefix(instance) else { return false };
    let fixed = ["", "-0", "-headless", "-canary", "-api-keys", ".progressdb"];
    let is_hash = |rest: &str| rest.len() >= 8 && rest.bytes().take(8).all(|byte| byte.is_ascii_hexdigit());
    let hashed = ["-config-check-", "-kms-check-", "-schema-", "-data-check-", "-check-", "-config-", "-final-"];
    fixed.contains(&rest)
        || rest.strip_prefix("-data-").is_some_and(is_number)
        || hashed.iter().any(|stem| rest.strip_prefix(stem).is_some_and(is_hash))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_begin_alike_are_another_s() {
        for name in ["a", "a-0", "a-data-0", "a-headless", "a-config-check-0123abcd-x7k2p", "a-final-0123abcd"] {
            assert!(is_of("a", name), "{name}");
        }
        for name in ["ab", "a-b", "a-b-0", "a-data", "a-0-0", "a-config-check-0", "a-kms-check-other"] {
            assert!(!is_of("a", name), "{name}");
        }
    }

    #[test]
    fn the_longest_name_is_still_a_label() {
        let name = "a".repeat(40);
        let hash = "0123456789abcdef";
        let names = [
            claim(&name, 12),
            headless_service(&name),
            config_map(&name, hash),
            of_upgrade(&name, &hash[..8], "rehearsal"),
            api_keys(&name),
            config_check(&name, hash),
            kms_check(&name, hash),
            schema(&name, hash),
            data_check(&name, hash),
            deployment(&name, Track::Canary),
            check_settings(&name, hash),
            former(&name),
            successor(&name),
            final_snapshot(&name, "01234567-89ab-cdef"),
        ];
        let longest = names.iter().map(String::len).max();
        assert_eq!(longest, Some(62));
    }
}
