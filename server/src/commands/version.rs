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
    use crate::keys::KeyRange;

    #[test]
    fn the_version_tells_a_probe_how_the_store_would_be_changed() {
        const ONLINE: Migration = Migration {
            number: 1,
            name: "replies",
            from: 1,
            to: 2,
            at: MigrationTime::Start,
            kinds: &[],
            range: KeyRange::all,
            rewrite: |_, _, _| Ok(Vec::new()),
        };
        const LAST: Migration = Migration { number: 2, name: "heads", at: MigrationTime::Finalize, ..ONLINE };
        let next = Formats { reads: [1, 2], writes: 2, migrations: &[ONLINE, LAST] };
        let told: serde_json::Value = serde_json::from_str(&describe(&next, true)).unwrap();
        assert_eq!(told["formats"], json!({ "reads": [1, 2], "writes": 2 }));
        let migrations = json!([
            { "number": 1, "name": "replies", "from": 1, "to": 2, "at": "start" },
            { "number": 2, "name": "heads", "from": 1, "to": 2, "at": "finalize" },
        ]);
        assert_eq!(told["migrations"], migrations);
        let now: serde_json::Value = serde_json::from_str(&describe(&Formats::CURRENT, true)).unwrap();
        assert_eq!(now["migrations"], json!([]));
    }
}
