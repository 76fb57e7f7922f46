//! What `/metrics` says of the KMS.

use testing::{Server, wait_until};

use crate::{calls, check_kms_unavailable, encrypted, for_every, metric, rotate, throttled, wait_until_kms_is};

/// What is measured for one provider.
fn of(server: &Server, name: &str, provider: &str) -> f64 {
    metric(server, name, &[("provider", provider)])
}

#[test]
fn calls_their_outcomes_and_their_end_are_measured() {
    for_every("calls_their_outcomes_and_their_end_are_measured", |provider| {
        let setup = encrypted(&provider.base());
        let server = setup.start();
        let since_success = || metric(&server, "progressdb_kms_seconds_since_success", &[]);
        let breaker = || of(&server, "progressdb_kms_breaker_open", provider.name);
        wait_until("probes succeed", || {
            calls(&server, "probe", "ok") >= 2.0 && calls(&server, "describe", "ok") >= 1.0
        });
        assert_eq!((calls(&server, "wrap", "ok"), calls(&server, "unwrap", "ok")), (1.0, 0.0));
        let all = of(&server, "progressdb_kms_calls_total", provider.name);
        assert!(of(&server, "progressdb_kms_call_seconds_count", provider.name) >= all);
        assert_eq!(breaker(), 0.0);

        provider.go_away();
        wait_until("the outage is measured", || since_success() >= 1.0);
        let outcome = if provider.name == "local" { "settings" } else { "unavailable" };
        assert!(calls(&server, "probe", outcome) >= 1.0);
        for _ in 0..2 {
            check_kms_unavailable(&rotate(&server));
        }
        if provider.name != "local" {
            let failed = calls(&server, "wrap", outcome) + calls(&server, "describe", outcome);
            assert_eq!((failed, breaker()), (5.0, 1.0), "after five failures none is tried");
        }

        provider.come_back();
        wait_until_kms_is(&server, "ok");
        wait_until("the end is measured", || since_success() < 1.0 && breaker() == 0.0);
        let Some(proxy) = &provider.proxy else { return };
        proxy.times(1, throttled(&provider));
        wait_until("a refusal is measured", || of(&server, "progressdb_kms_throttled_total", provider.name) >= 1.0);
        wait_until_kms_is(&server, "ok");
        rotate(&server).check_status(202);
        assert_eq!(calls(&server, "wrap", "ok"), 2.0);
    });
}
