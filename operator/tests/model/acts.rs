//! What the operator writes, as far as it matters here.

use progressdb_operator::{
    decide::Write,
    kind::Kind,
    objects::{
        UpgradeJob,
        labels::{CLOSED, ROLE, Role, UPGRADE},
    },
};
use serde_json::Value;

use crate::{
    operator::Operator,
    state::{Act, Claim, Job, JobPhase, Release, Snapshot},
};

impl Operator {
    /// A write, if it changes something that matters here.
    pub fn act(&mut self, write: &Write) -> Option<Act> {
        Some(match write {
            Write::Stop { .. } => Act::Stop,
            Write::Apply(body) | Write::Create(body) => return self.made(body),
            Write::Delete { kind, name, .. } => match kind {
                Kind::Job => Act::DeleteJob(name.clone()),
                Kind::VolumeSnapshot => Act::DeleteSnapshot(name.clone()),
                Kind::Claim => Act::DeleteClaim(name.clone()),
                Kind::ConfigMap => Act::Drop(name.clone()),
                Kind::NetworkPolicy => Act::DeleteWall(name.clone()),
                other => panic!("nothing deletes a {other:?}"),
            },
            Write::Label { name, labels, .. } => {
                let of = |label: &str| labels.iter().find(|(name, _)| name == label).map(|(_, value)| value.clone());
                let role = Role::of(&of(ROLE).unwrap()).unwrap();
                Act::Label(name.clone(), role, of(UPGRADE).unwrap())
            }
            Write::SetContentPolicy { name, retain } => Act::Retain(name.clone(), *retain),
            other => Act::Other(format!("{} {}", other.name(), other.about())),
        })
    }

    fn made(&mut self, body: &Value) -> Option<Act> {
        let (kind, name) = (Kind::of(body).unwrap(), name_of(body));
        let upgrade = body["metadata"]["labels"][UPGRADE].as_str().map(str::to_owned);
        let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        Some(match kind {
            Kind::StatefulSet => Act::Start(self.note_set(body)),
            Kind::Service if name == "db" => Act::Close(closed(body)),
            // It is told to people and decides nothing.
            Kind::ConfigMap if name.ends_with("-report") => return None,
            Kind::ConfigMap if body["immutable"] == true => Act::Keep(self.note_map(body)),
            Kind::Job => {
                let kind = UpgradeJob::ALL.into_iter().find(|job| name.ends_with(&format!("-{}", job.as_str())))?;
                let volumes = body["spec"]["template"]["spec"]["volumes"].as_array().into_iter().flatten();
                let data = volumes.into_iter().find(|volume| volume["name"] == "data");
                let claim = data.and_then(|data| data["persistentVolumeClaim"]["claimName"].as_str());
                let release = match body["spec"]["template"]["spec"]["containers"][0]["image"].as_str() {
                    Some("image:new") => Release::New,
                    Some("image:third") => Release::Third,
                    _ => Release::Old,
                };
                let (claim, phase) = (claim.map(str::to_owned), JobPhase::Waiting);
                let job = Job { kind, upgrade: upgrade?, release, claim, phase };
                Act::MakeJob(name, job)
            }
            Kind::VolumeSnapshot => {
                let claim = text("/spec/source/persistentVolumeClaimName")?;
                let (data, is_ready, is_retained, is_gone) = (None, false, false, false);
                Act::MakeSnapshot(name, Snapshot { upgrade: upgrade?, claim, data, is_ready, is_retained, is_gone })
            }
            Kind::Claim => {
                let role = Role::of(&text("/metadata/labels/progressdb.io~1role")?)?;
                Act::MakeClaim(name, Claim { role, upgrade, data: None, source: text("/spec/dataSource/name") })
            }
            Kind::NetworkPolicy => Act::MakeWall(name, upgrade?),
            other => Act::Other(format!("{other:?} {name}")),
        })
    }
}

pub fn name_of(body: &Value) -> String {
    body["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}

/// The upgrade that a client Service is closed for.
pub fn closed(service: &Value) -> Option<String> {
    service["spec"]["selector"][CLOSED].as_str().map(str::to_owned)
}
