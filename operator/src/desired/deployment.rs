//! The Deployment of a pool.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapVolumeSource, Container, ContainerPort, EmptyDirVolumeSource, EnvVar, HTTPGetAction,
    PersistentVolumeClaimVolumeSource, PodSecurityContext, PodSpec, PodTemplateSpec, Probe, ResourceRequirements,
    SeccompProfile, SecurityContext, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tidewright_api::labels;
use tidewright_api::names::{self, SERVER_CONTAINER};
use tidewright_contract::routes;

use super::{metadata, redis, server_config};
use crate::domain::settings::PodSettings;
use crate::domain::validated::{Location, Pool, RedisPlace, Validated};

/// A small writable folder beside the read-only root.
pub(super) const SCRATCH_VOLUME: &str = "scratch";
/// Subcommand of the image's entry point.
const SERVE: &str = "serve";
const CONFIG_VOLUME: &str = "config";
const MODEL_VOLUME: &str = "model";
/// Redis' socket folder and the server's temporary files: nothing of size.
const SCRATCH_BYTES: &str = "64Mi";
/// Any user without rights; the images name the same one.
const USER: i64 = 65532;
/// Loading a model may take minutes; the start-up probe asks every second for this long.
const STARTUP_SECONDS_MAX: i32 = 600;
/// Old ReplicaSets, to see in `kubectl rollout history` what ran before. The way back is the old spec: the operator undoes an undo.
const REVISIONS_KEPT: i32 = 2;
/// A rollout that makes no progress for this long is reported as stuck.
const PROGRESS_SECONDS_MAX: i32 = 600;

pub(super) fn build(service: &Validated, pool: &Pool, config: &ConfigMap, settings: &PodSettings) -> Deployment {
    let mut object = metadata::object(service, names::pool(&service.name, &pool.name), Some(pool));
    let writer = if pool.fixed.is_some() {
        labels::REPLICAS_FIXED
    } else {
        labels::REPLICAS_AUTOSCALED
    };
    object.annotations = Some(BTreeMap::from([(
        labels::REPLICAS_WRITER.to_owned(),
        writer.to_owned(),
    )]));
    Deployment {
        metadata: object,
        spec: DeploymentSpec {
            // Absent where a HorizontalPodAutoscaler scales: one writer per field.
            replicas: pool.fixed,
            revision_history_limit: Some(REVISIONS_KEPT),
            progress_deadline_seconds: Some(PROGRESS_SECONDS_MAX),
            selector: metadata::selector(service, Some(pool)),
            strategy: Some(strategy(pool)),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(
                        service
                            .labels
                            .clone()
                            .into_iter()
                            .chain(metadata::own_labels(service, Some(pool)))
                            .collect(),
                    ),
                    annotations: Some(annotations(service)),
                    ..ObjectMeta::default()
                }),
                spec: Some(pod(service, pool, config, settings)),
            },
            ..DeploymentSpec::default()
        },
        status: None,
    }
}

/// On CPUs a new pod first, then an old one less: no capacity is lost. On GPUs the other way round: a second set of GPUs is rarely free, and
/// a rollout that waits for one never ends.
fn strategy(pool: &Pool) -> DeploymentStrategy {
    let (surge, unavailable) = if pool.is_gpu() { (0, 1) } else { (1, 0) };
    DeploymentStrategy {
        type_: Some("RollingUpdate".to_owned()),
        rolling_update: Some(RollingUpdateDeployment {
            max_surge: Some(IntOrString::Int(surge)),
            max_unavailable: Some(IntOrString::Int(unavailable)),
        }),
    }
}

fn annotations(service: &Validated) -> BTreeMap<String, String> {
    let own = [
        ("prometheus.io/scrape", "true".to_owned()),
        ("prometheus.io/port", routes::ADMIN_PORT.to_string()),
        ("prometheus.io/path", routes::METRICS.to_owned()),
        ("kubectl.kubernetes.io/default-container", SERVER_CONTAINER.to_owned()),
    ];
    service
        .annotations
        .clone()
        .into_iter()
        .chain(own.map(|(key, value)| (key.to_owned(), value)))
        .collect()
}

