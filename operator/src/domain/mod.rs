//! Nouns only, below everyone: the values that travel between the steps.

pub mod calendar;
pub mod decided;
pub mod hex;
pub mod leadership;
pub mod objects;
pub mod observed;
pub mod problem;
pub mod published;
pub mod quantity;
pub mod reading;
pub mod settings;
pub mod signals;
pub mod subscriptions;
pub mod usage;
pub mod validated;
