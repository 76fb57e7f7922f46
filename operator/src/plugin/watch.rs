//! Follows an upgrade until it has ended or waits for a person: on a terminal one line that is rewritten, else a line for
//! each step, gate and hold.

use std::{io::Write, time::Duration};

use jiff::Timestamp;
use kube::Client;

use super::{FAILED, NEEDS_SOMEBODY, WELL, get, in_namespace, notes, now, short_image, status_of};
use crate::{
    conditions::ConditionType,
    crd::{self, Hold, Outcome, ProgressDBStatus, UpgradeStatus},
    objects::for_people,
};

/// Between two looks.
const PERIOD: Duration = Duration::from_secs(1);
/// So many looks in a row may fail.
const FAILURES: u32 = 60;
/// A hold counts once it was seen so often: an operator may be about to go on.
const SURE: u32 = 3;
/// After so many looks without a sign of the operator somebody should know.
const SILENT: u32 = 15;
/// The only hold that ends by itself.
const PASSES: &str = "WindowClosed";

/// Where it is shown.
pub(super) struct Screen<'a, W: Write> {
    pub(super) out: &'a mut W,
    pub(super) is_terminal: bool,
}

/// The upgrade that is followed: of this resource to this image.
pub(super) struct Followed<'a> {
    pub(super) client: &'a Client,
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
    pub(super) image: &'a str,
    /// One that is not meant, because it had ended before.
    pub(super) ended: Option<String>,
    /// The generation that asks for the image.
    pub(super) generation: Option<i64>,
}

/// What was shown, and how often the same was seen.
#[derive(Default)]
struct Shown {
    steps: usize,
    /// What the release says of itself was told.
    has_notes: bool,
    gates: Vec<String>,
    hold: Option<String>,
    note: Option<String>,
    /// The same hold, so often.
    held: u32,
    /// Looks that failed in a row.
    failures: u32,
    /// Looks at which the operator had not seen the change.
    silent: u32,
}

