//! Level 2: results in Redis. Slow or down, it is skipped: a request never waits longer than the configured time, and while Redis is known to be
//! down only one request now and then tries it.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{AsyncTypedCommands, Client, RedisError, SetExpiry, SetOptions};
use tidewright_contract::config::RedisCacheConfig;
use tokio::sync::Semaphore;

use super::key::Key;
use crate::clock;
use crate::metrics::TierMetrics;
use crate::model::source::hex;

/// Pause before a Redis that failed is asked again; doubled up to the maximum.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// A new connection may take longer than an answer: it is made in the background.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Writes under way at once; more are dropped, a cache need not hold everything.
const WRITES_MAX: usize = 64;

/// A connection that heals itself, and what is known about it.
#[derive(Clone)]
pub struct Redis {
    connection: ConnectionManager,
    ttl: Duration,
    timeout: Duration,
    breaker: Arc<Breaker>,
    writes: Arc<Semaphore>,
    metrics: TierMetrics,
}

/// What asking Redis came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    Hit(Vec<u8>),
    Miss,
    /// Failed, too slow, or known to be down: as good as a miss.
    Unavailable,
}

impl Redis {
    /// A level for a Redis that need not be there yet. Must be called inside the runtime.
    ///
    /// # Errors
    /// When the URL is none; the error does not show it.
    pub fn new(config: &RedisCacheConfig, url: &str, metrics: TierMetrics) -> Result<Self, String> {
        let client = Client::open(url).map_err(|_| "cache.redis: not a Redis URL".to_owned())?;
        let timeout = Duration::from_millis(u64::from(config.timeout_millis));
        // One attempt per try: the pauses between tries are ours, and requests do not wait for them.
        let settings = ConnectionManagerConfig::new()
            .set_number_of_retries(0)
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(timeout));
        let connection = ConnectionManager::new_lazy_with_config(client, settings).map_err(|error| describe(&error))?;
        let redis = Self {
            connection,
            ttl: Duration::from_secs(u64::from(config.ttl_seconds)),
            timeout,
            breaker: Arc::default(),
            writes: Arc::new(Semaphore::new(WRITES_MAX)),
            metrics,
        };
        // The first connection is made now, so that the first request does not wait for it.
        let mut connection = redis.connection.clone();
        let breaker = Arc::clone(&redis.breaker);
        tokio::spawn(async move {
            match connection.ping().await {
                Ok(_) => tracing::info!("Redis answers"),
                Err(error) => breaker.failed(clock::now(), &describe(&error)),
            }
        });
        Ok(redis)
    }

    /// Asks for a result.
    pub async fn get(&self, key: &Key) -> Found {
        if !self.breaker.may_try(clock::now()) {
            self.metrics.skipped.inc();
            return Found::Unavailable;
        }
        let mut connection = self.connection.clone();
        let answer = tokio::time::timeout(
            self.timeout,
            redis::cmd("GET")
                .arg(name(key))
                .query_async::<Option<Vec<u8>>>(&mut connection),
        )
        .await;
        match answer {
            Ok(Ok(found)) => {
                self.breaker.succeeded();
                found.map_or_else(
                    || {
                        self.metrics.miss.inc();
                        Found::Miss
                    },
                    |bytes| {
                        self.metrics.hit.inc();
                        Found::Hit(bytes)
                    },
                )
            }
            Ok(Err(error)) => self.unavailable(&describe(&error)),
            Err(_) => self.unavailable("no answer in time"),
        }
    }

    fn unavailable(&self, why: &str) -> Found {
        self.metrics.error.inc();
        self.breaker.failed(clock::now(), why);
        Found::Unavailable
    }

    /// Keeps a result, in the background.
    pub fn put(&self, key: &Key, value: Vec<u8>) {
        if self.breaker.is_down() {
            return;
        }
        let Ok(permit) = Arc::clone(&self.writes).try_acquire_owned() else {
            return;
        };
        let this = self.clone();
        let name = name(key);
        tokio::spawn(async move {
            let _permit = permit;
            let mut connection = this.connection.clone();
            let options = SetOptions::default().with_expiration(SetExpiry::EX(this.ttl.as_secs()));
            let written = tokio::time::timeout(this.timeout, connection.set_options(name, value, options)).await;
            match written {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => drop(this.unavailable(&describe(&error))),
                Err(_) => drop(this.unavailable("no answer in time")),
            }
        });
    }
}

