//! The only folder that talks to the API server.

pub mod api_service;
pub mod apply;
pub mod apply_all;
mod backoff;
pub mod caches;
pub mod call;
mod covers;
pub mod deletion_cost;
pub mod index;
pub mod lease;
pub mod may_write;
pub mod owner;
pub mod prune;
pub mod read;
pub mod record;
pub mod release;
mod replicas;
pub mod request_header;
pub mod review;
pub mod scale;
pub mod serving_certificate;
pub mod usage;
pub mod watch;
pub mod watches;
pub mod write_status;
