//! The commands of the server's program as Jobs run them: what each does to the model of the data, how it ends, and the
//! report that it gives, with the fields of the real one.

use serde_json::{Value, json};

use super::{
    data::{Data, Failure},
    image::Image,
    text,
};

/// A command line.
pub(super) struct Command<'a>(Vec<&'a str>);

/// How a command ended.
#[derive(Debug)]
pub(super) struct Outcome {
    pub code: i64,
    /// What it prints: its report, and why it failed.
    pub printed: String,
    /// What it wrote as its termination message.
    pub message: Option<String>,
}

impl<'a> Command<'a> {
    /// The command of a container.
    pub(super) fn of(container: &'a Value) -> Self {
        Self(container["args"].as_array().into_iter().flatten().filter_map(Value::as_str).collect())
    }

    fn has(&self, flag: &str) -> bool {
        self.0.contains(&flag)
    }

    /// Its words before the first option, which say what it does.
    pub(super) fn name(&self) -> String {
        let words: Vec<&str> = self.0.iter().copied().take_while(|word| !word.starts_with('-')).collect();
        words.join(" ")
    }

    /// Whether it is a server, which runs until it is ended.
    pub(super) fn is_server(&self) -> bool {
        self.name() == "serve"
    }

    /// Whether it opens the data to write to it.
    pub(super) fn writes(&self) -> bool {
        let name = self.name();
        name == "serve" || (name == "migrate" && !self.has("--dry-run"))
    }

    /// Whether it would raise the format of this data.
    pub(super) fn raises(&self, image: &Image, data: &Data) -> bool {
        self.name() == "migrate" && self.has("--finalize") && !self.has("--dry-run") && data.format < image.writes
    }

    /// Runs it to its end. `seconds` is how long it took; commands that are not the server's do nothing and end well.
    pub(super) fn run(&self, image: &Image, data: Option<&mut Data>, seconds: i64) -> Outcome {
        let name = self.name();
        let writes_report = ["version", "inspect", "verify", "migrate"].contains(&name.as_str());
        if self.has("--out") && !writes_report && ["config check", "kms check"].contains(&name.as_str()) {
            return Outcome { code: 2, printed: "error: unexpected argument '--out' found\n".into(), message: None };
        }
        let seconds = json!(seconds as f64);
        let report = match name.as_str() {
            "version" => Ok(version(image)),
            "config check" => Ok(json!({ "errors": [], "valid": true, "warnings": [] })),
            "kms check" => {
                Ok(json!({ "key_id": "0000000000000001", "milliseconds": 1, "ok": true, "provider": "local" }))
            }
            "inspect" => open(image, data).map(|data| inspect(image, data)),
            "verify" if self.has("--digest") => open(image, data).map(|data| digest(image, data, &seconds)),
            "migrate" => open(image, data).map(|data| match self.has("--dry-run") {
                true => foresee(image, data, self.has("--finalize")),
                false => migrate(image, data, self.has("--finalize"), &seconds),
            }),
            _ => return Outcome { code: 0, printed: String::new(), message: None },
        };
        match report {
            Ok(report) => {
                let line = format!("{report}\n");
                let message = self.has("/dev/termination-log").then(|| line.clone());
                Outcome { code: 0, printed: line, message }
            }
            Err(Failure { code, line }) => Outcome { code, printed: format!("{line}\n"), message: None },
        }
    }
}

impl Outcome {
    /// The termination message of the container: what was written as such, or what was printed if it failed and the
    /// container says so.
    pub(super) fn termination_message(&self, container: &Value) -> Option<String> {
        let falls_back = text(container, "/terminationMessagePolicy") == "FallbackToLogsOnError" && self.code != 0;
        self.message.clone().or_else(|| falls_back.then(|| self.printed.clone()).filter(|printed| !printed.is_empty()))
    }
}

fn open<'a>(image: &Image, data: Option<&'a mut Data>) -> Result<&'a mut Data, Failure> {
    let data = data.ok_or_else(|| Failure { code: 5, line: "error: /data/db holds no database: check --db".into() })?;
    data.check_format(image)?;
    Ok(data)
}

fn version(image: &Image) -> Value {
    let mut report = json!({
        "version": image.version, "commit": "unknown", "formats": image.formats(), "migrations": image.migrations(),
    });
    if !image.release.is_null() {
        report["release"] = image.release.clone();
    }
    report
}

fn inspect(image: &Image, data: &Data) -> Value {
    json!({
        "checkpoints": data.checkpoints, "database_id": data.database_id, "format": data.format,
        "formats": image.formats(), "incarnation": data.incarnation(), "kept": [], "messages": data.writes.len(),
        "pending": data.pending(image), "sequence": data.sequence, "threads": 1, "users": 1,
    })
}

fn digest(image: &Image, data: &Data, seconds: &Value) -> Value {
    let (messages, version) = (data.writes.len(), image.digest_version);
    json!({
        "bytes": 100 * messages, "deleted": 0, "messages": messages, "participants": 1, "root": data.root(version),
        "seconds": seconds, "threads": 1, "version": version, "versions": 0,
    })
}

/// The pending migrations that a run takes, as it reports them.
fn listed(pending: &Value, finalize: bool, more: impl Fn() -> Value) -> Vec<Value> {
    let times: &[&str] = if finalize { &["start", "finalize"] } else { &["start"] };
    let due = times.iter().filter_map(|at| pending[at].as_array()).flatten();
    let described = due.map(|migration| {
        let mut described = more();
        ["name", "at"].iter().for_each(|field| described[*field] = migration[*field].clone());
        described
    });
    described.collect()
}

fn migrate(image: &Image, data: &mut Data, finalize: bool, seconds: &Value) -> Value {
    let rows = data.writes.len();
    let more = || json!({ "rows": rows, "changed": rows, "seconds": seconds });
    let ran = listed(&data.pending(image), finalize, more);
    data.prepare(image);
    let checkpoint = (finalize && data.raise(image)).then(|| data.checkpoints.last().cloned());
    json!({ "checkpoint": checkpoint, "format": data.format, "pending": data.pending(image), "ran": ran })
}

fn foresee(image: &Image, data: &Data, finalize: bool) -> Value {
    let (rows, pending) = (data.writes.len(), data.pending(image));
    let more = || json!({ "rows": rows, "changes": rows, "sample_rows": rows, "sample_seconds": 0.001 });
    json!({ "format": data.format, "would_run": listed(&pending, finalize, more), "pending": pending })
}