impl Followed<'_> {
    /// Returns the exit code.
    pub(super) async fn run(self, screen: Screen<'_, impl Write>) -> anyhow::Result<u8> {
        let mut shown = Shown::default();
        loop {
            match get(self.client, self.namespace, self.name).await {
                Ok(resource) => {
                    shown.failures = 0;
                    let asked = crd::read(resource.text()).ok().map(|resource| resource.spec.image);
                    if let Some(other) = asked.filter(|asked| asked != self.image) {
                        shown.finish(screen.out, screen.is_terminal)?;
                        anyhow::bail!("{} asks for {other} now: somebody has changed it", self.name);
                    }
                    if let Some(code) = self.look(&status_of(&resource), &mut shown, screen.out, screen.is_terminal)? {
                        return Ok(code);
                    }
                }
                Err(error) if shown.failures == FAILURES => return Err(error),
                Err(_) => shown.failures += 1,
            }
            tokio::time::sleep(PERIOD).await;
        }
    }

    /// Shows what is new; says with which exit code it is over.
    fn look(
        &self,
        status: &ProgressDBStatus,
        shown: &mut Shown,
        out: &mut impl Write,
        is_terminal: bool,
    ) -> anyhow::Result<Option<u8>> {
        let ours = |record: &&UpgradeStatus| {
            record.to.image == self.image && (record.outcome.is_none() || self.ended.as_ref() != Some(&record.id))
        };
        let Some(record) = status.upgrade.as_deref().filter(ours) else {
            return self.look_without_upgrade(status, shown, out, is_terminal);
        };
        match is_terminal {
            true => shown.rewrite(self.name, record, now()?, out)?,
            false => shown.add_lines(record, out)?,
        }
        if let Some(outcome) = record.outcome {
            shown.finish(out, is_terminal)?;
            let message = record.message.as_deref().unwrap_or_default();
            writeln!(out, "{}: {outcome:?}, {message}", self.name)?;
            writeln!(out, "kubectl progressdb -n {} report {} --upgrade {}", self.namespace, self.name, record.id)?;
            return Ok(Some(if outcome == Outcome::Succeeded { WELL } else { FAILED }));
        }
        let hold = record.hold.as_ref().filter(|hold| hold.reason != PASSES);
        shown.held = if hold.is_some() { shown.held + 1 } else { 0 };
        let Some(hold) = hold.filter(|_| shown.held >= SURE) else { return Ok(None) };
        shown.finish(out, is_terminal)?;
        writeln!(out, "{}: {}", self.name, sentence(hold))?;
        if let Some(command) = &hold.next_command {
            writeln!(out, "type: {}", in_namespace(command, self.namespace))?;
        }
        Ok(Some(NEEDS_SOMEBODY))
    }

    /// There is no such upgrade: it has not begun, another one goes first, or the image is changed without one.
    fn look_without_upgrade(
        &self,
        status: &ProgressDBStatus,
        shown: &mut Shown,
        out: &mut impl Write,
        is_terminal: bool,
    ) -> anyhow::Result<Option<u8>> {
        if let Some(other) = status.upgrade.as_ref().filter(|record| record.outcome.is_none()) {
            shown.note(out, format!("waiting for the upgrade {} to {} to end", other.id, other.to.image))?;
            return Ok(None);
        }
        if status.observed_generation < self.generation {
            shown.silent += 1;
            if shown.silent == SILENT {
                shown.note(out, "the operator has not seen the change yet: is it running?".to_owned())?;
            }
            return Ok(None);
        }
        let condition = |kind: ConditionType| {
            let found = status.conditions.iter().find(|condition| condition.type_ == kind.name());
            found.filter(|condition| condition.status == "True")
        };
        if let Some(stalled) = condition(ConditionType::Stalled) {
            shown.held += 1;
            if shown.held >= SURE {
                shown.finish(out, is_terminal)?;
                writeln!(out, "{}: {}, {}", self.name, stalled.reason, stalled.message)?;
                return Ok(Some(NEEDS_SOMEBODY));
            }
            return Ok(None);
        }
        shown.held = 0;
        let runs = status.image.as_deref() == Some(self.image) && condition(ConditionType::Ready).is_some();
        if runs {
            shown.finish(out, is_terminal)?;
            writeln!(out, "{} runs {}", self.name, self.image)?;
        }
        Ok(runs.then_some(WELL))
    }
}

impl Shown {
    /// A line for each step, note, gate and hold that is new.
    fn add_lines(&mut self, record: &UpgradeStatus, out: &mut impl Write) -> anyhow::Result<()> {
        for step in record.steps.iter().skip(self.steps) {
            let at = step.at.map(|at| format!("{at} ")).unwrap_or_default();
            writeln!(out, "{at}{:?}", step.step)?;
        }
        self.steps = record.steps.len();
        self.add_notes(record, out)?;
        for gate in &record.gates {
            let line = format!("  gate {}: {:?}, {}", gate.name, gate.verdict, gate.value);
            let line = if gate.why.is_empty() { line } else { format!("{line}; {}", gate.why) };
            if !self.gates.contains(&line) {
                writeln!(out, "{line}")?;
                self.gates.push(line);
            }
        }
        let hold = record.hold.as_ref().map(|hold| format!("  {}", sentence(hold)));
        if let Some(hold) = hold.as_ref().filter(|_| hold != self.hold) {
            writeln!(out, "{hold}")?;
        }
        self.hold = hold;
        out.flush()?;
        Ok(())
    }

    /// What the release says of itself, once.
    fn add_notes(&mut self, record: &UpgradeStatus, out: &mut impl Write) -> std::io::Result<()> {
        if record.notes.is_none() || std::mem::replace(&mut self.has_notes, true) {
            return Ok(());
        }
        notes::lines(record.notes.as_ref()).into_iter().try_for_each(|line| writeln!(out, "{line}"))
    }

