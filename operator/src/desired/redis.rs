//! Redis beside each server: a native sidecar container, a cache and nothing else.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, ExecAction, Probe, ResourceRequirements, VolumeMount};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::deployment;
use crate::domain::settings::PodSettings;

/// Port on the pod's loopback.
pub(super) const PORT: u16 = 6379;
/// What Redis needs beside its data: connections, fragmentation, and the copy of a key that is being replaced.
const OVERHEAD_BYTES: u64 = 32 << 20;

/// The container; `bytes_max` is Redis' `maxmemory`.
pub(super) fn sidecar(bytes_max: u64, settings: &PodSettings) -> Container {
    let limit = bytes_max.saturating_add(bytes_max / 4).saturating_add(OVERHEAD_BYTES);
    let option = |name: &str, value: &str| [format!("--{name}"), value.to_owned()];
    let memory = Quantity(limit.to_string());
    Container {
        name: "redis".to_owned(),
        image: Some(settings.redis_image.clone()),
        image_pull_policy: Some(settings.image_pull_policy.clone()),
        command: Some(vec!["redis-server".to_owned()]),
        args: Some(
            [
                option("bind", "127.0.0.1"),
                option("port", &PORT.to_string()),
                option("maxmemory", &bytes_max.to_string()),
                option("maxmemory-policy", "allkeys-lru"),
                option("save", ""),
                option("appendonly", "no"),
                option("dir", "/tmp"),
                option("maxclients", "64"),
            ]
            .concat(),
        ),
        restart_policy: Some("Always".to_owned()),
        resources: Some(ResourceRequirements {
            requests: Some(BTreeMap::from([
                ("cpu".to_owned(), Quantity("10m".to_owned())),
                ("memory".to_owned(), memory.clone()),
            ])),
            limits: Some(BTreeMap::from([("memory".to_owned(), memory)])),
            ..ResourceRequirements::default()
        }),
        // The server starts after Redis answers; later it does without Redis when it must, so there is no liveness probe.
        startup_probe: Some(Probe {
            exec: Some(ExecAction {
                command: Some(vec!["redis-cli".to_owned(), "ping".to_owned()]),
            }),
            period_seconds: Some(1),
            failure_threshold: Some(30),
            timeout_seconds: Some(2),
            ..Probe::default()
        }),
        security_context: Some(deployment::container_security()),
        volume_mounts: Some(vec![VolumeMount {
            name: deployment::SCRATCH_VOLUME.to_owned(),
            mount_path: "/tmp".to_owned(),
            ..VolumeMount::default()
        }]),
        ..Container::default()
    }
}
