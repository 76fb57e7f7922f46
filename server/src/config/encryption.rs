//! Whether values are sealed, and by which KMS; which settings each provider needs and which it ignores.

use secrecy::{ExposeSecret, SecretString};

use super::{
    Encryption, Problem, Source,
    check::{Checker, NOT_ALLOWED},
    effective::Effective,
    settings::SETTINGS,
    value::{MASK, Value},
};
use crate::crypt::kms::{
    ProviderKind,
    settings::{Aws, Http, Local, MasterKey, Provider, Secret, Settings, Vault, VaultAuth},
};
use crate::outgoing::Proxies;

/// Builds the settings of the provider, and collects what is wrong with them.
struct Reader<'a> {
    values: &'a Effective,
    /// What a message says of a setting that is missing, and what demands it.
    unset: (String, Source),
    problems: Vec<Problem>,
}

impl Checker {
    /// The settings of encryption. Problems in them do not stop a server that does not encrypt.
    pub(super) fn encryption(&mut self) -> Encryption {
        let enabled = self.values.flag("encryption.enabled");
        let unset = match self.values.get("encryption.enabled").1.clone() {
            source if enabled => (format!("not set, but encryption.enabled is true from {source}"), source),
            _ => ("not set".to_owned(), Source::Default),
        };
        let mut reader = Reader { values: &self.values, unset, problems: Vec::new() };
        let provider = reader.provider();
        let kms = reader.settings(provider);
        let missing = reader.problems;
        if enabled {
            // A value that was refused is not reported as missing too.
            let refused = self.problems.iter().any(|problem| problem.key.starts_with("encryption.kms."));
            self.problems.extend(missing.iter().filter(|problem| !refused || problem.value.is_some()).cloned());
            self.warn_of_unused(provider);
        }
        let values = &self.values;
        Encryption {
            enabled,
            kms: kms.filter(|_| missing.is_empty()),
            missing,
            epoch_age: values.duration("encryption.epoch_age"),
            key_cache: values.count("encryption.key_cache"),
            rewrap_rate: values.integer("encryption.rewrap_rate") as u32,
            erasure_horizon: values.duration("encryption.erasure_horizon"),
            probe_interval: values.duration("encryption.kms.probe_interval"),
            probe_interval_failing: values.duration("encryption.kms.probe_interval_failing"),
        }
    }

    fn warn_of_unused(&mut self, provider: ProviderKind) {
        for setting in SETTINGS {
            let Some(users) = users(setting.key) else { continue };
            let (_, source) = self.values.get(setting.key).clone();
            if source != Source::Default && !users.contains(&provider) {
                let message = format!("{} from {source} has no effect with the KMS provider {provider}", setting.key);
                self.warn(setting.key, &source, message);
            }
        }
    }
}

/// Which providers use a setting; none if all do, or if it is not about the KMS.
fn users(key: &str) -> Option<&'static [ProviderKind]> {
    use ProviderKind::{Aws, Http, Local, Vault};
    let key = key.strip_prefix("encryption.kms.")?;
    match key {
        "master_key_file" | "master_key_hex" | "escrow_key_files" => Some(&[Local]),
        "endpoint" | "key_id" => Some(&[Aws, Vault, Http]),
        "ca_file" | "token" | "token_file" => Some(&[Vault, Http]),
        _ if key.starts_with("aws.") => Some(&[Aws]),
        _ if key.starts_with("vault.") => Some(&[Vault]),
        _ => None,
    }
}

