//! Follows one kind: its own task, its own backoff, its own cache. What happens to one kind's watch does not slow another's.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::time::Duration;

use futures::StreamExt;
use kube::runtime::reflector::{self, Store};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Resource, ResourceExt};
use rand::RngExt;
use serde::de::DeserializeOwned;
use tidewright_api::labels;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::backoff::Backoff;
use super::call::HEADERS_TIMEOUT;
use super::index::Index;
use super::watches::{WatchState, Watches};
use crate::domain::published::ServiceKey;

/// The API server ends a watch after this long and the client begins a new one. A dead connection is noticed some seconds later; the client's own
/// 290 s are longer than the 240 s after which some balancers drop an idle connection silently.
pub const WATCH_SECONDS: u32 = 120;
/// A watch that has failed for this long is built anew from a list: whatever it holds on to, such as a resource version that
/// the API server no longer knows, is gone then.
const REBUILD_AFTER: Duration = Duration::from_secs(60);
/// Longest silence while the first list is read: a list has pages, and each is an answer. Afterwards silence is normal.
const LIST_TIMEOUT: Duration = Duration::from_secs(30);
/// A watch that is silent for this long after a failure is taken to work: an attempt that is refused, or not answered at all, fails sooner. Nothing
/// else tells, where nothing changes.
const HEALED_AFTER: Duration = HEADERS_TIMEOUT.saturating_add(Duration::from_secs(15));

/// What is followed, and whom to tell.
#[derive(Debug)]
pub struct Follow<K: 'static> {
    /// Name of the kind, for readiness and metrics.
    pub kind: &'static str,
    /// All namespaces, or one.
    pub api: Api<K>,
    /// Label selector.
    pub selector: Option<String>,
    /// Which service an object belongs to.
    pub key_of: fn(&K) -> Option<ServiceKey>,
    /// Drops what nobody reads, to save memory.
    pub slim: fn(&mut K),
    /// Tell only of changes of this value; `None` tells of every change.
    pub significant: Option<fn(&K) -> String>,
}

/// The service that a child's labels name.
pub fn key_by_label<K: Resource>(object: &K) -> Option<ServiceKey> {
    Some(ServiceKey::new(
        object.meta().namespace.clone()?,
        object.meta().labels.as_ref()?.get(labels::SERVICE)?.clone(),
    ))
}

/// Drops the record of who wrote which field: often half of the object.
pub fn without_managed_fields<K: Resource>(object: &mut K) {
    object.meta_mut().managed_fields = None;
}

/// Starts to follow; the cache and its index fill by themselves.
pub fn spawn<K>(
    follow: Follow<K>,
    watches: Watches,
    keys: mpsc::Sender<ServiceKey>,
    stop: CancellationToken,
) -> (Store<K>, Index)
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Hash + Eq + Clone + Default,
{
    let index = Index::default();
    let writer = reflector::store::Writer::default();
    let reader = writer.as_reader();
    watches.set(follow.kind, WatchState::Starting);
    let kind = follow.kind;
    let task = tokio::spawn(run(follow, writer, index.clone(), watches.clone(), keys, stop.clone()));
    tokio::spawn(async move {
        if let Err(error) = task.await {
            tracing::error!(kind, %error, "the watch ended");
        }
        if !stop.is_cancelled() {
            watches.set(kind, WatchState::Ended);
        }
    });
    (reader, index)
}

