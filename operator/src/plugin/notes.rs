//! What the release of a new image says of itself, as lines for whoever decides about it.

use crate::crd::{MigrationNote, ReleaseNotes};

/// A line for each thing that is said; none where nothing is.
pub(super) fn lines(notes: Option<&ReleaseNotes>) -> Vec<String> {
    let Some(notes) = notes else { return Vec::new() };
    let breaking = notes.breaking.iter().map(|sentence| format!("  breaking: {sentence}"));
    let formats = notes.reads_from.zip(notes.reads_to).zip(notes.writes);
    let formats = formats.map(|((from, to), writes)| format!("  formats: reads {from} to {to}, writes {writes}"));
    let migrations = notes.migrations.iter().map(migration);
    let oldest = notes.upgrades_from.as_ref().map(|version| format!("  upgrades from: {version} and newer"));
    breaking.chain(formats).chain(migrations).chain(oldest).collect()
}

fn migration(note: &MigrationNote) -> String {
    let MigrationNote { name, from, to, at, cost, undo } = note;
    let said = [("costs", cost), ("undone by", undo)].into_iter().filter(|(_, text)| !text.is_empty());
    let more: String = said.map(|(what, text)| format!("; {what}: {text}")).collect();
    format!("  migration {name}, format {from} to {to}, at {at}{more}")
}
