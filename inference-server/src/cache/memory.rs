//! Level 1: results in this process, bounded by bytes and by age. `now` is given.

use std::time::{Duration, Instant};

use quick_cache::Weighter;
use quick_cache::sync::Cache;
use tidewright_contract::config::MemoryCacheConfig;

use super::key::Key;
use crate::request::Outputs;

/// Results by key.
pub struct Memory {
    cache: Cache<Key, Held, ByBytes>,
    ttl: Duration,
}

#[derive(Clone)]
struct Held {
    outputs: Outputs,
    until: Instant,
    bytes: u64,
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<Key, Held> for ByBytes {
    fn weight(&self, _: &Key, held: &Held) -> u64 {
        held.bytes
    }
}

/// Bytes of one entry besides its values: key, entry, shapes, and the cache's own accounts.
const ENTRY_BYTES: u64 = 256;

impl Memory {
    /// An empty cache.
    pub fn new(config: &MemoryCacheConfig) -> Self {
        // The number of entries is an estimate that sizes the tables; the bound is the bytes.
        let entries = usize::try_from(config.max_bytes / (2 * ENTRY_BYTES))
            .unwrap_or(usize::MAX)
            .clamp(16, 1 << 20);
        Self {
            cache: Cache::with_weighter(entries, config.max_bytes, ByBytes),
            ttl: Duration::from_secs(u64::from(config.ttl_seconds)),
        }
    }

    /// The result, if there is one that is not too old.
    pub fn get(&self, key: &Key, now: Instant) -> Option<Outputs> {
        let held = self.cache.get(key)?;
        if held.until <= now {
            self.cache.remove(key);
            return None;
        }
        Some(held.outputs)
    }

    /// Keeps a result; one larger than the whole cache is not kept.
    pub fn put(&self, key: Key, outputs: Outputs, now: Instant) {
        let bytes = ENTRY_BYTES
            + outputs
                .iter()
                .map(|tensor| (tensor.values().heap_bytes() + 128) as u64)
                .sum::<u64>();
        self.cache.insert(
            key,
            Held {
                outputs,
                until: now + self.ttl,
                bytes,
            },
        );
    }

    /// Bytes held, by our own estimate.
    pub fn bytes(&self) -> u64 {
        self.cache.weight()
    }
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Memory")
            .field("bytes", &self.bytes())
            .field("ttl", &self.ttl)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::tensor::{Tensor, Values};

    fn outputs(count: usize) -> Outputs {
        Arc::new(vec![
            Tensor::new(vec![count], Values::zeros(crate::tensor::DataType::Fp32, count)).unwrap(),
        ])
    }

    #[test]
    fn a_result_is_found_until_it_is_too_old() {
        let memory = Memory::new(&MemoryCacheConfig {
            max_bytes: 1 << 20,
            ttl_seconds: 10,
        });
        let now = crate::clock::now();
        memory.put([1; 32], outputs(3), now);
        assert_eq!(memory.get(&[1; 32], now + Duration::from_secs(9)), Some(outputs(3)));
        assert_eq!(memory.get(&[1; 32], now + Duration::from_secs(10)), None);
        assert_eq!(memory.get(&[1; 32], now), None, "it was removed");
        assert_eq!(memory.get(&[2; 32], now), None);
    }

    #[test]
    fn the_bytes_stay_below_the_bound() {
        let memory = Memory::new(&MemoryCacheConfig {
            max_bytes: 64 * 1024,
            ttl_seconds: 10,
        });
        let now = crate::clock::now();
        for number in 0..2000u32 {
            let mut key = [0; 32];
            key[..4].copy_from_slice(&number.to_le_bytes());
            memory.put(key, outputs(100), now);
            assert!(memory.bytes() <= 64 * 1024);
        }
        assert!(memory.bytes() > 32 * 1024, "it is used");
        memory.put([9; 32], outputs(100_000), now);
        assert_eq!(memory.get(&[9; 32], now), None, "larger than the cache");
    }
}
