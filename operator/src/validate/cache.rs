//! Levels of the result cache.

use tidewright_api::cache::{Cache, RedisMode};
use tidewright_api::defaults;

use super::quantity;
use crate::domain::problem::Problem;
use crate::domain::validated::{MemoryCache, Pool, RedisCache, RedisPlace};

/// Most memory of a Redis beside a server: more than any node spares, and what is added to it stays a number.
const SIDECAR_BYTES_MAX: u64 = 1 << 40;

/// What the server takes for its cache in memory: below, not one answer fits.
const MEMORY_BYTES_MIN: u64 = 1 << 10;
const MEMORY_BYTES_MAX: u64 = 1 << 40;

pub(super) fn validate(
    spec: Option<&Cache>,
    pools: &[Pool],
    problems: &mut Vec<Problem>,
) -> (Option<MemoryCache>, Option<RedisCache>) {
    let memory = spec.and_then(|c| c.memory.as_ref()).and_then(|level| {
        let path = "spec.cache.memory.maxBytes";
        let bytes_max = quantity::bytes(&level.max_bytes, path, problems)?;
        if !(MEMORY_BYTES_MIN..=MEMORY_BYTES_MAX).contains(&bytes_max) {
            problems.push(Problem::new(path, format!("{:?} is not between 1Ki and 1Ti", level.max_bytes.0)));
            return None;
        }
        let ttl_seconds = seconds(&level.ttl, "spec.cache.memory.ttl", problems)?;
        for pool in pools {
            let limit = pool.resources.limits.get("memory").and_then(quantity::number);
            if limit.is_some_and(|limit| bytes_max as f64 > limit / 2.0) {
                problems.push(Problem::new(
                    path,
                    format!("takes more than half of the memory limit of pool {}: the server would be killed; raise the limit or lower maxBytes", pool.name),
                ));
            }
        }
        Some(MemoryCache { bytes_max, ttl_seconds })
    });
    let redis = spec.and_then(|c| c.redis.as_ref()).and_then(|level| {
        let ttl_seconds = seconds(&level.ttl, "spec.cache.redis.ttl", problems)?;
        let place = match level.mode {
            RedisMode::Sidecar => {
                let path = "spec.cache.redis.maxMemory";
                let max_memory = level.max_memory.clone().unwrap_or_else(defaults::redis_max_memory);
                let bytes_max = quantity::bytes(&max_memory, path, problems)?;
                if bytes_max > SIDECAR_BYTES_MAX {
                    problems.push(Problem::new(path, format!("{:?} is more than 1Ti", max_memory.0)));
                    return None;
                }
                RedisPlace::Sidecar { bytes_max }
            }
            RedisMode::External => {
                let Some(url) = &level.url else {
                    problems.push(Problem::new(
                        "spec.cache.redis.url",
                        "mode External needs the address of Redis",
                    ));
                    return None;
                };
                RedisPlace::External { url: url.clone() }
            }
        };
        Some(RedisCache { place, ttl_seconds })
    });
    (memory, redis)
}

/// A duration such as `90s`, `5m` or `2h`, as seconds; a week at most.
fn seconds(text: &str, path: &str, problems: &mut Vec<Problem>) -> Option<u32> {
    const WEEK_SECONDS: u32 = 7 * 24 * 3600;
    let (number, unit) = text.split_at(text.len().saturating_sub(1));
    let factor = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => 0,
    };
    let seconds = number
        .parse::<u32>()
        .ok()
        .and_then(|n| n.checked_mul(factor))
        .filter(|s| (1..=WEEK_SECONDS).contains(s));
    if seconds.is_none() {
        problems.push(Problem::new(
            path,
            format!("{text:?} is not a duration such as 90s, 5m or 2h of at most a week"),
        ));
    }
    seconds
}
