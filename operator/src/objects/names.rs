//! The name of everything that is made for a resource. A resource's own name has at most 40 characters, so the longest
//! of these is a label, and a Job's name is one of its pods.

/// The claim that holds the data.
pub fn claim(name: &str) -> String {
    format!("{name}-data-0")
}

/// The Service that gives the pod a name; it is not for clients.
pub fn headless_service(name: &str) -> String {
    format!("{name}-headless")
}

/// The ConfigMap with the server's settings.
pub fn config_map(name: &str) -> String {
    format!("{name}-config")
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

/// The snapshot that is left when the resource of this uid is deleted.
pub fn final_snapshot(name: &str, uid: &str) -> String {
    format!("{name}-final-{}", uid.chars().filter(char::is_ascii_alphanumeric).take(8).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_name_is_still_a_label() {
        let name = "a".repeat(40);
        let hash = "0123456789abcdef";
        let names = [
            claim(&name),
            headless_service(&name),
            config_map(&name),
            api_keys(&name),
            config_check(&name, hash),
            kms_check(&name, hash),
            final_snapshot(&name, "01234567-89ab-cdef"),
        ];
        let longest = names.iter().map(String::len).max();
        assert_eq!(longest, Some(62));
    }
}
