//! An error with everything that caused it, as one line for people.

use std::error::Error;

/// The error, and behind it each cause; `Display` of our own errors never prints its source.
pub(crate) fn with_causes(error: &(dyn Error + 'static)) -> String {
    anyhow::Chain::new(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
