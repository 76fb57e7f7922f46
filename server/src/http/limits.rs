//! Limits on clients: requests a second, bytes and seconds for a body, memory for bodies and responses.
//!
//! What is kept to hold a limit is bounded too, however many clients there are. Connections are limited in `listen`.

mod bodies;
mod rate;
mod responses;

use std::time::Duration;

use super::Settings;
use super::middleware::is_public;

pub(super) use bodies::{BodyMemory, ReceivedBody, read};
pub(super) use rate::{Allowance, RateLimiter};
pub(super) use responses::{Brief, Recipient, ResponseMemory};

/// The limits of one API.
pub(super) struct Limits {
    pub(super) max_body_bytes: usize,
    pub(super) body_timeout: Duration,
    pub(super) body_memory: BodyMemory,
    pub(super) responses: ResponseMemory,
    /// Responses with metrics: a budget of their own, so that they can be read under load.
    pub(super) scrapes: ResponseMemory,
    pub(super) rate: Option<RateLimiter>,
}

/// Memory for responses with metrics.
const SCRAPES_BYTES: usize = 16 << 20;

impl Limits {
    /// The limits that `settings` name, with nothing taken yet.
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            max_body_bytes: settings.max_body_bytes,
            body_timeout: settings.body_timeout,
            body_memory: BodyMemory::new(settings.max_body_memory_bytes),
            responses: ResponseMemory::new(settings.max_reply_memory_bytes, "main"),
            scrapes: ResponseMemory::new(SCRAPES_BYTES, "metrics"),
            rate: settings.rate_limit.map(RateLimiter::new),
        }
    }

    /// The budget of responses to `path`; none for those that are served from constants.
    pub(super) fn responses_to(&self, path: &str) -> Option<&ResponseMemory> {
        match path {
            "/metrics" | "/admin/debug/prometheus" => Some(&self.scrapes),
            path if is_public(path) => None,
            _ => Some(&self.responses),
        }
    }
}
