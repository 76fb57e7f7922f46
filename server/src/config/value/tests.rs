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

#[test]
fn durations() {
    let all = Kind::Duration(Duration::ZERO, Duration::MAX);
    let good = [
        (json!("5ms"), Duration::from_millis(5)),
        (json!("250µs"), Duration::from_micros(250)),
        (json!("250μs"), Duration::from_micros(250)),
        (json!("250us"), Duration::from_micros(250)),
        (json!("9ns"), Duration::from_nanos(9)),
        (json!("720h"), Duration::from_hours(720)),
        (json!("1h30m"), Duration::from_secs(5400)),
        (json!("1.5s"), Duration::from_millis(1500)),
        (json!("30"), Duration::from_secs(30)),
        (json!(30), Duration::from_secs(30)),
        (json!("0.5"), Duration::from_millis(500)),
        (json!(0.5), Duration::from_millis(500)),
        (json!("1_000s"), Duration::from_secs(1000)),
    ];
    for (raw, duration) in good {
        check(all, raw, Some(Value::Duration(duration)));
    }
    for raw in [
        json!("1d"),
        json!("ms"),
        json!(""),
        json!("-1s"),
        json!(-1),
        json!("1s2"),
        json!("1 s x"),
        json!("inf"),
        json!("nan"),
        json!([]),
    ] {
        check(all, raw, None);
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