fn pod(service: &Validated, pool: &Pool, config: &ConfigMap, settings: &PodSettings) -> PodSpec {
    let sidecar = service.server.redis_cache.as_ref().and_then(|cache| match cache.place {
        RedisPlace::Sidecar { bytes_max } => Some(redis::sidecar(bytes_max, settings)),
        RedisPlace::External { .. } => None,
    });
    PodSpec {
        service_account_name: Some(service.service_account.clone().unwrap_or_else(|| service.name.clone())),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(server_config::termination_seconds(service, settings)),
        node_selector: (!pool.node_selector.is_empty()).then(|| pool.node_selector.clone()),
        tolerations: (!pool.tolerations.is_empty()).then(|| pool.tolerations.clone()),
        affinity: pool.affinity.clone(),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            run_as_group: Some(USER),
            fs_group: Some(USER),
            // A model volume can hold many files: do not walk them at every start.
            fs_group_change_policy: Some("OnRootMismatch".to_owned()),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                localhost_profile: None,
            }),
            ..PodSecurityContext::default()
        }),
        init_containers: sidecar.map(|container| vec![container]),
        containers: vec![server(service, pool, settings)],
        volumes: Some(volumes(service, config)),
        ..PodSpec::default()
    }
}

fn server(service: &Validated, pool: &Pool, settings: &PodSettings) -> Container {
    let port = |name: &str, number: u16| ContainerPort {
        name: Some(name.to_owned()),
        container_port: i32::from(number),
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    };
    let mount = |name: &str, path: &str, read_only: bool| VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    };
    let mut mounts = vec![
        mount(CONFIG_VOLUME, server_config::FOLDER, true),
        mount(SCRATCH_VOLUME, "/tmp", false),
    ];
    if matches!(service.model.location, Location::Claim { .. }) {
        mounts.push(mount(MODEL_VOLUME, server_config::MODELS_FOLDER, true));
    }
    let probe = |path: &str, period_seconds: i32, failures: i32| Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String("admin".to_owned()),
            scheme: Some("HTTP".to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_seconds),
        timeout_seconds: Some(5),
        failure_threshold: Some(failures),
        success_threshold: Some(1),
        ..Probe::default()
    };
    Container {
        name: SERVER_CONTAINER.to_owned(),
        image: Some(settings.server_image.clone()),
        image_pull_policy: Some(settings.image_pull_policy.clone()),
        args: Some(vec![
            SERVE.to_owned(),
            "--config".to_owned(),
            format!("{}/{}", server_config::FOLDER, server_config::FILE),
        ]),
        env: (!service.model.env.is_empty()).then(|| {
            let plain = |e: &tidewright_api::model::EnvVar| EnvVar {
                name: e.name.clone(),
                value: Some(e.value.clone()),
                value_from: None,
            };
            service.model.env.iter().map(plain).collect()
        }),
        ports: Some(vec![
            port("http", routes::HTTP_PORT),
            port("grpc", routes::GRPC_PORT),
            port("admin", routes::ADMIN_PORT),
        ]),
        resources: Some(resources(pool)),
        startup_probe: Some(probe(routes::READY, 1, STARTUP_SECONDS_MAX)),
        readiness_probe: Some(probe(routes::READY, 2, 3)),
        liveness_probe: Some(probe(routes::LIVE, 10, 6)),
        security_context: Some(container_security()),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        volume_mounts: Some(mounts),
        ..Container::default()
    }
}

fn resources(pool: &Pool) -> ResourceRequirements {
    let mut requests = pool.resources.requests.clone();
    let mut limits = pool.resources.limits.clone();
    if let Some(accelerator) = &pool.accelerator {
        let count = Quantity(accelerator.count.to_string());
        requests.insert(accelerator.resource.clone(), count.clone());
        limits.insert(accelerator.resource.clone(), count);
    }
    ResourceRequirements {
        requests: Some(requests),
        limits: Some(limits),
        ..ResourceRequirements::default()
    }
}

/// What the restricted Pod Security profile asks of a container, and a read-only root on top.
pub(super) fn container_security() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities {
            drop: Some(vec!["ALL".to_owned()]),
            add: None,
        }),
        read_only_root_filesystem: Some(true),
        run_as_non_root: Some(true),
        ..SecurityContext::default()
    }
}

fn volumes(service: &Validated, config: &ConfigMap) -> Vec<Volume> {
    let mut volumes = vec![
        Volume {
            name: CONFIG_VOLUME.to_owned(),
            config_map: Some(ConfigMapVolumeSource {
                name: config.metadata.name.clone().unwrap_or_default(),
                ..ConfigMapVolumeSource::default()
            }),
            ..Volume::default()
        },
        Volume {
            name: SCRATCH_VOLUME.to_owned(),
            empty_dir: Some(EmptyDirVolumeSource {
                size_limit: Some(Quantity(SCRATCH_BYTES.to_owned())),
                ..EmptyDirVolumeSource::default()
            }),
            ..Volume::default()
        },
    ];
    if let Location::Claim { claim, .. } = &service.model.location {
        volumes.push(Volume {
            name: MODEL_VOLUME.to_owned(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: claim.clone(),
                read_only: Some(true),
            }),
            ..Volume::default()
        });
    }
    volumes
}