impl Reader<'_> {
    fn provider(&mut self) -> ProviderKind {
        let (provider, mode) = ("encryption.kms.provider", "encryption.kms.mode");
        let named = self.values.optional_text(provider).map(|name| name.parse().expect("every choice is a provider"));
        let by_mode = self.values.optional_text(mode).map(|mode| match mode.as_str() {
            "external" => ProviderKind::Http,
            _ => ProviderKind::Local,
        });
        if let (Some(named), Some(by_mode)) = (named, by_mode)
            && named != by_mode
        {
            let allowed = format!("nothing, because encryption.kms.provider is {named}");
            self.refuse(mode, NOT_ALLOWED, &allowed);
        }
        named.or(by_mode).unwrap_or(ProviderKind::Local)
    }

    /// None only if something is missing, and then that is among the problems.
    fn settings(&mut self, provider: ProviderKind) -> Option<Settings> {
        let (grace, seal_grace) = ("encryption.kms.grace", "encryption.kms.seal_grace");
        if self.values.duration(seal_grace) > self.values.duration(grace) {
            self.refuse(seal_grace, NOT_ALLOWED, "at most encryption.kms.grace");
        }
        let provider = match provider {
            ProviderKind::Local => Provider::Local(self.local()?),
            ProviderKind::Aws => Provider::Aws(self.aws()?),
            ProviderKind::Vault => Provider::Vault(self.vault()?),
            ProviderKind::Http => Provider::Http(self.http()),
        };
        let timeout = self.values.duration("encryption.kms.timeout");
        let (grace, seal_grace) = (self.values.duration(grace), self.values.duration(seal_grace));
        Some(Settings { provider, timeout, grace, seal_grace, proxies: Proxies::default() })
    }

    fn local(&mut self) -> Option<Local> {
        let (inline, file) = ("encryption.kms.master_key_hex", "encryption.kms.master_key_file");
        let allowed = "one here or in encryption.kms.master_key_file, because the KMS provider is local";
        let primary = match self.one_secret(inline, file, allowed)? {
            Secret::File(path) => MasterKey::File(path),
            Secret::Inline(hex) => {
                if !is_key(&hex) {
                    self.refuse(inline, NOT_ALLOWED, "64 hexadecimal digits");
                }
                MasterKey::Hex(hex)
            }
        };
        let escrow = self.values.texts("encryption.kms.escrow_key_files");
        let keys = std::iter::once(primary).chain(escrow.into_iter().map(|path| MasterKey::File(path.into())));
        Some(Local { keys: keys.collect() })
    }

    fn aws(&mut self) -> Option<Aws> {
        let values = self.values;
        Some(Aws {
            key_id: self
                .needed("encryption.kms.key_id", "id, ARN or alias of a key, because the KMS provider is aws")?,
            region: values.optional_text("encryption.kms.aws.region"),
            endpoint: values.optional_text("encryption.kms.endpoint"),
            credentials_file: values.optional_path("encryption.kms.aws.credentials_file"),
            profile: values.optional_text("encryption.kms.aws.profile"),
        })
    }

    fn vault(&mut self) -> Option<Vault> {
        let address = self.needed("encryption.kms.endpoint", "the URL of Vault, because the KMS provider is vault");
        let auth = self.vault_auth();
        Some(Vault {
            address: address?,
            key: self.key_name(),
            mount: self.values.text("encryption.kms.vault.mount"),
            namespace: self.values.optional_text("encryption.kms.vault.namespace"),
            ca_file: self.values.optional_path("encryption.kms.ca_file"),
            auth: auth?,
        })
    }

    fn vault_auth(&mut self) -> Option<VaultAuth> {
        let auth = self.values.text("encryption.kms.vault.auth");
        let mount = self.values.optional_text("encryption.kms.vault.auth_mount").unwrap_or_else(|| auth.clone());
        match auth.as_str() {
            "approle" => {
                let role_id = self.needed("encryption.kms.vault.role_id", "a role id, because the auth is approle");
                let allowed = "one here or in encryption.kms.vault.secret_id_file, because the auth is approle";
                let (inline, file) = ("encryption.kms.vault.secret_id", "encryption.kms.vault.secret_id_file");
                let secret_id = self.one_secret(inline, file, allowed);
                Some(VaultAuth::AppRole { mount, role_id: role_id?, secret_id: secret_id? })
            }
            "kubernetes" => {
                let role = self.needed("encryption.kms.vault.role", "a role, because the auth is kubernetes")?;
                let jwt_file = self.values.text("encryption.kms.vault.jwt_file").into();
                Some(VaultAuth::Kubernetes { mount, role, jwt_file })
            }
            _ => {
                let allowed = "one here or in encryption.kms.token_file, because the auth is token";
                let (inline, file) = ("encryption.kms.token", "encryption.kms.token_file");
                self.one_secret(inline, file, allowed).map(VaultAuth::Token)
            }
        }
    }

    fn http(&mut self) -> Http {
        let endpoint = self.values.optional_text("encryption.kms.endpoint");
        Http {
            endpoint: endpoint.unwrap_or_else(|| "127.0.0.1:6820".to_owned()),
            key: self.key_name(),
            token: self.secret("encryption.kms.token", "encryption.kms.token_file"),
            ca_file: self.values.optional_path("encryption.kms.ca_file"),
        }
    }

    fn key_name(&mut self) -> String {
        let key = "encryption.kms.key_id";
        let name = self.values.optional_text(key).unwrap_or_else(|| "progressdb".to_owned());
        if name.contains(['/', ':']) {
            self.refuse(key, NOT_ALLOWED, "a name without / and :");
        }
        name
    }

    fn needed(&mut self, key: &'static str, allowed: &str) -> Option<String> {
        let text = self.values.optional_text(key);
        if text.is_none() {
            self.miss(key, allowed);
        }
        text
    }

    fn one_secret(&mut self, inline: &'static str, file: &'static str, allowed: &str) -> Option<Secret> {
        let secret = self.secret(inline, file);
        if secret.is_none() {
            self.miss(inline, allowed);
        }
        secret
    }

    fn miss(&mut self, key: &'static str, allowed: &str) {
        let (what, source) = &self.unset;
        self.problems.push(Problem::new(key, None, source, what, allowed));
    }

    /// Refuses a secret that is set inline and as a file: it would not be clear which one is in use.
    fn secret(&mut self, inline: &'static str, file: &'static str) -> Option<Secret> {
        let (secret, path) = (self.values.optional_secret(inline), self.values.optional_path(file));
        if secret.is_some() && path.is_some() {
            self.refuse(inline, NOT_ALLOWED, &format!("nothing, because {file} is set"));
        }
        path.map(Secret::File).or(secret.map(Secret::Inline))
    }

    /// Refuses a value that is allowed by itself.
    fn refuse(&mut self, key: &'static str, why: &str, allowed: &str) {
        let (value, source) = self.values.get(key);
        let shown = if matches!(value, Value::Secret(_)) { MASK.to_owned() } else { value.to_yaml() };
        let what = format!("{shown} from {source} {why}");
        self.problems.push(Problem::new(key, Some(shown), source, &what, allowed));
    }
}

fn is_key(hex: &SecretString) -> bool {
    let hex = hex.expose_secret();
    hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
}
