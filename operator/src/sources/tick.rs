//! One tick: ask, sort, judge, remember.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, stream};
use jiff::Timestamp;

use crate::clock::SharedClock;
use crate::domain::published::{
    PoolReadings, Reading, Reason, ServiceKey, ServiceReadings, Signal, Snapshot, Unavailable,
};
use crate::domain::subscriptions::{ExternalQuery, PoolExpectation, Subscription};
use crate::error::{Error, Result};
use crate::sources::address::{parse_server, server_address_refusal};
use crate::sources::answers::Answers;
use crate::sources::check::judge;
use crate::sources::counters::Counters;
use crate::sources::decode::Line;
use crate::sources::enforce::confine;
use crate::sources::external::Prepared;
use crate::sources::memory::{ReadyPods, hold_last_good};
use crate::sources::prometheus::{Prometheus, SharedBuffer, Trust, http_client};
use crate::sources::settings::Settings;
use crate::sources::{external, queries};

/// External queries under way at once: one slow tenant must not fill Prometheus' queue.
const EXTERNAL_AT_ONCE: usize = 16;
/// External queries of one service that are run: as many as the schema allows signals.
const EXTERNAL_PER_SERVICE: usize = 10;

type Wanted = BTreeMap<ServiceKey, Arc<Subscription>>;

/// The metrics source between its ticks.
#[derive(Debug)]
pub struct Source {
    settings: Settings,
    own: Option<Prometheus>,
    /// The allow-listed servers, by their address in [`parse_server`]'s form. They never see the bearer token.
    others: HashMap<String, Prometheus>,
    texts: [String; 6],
    ready: ReadyPods,
    /// The same over the time in which a window fills.
    ready_for_window: ReadyPods,
    turn: usize,
    /// By namespace and query.
    prepared: HashMap<(String, String), Prepared>,
    counters: Arc<Counters>,
    clock: SharedClock,
}

impl Source {
    /// Sets up the connections.
    pub async fn new(settings: &Settings, counters: Arc<Counters>, clock: SharedClock) -> Result<Self> {
        let ca = match &settings.ca_file {
            None => None,
            Some(path) => Some(tokio::fs::read(path).await.map_err(|source| Error::Io {
                what: format!("CA of Prometheus {}", path.display()),
                source,
            })?),
        };
        let trust = ca.as_deref().map_or(Trust::Public { and: None }, Trust::Only);
        let own_client = http_client(&trust, settings.timeout)?;
        let others_client = http_client(&Trust::Public { and: ca.as_deref() }, settings.timeout)?;
        let large = SharedBuffer::default();
        let server = |address: &str, client: &reqwest::Client, token| {
            let url =
                parse_server(address).map_err(|problem| Error::Tls(format!("Prometheus {address:?} {problem}")))?;
            let (large, clock) = (Arc::clone(&large), Arc::clone(&clock));
            let prometheus = Prometheus::new(client.clone(), &url, token, settings.bounds(), large, clock);
            Ok::<_, Error>((url.to_string(), prometheus))
        };
        let own = match &settings.url {
            None => None,
            Some(address) => Some(server(address, &own_client, settings.bearer_token_file.clone())?.1),
        };
        let others = settings
            .allowed_servers
            .iter()
            .map(|address| server(address, &others_client, None))
            .collect::<Result<_>>()?;
        Ok(Self {
            texts: [
                queries::request_rate(settings.rate_window),
                queries::queue_depth(settings.max_sample_age),
                queries::concurrency(settings.max_sample_age),
                queries::targets(),
                queries::samples(settings.max_sample_age, settings.rate_window, settings.scrape_interval),
                queries::digests(settings.max_sample_age),
            ],
            settings: settings.clone(),
            own,
            others,
            ready: ReadyPods::default(),
            ready_for_window: ReadyPods::default(),
            turn: 0,
            prepared: HashMap::new(),
            counters,
            clock,
        })
    }

