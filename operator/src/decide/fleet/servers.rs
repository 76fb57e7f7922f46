//! How the servers of a fleet are: whether clients reach one, and whether all that are asked for do their work.

use jiff::Timestamp;

use crate::{
    conditions::{Finding, PASSING},
    crd::ProgressDBSpec,
    decide::server,
    facts::{Deployment, Fleet, Pod, advice},
};

/// The reason of servers that are not replaced, or do not start, in time.
const SLOW: &str = "RolloutSlow";

/// Whether clients reach a server; and, unless the fleet is stopped on purpose, whether all servers take requests that
/// should.
pub(crate) fn assess(spec: &ProgressDBSpec, fleet: &Fleet, now: Timestamp) -> (Finding, Option<Finding>) {
    let serving = fleet.serving().count();
    let wanted: usize =
        fleet.deployments().filter(|one| !one.is_deleted).map(|one| usize::try_from(one.replicas).unwrap_or(0)).sum();
    let trouble = trouble(fleet, now);
    let count = format!("{serving} of {wanted} servers take requests");
    let whole = match &trouble {
        Some((reason, message)) => Finding::no(reason, format!("{count}: {message}")),
        None if serving >= wanted && fleet.deployments().all(Deployment::is_settled) => {
            Finding::yes("Serving", &*count)
        }
        None => Finding::no("Starting", count),
    };
    let available = match (serving, &trouble) {
        (1.., _) => Finding::yes("Serving", "clients reach the servers that are ready"),
        (0, _) if spec.suspend && fleet.pods.is_empty() => {
            Finding::no("Suspended", "the servers are stopped because spec.suspend is true")
        }
        (0, Some((reason, message))) => Finding::no(reason, message.clone()),
        (0, None) if fleet.pods.iter().any(|server| !server.pod.is_deleted) => {
            Finding::no("Starting", "the servers start")
        }
        (0, None) if !fleet.pods.is_empty() => Finding::no("Stopping", "the servers finish their requests and stop"),
        (0, None) => Finding::no("Stopped", "no server runs"),
    };
    (available, (!spec.suspend && fleet.stable.is_some()).then_some(whole))
}

