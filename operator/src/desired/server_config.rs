//! The server's configuration as a ConfigMap that is named by its content: a change is a rollout, and a rollback finds the old one again.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use sha2::{Digest, Sha256};
use tidewright_api::names;
use tidewright_api::pools::ExecutionProvider as Wanted;
use tidewright_contract::config::{
    ExecutionProvider, LATENCY_OBJECTIVE_MILLIS_MAX, MemoryCacheConfig, ModelConfig, RedisCacheConfig, ServeConfig,
};

use super::metadata;
use crate::domain::hex::hex;
use crate::domain::settings::PodSettings;
use crate::domain::validated::{Location, Pool, RedisPlace, Validated};

/// Key of the file in the ConfigMap.
pub(super) const FILE: &str = "server.json";
/// Where it is mounted.
pub(super) const FOLDER: &str = "/etc/tidewright";
/// Where a claim is mounted; KServe's place.
pub(super) const MODELS_FOLDER: &str = "/mnt/models";
/// A cache that takes longer than this is no use: computing most models is faster.
const REDIS_TIMEOUT_MILLIS: u32 = 50;
/// After the request's own timeout, a second for the answer to leave.
const DRAIN_MARGIN_SECONDS: u32 = 1;

pub(super) fn build(service: &Validated, pool: &Pool, settings: &PodSettings) -> ConfigMap {
    let text = serde_json::to_string_pretty(&config(service, pool, settings)).unwrap_or_default() + "\n";
    let hash = hex(&Sha256::digest(text.as_bytes()), names::HASH_CHARS / 2);
    ConfigMap {
        metadata: metadata::object(service, names::config(&service.name, &pool.name, &hash), Some(pool)),
        data: Some(BTreeMap::from([(FILE.to_owned(), text)])),
        immutable: Some(true),
        ..ConfigMap::default()
    }
}

/// Seconds that a pod may take to end.
pub(super) fn termination_seconds(service: &Validated, settings: &PodSettings) -> i64 {
    i64::from(settings.drain_grace_seconds + service.server.timeout_seconds + 2 * DRAIN_MARGIN_SECONDS)
}

fn config(service: &Validated, pool: &Pool, settings: &PodSettings) -> ServeConfig {
    let path = match &service.model.location {
        Location::Claim { path, .. } => format!("{MODELS_FOLDER}/{path}"),
        Location::Image { path } => path.clone(),
    };
    let mut model = ModelConfig::new(&service.name, path);
    model.digest.clone_from(&service.model.digest);
    let mut config = ServeConfig::new(vec![model]);
    let server = &service.server;
    config.batcher.max_batch_size = server.batch_size_max;
    config.batcher.max_latency_millis = server.batch_latency_max_millis;
    config.limits.max_concurrency = server.concurrency_max;
    config.limits.timeout_seconds = server.timeout_seconds;
    if let Some(objective) = service.objective.filter(|objective| objective.refuses_late) {
        // No request lives longer than the longest timeout, whatever is promised.
        let millis = (objective.latency_seconds * 1e3)
            .round()
            .min(LATENCY_OBJECTIVE_MILLIS_MAX.into());
        config.limits.latency_objective_millis = millis as u32;
    }
    config.drain.grace_seconds = settings.drain_grace_seconds;
    config.drain.timeout_seconds = server.timeout_seconds + DRAIN_MARGIN_SECONDS;
    config.execution.providers = pool.providers.iter().copied().map(provider).collect();
    config.cache.memory = server.memory_cache.as_ref().map(|level| MemoryCacheConfig {
        max_bytes: level.bytes_max,
        ttl_seconds: level.ttl_seconds,
    });
    config.cache.redis = server.redis_cache.as_ref().map(|level| RedisCacheConfig {
        url: Some(match &level.place {
            RedisPlace::Sidecar { .. } => format!("redis://127.0.0.1:{}", super::redis::PORT),
            RedisPlace::External { url } => url.clone(),
        }),
        url_file: None,
        ttl_seconds: level.ttl_seconds,
        timeout_millis: REDIS_TIMEOUT_MILLIS,
    });
    config
}

fn provider(wanted: Wanted) -> ExecutionProvider {
    match wanted {
        Wanted::Cpu => ExecutionProvider::Cpu,
        Wanted::Cuda => ExecutionProvider::Cuda,
        Wanted::Tensorrt => ExecutionProvider::Tensorrt,
    }
}
