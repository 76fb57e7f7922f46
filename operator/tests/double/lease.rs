//! Two operators and one Lease. Time is that of tokio, and advances only when the test says so.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use progressdb_operator::{
    clock::Clock,
    lease::{Candidate, Leadership},
};

use crate::api::{Server, faults::Faults};

fn candidate(server: &Server, identity: &str) -> (Candidate, Leadership) {
    let clock = Clock::Set(Arc::new(AtomicI64::new(0)));
    Candidate::new(server.client(), "ns", "operator", identity, clock)
}

#[tokio::test(start_paused = true)]
async fn one_leads_and_the_other_follows_only_after_silence() {
    let server = Server::new();
    let ((mut a, a_leads), (mut b, b_leads)) = (candidate(&server, "a"), candidate(&server, "b"));
    a.step().await.unwrap();
    b.step().await.unwrap();
    assert_eq!((a_leads.holds(), b_leads.holds()), (true, false));
    tokio::time::advance(Duration::from_secs(10)).await;
    b.step().await.unwrap();
    // The one that cannot renew stops first; only later may the other begin.
    assert_eq!((a_leads.holds(), b_leads.holds()), (false, false));
    tokio::time::advance(Duration::from_secs(6)).await;
    b.step().await.unwrap();
    assert_eq!((a_leads.holds(), b_leads.holds()), (false, true));
}

#[tokio::test(start_paused = true)]
async fn who_comes_after_a_long_silence_need_not_watch() {
    let server = Server::new();
    let late = |seconds| {
        let clock = Clock::Set(Arc::new(AtomicI64::new(seconds)));
        Candidate::new(server.client(), "ns", "operator", "late", clock)
    };
    candidate(&server, "a").0.step().await.unwrap();
    let ((mut b, b_leads), (mut c, c_leads)) = (late(30), late(31));
    b.step().await.unwrap();
    assert!(!b_leads.holds());
    c.step().await.unwrap();
    assert!(c_leads.holds());
}

#[tokio::test(start_paused = true)]
async fn who_renews_keeps_leading() {
    let server = Server::new();
    let seconds = Arc::new(AtomicI64::new(0));
    // What is renewed is the time in the Lease.
    let clock = Clock::Set(Arc::clone(&seconds));
    let (mut a, a_leads) = Candidate::new(server.client(), "ns", "operator", "a", clock);
    let (mut b, b_leads) = candidate(&server, "b");
    for _ in 0..20 {
        seconds.fetch_add(3, Ordering::Relaxed);
        a.step().await.unwrap();
        b.step().await.unwrap();
        assert_eq!((a_leads.holds(), b_leads.holds()), (true, false));
        tokio::time::advance(Duration::from_secs(3)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_renewal_whose_reply_is_lost_does_not_count() {
    let server = Server::new();
    let (mut a, a_leads) = candidate(&server, "a");
    a.step().await.unwrap();
    tokio::time::advance(Duration::from_secs(9)).await;
    server.set_faults(Faults::default().lose_reply(1));
    a.step().await.unwrap_err();
    tokio::time::advance(Duration::from_secs(2)).await;
    assert!(!a_leads.holds());
}

#[tokio::test(start_paused = true)]
async fn who_gives_the_lease_back_is_followed_at_once() {
    let server = Server::new();
    let ((mut a, a_leads), (mut b, b_leads)) = (candidate(&server, "a"), candidate(&server, "b"));
    a.step().await.unwrap();
    a.release().await;
    b.step().await.unwrap();
    assert_eq!((a_leads.holds(), b_leads.holds()), (false, true));
}
