//! `progressdb version`: which binary this is, and which stores it reads. Opens nothing.

use serde_json::json;

use crate::format::Formats;

pub(super) fn describe(formats: &Formats, as_json: bool) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let commit = option_env!("PROGRESSDB_COMMIT").unwrap_or("unknown");
    let Formats { reads, writes, migrations } = *formats;
    if as_json {
        let formats = json!({ "reads": reads, "writes": writes });
        return json!({ "version": version, "commit": commit, "formats": formats, "migrations": migrations })
            .to_string();
    }
    format!("progressdb {version} ({commit}), reads store formats {}-{}, writes {writes}", reads[0], reads[1])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{Migration, MigrationTime};

    #[test]
    fn the_version_tells_a_probe_how_the_store_would_be_changed() {
        const ONLINE: Migration = Migration { from: 1, to: 2, at: MigrationTime::Start };
        const LAST: Migration = Migration { from: 2, to: 3, at: MigrationTime::Finalize };
        let next = Formats { reads: [1, 3], writes: 3, migrations: &[ONLINE, LAST] };
        let told: serde_json::Value = serde_json::from_str(&describe(&next, true)).unwrap();
        assert_eq!(told["formats"], json!({ "reads": [1, 3], "writes": 3 }));
        let migrations = json!([{ "from": 1, "to": 2, "at": "start" }, { "from": 2, "to": 3, "at": "finalize" }]);
        assert_eq!(told["migrations"], migrations);
        let now: serde_json::Value = serde_json::from_str(&describe(&Formats::CURRENT, true)).unwrap();
        assert_eq!(now["migrations"], json!([]));
    }
}
