//! Decoding as much of an object as can be decoded: a field that cannot be counts as absent, and so does an item of a list.
//! Only for what decides nothing by being absent. What is nested deeper than anything that the operator reads is absent too.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

/// The most levels that are searched for what can be decoded: metadata and a status have four.
const DEEPEST: usize = 8;

/// The fields of an object, not decoded.
pub(crate) type Fields = BTreeMap<String, Box<RawValue>>;

/// The object with these fields as text.
pub(crate) fn to_text(fields: &Fields) -> String {
    serde_json::to_string(fields).expect("what was JSON is JSON")
}

/// Decodes an object of a type that needs none of its fields.
pub(crate) fn decode<T: DeserializeOwned + Default>(text: &str) -> T {
    if let Ok(whole) = serde_json::from_str(text) {
        return whole;
    }
    let kept = keep(text, &|text| serde_json::from_str::<T>(text).is_ok(), DEEPEST);
    kept.and_then(|kept| serde_json::from_str(&kept).ok()).unwrap_or_default()
}

/// The part of a value that is accepted, of so many levels; `None` if there is none.
fn keep(text: &str, accepts: &dyn Fn(&str) -> bool, levels: usize) -> Option<String> {
    if accepts(text) {
        return Some(text.to_owned());
    }
    let levels = levels.checked_sub(1)?;
    let part = if let Ok(fields) = serde_json::from_str::<Fields>(text) {
        let alone = |name: &str, value: &str| format!("{{{}:{value}}}", serde_json::Value::from(name));
        let kept = fields.into_iter().filter_map(|(name, value)| {
            let value = keep(value.get(), &|value| accepts(&alone(&name, value)), levels)?;
            Some((name, RawValue::from_string(value).expect("what was JSON is JSON")))
        });
        let kept: Fields = kept.collect();
        // Of which nothing is left is not there.
        (!kept.is_empty()).then(|| to_text(&kept))?
    } else {
        let items: Vec<Box<RawValue>> = serde_json::from_str(text).ok()?;
        let kept: Vec<&str> =
            items.iter().map(|item| item.get()).filter(|item| accepts(&format!("[{item}]"))).collect();
        format!("[{}]", kept.join(","))
    };
    accepts(&part).then_some(part)
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};
    use serde_json::{Value, json};

    use super::*;

    #[derive(Debug, Default, Serialize, Deserialize)]
    #[serde(default)]
    struct Outer {
        number: Option<i32>,
        text: String,
        inner: Option<Inner>,
        items: Vec<Item>,
    }

    #[derive(Debug, Default, Serialize, Deserialize)]
    #[serde(default)]
    struct Inner {
        flag: Option<bool>,
        name: String,
    }

    #[derive(Debug, Serialize, Deserialize)]
    struct Item {
        name: String,
    }

    fn decoded(value: Value) -> Value {
        json!(decode::<Outer>(&value.to_string()))
    }

    #[test]
    fn what_is_nested_very_deep_is_absent() {
        let deep = |levels: usize| format!("{}1{}", r#"{"a":"#.repeat(levels), "}".repeat(levels));
        for levels in [DEEPEST, 200, 20_000] {
            let text = format!(r#"{{"text":{},"number":3}}"#, deep(levels));
            let decoded: Outer = decode(&text);
            assert_eq!((decoded.text.as_str(), decoded.number), ("", Some(3)), "{levels}");
        }
    }

    #[test]
    fn what_cannot_be_decoded_is_absent_and_the_rest_is_there() {
        let nothing = json!({ "number": null, "text": "", "inner": null, "items": [] });
        for value in [json!(null), json!(5), json!("text"), json!([]), json!({}), json!({ "other": { "a": [1] } })] {
            assert_eq!(decoded(value.clone()), nothing, "{value}");
        }
        let bad = json!({
            "number": "1", "text": "a", "other": 1, "inner": { "flag": 7, "name": "b" },
            "items": [{ "name": "c" }, { "name": 1 }, null, { "name": "d", "more": {} }],
        });
        let good = json!({
            "number": null, "text": "a", "inner": { "flag": null, "name": "b" }, "items": [{ "name": "c" }, { "name": "d" }],
        });
        assert_eq!(decoded(bad), good);
        assert_eq!(decoded(json!({ "text": null, "inner": [], "items": {}, "number": 3 }))["number"], 3);
        assert_eq!(
            decoded(json!({ "number": 1e30, "text": "a" })),
            json!({ "text": "a", "number": null, "inner": null, "items": [] })
        );
    }
}
