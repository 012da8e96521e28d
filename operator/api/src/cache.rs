//! Result cache: in the server's memory, then in Redis.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::defaults;

/// A duration as text: a number and `s`, `m` or `h`.
pub const DURATION_PATTERN: &str = r"^[1-9][0-9]{0,6}(s|m|h)$";

/// Levels of the result cache. A level that is absent is off.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
pub struct Cache {
    /// Cache in each server's own memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryCache>,
    /// Cache in Redis, asked when the memory has no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis: Option<RedisCache>,
}

/// The cache in each server's memory.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemoryCache {
    /// Most bytes that answers may take; it counts against the container's memory limit.
    pub max_bytes: Quantity,
    /// How long an answer is kept: a number and `s`, `m` or `h`.
    #[serde(default = "defaults::cache_ttl")]
    #[schemars(length(max = 8), regex(pattern = r"^[1-9][0-9]{0,6}(s|m|h)$"))]
    pub ttl: String,
}

/// The cache in Redis.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RedisCache {
    /// Where Redis runs.
    pub mode: RedisMode,
    /// Mode External: address of Redis, `redis://HOST:PORT` with an optional `/DATABASE`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 9, max = 256),
        regex(
            pattern = r"^redis://[A-Za-z0-9._-]+(:([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?(/[0-9]{1,3})?$"
        )
    )]
    pub url: Option<String>,
    /// How long an answer is kept: a number and `s`, `m` or `h`.
    #[serde(default = "defaults::cache_ttl")]
    #[schemars(length(max = 8), regex(pattern = r"^[1-9][0-9]{0,6}(s|m|h)$"))]
    pub ttl: String,
    /// Mode Sidecar: Redis' `maxmemory`, 64Mi if it is not named; the least recently used answers go first. The container's limit is set above it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_memory: Option<Quantity>,
}

/// Where Redis runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum RedisMode {
    /// A container beside each server, reached over loopback, without persistence.
    Sidecar,
    /// A Redis that somebody else runs, at `url`.
    External,
}
