//! A format that cannot be changed: what is held, and how it ends.

use serde_json::json;

use super::*;
use crate::{upgrade::finalizing, upgrade_commands::typed};

const THIRD: &str = "registry/progressdb:0.5.0";

/// A fleet whose new image fails to change the format, each time.
async fn failing() -> Upgrading {
    let mut upgrading = installed(json!({}), json!({})).await;
    upgrading.cluster.world.images.insert(NEW.into(), finalizing());
    upgrading.cluster.world.failing_jobs.insert("-finalize-".into(), "heads: a bug in the release".into());
    upgrading.ask(NEW);
    upgrading.is_held("FinalizeFailed").await;
    assert!(upgrading.text("/hold/message").contains("heads: a bug in the release"), "{}", upgrading.record());
    upgrading
}

/// What the resource asks for next is served, on the format that the data has.
async fn goes_on(mut upgrading: Upgrading) {
    upgrading.ends("Succeeded").await;
    assert!(upgrading.text("/message").contains("the format of the data was left as it is"), "{}", upgrading.record());
    runs(&upgrading, NEW, 3);
    let first = upgrading.text("/id");
    upgrading.ask(THIRD);
    upgrading.until("another upgrade", |upgrading| upgrading.text("/id") != first).await;
    upgrading.ends("Succeeded").await;
    runs(&upgrading, THIRD, 3);
}

#[tokio::test]
async fn a_format_that_cannot_be_changed_is_left_as_its_hold_says() {
    let mut upgrading = failing().await;
    let job = upgrading.named("finalize");
    upgrading.delete("Job", &job);
    upgrading.until("another try", |upgrading| upgrading.cluster.times_made("Job", &job) == 2).await;
    upgrading.is_held("FinalizeFailed").await;
    let command = upgrading.text("/hold/nextCommand");
    assert_eq!(command, "kubectl progressdb override db Finalize (to leave the format as it is)");
    upgrading.annotate("progressdb.io/override", "ID/Finalize@2030-01-02T00:00:00Z");
    goes_on(upgrading).await;
}

#[tokio::test]
async fn whoever_gives_it_up_keeps_the_new_image_on_the_old_format() {
    let upgrading = failing().await;
    let (said, _) = typed(&upgrading.cluster, "abort db").await.unwrap();
    assert!(said.contains("the format of the data stays as it is"), "{said}");
    goes_on(upgrading).await;
}
