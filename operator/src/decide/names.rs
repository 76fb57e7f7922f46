//! Whether the names that a resource needs are its own.

use crate::{
    MANAGER,
    conditions::Finding,
    facts::{Facts, Taken},
    kind::Kind,
    objects::labels,
};

/// A name that somebody else has, or that still belongs to a former resource of the same name.
pub(super) fn conflict(resource: &str, facts: &Facts) -> Option<Finding> {
    if let Some(taken) = facts.taken.first() {
        return Some(Finding::no("NameTaken", name_taken(taken, resource)));
    }
    let ((kind, name), _) = facts.objects.iter().find(|(_, object)| object.is_of_former_resource)?;
    let message = format!("the {} {name} belongs to a former ProgressDB of this name and is about to go", kind.name());
    Some(Finding::unknown("FormerObjects", message))
}

/// Who has the name, and the ways out. None of them is to delete something: it may be somebody's data.
fn name_taken(taken: &Taken, resource: &str) -> String {
    let Taken { kind, name, whose } = taken;
    let way_out = match kind {
        Kind::Claim | Kind::Secret => format!(
            "if it is of this database, give it the labels {}={resource} and {}={MANAGER}; else make this database under \
             another name",
            labels::INSTANCE,
            labels::MANAGED_BY,
        ),
        Kind::Pod => format!(
            "if it is the server, give it back the labels {}; else have it made under another name",
            labels::selector(resource, labels::Component::Server)
                .iter()
                .map(|(label, value)| format!("{label}={value}"))
                .collect::<Vec<_>>()
                .join(", ")
        ),
        _ => "make one of the two under another name".to_owned(),
    };
    format!("the {} {name}, whose name this ProgressDB needs, {whose}: {way_out}", kind.name())
}
