//! The rules of the config file: bounds of each field, and what must hold between fields.

use std::collections::HashSet;

use super::{LATENCY_OBJECTIVE_MILLIS_MAX, ModelConfig, RedisCacheConfig, ServeConfig, is_name};
use crate::problems::Problems;

/// More models than this in one process is a mistake in the file, not a wish.
const MODELS_MAX: usize = 64;

pub(super) fn check(config: &ServeConfig, problems: &mut Problems) {
    check_models(config, problems);
    for (path, address, other_path, other) in [
        ("grpc.address", config.grpc.address, "http.address", config.http.address),
        (
            "admin.address",
            config.admin.address,
            "http.address",
            config.http.address,
        ),
        (
            "admin.address",
            config.admin.address,
            "grpc.address",
            config.grpc.address,
        ),
    ] {
        if address == other && address.port() != 0 {
            problems.add(path, format!("must differ from {other_path}"));
        }
    }
    if let Some(tls) = &config.tls {
        for (path, file) in [("tls.certificate", &tls.certificate), ("tls.key", &tls.key)] {
            if file.as_os_str().is_empty() {
                problems.add(path, "must name a file");
            }
        }
    }
    problems.within(
        "batcher.maxBatchSize",
        u64::from(config.batcher.max_batch_size),
        1,
        4096,
    );
    problems.within(
        "batcher.maxLatencyMillis",
        u64::from(config.batcher.max_latency_millis),
        0,
        60_000,
    );
    problems.within(
        "limits.queueCapacity",
        u64::from(config.limits.queue_capacity),
        1,
        1_000_000,
    );
    problems.within(
        "limits.maxConcurrency",
        u64::from(config.limits.max_concurrency),
        0,
        1_000_000,
    );
    problems.within(
        "limits.timeoutSeconds",
        u64::from(config.limits.timeout_seconds),
        1,
        3600,
    );
    problems.within(
        "limits.latencyObjectiveMillis",
        u64::from(config.limits.latency_objective_millis),
        0,
        u64::from(LATENCY_OBJECTIVE_MILLIS_MAX),
    );
    problems.within(
        "limits.bodyBytesMax",
        config.limits.body_bytes_max,
        1024,
        4 * 1024 * 1024 * 1024,
    );
    problems.within(
        "limits.bodiesBytesMax",
        config.limits.bodies_bytes_max,
        1024,
        1024 * 1024 * 1024 * 1024,
    );
    problems.within(
        "limits.connectionsMax",
        u64::from(config.limits.connections_max),
        1,
        1_000_000,
    );
    problems.within(
        "limits.idleTimeoutSeconds",
        u64::from(config.limits.idle_timeout_seconds),
        1,
        3600,
    );
    if u64::from(config.batcher.max_latency_millis) >= u64::from(config.limits.timeout_seconds) * 1000 {
        problems.add("batcher.maxLatencyMillis", "must be less than limits.timeoutSeconds");
    }
    if let Some(memory) = &config.cache.memory {
        problems.within("cache.memory.maxBytes", memory.max_bytes, 1024, 1 << 40);
        problems.within("cache.memory.ttlSeconds", u64::from(memory.ttl_seconds), 1, 30 * 86_400);
    }
    if let Some(redis) = &config.cache.redis {
        check_redis(redis, problems);
    }
    check_execution(config, problems);
    problems.within("drain.graceSeconds", u64::from(config.drain.grace_seconds), 0, 600);
    // Beyond the longest timeout of a request: its answer has to leave, too.
    problems.within("drain.timeoutSeconds", u64::from(config.drain.timeout_seconds), 1, 3660);
    if config.log.filter.trim().is_empty() {
        problems.add("log.filter", "must not be empty; use \"off\" to log nothing");
    }
    if let Some(tracing) = &config.tracing {
        tracing.check(problems);
    }
}

