//! Settings of a provider, by their names below `encryption.kms`.

/// Settings of a provider; as variables of the environment or as lines of an `.env` file.
#[derive(Clone, Debug, Default)]
pub struct Settings(Vec<(String, String)>);

impl Settings {
    /// The settings of a provider that has none yet.
    pub fn of(provider: &str) -> Self {
        Self::default().set("provider", provider)
    }

    /// Sets `encryption.kms.KEY`.
    pub fn set(mut self, key: &str, value: impl ToString) -> Self {
        self = self.without(key);
        self.0.push((variable_of(key), value.to_string()));
        self
    }

    /// As if `encryption.kms.KEY` had never been set.
    pub fn without(mut self, key: &str) -> Self {
        let name = variable_of(key);
        self.0.retain(|(have, _)| *have != name);
        self
    }

    /// The value of `encryption.kms.KEY`, which is set.
    pub fn get(&self, key: &str) -> &str {
        let name = variable_of(key);
        self.0.iter().find(|(have, _)| *have == name).map(|(_, value)| value.as_str()).unwrap()
    }

    /// Names and values of variables.
    pub fn pairs(&self) -> Vec<(String, String)> {
        self.0.clone()
    }

    /// An `.env` file.
    pub fn lines(&self) -> String {
        self.0.iter().map(|(name, value)| format!("{name}='{value}'\n")).collect()
    }
}

fn variable_of(key: &str) -> String {
    format!("PROGRESSDB_ENCRYPTION_KMS_{}", key.replace('.', "_").to_uppercase())
}