async fn run<K>(
    follow: Follow<K>,
    mut writer: reflector::store::Writer<K>,
    index: Index,
    watches: Watches,
    keys: mpsc::Sender<ServiceKey>,
    stop: CancellationToken,
) where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let store = writer.as_reader();
    let mut told: HashMap<ServiceKey, String> = HashMap::new();
    let mut backoff = Backoff::default();
    while !stop.is_cancelled() {
        let mut config = watcher::Config::default().timeout(WATCH_SECONDS);
        if let Some(selector) = &follow.selector {
            config = config.labels(selector);
        }
        let mut stream = Box::pin(watcher::watcher(follow.api.clone(), config));
        let mut failing_since: Option<Instant> = None;
        let mut is_listing = true;
        loop {
            let limit = match backoff.failing_for(now()) {
                _ if is_listing => LIST_TIMEOUT,
                Some(_) => HEALED_AFTER,
                None => Duration::MAX,
            };
            let next = tokio::select! {
                () = stop.cancelled() => return,
                next = within(limit, stream.next()) => next,
            };
            let Some(next) = next else {
                if !is_listing {
                    failing_since = None;
                    backoff.succeeded();
                    watches.set(follow.kind, WatchState::Following);
                    continue;
                }
                // The wait was long enough.
                backoff.failed(now(), 0.0);
                let why = format!("no answer to the list in {} s", LIST_TIMEOUT.as_secs());
                tracing::warn!(
                    kind = follow.kind,
                    seconds = LIST_TIMEOUT.as_secs(),
                    "no answer to the list; asking anew"
                );
                watches.set(follow.kind, failing(why, false, &backoff));
                break;
            };
            match next {
                None => break,
                Some(Ok(mut event)) => {
                    // The client announces each list before it asks for it, and a list says nothing about the watch after it.
                    if matches!(event, Event::Apply(_) | Event::Delete(_)) {
                        failing_since = None;
                        backoff.succeeded();
                    }
                    is_listing = matches!(event, Event::Init | Event::InitApply(_));
                    let is_listed = watches.is_listed(follow.kind);
                    if let Event::Apply(object) | Event::InitApply(object) = &mut event {
                        (follow.slim)(object);
                    }
                    writer.apply_watcher_event(&event);
                    index.note(&event, follow.key_of, &store);
                    if matches!(event, Event::InitDone)
                        || (is_listed && matches!(event, Event::Apply(_) | Event::Delete(_)))
                    {
                        watches.set(follow.kind, WatchState::Following);
                    }
                    if let Some(key) = changed(&follow, &event, &mut told)
                        && keys.send(key).await.is_err()
                    {
                        return;
                    }
                }
                Some(Err(error)) => {
                    let since = *failing_since.get_or_insert_with(now);
                    let wait = backoff.failed(now(), rand::rng().random_range(0.0..1.0));
                    tracing::warn!(kind = follow.kind, %error, retry_seconds = wait.as_secs_f32(), "watch failed");
                    watches.set(follow.kind, failing(error.to_string(), is_forbidden(&error), &backoff));
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = tokio::time::sleep(wait) => {}
                    }
                    // The client keeps a resource version that is refused with the status 410, for ever; and so it does with one from the future
                    // after etcd was restored from an older snapshot.
                    if is_gone(&error) || now().duration_since(since) > REBUILD_AFTER {
                        tracing::warn!(kind = follow.kind, "building the watch anew from a list");
                        break;
                    }
                }
            }
        }
    }
}

fn failing(why: String, is_forbidden: bool, backoff: &Backoff) -> WatchState {
    let lasted = backoff.failing_for(now()).unwrap_or_default();
    WatchState::Failing {
        why,
        lasted,
        is_forbidden,
    }
}

/// Measures how long a watch has failed; decides nothing about a service.
fn now() -> Instant {
    Instant::now()
}

/// Awaits for as long as `limit`; `None` if it took longer.
async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    if limit == Duration::MAX {
        return Some(future.await);
    }
    tokio::time::timeout(limit, future).await.ok()
}

/// Whether rights are missing.
fn is_forbidden(error: &watcher::Error) -> bool {
    use watcher::Error::{InitialListFailed, WatchError, WatchFailed, WatchStartFailed};
    match error {
        InitialListFailed(kube::Error::Api(status))
        | WatchStartFailed(kube::Error::Api(status))
        | WatchFailed(kube::Error::Api(status))
        | WatchError(status) => status.code == 403,
        _ => false,
    }
}

/// Whether the API server no longer knows the resource version that the watch wants to start from.
fn is_gone(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status)) => {
            status.code == 410 || status.message.contains("Too large resource version")
        }
        watcher::Error::WatchError(status) => status.code == 410,
        _ => false,
    }
}

fn changed<K: Resource>(
    follow: &Follow<K>,
    event: &Event<K>,
    told: &mut HashMap<ServiceKey, String>,
) -> Option<ServiceKey> {
    match event {
        Event::Apply(object) | Event::InitApply(object) => {
            let key = (follow.key_of)(object)?;
            if let Some(significant) = follow.significant {
                let value = significant(object);
                if told
                    .insert(key.clone(), value.clone())
                    .is_some_and(|before| before == value)
                {
                    return None;
                }
            }
            Some(key)
        }
        Event::Delete(object) => {
            let key = (follow.key_of)(object)?;
            told.remove(&key);
            Some(key)
        }
        Event::Init | Event::InitDone => None,
    }
}

/// Name and namespace of an object as a key.
pub fn own_key<K: Resource>(object: &K) -> Option<ServiceKey> {
    Some(ServiceKey::new(object.namespace()?, object.name_any()))
}
