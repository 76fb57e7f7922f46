//! An error with everything that caused it, as one line for people.

use std::error::Error;

/// The error, and behind it each cause. `Display` of our own errors never prints its source; where that of others does,
/// the cause is not said twice.
pub(crate) fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut line = error.to_string();
    for cause in anyhow::Chain::new(error).skip(1).map(ToString::to_string) {
        if !line.ends_with(&cause) {
            line.push_str(": ");
            line.push_str(&cause);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Link {
        text: &'static str,
        source: Option<Box<Link>>,
    }

    #[test]
    fn each_cause_is_said_once() {
        let chain = |texts: [&'static str; 3]| {
            let link = |source: Option<Box<Link>>, text| Some(Box::new(Link { text, source }));
            with_causes(&*texts.into_iter().rev().fold(None, link).expect("three links"))
        };
        assert_eq!(chain(["a", "b", "c"]), "a: b: c");
        assert_eq!(chain(["a: b", "b", "c"]), "a: b: c");
    }
}
