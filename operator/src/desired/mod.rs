//! From a validated service to its children. Pure and total.

mod autoscaler;
mod deployment;
mod disruption_budget;
mod metadata;
mod network_policy;
mod redis;
mod server_config;
mod service;

use tidewright_api::scaling::Mode;

use crate::domain::objects::Objects;
use crate::domain::settings::PodSettings;
use crate::domain::validated::Validated;

pub use autoscaler::reads_signals;

/// Everything that should exist for this service. `are_signals_served` says whether autoscalers can read the operator's own signals.
pub fn build(service: &Validated, settings: &PodSettings, are_signals_served: bool) -> Objects {
    let mut objects = Objects {
        service_accounts: metadata::service_account(service).into_iter().collect(),
        network_policies: vec![network_policy::build(service, settings)],
        services: vec![service::for_clients(service), service::headless(service)],
        disruption_budgets: vec![disruption_budget::build(service)],
        ..Objects::default()
    };
    for pool in &service.pools {
        let config = server_config::build(service, pool, settings);
        objects
            .deployments
            .push(deployment::build(service, pool, &config, settings));
        objects.config_maps.push(config);
        if !service.is_fixed && service.mode != Mode::Direct {
            objects
                .autoscalers
                .push(autoscaler::build(service, pool, are_signals_served));
        }
    }
    objects
}

#[cfg(test)]
mod tests;
