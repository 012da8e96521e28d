//! The policies by name. Each file adapts one to [`Policy`]; what they decide by lies elsewhere.

mod clairvoyant;
mod fixed;
mod hpa;
mod keda;
mod kpa;
mod ours;

use crate::arrivals::Workload;
use crate::error::{Error, Result};
use crate::policy::Policy;
use crate::scenario::Scenario;
use crate::settings::Settings;

/// Names that `--policy` takes, and what each is.
pub const NAMES: [(&str, &str); 7] = [
    ("tidewright", "ours: the production decision crate, unmodified"),
    ("fixed", "a number of replicas that never changes"),
    ("hpa-cpu", "Kubernetes' HPA on CPU utilisation"),
    (
        "hpa-rps",
        "Kubernetes' HPA on requests per second, by way of prometheus-adapter",
    ),
    ("keda", "KEDA with a Prometheus trigger on requests per second"),
    ("kpa", "Knative's autoscaler on concurrency"),
    ("clairvoyant", "the cheapest plan found by one who knows all arrivals"),
];

/// Makes a policy for a scenario. The workload is for the one that may know it.
pub fn build(name: &str, mut settings: Settings, scenario: &Scenario, workload: &Workload) -> Result<Box<dyn Policy>> {
    let policy: Box<dyn Policy> = match name {
        "tidewright" => Box::new(ours::Ours::new(&mut settings, scenario)?),
        "fixed" => Box::new(fixed::Fixed::new(&mut settings, scenario)?),
        "hpa-cpu" => Box::new(hpa::Hpa::on_cpu(&mut settings, scenario)?),
        "hpa-rps" => Box::new(hpa::Hpa::on_rate(&mut settings, scenario)?),
        "keda" => Box::new(keda::Keda::new(&mut settings, scenario)?),
        "kpa" => Box::new(kpa::Kpa::new(&mut settings, scenario)?),
        "clairvoyant" => Box::new(clairvoyant::Clairvoyant::new(&mut settings, scenario, workload)?),
        _ => {
            let names: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
            return Err(Error::option(
                format!("--policy {name}"),
                format!("there is no such policy; choose one of {}", names.join(", ")),
            ));
        }
    };
    settings.finish(name)?;
    Ok(policy)
}
