//! Quantities of Kubernetes, which have many spellings: the API server writes `1000m` as `1`.

use serde_json::Value;

/// A quantity as a number: digits, maybe with a sign, with a decimal or binary suffix or an exponent.
pub fn quantity(value: &Value) -> Option<f64> {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.as_f64()?.to_string(),
    };
    let is_of_number = |letter: char| letter.is_ascii_digit() || ['.', '+', '-'].contains(&letter);
    let end = text.find(|letter: char| !is_of_number(letter)).unwrap_or(text.len());
    let (digits, suffix) = text.split_at(end);
    Some(digits.parse::<f64>().ok()? * factor(suffix)?)
}

fn factor(suffix: &str) -> Option<f64> {
    const UNIT: f64 = 1024.0;
    Some(match suffix {
        "" => 1.0,
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => UNIT,
        "Mi" => UNIT.powi(2),
        "Gi" => UNIT.powi(3),
        "Ti" => UNIT.powi(4),
        "Pi" => UNIT.powi(5),
        "Ei" => UNIT.powi(6),
        exponent => 10f64.powi(exponent.strip_prefix(['e', 'E'])?.parse().ok()?),
    })
}

/// Whether two quantities are equal as numbers, but for what is lost in computing them.
pub(super) fn same_quantity(desired: &Value, live: &Value) -> bool {
    let numbers = quantity(desired).zip(quantity(live));
    desired == live || numbers.is_some_and(|(a, b)| (a - b).abs() <= 1e-12 * a.abs())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_quantity_is_the_same_in_every_spelling() {
        let spellings = [
            vec![json!("0"), json!(0), json!("0m"), json!("0Gi"), json!("0.0")],
            vec![json!("0.1"), json!("100m"), json!("1e-1"), json!(0.1), json!(".1"), json!("100000u")],
            vec![json!("1"), json!(1), json!("1000m"), json!("+1"), json!("1."), json!("1E0")],
            vec![json!("1.5Gi"), json!("1536Mi"), json!("1610612736"), json!(1_610_612_736_i64)],
            vec![json!("1e3"), json!("1k"), json!("1E3"), json!("1000")],
            vec![json!("1E"), json!("1000P"), json!("1e18")],
            vec![json!("-1"), json!("-1000m")],
        ];
        for (index, group) in spellings.iter().enumerate() {
            for (one, other) in group.iter().flat_map(|one| group.iter().map(move |other| (one, other))) {
                assert!(same_quantity(one, other), "{one} is {other}");
            }
            for (one, other) in
                group.iter().flat_map(|one| spellings[..index].iter().flatten().map(move |other| (one, other)))
            {
                assert!(!same_quantity(one, other), "{one} is not {other}");
            }
        }
    }

    #[test]
    fn a_byte_more_is_another_quantity() {
        assert!(!same_quantity(&json!("10Gi"), &json!("10737418241")));
    }

    #[test]
    fn what_is_no_quantity_is_equal_only_to_itself() {
        for text in ["", "Gi", "1Qi", "1 Gi", "one", "1e", "--1", "1GB"] {
            assert_eq!(quantity(&json!(text)), None, "{text}");
            assert!(same_quantity(&json!(text), &json!(text)), "{text}");
        }
    }
}