    /// Reads everything that is wanted.
    pub async fn read(&mut self, wanted: &Wanted, previous: &Snapshot) -> Snapshot {
        self.turn = self.turn.wrapping_add(1);
        self.prepare(wanted).await;
        let (answers, mut externals) = tokio::join!(self.ask(wanted), self.ask_externals(wanted));
        let now = self.clock.now();
        for ready in [&mut self.ready, &mut self.ready_for_window] {
            ready.keep(|key, pool| wanted.get(key).is_some_and(|service| service.pools.contains_key(pool)));
        }
        let mut services = BTreeMap::new();
        for (key, subscription) in wanted {
            let pools = subscription
                .pools
                .iter()
                .map(|(pool, expectation)| (pool.clone(), self.judge_pool(key, pool, *expectation, &answers, now)))
                .collect();
            let external = externals.remove(key).unwrap_or_default();
            let digests = answers.digests(key);
            let readings = ServiceReadings {
                pools,
                external,
                digests,
            };
            services.insert(key.clone(), readings);
        }
        hold_last_good(&mut services, &previous.services, self.settings.hold, now);
        Snapshot {
            taken_at: now,
            valid_for: self.settings.valid_for(),
            services: services
                .into_iter()
                .map(|(key, readings)| (key, Arc::new(readings)))
                .collect(),
        }
    }

    /// Parses the external queries that are new, and forgets those that are gone.
    async fn prepare(&mut self, wanted: &Wanted) {
        let mut known = std::mem::take(&mut self.prepared);
        for (key, subscription) in wanted {
            for query in subscription.external.iter().take(EXTERNAL_PER_SERVICE) {
                let name = (key.namespace.clone(), query.query.clone());
                let prepared = match known.remove(&name) {
                    Some(prepared) => prepared,
                    None if self.prepared.contains_key(&name) => continue,
                    None => {
                        let (namespace, text) = name.clone();
                        tokio::task::spawn_blocking(move || confine(&text, &namespace))
                            .await
                            .unwrap_or_else(|_| Err("the parser failed on this query".to_owned()))
                    }
                };
                self.prepared.insert(name, prepared);
            }
        }
    }

    /// The questions about all services, at once. None while nobody wants an answer.
    async fn ask(&self, wanted: &Wanted) -> Answers {
        if wanted.is_empty() {
            let nothing = || Ok(Vec::new());
            return Answers::new(nothing(), nothing(), nothing(), nothing(), nothing(), nothing());
        }
        let [rate, queue, concurrency, targets, samples, digests] = &self.texts;
        let (rate, queue, concurrency, targets, samples, digests) = tokio::join!(
            self.query(rate),
            self.query(queue),
            self.query(concurrency),
            self.query(targets),
            self.query(samples),
            self.query(digests)
        );
        Answers::new(rate, queue, concurrency, targets, samples, digests)
    }

    async fn query(&self, text: &str) -> Result<Vec<Line>, Unavailable> {
        let outcome = match &self.own {
            Some(prometheus) => prometheus.query(text).await,
            None => Err(not_configured()),
        };
        self.counters.note(&outcome, self.clock.now());
        outcome
    }

    /// All external queries within the time of one: whoever names a slow server must not delay the signals of the others. Who comes first changes
    /// from tick to tick, so that the same ones are not always the ones cut off.
    async fn ask_externals(&self, wanted: &Wanted) -> BTreeMap<ServiceKey, BTreeMap<String, Reading>> {
        let mut asked: Vec<(&ServiceKey, usize, &ExternalQuery)> = wanted
            .iter()
            .flat_map(|(key, subscription)| {
                let queries = subscription.external.iter().enumerate();
                queries.map(move |(index, query)| (key, index, query))
            })
            .collect();
        let first = self
            .turn
            .wrapping_mul(EXTERNAL_AT_ONCE)
            .checked_rem(asked.len())
            .unwrap_or(0);
        asked.rotate_left(first);
        let deadline = tokio::time::Instant::now() + self.settings.timeout;
        let asking: Vec<BoxFuture<'_, Reading>> = asked
            .iter()
            .map(|(key, index, query)| self.ask_in_time(key, *index, query, deadline).boxed())
            .collect();
        let readings: Vec<Reading> = stream::iter(asking).buffered(EXTERNAL_AT_ONCE).collect().await;
        let mut sorted: BTreeMap<ServiceKey, BTreeMap<String, Reading>> = BTreeMap::new();
        for ((key, _, query), reading) in asked.into_iter().zip(readings) {
            sorted
                .entry(key.clone())
                .or_default()
                .insert(query.name.clone(), reading);
        }
        sorted
    }

