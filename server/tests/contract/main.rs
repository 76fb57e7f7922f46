//! What clients were promised, asked of a running server: one file a subject.
//!
//! Texts, status codes and shapes are those that the released clients and their documentation rely on. The tests know
//! nothing of the code behind them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod admin;
mod auth;
mod conditional;
mod errors;
mod http_rules;
mod idempotency;
mod keys;
mod metrics;
mod objects;
mod pages;
mod reads;
mod transport;

/// A client cannot tell by what it gets on which engine a store lies. An administrator can: rows of all partitions are in no
/// order there, and backups and their figures are the engine's own.
#[test]
fn all_but_admin_scans_and_backups_hold_on_cassandra() {
    let not_served = [
        "admin::a_listed_key_can_be_read_and_an_unknown_one_is_404",
        "admin::a_prefix_narrows_the_keys_and_their_total",
        "admin::a_purge_runs_when_retention_is_on_and_is_refused_when_off",
        "admin::every_list_has_a_limit",
        "admin::five_keys_come_with_all_anchor_and_flag_fields",
        "admin::keys_page_in_pure_key_order",
        "conditional::what_the_client_has_already_is_304",
        "metrics::documentation_code_and_scrape_have_the_same_names",
        "metrics::every_family_has_help_and_every_counter_stands_at_0_before_its_first_event",
    ];
    testing::setup::again_on_cassandra("all_but_admin_scans_and_backups_hold_on_cassandra", &not_served);
}