    /// The line that is rewritten: the newest step comes first, because a narrow terminal shows only the beginning.
    fn rewrite(
        &mut self,
        name: &str,
        record: &UpgradeStatus,
        now: Timestamp,
        out: &mut impl Write,
    ) -> anyhow::Result<()> {
        let steps = record.durations(Some(now)).map(|(step, took)| {
            let took = took.map(|took| format!(" {}", for_people(took)));
            format!("{:?}{}", step.step, took.unwrap_or_default())
        });
        let mut steps: Vec<String> = steps.collect();
        steps.reverse();
        let hold = record.hold.as_ref().map(|hold| format!(" (waits: {})", hold.reason)).unwrap_or_default();
        let (from, to) = (short_image(&record.from.image), short_image(&record.to.image));
        let first = steps.first_mut().map(|step| step.push_str(&hold));
        debug_assert!(first.is_some() || hold.is_empty());
        // They stay above the line, in the place of what it was.
        write!(out, "\r\x1b[2K")?;
        self.add_notes(record, out)?;
        // Nothing wraps, so that the line can be written over.
        write!(out, "\x1b[?7l{name} {from} → {to}: {}\x1b[?7h", steps.join(" ← "))?;
        out.flush()?;
        self.steps = record.steps.len();
        Ok(())
    }

    /// Leaves the line as it is.
    fn finish(&mut self, out: &mut impl Write, is_terminal: bool) -> std::io::Result<()> {
        if is_terminal && self.steps > 0 { writeln!(out) } else { Ok(()) }
    }

    /// Says something once.
    fn note(&mut self, out: &mut impl Write, note: String) -> std::io::Result<()> {
        if self.note.as_ref() != Some(&note) {
            writeln!(out, "{note}")?;
            out.flush()?;
            self.note = Some(note);
        }
        Ok(())
    }
}

fn sentence(hold: &Hold) -> String {
    let how = if hold.is_stuck { "stuck" } else { "held" };
    format!("{how}: {}, {}", hold.reason, hold.message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::{ReleaseNotes, StepStatus, UpgradeStep};

    #[test]
    fn the_line_on_a_terminal_has_the_newest_step_first_and_never_wraps() {
        let step = |step: UpgradeStep, second: i64| StepStatus { step, at: Timestamp::from_second(second).ok() };
        let mut record = UpgradeStatus {
            steps: vec![step(UpgradeStep::Preflight, 0), step(UpgradeStep::Approval, 65)],
            hold: Some(Hold { reason: "WindowClosed".into(), ..Hold::default() }),
            ..UpgradeStatus::default()
        };
        (record.from.image, record.to.image) = ("registry/progressdb:0.3.0".into(), "registry/progressdb:0.4.0".into());
        let (mut shown, mut out) = (Shown::default(), Vec::new());
        let mut rewrite = |record: &UpgradeStatus| {
            out.clear();
            shown.rewrite("chat", record, Timestamp::from_second(70).unwrap(), &mut out).unwrap();
            String::from_utf8(out.clone()).unwrap()
        };
        let line = "chat progressdb:0.3.0 → progressdb:0.4.0: Approval 5s (waits: WindowClosed) ← Preflight 1m 5s";
        assert_eq!(rewrite(&record), format!("\r\x1b[2K\x1b[?7l{line}\x1b[?7h"));
        // What the release says stays above it.
        record.notes = Some(ReleaseNotes { upgrades_from: Some("0.3.0".into()), ..ReleaseNotes::default() });
        let notes = "  upgrades from: 0.3.0 and newer\n";
        assert_eq!(rewrite(&record), format!("\r\x1b[2K{notes}\x1b[?7l{line}\x1b[?7h"));
        assert_eq!(rewrite(&record), format!("\r\x1b[2K\x1b[?7l{line}\x1b[?7h"), "they are told once");
    }
}