    async fn ask_in_time(
        &self,
        key: &ServiceKey,
        index: usize,
        query: &ExternalQuery,
        deadline: tokio::time::Instant,
    ) -> Reading {
        let reading = if index < EXTERNAL_PER_SERVICE {
            tokio::time::timeout_at(deadline, self.ask_external(key, query))
                .await
                .unwrap_or_else(|_| {
                    let message = "the external queries of all services together took too long";
                    Err(Unavailable::new(Reason::PrometheusTimeout, message))
                })
        } else {
            let message = format!("a service may have {EXTERNAL_PER_SERVICE} external metrics");
            Err(Unavailable::new(Reason::QueryRefused, message))
        };
        self.counters.note(&reading, self.clock.now());
        reading
    }

    async fn ask_external(&self, key: &ServiceKey, query: &ExternalQuery) -> Reading {
        let prometheus = match &query.server_address {
            None => self.own.as_ref().ok_or_else(not_configured)?,
            // Validation has refused it already; asked again here, because here is where the request leaves.
            Some(address) => {
                let own = self.settings.url.as_deref();
                if let Some(refusal) = server_address_refusal(address, own, &self.settings.allowed_servers) {
                    return Err(Unavailable::new(Reason::QueryRefused, refusal));
                }
                let other = parse_server(address).ok().and_then(|url| self.others.get(url.as_str()));
                other.or(self.own.as_ref()).ok_or_else(not_configured)?
            }
        };
        let name = (key.namespace.clone(), query.query.clone());
        let prepared = self
            .prepared
            .get(&name)
            .ok_or_else(|| Unavailable::new(Reason::NotYetRead, "the query has not been looked at yet"))?;
        external::read(query, prepared, prometheus, &self.settings, &self.clock).await
    }

    fn judge_pool(
        &mut self,
        key: &ServiceKey,
        pool: &str,
        expectation: PoolExpectation,
        answers: &Answers,
        now: Timestamp,
    ) -> PoolReadings {
        let limits = self.settings.limits();
        let settled = expectation
            .ready_pods
            .map(|ready| self.ready.settle(key, pool, ready, now, limits.pod_grace));
        let settled_for_window = expectation
            .ready_pods
            .map(|ready| self.ready_for_window.settle(key, pool, ready, now, limits.window_grace));
        let read = |signal: &Signal| {
            let mut facts = answers.facts(key, pool, signal)?;
            facts.ready_pods = expectation.ready_pods;
            facts.settled_pods = settled.map(|settled| settled.pods);
            facts.window_pods = settled_for_window.map(|settled| settled.pods);
            facts.returned_pods = settled.and_then(|settled| settled.returned);
            facts.window_returned_pods = settled_for_window.and_then(|settled| settled.returned);
            facts.starting = settled.is_some_and(|settled| settled.starting);
            judge(&facts, &limits, &signal.metric_name(), pool, now)
        };
        PoolReadings {
            request_rate: read(&Signal::RequestRate),
            queue_depth: read(&Signal::QueueDepth),
            concurrency: read(&Signal::Concurrency),
        }
    }
}

fn not_configured() -> Unavailable {
    Unavailable::new(
        Reason::NotConfigured,
        "the operator was started without the address of a Prometheus server",
    )
}