/// The name of a result in Redis.
fn name(key: &Key) -> String {
    format!("tidewright:result:{}", hex(key))
}

/// A Redis error without what it may quote of the URL.
fn describe(error: &RedisError) -> String {
    format!("{:?}", error.kind())
}

/// Remembers that Redis failed, and when it may be asked again.
#[derive(Debug, Default)]
struct Breaker(Mutex<Option<Down>>);

#[derive(Debug, Clone, Copy)]
struct Down {
    retry_at: Instant,
    pause: Duration,
}

impl Breaker {
    fn locked<R>(&self, change: impl FnOnce(&mut Option<Down>) -> R) -> R {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether this request may ask; while Redis is down one request per pause.
    fn may_try(&self, now: Instant) -> bool {
        self.locked(|down| match down {
            None => true,
            Some(down) if down.retry_at <= now => {
                down.retry_at = now + down.pause;
                true
            }
            Some(_) => false,
        })
    }

    fn is_down(&self) -> bool {
        self.locked(|down| down.is_some())
    }

    fn succeeded(&self) {
        if self.locked(Option::take).is_some() {
            tracing::info!("Redis answers again");
        }
    }

    fn failed(&self, now: Instant, why: &str) {
        let first = self.locked(|down| {
            let pause = down.map_or(PAUSE_MIN, |down| (down.pause * 2).min(PAUSE_MAX));
            down.replace(Down {
                retry_at: now + pause,
                pause,
            })
            .is_none()
        });
        if first {
            tracing::warn!(why, "Redis does not answer, its cache level is skipped until it does");
        }
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Redis")
            .field("breaker", &self.breaker)
            .finish_non_exhaustive()
    }
}

/// The URL of the config: from the file, or from the text with its variables replaced.
///
/// # Errors
/// A sentence that names the variable or file, never the URL.
pub fn url(config: &RedisCacheConfig, variable: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    if let Some(file) = &config.url_file {
        let text = std::fs::read_to_string(file)
            .map_err(|error| format!("cache.redis.urlFile: cannot read {}: {error}", file.display()))?;
        return Ok(text.trim().to_owned());
    }
    let mut rest = config.url.as_deref().unwrap_or_default();
    let mut url = String::new();
    while let Some((before, after)) = rest.split_once("${") {
        let Some((name, tail)) = after.split_once('}') else {
            return Err("cache.redis.url: \"${\" without \"}\"".to_owned());
        };
        let value =
            variable(name).ok_or_else(|| format!("cache.redis.url: the environment variable {name} is not set"))?;
        url.push_str(before);
        url.push_str(&value);
        rest = tail;
    }
    url.push_str(rest);
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn while_down_one_request_per_pause_may_try() {
        let breaker = Breaker::default();
        let start = clock::now();
        assert!(breaker.may_try(start));
        breaker.failed(start, "test");
        assert!(!breaker.may_try(start + Duration::from_millis(99)));
        assert!(breaker.may_try(start + PAUSE_MIN));
        assert!(!breaker.may_try(start + PAUSE_MIN), "the next one waits");
        for _ in 0..10 {
            breaker.failed(start, "test");
        }
        assert!(breaker.is_down());
        assert!(breaker.may_try(start + PAUSE_MAX));
        breaker.succeeded();
        assert!(breaker.may_try(start) && !breaker.is_down());
    }

    #[test]
    fn variables_in_the_url_are_replaced() {
        let config = |url: &str| RedisCacheConfig {
            url: Some(url.to_owned()),
            url_file: None,
            ttl_seconds: 1,
            timeout_millis: 1,
        };
        let variable = |name: &str| (name == "PASSWORD").then(|| "s3cret".to_owned());
        assert_eq!(url(&config("redis://h:1/0"), variable).as_deref(), Ok("redis://h:1/0"));
        assert_eq!(
            url(&config("redis://u:${PASSWORD}@h"), variable).as_deref(),
            Ok("redis://u:s3cret@h")
        );
        assert_eq!(
            url(&config("redis://u:${OTHER}@h"), variable).unwrap_err(),
            "cache.redis.url: the environment variable OTHER is not set"
        );
        assert!(url(&config("redis://${"), variable).is_err());
    }
}
