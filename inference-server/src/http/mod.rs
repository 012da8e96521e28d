//! The serving port: routes, bodies, answers, connections.

pub mod access;
pub mod admin;
pub mod app;
pub mod body;
pub mod call;
pub mod calls;
pub mod coding;
pub mod first_bytes;
pub mod format;
pub mod infer;
pub mod listen;
pub mod metadata;
pub mod profile;
pub mod repository;
pub mod respond;
pub mod route;
pub mod signals;
pub mod timeout;
pub mod tls;
pub mod traced;
