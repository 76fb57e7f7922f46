//! Fleets that nobody uses: the operator asks both tracks itself, and then waits for users or for a person.

use serde_json::json;

use super::*;

async fn nobody_asks(new: Image) -> Upgrading {
    let mut upgrading = installed(json!({}), json!({})).await;
    upgrading.cluster.world.images.insert(NEW.into(), new);
    upgrading.cluster.world.requests_a_second = 0;
    upgrading.ask(NEW);
    upgrading
}

#[tokio::test]
async fn what_no_user_has_met_waits_for_users_and_goes_on_by_itself() {
    let mut upgrading = nobody_asks(release("0.4.0")).await;
    upgrading.is_held("GateInconclusive").await;
    assert_eq!((upgrading.gate("Probes"), canaries(&upgrading)), ("Passed".into(), 1));
    assert_eq!(image_of(&upgrading, "db").as_deref(), Some(OLD));
    upgrading.seconds(150).await;
    assert_eq!(upgrading.text("/hold/reason"), "GateInconclusive");
    upgrading.cluster.world.requests_a_second = 100;
    upgrading.ends("Succeeded").await;
    runs(&upgrading, NEW, 3);
}

#[tokio::test]
async fn a_person_lets_it_pass() {
    let mut upgrading = nobody_asks(release("0.4.0")).await;
    upgrading.is_held("GateInconclusive").await;
    assert_eq!(upgrading.text("/hold/nextCommand"), "kubectl progressdb override db Metrics");
    upgrading.annotate("progressdb.io/override", "ID/Metrics@2030-01-01T01:00:00Z");
    upgrading.ends("Succeeded").await;
    runs(&upgrading, NEW, 3);
}

#[tokio::test]
async fn what_fails_the_requests_of_the_operator_goes_back() {
    for new in [Image { errors: 100, ..release("0.4.0") }, Image { p99_micros: 400_000, ..release("0.4.0") }] {
        let mut upgrading = nobody_asks(new).await;
        goes_back(&mut upgrading, "").await;
        assert_eq!(upgrading.gate("Probes"), "Failed");
    }
}

#[tokio::test]
async fn a_server_that_does_not_tell_is_no_proof() {
    let mut upgrading = installed(json!({}), json!({})).await;
    upgrading.cluster.world.images.insert(NEW.into(), release("0.4.0"));
    upgrading.cluster.world.silent_images.push(NEW.into());
    upgrading.ask(NEW);
    upgrading.is_held("GateInconclusive").await;
    assert!(upgrading.text("/hold/message").contains("cannot be read"), "{}", upgrading.record());
    upgrading.cluster.world.silent_images.clear();
    upgrading.ends("Succeeded").await;
}
