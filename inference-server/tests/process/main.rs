//! The server as a process: command line, exit codes, signals, connections, models that mean harm.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod bombs;
mod collector;
mod command_line;
mod connections;
mod crafted;
mod drain;
mod grpc;
mod grpc_bodies;
mod grpc_calls;
mod grpc_drain;
mod http2;
mod inspect;
mod optimized_cache;
mod profile;
mod readme;
mod repository;
mod support;
mod threads;
mod tls;
mod traces;
