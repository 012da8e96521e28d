//! The answers of one tick, sorted by pool, and the facts of one pool taken out of them. Pure.

use std::collections::{BTreeSet, HashMap};

use crate::domain::published::{Reason, ServiceKey, Signal, Unavailable};
use crate::sources::check::Facts;
use crate::sources::decode::{Line, quote};
use crate::sources::queries::{
    DIGEST_LABEL, KEY_LABELS, PART_AGE, PART_ALL, PART_COVERED, PART_LABEL, PART_PODS, PART_SERIES, PART_UP,
    SERVICE_LABELS, SIGNAL_CONCURRENCY, SIGNAL_LABEL, SIGNAL_QUEUE, SIGNAL_RATE,
};

/// Most pods that a count is believed to mean.
const PODS_MAX: f64 = 1e6;

/// Most digests of one service that are kept: more than one only while a model changes.
const DIGESTS_MAX: usize = 4;

/// Namespace, service, pool.
type Key = (String, String, String);
/// An answer, or why there is none.
type Answer = Result<Vec<Line>, Unavailable>;

/// The answers of one tick.
#[derive(Debug)]
pub struct Answers {
    rate: Result<HashMap<Key, Vec<f64>>, Unavailable>,
    queue: Result<HashMap<Key, Vec<f64>>, Unavailable>,
    concurrency: Result<HashMap<Key, Vec<f64>>, Unavailable>,
    targets: Result<HashMap<Key, Targets>, Unavailable>,
    samples: Result<HashMap<(Key, &'static str), Samples>, Unavailable>,
    /// By service. Nothing depends on them but what is shown, so why there are none is not kept.
    digests: HashMap<ServiceKey, BTreeSet<String>>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Targets {
    up: Option<u32>,
    all: Option<u32>,
    series: Option<u32>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Samples {
    age: Option<f64>,
    pods: Option<u32>,
    covered: Option<u32>,
}

impl Answers {
    /// Sorts the answers. An answer with one line that cannot be meant is void as a whole: what else is wrong with it cannot be
    /// known. That of the digests is not, because nothing is decided by it.
    pub fn new(
        rate: Answer,
        queue: Answer,
        concurrency: Answer,
        targets: Answer,
        samples: Answer,
        digests: Answer,
    ) -> Self {
        Self {
            rate: rate.and_then(values),
            queue: queue.and_then(values),
            concurrency: concurrency.and_then(values),
            targets: targets.and_then(sort_targets),
            samples: samples.and_then(sort_samples),
            digests: digests.map(sort_digests).unwrap_or_default(),
        }
    }

    /// Digests of what the pods of a service have loaded.
    pub fn digests(&self, service: &ServiceKey) -> BTreeSet<String> {
        self.digests.get(service).cloned().unwrap_or_default()
    }

    /// What is known of one signal of one pool. Nothing is known if any of the answers it rests on failed.
    pub fn facts(&self, service: &ServiceKey, pool: &str, signal: &Signal) -> Result<Facts, Unavailable> {
        let key: Key = (service.namespace.clone(), service.name.clone(), pool.to_owned());
        let (answer, name) = match signal {
            Signal::QueueDepth => (&self.queue, SIGNAL_QUEUE),
            Signal::Concurrency => (&self.concurrency, SIGNAL_CONCURRENCY),
            _ => (&self.rate, SIGNAL_RATE),
        };
        let failed = |trouble: &Unavailable| trouble.clone();
        let values = answer.as_ref().map_err(failed)?.get(&key).cloned().unwrap_or_default();
        let targets = self
            .targets
            .as_ref()
            .map_err(failed)?
            .get(&key)
            .copied()
            .unwrap_or_default();
        let samples = self.samples.as_ref().map_err(failed)?;
        let samples = samples.get(&(key, name)).copied().unwrap_or_default();
        Ok(Facts {
            values,
            age_seconds: samples.age,
            reporting_pods: samples.pods.unwrap_or(0),
            covered_pods: (name == SIGNAL_RATE).then(|| samples.covered.unwrap_or(0)),
            up_pods: targets.up.unwrap_or(0),
            known_pods: targets.all.unwrap_or(0),
            up_targets: targets.series.unwrap_or(0),
            ..Facts::default()
        })
    }
}

fn malformed(problem: &str) -> Unavailable {
    Unavailable::new(
        Reason::AnswerMalformed,
        format!("the answer is not that of Prometheus: {problem}"),
    )
}

/// The key of a line that has the key's labels and `extra` more ones, no others.
fn key(line: &Line, extra: usize) -> Result<Key, Unavailable> {
    let [namespace, service, pool] = KEY_LABELS.map(|name| line.label(name).to_owned());
    if namespace.is_empty() || service.is_empty() || pool.is_empty() || line.label_count() != KEY_LABELS.len() + extra {
        return Err(malformed("a series without the labels that were asked for"));
    }
    Ok((namespace, service, pool))
}

fn values(lines: Vec<Line>) -> Result<HashMap<Key, Vec<f64>>, Unavailable> {
    let mut sorted: HashMap<Key, Vec<f64>> = HashMap::with_capacity(lines.len());
    for line in lines {
        sorted.entry(key(&line, 0)?).or_default().push(line.value);
    }
    Ok(sorted)
}

/// Fills a slot once.
fn fill<T>(slot: &mut Option<T>, value: T) -> Result<(), Unavailable> {
    if slot.replace(value).is_some() {
        return Err(malformed("the same series twice"));
    }
    Ok(())
}

fn count(value: f64) -> Result<u32, Unavailable> {
    if (0.0..=PODS_MAX).contains(&value) && value.fract() == 0.0 {
        Ok(value as u32)
    } else {
        Err(malformed(&format!("a count of {value}")))
    }
}

fn sort_targets(lines: Vec<Line>) -> Result<HashMap<Key, Targets>, Unavailable> {
    let mut sorted: HashMap<Key, Targets> = HashMap::new();
    for line in lines {
        let targets = sorted.entry(key(&line, 1)?).or_default();
        let number = count(line.value)?;
        match line.label(PART_LABEL) {
            PART_UP => fill(&mut targets.up, number)?,
            PART_ALL => fill(&mut targets.all, number)?,
            PART_SERIES => fill(&mut targets.series, number)?,
            other => return Err(malformed(&format!("a part {:?}", quote(other)))),
        }
    }
    Ok(sorted)
}

/// Pods choose what they export: a line that names no digest is passed over, or one pod would hide the digests of all.
fn sort_digests(lines: Vec<Line>) -> HashMap<ServiceKey, BTreeSet<String>> {
    let mut sorted: HashMap<ServiceKey, BTreeSet<String>> = HashMap::new();
    for line in lines {
        let [namespace, service] = SERVICE_LABELS.map(|name| line.label(name));
        let digest = line.label(DIGEST_LABEL);
        let is_asked_for = line.label_count() == SERVICE_LABELS.len() + 1;
        if namespace.is_empty() || service.is_empty() || !is_asked_for || !is_digest(digest) {
            continue;
        }
        let digests = sorted.entry(ServiceKey::new(namespace, service)).or_default();
        if digests.len() < DIGESTS_MAX {
            digests.insert(digest.to_owned());
        }
    }
    sorted
}

/// This goes into the status: only what a digest can look like.
fn is_digest(text: &str) -> bool {
    let is_hex = |hex: &str| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    text.strip_prefix("sha256:").is_some_and(is_hex)
}

fn sort_samples(lines: Vec<Line>) -> Result<HashMap<(Key, &'static str), Samples>, Unavailable> {
    let mut sorted: HashMap<(Key, &'static str), Samples> = HashMap::new();
    for line in lines {
        let signal = match line.label(SIGNAL_LABEL) {
            SIGNAL_RATE => SIGNAL_RATE,
            SIGNAL_QUEUE => SIGNAL_QUEUE,
            SIGNAL_CONCURRENCY => SIGNAL_CONCURRENCY,
            other => return Err(malformed(&format!("a signal {:?}", quote(other)))),
        };
        let samples = sorted.entry((key(&line, 2)?, signal)).or_default();
        match line.label(PART_LABEL) {
            PART_AGE => fill(&mut samples.age, line.value)?,
            PART_PODS => fill(&mut samples.pods, count(line.value)?)?,
            PART_COVERED => fill(&mut samples.covered, count(line.value)?)?,
            other => return Err(malformed(&format!("a part {:?}", quote(other)))),
        }
    }
    Ok(sorted)
}
