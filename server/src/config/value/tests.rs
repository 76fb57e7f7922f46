use serde_json::json;

use super::*;

#[track_caller]
fn check(kind: Kind, raw: Json, expected: Option<Value>) {
    assert_eq!(kind.parse(&raw), expected, "{raw}");
}

#[test]
fn sizes() {
    let all = Kind::Size(0, u64::MAX);
    let good = [
        (json!(1024), 1024),
        (json!("1024"), 1024),
        (json!("100_000"), 100_000),
        (json!("100KB"), 100_000),
        (json!("100KiB"), 102_400),
        (json!("64MiB"), 64 << 20),
        (json!("64Mi"), 64 << 20),
        (json!("2GB"), 2_000_000_000),
        (json!("1 TiB"), 1 << 40),
        (json!("1.5k"), 1500),
        (json!("7b"), 7),
    ];
    for (raw, bytes) in good {
        check(all, raw, Some(Value::Size(bytes)));
    }
    for raw in [
        json!("1XB"),
        json!("KB"),
        json!(""),
        json!("-1"),
        json!(-1),
        json!(1.5),
        json!("1e3"),
        json!([1]),
        json!(true),
        json!("1__0"),
        json!("_1"),
        json!("99999999TiB"),
    ] {
        check(all, raw, None);
    }
    check(Kind::Size(10, 20), json!(9), None);
    check(Kind::Size(10, 20), json!(21), None);
}

#[test]
fn urls() {
    for good in ["http://collector:4318", "https://[::1]/otlp/"] {
        check(Kind::Url, json!(good), Some(Value::Text(good.to_owned())));
    }
    for bad in ["collector:4318", "http://", "ftp://collector", "", "/v1/traces"] {
        check(Kind::Url, json!(bad), None);
    }
}

/// As earlier releases took and refused them.
#[test]
fn durations() {
    let all = Kind::Duration(Duration::ZERO, Duration::MAX);
    let good = [
        (json!("5ms"), Duration::from_millis(5)),
        (json!("250µs"), Duration::from_micros(250)),
        (json!("250μs"), Duration::from_micros(250)),
        (json!("250us"), Duration::from_micros(250)),
        (json!("9ns"), Duration::from_nanos(9)),
        (json!("1500.0ns"), Duration::from_nanos(1500)),
        (json!("720h"), Duration::from_hours(720)),
        (json!("876000h"), Duration::from_hours(876_000)),
        (json!("1h30m"), Duration::from_mins(90)),
        (json!("30m1h"), Duration::from_mins(90)),
        (json!("30m30m"), Duration::from_hours(1)),
        (json!("1h0m0.25s"), Duration::from_millis(3_600_250)),
        (json!("1.5s"), Duration::from_millis(1500)),
        (json!("1.5h"), Duration::from_mins(90)),
        (json!("1.5h30m"), Duration::from_hours(2)),
        (json!(".5s"), Duration::from_millis(500)),
        (json!("5.s"), Duration::from_secs(5)),
        (json!("0.3333333333333333h"), Duration::from_mins(20)),
        (json!(" 1m "), Duration::from_mins(1)),
        (json!("0s"), Duration::ZERO),
        (json!("0"), Duration::ZERO),
        (json!("30"), Duration::from_secs(30)),
        (json!(30), Duration::from_secs(30)),
        (json!("0.5"), Duration::from_millis(500)),
        (json!(0.5), Duration::from_millis(500)),
        (json!("1_000"), Duration::from_secs(1000)),
        (json!("1_000s"), Duration::from_secs(1000)),
        (json!("1_0.2_5s"), Duration::from_millis(10_250)),
    ];
    for (raw, duration) in good {
        check(all, raw, Some(Value::Duration(duration)));
    }
    for raw in [
        json!("1d"),
        json!("1w"),
        json!("1y"),
        json!("1M"),
        json!("1H"),
        json!("ms"),
        json!("h1"),
        json!(""),
        json!("+1s"),
        json!("-1s"),
        json!("2h-1h"),
        json!(-1),
        json!("1s2"),
        json!("1 s"),
        json!("1h 30m"),
        json!("1s ago"),
        json!("1:30"),
        json!("PT1H"),
        json!("1e3"),
        json!("1e3s"),
        json!("1.2.3s"),
        json!("_1s"),
        json!("1_s"),
        json!("1__0s"),
        json!("inf"),
        json!("nan"),
        json!("99999999999999999999h"),
        json!(1e30),
        json!([]),
        json!(null),
        json!(true),
    ] {
        check(all, raw, None);
    }
    // Bounds hold whatever the unit, and are named in units.
    let bounded = Kind::Duration(Duration::from_millis(100), Duration::from_hours(1));
    for (raw, duration) in [("100ms", 100), ("0.1", 100), ("60m", 3_600_000), ("3600", 3_600_000)] {
        check(bounded, json!(raw), Some(Value::Duration(Duration::from_millis(duration))));
    }
    for raw in ["99ms", "0", "61m", "3601"] {
        check(bounded, json!(raw), None);
    }
    assert_eq!(bounded.allowed(), "a duration from 100ms to 1h");
}

