//! `progressdb verify`: reads a stopped database completely and prints its digest.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;

use serde_json::json;

use super::failure::Failure;
use super::{begin_offline, report};
use crate::clock::monotonic;
use crate::config::Loaded;
use crate::format::Formats;
use crate::model::ThreadId;
use crate::serve::offline;

pub(super) fn run(
    loaded: Loaded,
    as_json: bool,
    out: Option<&Path>,
    threads: Option<&Path>,
    formats: &Formats,
) -> Result<(), Failure> {
    begin_offline(&loaded);
    let mut list = threads.map(List::create).transpose()?;
    let started = monotonic();
    let digest = offline::digest(&loaded.config?, formats, |thread, digest| {
        if let Some(list) = &mut list {
            list.add(thread, digest);
        }
    })?;
    list.map_or(Ok(()), List::finish)?;
    let mut found = json!(digest);
    found["seconds"] = json!(started.elapsed().as_secs_f64());
    report::tell(&found, as_json, out)
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
