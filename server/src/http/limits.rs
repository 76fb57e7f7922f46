//! What clients may take: requests a second, bytes and seconds for a body, memory for bodies and replies.
//!
//! Each limit is bounded itself, however many clients there are. Connections are limited in `listen`.

mod bodies;
mod rate;
mod replies;

use std::time::Duration;

use super::Settings;
use super::middleware::is_public;

pub(super) use bodies::{BodyMemory, ReceivedBody, read};
pub(super) use rate::{Allowance, RateLimiter};
pub(super) use replies::{Brief, ReplyMemory, Taker};

/// What one client may take.
pub(super) struct Limits {
    pub(super) max_body_bytes: usize,
    pub(super) body_timeout: Duration,
    pub(super) body_memory: BodyMemory,
    pub(super) replies: ReplyMemory,
    /// Replies that tell how the server is, which is asked when the others are many.
    pub(super) scrapes: ReplyMemory,
    pub(super) rate: Option<RateLimiter>,
}

/// Memory for replies with metrics.
const SCRAPES_BYTES: usize = 16 << 20;

impl Limits {
    /// The limits that `settings` name, with nothing taken yet.
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            max_body_bytes: settings.max_body_bytes,
            body_timeout: settings.body_timeout,
            body_memory: BodyMemory::new(settings.max_body_memory_bytes),
            replies: ReplyMemory::new(settings.max_reply_memory_bytes, "main"),
            scrapes: ReplyMemory::new(SCRAPES_BYTES, "metrics"),
            rate: settings.rate_limit.map(RateLimiter::new),
        }
    }

    /// The memory that replies to `path` are counted in; what is served from constants costs none.
    pub(super) fn replies_to(&self, path: &str) -> Option<&ReplyMemory> {
        match path {
            "/metrics" | "/admin/debug/prometheus" => Some(&self.scrapes),
            path if is_public(path) => None,
            _ => Some(&self.replies),
        }
    }
}