/// Words that jiff takes for units.
#[test]
fn units_may_be_written_out() {
    for (raw, duration) in [("90min", 5400), ("1hour30minutes", 5400), ("2hrs", 7200), ("45secs", 45)] {
        check(
            Kind::Duration(Duration::ZERO, Duration::MAX),
            json!(raw),
            Some(Value::Duration(Duration::from_secs(duration))),
        );
    }
    for raw in ["1day", "2weeks", "1month", "1year"] {
        check(Kind::Duration(Duration::ZERO, Duration::MAX), json!(raw), None);
    }
}

#[test]
fn numbers() {
    check(Kind::Integer(0, 65535), json!("100_00"), Some(Value::Integer(10_000)));
    check(Kind::Integer(0, 65535), json!(65535), Some(Value::Integer(65535)));
    for raw in [json!(65536), json!(-1), json!(1.5), json!("1.5"), json!("x"), json!("1_"), json!(null)] {
        check(Kind::Integer(0, 65535), raw, None);
    }
    check(Kind::Number(0.0, 10.0), json!("1_0"), Some(Value::Number(10.0)));
    check(Kind::Number(0.0, 10.0), json!(0.5), Some(Value::Number(0.5)));
    for raw in [json!("NaN"), json!("inf"), json!(10.1), json!("1e1"), json!("-1")] {
        check(Kind::Number(0.0, 10.0), raw, None);
    }
}

#[test]
fn truths() {
    for raw in [json!(true), json!(1), json!("1"), json!("TRUE"), json!("Yes"), json!("on")] {
        check(Kind::Bool, raw, Some(Value::Bool(true)));
    }
    for raw in [json!(false), json!(0), json!("0"), json!("False"), json!("no"), json!("OFF")] {
        check(Kind::Bool, raw, Some(Value::Bool(false)));
    }
    for raw in [json!("maybe"), json!(2), json!(""), json!([])] {
        check(Kind::Bool, raw, None);
    }
}

#[test]
fn lists() {
    let texts = |items: &[&str]| Some(Value::Texts(items.iter().map(|&item| item.to_owned()).collect()));
    check(Kind::Texts, json!(["a", " b "]), texts(&["a", "b"]));
    check(Kind::Texts, json!("a, b,,"), texts(&["a", "b"]));
    check(Kind::Texts, json!([]), texts(&[]));
    check(Kind::Texts, json!([1]), None);
    check(Kind::Texts, json!({}), None);
    check(Kind::Addresses, json!(["::1", "10.0.0.1"]), texts(&["::1", "10.0.0.1"]));
    check(Kind::Addresses, json!(["10.0.0.0/8"]), None);
    check(Kind::Secrets, json!(["a b"]), None);
    check(Kind::Secrets, json!([""]), None);
    // A number may have lost its leading zeros before it came here.
    check(Kind::Secrets, json!([123]), None);
}

#[test]
fn words() {
    let levels = Kind::Choice(&["info", "warn"]);
    check(levels, json!("INFO"), Some(Value::Text("info".to_owned())));
    check(levels, json!("loud"), None);
    check(Kind::Text, json!(" a "), Some(Value::Text("a".to_owned())));
    check(Kind::Text, json!(5), None);
}

#[test]
fn sizes_and_durations_read_back_what_they_show() {
    for bytes in [0, 1, 999, 1000, 1024, 102_400, 1 << 40, (1 << 30) + 1] {
        check(Kind::Size(0, u64::MAX), json!(show_size(bytes)), Some(Value::Size(bytes)));
    }
    for nanos in [0, 1, 1000, 1_500_000, 1_000_000_000, 5_400_000_000_000, 86_400_000_000_000] {
        let duration = Duration::from_nanos(nanos);
        check(
            Kind::Duration(Duration::ZERO, Duration::MAX),
            json!(show_duration(duration)),
            Some(Value::Duration(duration)),
        );
    }
}
