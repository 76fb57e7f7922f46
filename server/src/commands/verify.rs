//! `progressdb verify`: checks every row of a stopped database or of a backup, or prints the digest of a database.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::failure::Failure;
use super::fetched::Fetched;
use super::{begin_offline, progress, report};
use crate::args::VerifyArgs;
use crate::backup::Progress;
use crate::clock::monotonic;
use crate::config::{Config, Loaded};
use crate::db::Integrity;
use crate::format::Formats;
use crate::model::ThreadId;
use crate::serve::{RestoreError, offline};

pub(super) fn run(loaded: Loaded, wanted: &VerifyArgs, formats: &Formats) -> Result<(), Failure> {
    begin_offline(&loaded);
    let config = loaded.config?;
    if wanted.digest {
        return print_digest(&config, wanted, formats);
    }
    let started = monotonic();
    let (path, checked, backup) = match &wanted.from {
        None => (&config.db_path, offline::verify(&config, formats)?, Value::Null),
        Some(from) => {
            let (checked, backup) = check_backup(from, wanted.scratch.as_deref(), &config, formats)?;
            (from, checked, backup)
        }
    };
    let mut found = json!(checked);
    found["verified"] = json!(path);
    found["seconds"] = json!(started.elapsed().as_secs_f64());
    if !backup.is_null() {
        found["backup"] = backup;
    }
    report::tell(&found, || in_words(path, &checked), &wanted.report)?;
    let Some(first) = checked.findings.into_iter().next() else {
        tracing::info!(event = "cli.verify_complete", src = %path.display(), outcome = "ok");
        return Ok(());
    };
    Err(RestoreError::Findings { path: path.clone(), first, wrong: checked.wrong }.into())
}

fn check_backup(
    from: &Path,
    scratch: Option<&Path>,
    config: &Config,
    formats: &Formats,
) -> Result<(Integrity, Value), Failure> {
    let progress = Arc::new(Progress::default());
    let (manifest, checked) = progress::watch(&progress, || {
        let fetched = Fetched::get(from, scratch, config, formats, &progress, |_, _| Ok(2))?;
        let scratch = scratch.or(fetched.path().parent()).unwrap_or(Path::new("."));
        Ok(offline::verify_backup(fetched.path(), scratch, config, formats, &progress)?)
    })?;
    Ok((checked, report::of_manifest(&manifest)))
}

/// A line for each count that is not 0, the digest, the findings, and the verdict.
fn in_words(path: &Path, checked: &Integrity) -> String {
    let counts = json!(checked.counts);
    let counts = counts.as_object().into_iter().flatten().filter(|(_, count)| **count != json!(0));
    let mut lines: Vec<String> = counts.map(|(name, count)| format!("{}: {count}", name.replace('_', " "))).collect();
    let digest = checked.digest.as_ref();
    lines.push(digest.map_or("digest: none, not all rows were opened".to_owned(), |digest| {
        format!("digest: {} (version {})", digest.root, digest.version)
    }));
    let findings = checked.findings.iter();
    lines.extend(
        findings.map(|finding| format!("row {}: found {}; expected {}", finding.row, finding.found, finding.expected)),
    );
    let verdict = if checked.ok { "ok".to_owned() } else { format!("{} wrong", checked.wrong) };
    lines.push(format!("verify={verdict} path={}", path.display()));
    lines.join("\n")
}

fn print_digest(config: &Config, wanted: &VerifyArgs, formats: &Formats) -> Result<(), Failure> {
    let mut list = wanted.threads.as_deref().map(List::create).transpose()?;
    let started = monotonic();
    let digest = offline::digest(config, formats, |thread, digest| {
        if let Some(list) = &mut list {
            list.add(thread, digest);
        }
    })?;
    list.map_or(Ok(()), List::finish)?;
    let mut found = json!(digest);
    found["seconds"] = json!(started.elapsed().as_secs_f64());
    report::tell(&found, || format!("{found:#}"), &wanted.report)
}

/// The file with the digest of each thread. The first failure to write it is reported at the end.
struct List<'a> {
    path: &'a Path,
    file: BufWriter<File>,
    failed: Option<io::Error>,
}

impl<'a> List<'a> {
    fn create(path: &'a Path) -> Result<Self, Failure> {
        let file = File::create(path).map_err(|source| Failure::Report { path: path.to_owned(), source })?;
        Ok(Self { path, file: BufWriter::new(file), failed: None })
    }

    fn add(&mut self, thread: ThreadId, digest: &str) {
        if self.failed.is_none() {
            self.failed = writeln!(self.file, "{thread} {digest}").err();
        }
    }

    fn finish(mut self) -> Result<(), Failure> {
        let written = self.failed.take().map_or_else(|| self.file.flush(), Err);
        written.map_err(|source| Failure::Report { path: self.path.to_owned(), source })
    }
}
