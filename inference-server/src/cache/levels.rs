//! Reads down the levels and fills them on the way back up.

use std::sync::Arc;

use prometheus_client::metrics::gauge::Gauge;

use super::codec;
use super::key::Key;
use super::memory::Memory;
use super::redis::{Found, Redis};
use super::single_flight::{Role, SingleFlight};
use crate::clock;
use crate::error::Error;
use crate::metrics::TierMetrics;
use crate::request::Outputs;
use crate::tensor::DataType;

/// Level 1 with its accounts.
#[derive(Debug)]
pub struct MemoryLevel {
    pub memory: Memory,
    pub metrics: TierMetrics,
    pub bytes: Gauge,
}

/// The levels that are configured.
#[derive(Debug)]
pub struct Levels {
    memory: Option<MemoryLevel>,
    redis: Option<Redis>,
    /// Identical misses are shared at the level of the process, whichever levels there are.
    flights: Arc<SingleFlight>,
    shared: TierMetrics,
}

impl Levels {
    /// `shared` counts the requests that shared another's result.
    pub fn new(memory: Option<MemoryLevel>, redis: Option<Redis>, shared: TierMetrics) -> Self {
        Self {
            memory,
            redis,
            flights: Arc::default(),
            shared,
        }
    }

    /// The result of the key: from a level, from an identical request under way, or from `run`.
    pub async fn get_or_run<F>(
        &self,
        key: Key,
        datatypes: &[DataType],
        run: impl FnOnce() -> F,
    ) -> Result<Outputs, Error>
    where
        F: Future<Output = Result<Outputs, Error>>,
    {
        if let Some(outputs) = self.recall(&key) {
            return Ok(outputs);
        }
        loop {
            match self.flights.join(key) {
                Role::Follow(follow) => {
                    if let Some(result) = follow.result().await {
                        self.shared.shared.inc();
                        return result;
                    }
                }
                Role::Lead(lead) => {
                    let result = self.lower(&key, datatypes, run).await;
                    lead.land(&result);
                    return result;
                }
            }
        }
    }

    fn recall(&self, key: &Key) -> Option<Outputs> {
        let level = self.memory.as_ref()?;
        let found = level.memory.get(key, clock::now());
        if found.is_some() {
            level.metrics.hit.inc()
        } else {
            level.metrics.miss.inc()
        };
        found
    }

    fn keep(&self, key: Key, outputs: &Outputs) {
        if let Some(level) = &self.memory {
            level.memory.put(key, Arc::clone(outputs), clock::now());
            level.bytes.set(i64::try_from(level.memory.bytes()).unwrap_or(i64::MAX));
        }
    }

    /// Below memory: Redis, then the model.
    async fn lower<F>(&self, key: &Key, datatypes: &[DataType], run: impl FnOnce() -> F) -> Result<Outputs, Error>
    where
        F: Future<Output = Result<Outputs, Error>>,
    {
        if let Some(redis) = &self.redis
            && let Found::Hit(bytes) = redis.get(key).await
        {
            if let Some(outputs) = codec::decode(&bytes, datatypes) {
                let outputs = Outputs::new(outputs);
                self.keep(*key, &outputs);
                return Ok(outputs);
            }
            tracing::warn!("an entry in Redis does not decode, it is computed anew");
        }
        let outputs = run().await?;
        self.keep(*key, &outputs);
        if let Some(redis) = &self.redis {
            redis.put(key, codec::encode(&outputs));
        }
        Ok(outputs)
    }
}
