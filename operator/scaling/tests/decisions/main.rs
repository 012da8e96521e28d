//! What holds for every decision, and decisions told again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod mix;
mod properties;
mod records;
mod schedules;
mod script;
mod signals;
mod timelines;
mod two_sources;
mod world;