/// What keeps servers from taking requests that will not pass by itself: of the first one, by name.
fn trouble(fleet: &Fleet, now: Timestamp) -> Option<(&'static str, String)> {
    let refused = fleet.deployments().find_map(|deployment| {
        let why = deployment.failure.as_ref()?;
        let message = format!("the Deployment {} gets no pod: {why}; {}", deployment.name, advice(why));
        Some(("PodRefused", message))
    });
    let living = fleet.pods.iter().map(|server| &server.pod).filter(|pod| !pod.is_deleted);
    let failing = living.map(|pod| (pod, server::of_pod(pod, now))).filter(|(_, found)| found.fails());
    let failing: Vec<_> = failing.collect();
    let named = |(pod, found): &(&Pod, Finding)| (found.reason, format!("{}: {}", pod.name, found.message));
    let lasting = failing.iter().find(|(_, found)| !PASSING.contains(&found.reason)).map(named);
    refused.or(lasting).or_else(|| {
        let stuck = fleet.deployments().find(|deployment| deployment.is_stuck)?;
        let (_, what) = failing.first().map(named).unwrap_or_default();
        let message = format!(
            "no server of the Deployment {} has come any further for 10 minutes, and none is stopped before its successor \
             takes requests; see to it, or ask for what ran before: {what}",
            stuck.name
        );
        Some((SLOW, message))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        facts::{Container, FleetPod, State},
        objects::labels::Track,
    };

    fn spec(suspend: bool) -> ProgressDBSpec {
        let storage = serde_json::json!({ "cassandra": { "contactPoints": ["a"], "datacenter": "d" } });
        serde_json::from_value(serde_json::json!({ "image": "a:1", "storage": storage, "suspend": suspend })).unwrap()
    }

    fn deployment(replicas: i32, ready: i32) -> Deployment {
        let counts =
            Deployment { total: replicas, updated: replicas, ready, available: ready, ..Deployment::default() };
        Deployment { name: "db".into(), replicas, is_observed: true, ..counts }
    }

    fn server(name: &str, pod: Pod) -> FleetPod {
        let pod = Pod { name: name.into(), ..pod };
        FleetPod { pod, track: Track::Stable, release: None, address: None }
    }

    fn ready() -> Pod {
        Pod { is_ready: true, ..Pod::default() }
    }

    fn waiting(reason: &str) -> Pod {
        let container = Container { state: State::Waiting(reason.into(), String::new()), ..Container::default() };
        Pod { container, ..Pod::default() }
    }

    fn found(suspend: bool, stable: Option<Deployment>, pods: Vec<FleetPod>) -> (Finding, Option<Finding>) {
        let fleet = Fleet { stable, pods, ..Fleet::default() };
        assess(&spec(suspend), &fleet, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn one_server_that_serves_is_enough_for_clients_and_not_for_the_whole() {
        let reasons = |stable, pods| {
            let (available, whole) = found(false, Some(stable), pods);
            (available.reason, whole.map(|whole| (whole.reason, whole.message)))
        };
        let whole = |reason, message: &str| Some((reason, message.to_owned()));
        assert_eq!(
            reasons(deployment(2, 2), vec![server("a", ready()), server("b", ready())]),
            ("Serving", whole("Serving", "2 of 2 servers take requests"))
        );
        assert_eq!(
            reasons(deployment(2, 1), vec![server("a", ready()), server("b", waiting("ContainerCreating"))]),
            ("Serving", whole("Starting", "1 of 2 servers take requests"))
        );
        let (available, crashing) =
            reasons(deployment(2, 1), vec![server("a", ready()), server("b", waiting("CrashLoopBackOff"))]);
        let (reason, message) = crashing.unwrap();
        assert_eq!((available, reason), ("Serving", "Crashing"));
        assert!(message.starts_with("1 of 2 servers take requests: b: the server ends again and again"), "{message}");
    }

    #[test]
    fn an_update_that_goes_on_is_not_settled_though_all_servers_serve() {
        let half = Deployment { updated: 1, ..deployment(2, 2) };
        let (_, whole) = found(false, Some(half), vec![server("a", ready()), server("b", ready())]);
        assert_eq!(whole.unwrap().reason, "Starting");
    }

    #[test]
    fn an_update_that_goes_on_no_more_is_told_with_what_its_server_waits_for() {
        let stuck = Deployment { is_stuck: true, total: 3, updated: 1, ..deployment(2, 2) };
        let new =
            Pod { container: Container { state: State::Running(None), ..Container::default() }, ..Pod::default() };
        let pods = vec![server("a", ready()), server("b", ready()), server("c", new)];
        let whole = |stable: Deployment| found(false, Some(stable), pods.clone()).1.unwrap();
        assert_eq!(whole(Deployment { is_stuck: false, ..stuck.clone() }).reason, "Starting");
        let whole = whole(stuck);
        assert_eq!(whole.reason, "RolloutSlow");
        assert!(whole.message.starts_with("2 of 2 servers take requests: no server"), "{}", whole.message);
        assert!(whole.message.contains("c: the server runs and does not take requests"), "{}", whole.message);
    }

    #[test]
    fn what_the_cluster_refuses_is_told_and_a_stop_on_purpose_is_no_trouble() {
        let failure = Some("pods \"db-1\" is forbidden: exceeded quota".to_owned());
        let (available, whole) = found(false, Some(Deployment { failure, ..deployment(1, 0) }), Vec::new());
        assert_eq!((available.reason, whole.unwrap().reason), ("PodRefused", "PodRefused"));
        let (available, whole) = found(true, Some(deployment(0, 0)), Vec::new());
        assert_eq!((available.reason, whole), ("Suspended", None));
        let ending = Pod { is_deleted: true, ..ready() };
        assert_eq!(found(true, Some(deployment(0, 0)), vec![server("a", ending)]).0.reason, "Stopping");
        assert_eq!(found(false, None, Vec::new()), (Finding::no("Stopped", "no server runs"), None));
    }
}
