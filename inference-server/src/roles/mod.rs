//! One composition root per subcommand; only these know everyone.

pub mod bench;
pub mod check_config;
pub mod examine;
pub mod feed;
pub mod inspect;
pub mod load;
pub mod open;
pub mod ports;
pub mod probe_model;
pub mod repository;
pub mod serve;
