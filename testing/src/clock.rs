//! A wall clock that a test sets, for the programs that it starts: `clock/step.c`, which the C compiler of the build makes
//! into a library to preload.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::machine::missing;
use crate::setup::Setup;

/// The clock of whatever is started with it.
pub struct Clock {
    library: PathBuf,
    offset: PathBuf,
}

impl Clock {
    /// The true time at first. Its files lie in `directory`. None if this machine has no C compiler; then `test` is skipped.
    pub fn make(test: &str, directory: &Path) -> Option<Self> {
        let clock = Self { library: directory.join("step.so"), offset: directory.join("offset") };
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/clock/step.c");
        let made = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&clock.library).arg(source).status();
        if !made.is_ok_and(|status| status.success()) {
            missing(test, "there is no C compiler");
            return None;
        }
        clock.set(0);
        Some(clock)
    }

    /// A setup whose programs have this clock.
    pub fn of(&self, setup: Setup) -> Setup {
        setup
            .environment("LD_PRELOAD", self.library.to_str().unwrap())
            .environment("STEP_FILE", self.offset.to_str().unwrap())
    }

    /// Sets it this many seconds ahead of the true time.
    pub fn set(&self, ahead: i64) {
        self.write(&format!("{ahead}\n"));
    }

    /// Has it stand still, to the nanosecond, at the true time.
    pub fn freeze(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        self.write(&format!("={}\n", now.as_nanos()));
    }

    fn write(&self, text: &str) {
        let new = self.offset.with_extension("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, &self.offset).unwrap();
    }
}
