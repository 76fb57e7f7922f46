//! A fault at every call: something is run once without faults, and then for each of its calls three times, with an operator
//! that dies before the call, one that dies after its effect, and a reply that is lost. It always comes to the same end.
//!
//! Of what makes thousands of calls `make torture` takes all (it sets `PROGRESSDB_TORTURE_LOOPS`), and `make test` some that
//! are spread over all of it.

use std::collections::BTreeMap;

use serde_json::Value;
use tokio::time::Instant;

use crate::{
    api::faults::{Death, Faults},
    cluster::Cluster,
};

/// Which calls get a fault.
#[derive(Clone, Copy)]
pub struct Calls {
    first: usize,
    apart: usize,
}

impl Calls {
    /// Every one.
    pub const ALL: Self = Self { first: 0, apart: 1 };

    /// In a test this one and each that is so many later.
    pub fn spread(first: usize, apart: usize) -> Self {
        let is_torture = testing::variable("PROGRESSDB_TORTURE_LOOPS").is_some();
        if is_torture { Self::ALL } else { Self { first, apart } }
    }
}

/// Says which run it was if that fails.
struct Named(String);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("in the run with {}", self.0);
        }
    }
}

/// Runs something with these faults; `run` returns what it came to and the calls that it made, and `compare` holds that two
/// ends are the same, the first of them without a fault.
pub async fn fails<T>(
    which: Calls,
    name: &str,
    run: impl AsyncFn(Faults) -> (T, Vec<String>),
    compare: impl Fn(&T, &T),
) {
    let began = Instant::now();
    let (calm, calls) = run(Faults::default()).await;
    let (count, mut runs) = (calls.len(), 0);
    assert!(which.first < count, "{count} calls are made");
    for (call, summary) in calls.iter().enumerate().skip(which.first).step_by(which.apart) {
        let faults = [
            ("a death before", Faults::death(Death::Before(call))),
            ("a death after", Faults::death(Death::After(call))),
            ("a lost reply to", Faults::default().lose_reply(call)),
        ];
        for (what, faults) in faults {
            let _named = Named(format!("{what} call {call} of {count}, {summary}, {name}"));
            compare(&calm, &run(faults).await.0);
            runs += 1;
        }
    }
    eprintln!("{runs} runs with faults at {count} calls, {name}: {:.0?}", began.elapsed());
}

/// Holds that the same is there in the same state.
pub fn assert_same(wanted: &BTreeMap<String, Value>, found: &BTreeMap<String, Value>) {
    let names = |state: &BTreeMap<String, Value>| state.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(found), names(wanted));
    wanted.iter().for_each(|(name, object)| assert_eq!(&found[name], object, "{name}"));
}

/// A cluster in which `db` serves, if it is to be there, and whose operator lags behind by so many passes.
pub async fn begun(installed: Option<Value>, lag: usize) -> Cluster {
    let mut cluster = Cluster::new();
    cluster.lag = lag;
    if let Some(spec) = installed {
        cluster.create("db", spec);
        cluster.settle().await;
        assert_eq!(cluster.condition("db", "Ready").0, "True", "{:#?}", cluster.get("ProgressDB", "db"));
    }
    cluster.server.take_calls();
    cluster
}
