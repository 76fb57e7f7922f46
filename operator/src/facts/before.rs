//! What the status said before this decision.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::{conditions::ConditionType, crd::ProgressDB};

/// What the status said before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Before {
    /// The generation of the resource now.
    pub generation: Option<i64>,
    /// Its conditions.
    pub conditions: BTreeMap<ConditionType, Told>,
    /// The claim that held the data.
    pub claim: Option<String>,
    /// The format of the data.
    pub data_format: Option<i32>,
    /// Whether it named the version of the server.
    pub has_version: bool,
}

/// One condition as it was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Told {
    /// Its status, as the resource has it.
    pub status: String,
    /// Its reason.
    pub reason: String,
    /// Its message.
    pub message: String,
    /// The generation of which it was said.
    pub generation: Option<i64>,
    /// When its status changed last.
    pub since: Timestamp,
}

impl Before {
    pub(super) fn of(resource: &ProgressDB) -> Self {
        let status = resource.status.as_ref();
        let conditions = status.into_iter().flat_map(|status| &status.conditions);
        let told = conditions.filter_map(|condition| {
            let told = Told {
                status: condition.status.clone(),
                reason: condition.reason.clone(),
                message: condition.message.clone(),
                generation: condition.observed_generation,
                since: condition.last_transition_time.0,
            };
            Some((ConditionType::of(&condition.type_)?, told))
        });
        Self {
            generation: resource.metadata.generation,
            conditions: told.collect(),
            claim: status.and_then(|status| status.claim.clone()),
            data_format: status.and_then(|status| status.data_format),
            has_version: status.is_some_and(|status| status.version.is_some()),
        }
    }

    /// The condition of this type, if this was its reason.
    pub fn told(&self, kind: ConditionType, reason: &str) -> Option<&Told> {
        self.conditions.get(&kind).filter(|told| told.reason == reason)
    }
}