fn check_models(config: &ServeConfig, problems: &mut Problems) {
    let models = &config.models;
    match &config.repository.directory {
        None if models.is_empty() => problems.add("models", "must name at least one model"),
        Some(folder) if folder.as_os_str().is_empty() => problems.add("repository.directory", "must not be empty"),
        _ => {}
    }
    problems.within(
        "repository.loadedBytesMax",
        config.repository.loaded_bytes_max,
        0,
        1 << 44,
    );
    if models.len() > MODELS_MAX {
        problems.add(
            "models",
            format!("must name at most {MODELS_MAX} models, names {}", models.len()),
        );
    }
    let mut names = HashSet::new();
    for (index, model) in models.iter().enumerate() {
        let path = |field: &str| format!("models[{index}].{field}");
        if !is_name(&model.name) {
            problems.add(path("name"), WORD_RULE);
        }
        if !names.insert((&model.name, &model.version)) {
            let ModelConfig { name, version, .. } = model;
            problems.add(path("name"), format!("{name:?} is used twice in version {version:?}"));
        }
        if !is_name(&model.version) {
            problems.add(path("version"), WORD_RULE);
        }
        if model.path.as_os_str().is_empty() {
            problems.add(path("path"), "must not be empty");
        }
        if model.digest.as_deref().is_some_and(|digest| !is_digest(digest)) {
            problems.add(path("digest"), "must be \"sha256:\" and 64 lower-case hex digits");
        }
        check_warmup_sizes(&model.warmup_sizes, &path("warmupSizes"), problems);
    }
}

fn check_warmup_sizes(sizes: &[u32], path: &str, problems: &mut Problems) {
    let most = ModelConfig::WARMUP_SIZES_MAX;
    if sizes.len() > most {
        problems.add(path, format!("must have at most {most} sizes, has {}", sizes.len()));
    }
    let mut seen = HashSet::new();
    for (index, size) in sizes.iter().enumerate() {
        let path = format!("{path}[{index}]");
        problems.within(&path, u64::from(*size), 1, u64::from(ModelConfig::WARMUP_SIZE_MAX));
        if !seen.insert(size) {
            problems.add(path, format!("{size} is there twice"));
        }
    }
}

fn check_redis(redis: &RedisCacheConfig, problems: &mut Problems) {
    match (&redis.url, &redis.url_file) {
        (Some(_), Some(_)) => problems.add("cache.redis", "takes url or urlFile, not both"),
        (None, None) => problems.add("cache.redis", "needs url or urlFile"),
        // What stands behind a variable is checked when it is replaced.
        (Some(url), None) if !url.starts_with("redis://") && !url.starts_with("${") => {
            problems.add("cache.redis.url", "must start with redis:// or with a variable ${NAME}");
        }
        _ => {}
    }
    problems.within("cache.redis.ttlSeconds", u64::from(redis.ttl_seconds), 1, 30 * 86_400);
    problems.within("cache.redis.timeoutMillis", u64::from(redis.timeout_millis), 1, 10_000);
}

fn check_execution(config: &ServeConfig, problems: &mut Problems) {
    let execution = &config.execution;
    if execution.providers.is_empty() {
        problems.add("execution.providers", "must name at least one of cpu, cuda, tensorrt");
    }
    let mut seen = HashSet::new();
    for (index, provider) in execution.providers.iter().enumerate() {
        if !seen.insert(provider) {
            problems.add(
                format!("execution.providers[{index}]"),
                format!("{provider} is named twice"),
            );
        }
    }
    problems.within(
        "execution.intraOpThreads",
        u64::from(execution.intra_op_threads),
        1,
        256,
    );
    problems.within("execution.workers", u64::from(execution.workers), 0, 256);
    if execution
        .optimized_model_cache
        .as_ref()
        .is_some_and(|folder| folder.as_os_str().is_empty())
    {
        problems.add("execution.optimizedModelCache", "must not be empty");
    }
    problems.within(
        "execution.optimizedModelCacheBytesMax",
        execution.optimized_model_cache_bytes_max,
        1024 * 1024,
        1 << 40,
    );
}

const WORD_RULE: &str = "must be 1 to 253 of A-Z a-z 0-9 . _ - and start with a letter or digit";

fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:")
        .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')))
}
