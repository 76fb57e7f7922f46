//! `progressdb version`: which binary this is, and which stores it reads. Opens nothing.

use serde_json::{Value, json};

use super::failure::Failure;
use super::report;
use crate::args::ReportArgs;
use crate::format::Formats;

const COMMIT: Option<&str> = option_env!("PROGRESSDB_COMMIT");

pub(super) fn run(how: &ReportArgs, formats: &Formats) -> Result<(), Failure> {
    report::tell(&describe(formats), || in_words(formats), how)
}

fn describe(formats: &Formats) -> Value {
    let Formats { version, reads, writes, migrations } = *formats;
    let formats = json!({ "reads": reads, "writes": writes });
    json!({ "version": version, "commit": commit(), "formats": formats, "migrations": migrations })
}

fn in_words(formats: &Formats) -> String {
    let Formats { version, reads: [first, last], writes, .. } = *formats;
    format!("progressdb {version} ({}), reads store formats {first}-{last}, writes {writes}", commit())
}

fn commit() -> &'static str {
    COMMIT.unwrap_or("unknown")
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
        let next = Formats { version: "next", reads: [1, 2], writes: 2, migrations: &[ONLINE, LAST] };
        let told = describe(&next);
        assert_eq!(told["version"], json!("next"));
        assert_eq!(told["formats"], json!({ "reads": [1, 2], "writes": 2 }));
        let migrations = json!([
            { "number": 1, "name": "replies", "from": 1, "to": 2, "at": "start" },
            { "number": 2, "name": "heads", "from": 1, "to": 2, "at": "finalize" },
        ]);
        assert_eq!(told["migrations"], migrations);
        assert_eq!(describe(&Formats::CURRENT)["migrations"], json!([]));
    }
}
