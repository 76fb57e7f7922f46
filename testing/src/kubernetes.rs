//! A Kubernetes in this process, for tests of the operator.
//!
//! [`api`] plays the API server, [`world`] the rest: controllers, scheduler and kubelet. [`rules`] are what both the
//! played and a real API server are held to, so that the one stays like the other.

pub mod api;
pub mod rules;
pub mod world;
