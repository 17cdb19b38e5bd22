//! Tests of the relay over loopback that check every byte.
//!
//! `requests`, `bodies` and `streams` cover the original protocol; `bounds`, `hold` and `order` cover the extensions;
//! `attacks`, `hardening` and `table` cover attacks; `running` and `program` cover startup, operation and shutdown; `web`
//! covers files for browsers.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod attacks;
mod bodies;
mod bounds;
mod hardening;
mod hold;
mod log;
mod order;
#[cfg(all(feature = "cli", unix))]
mod program;
mod requests;
mod running;
mod streams;
#[allow(dead_code, reason = "the attacks on hosts use more of it")]
mod support;
mod table;
mod web;
