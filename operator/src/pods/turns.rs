//! Who is asked when: every namespace, and in it every service, has a fair share of the questions that are under way at once.
//!
//! Whoever does not answer holds its questions for as long as a question may take. It holds no more of them than the others have, as long as those have
//! somebody left to ask: a free place goes to the namespace with the fewest questions under way, and in it to the service with the fewest.

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;

use crate::domain::published::ServiceKey;

/// Asks all of them, so many `at_once`: what came of each.
pub(super) async fn ask_all<T, A, F>(all: Vec<(&ServiceKey, Vec<T>)>, at_once: usize, ask: F) -> Vec<A::Output>
where
    A: Future,
    F: Fn(T) -> A,
{
    let mut turns = Turns::new(all);
    let mut asking = FuturesUnordered::new();
    let mut answers = Vec::new();
    loop {
        while asking.len() < at_once
            && let Some((place, target)) = turns.next()
        {
            let asked = ask(target);
            asking.push(async move { (place, asked.await) });
        }
        let Some((place, answer)) = asking.next().await else {
            return answers;
        };
        turns.ended(place);
        answers.push(answer);
    }
}

/// A service: its number among the services of its namespace, and that one's among all.
#[derive(Debug, Clone, Copy)]
struct Place {
    namespace: usize,
    service: usize,
}

/// Who has not been asked yet: by namespace, by service.
#[derive(Debug)]
struct Turns<T>(Shares<Shares<Vec<T>>>);

impl<T> Turns<T> {
    /// Of equal shares the first come first.
    fn new(all: Vec<(&ServiceKey, Vec<T>)>) -> Self {
        let mut known = BTreeMap::new();
        let mut namespaces: Vec<Vec<Vec<T>>> = Vec::new();
        for (key, mut targets) in all {
            // They are taken from the end.
            targets.reverse();
            let next = namespaces.len();
            let index = *known.entry(&key.namespace).or_insert(next);
            match namespaces.get_mut(index) {
                Some(services) => services.push(targets),
                None => namespaces.push(vec![targets]),
            }
        }
        Self(Shares::of(namespaces.into_iter().map(Shares::of)))
    }

    fn next(&mut self) -> Option<(Place, T)> {
        let (namespace, (service, target)) = self.0.take(|services| services.take(Vec::pop))?;
        Some((Place { namespace, service }, target))
    }

    fn ended(&mut self, place: Place) {
        if let Some(services) = self.0.ended(place.namespace) {
            services.ended(place.service);
        }
    }
}

/// Sharers of one level, each with the number of its questions under way.
#[derive(Debug)]
struct Shares<S> {
    all: Vec<(usize, S)>,
    /// Those that may have somebody left to ask, with that number: the first of them is next.
    waiting: BTreeSet<(usize, usize)>,
}

impl<S> Shares<S> {
    fn of(all: impl IntoIterator<Item = S>) -> Self {
        let all: Vec<_> = all.into_iter().map(|sharer| (0, sharer)).collect();
        Self {
            waiting: (0..all.len()).map(|index| (0, index)).collect(),
            all,
        }
    }

    /// What `next` takes of the sharer whose turn it is, and which that is.
    fn take<R>(&mut self, mut next: impl FnMut(&mut S) -> Option<R>) -> Option<(usize, R)> {
        while let Some((_, index)) = self.waiting.pop_first() {
            let (under_way, sharer) = self.all.get_mut(index)?;
            // One that has nobody left stays away.
            if let Some(taken) = next(sharer) {
                *under_way += 1;
                self.waiting.insert((*under_way, index));
                return Some((index, taken));
            }
        }
        None
    }

    /// Notes that a question has ended.
    fn ended(&mut self, index: usize) -> Option<&mut S> {
        let (under_way, sharer) = self.all.get_mut(index)?;
        let is_waiting = self.waiting.remove(&(*under_way, index));
        *under_way = under_way.saturating_sub(1);
        if is_waiting {
            self.waiting.insert((*under_way, index));
        }
        Some(sharer)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use tokio::sync::watch;

    use super::*;

    const AT_ONCE: usize = 16;
    /// Far beyond what it takes; whoever waits for the silent waits for ever.
    const PATIENCE: Duration = Duration::from_secs(30);

    /// Asks pods of these services: so many each, and whether they are silent. The silent answer when all others have. How many were under way at most,
    /// and in which order the services got answers.
    async fn round(services: &[(&str, &str, usize, bool)]) -> (usize, Vec<String>) {
        let keys: Vec<ServiceKey> = services.iter().map(|of| ServiceKey::new(of.0, of.1)).collect();
        let all = keys.iter().zip(services).map(|(key, (_, _, pods, is_silent))| {
            let pods: Vec<(String, bool)> = (0..*pods).map(|_| (key.to_string(), *is_silent)).collect();
            (key, pods)
        });
        let talking: usize = services.iter().filter(|of| !of.3).map(|of| of.2).sum();
        let (under_way, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let (heard, _) = watch::channel(0);
        let ask = |(service, is_silent): (String, bool)| {
            let (under_way, most, heard) = (&under_way, &most, &heard);
            async move {
                let now = under_way.fetch_add(1, Ordering::SeqCst) + 1;
                most.fetch_max(now, Ordering::SeqCst);
                if is_silent {
                    let mut heard = heard.subscribe();
                    let _ = heard.wait_for(|count| *count == talking).await;
                } else {
                    tokio::task::yield_now().await;
                    heard.send_modify(|count| *count += 1);
                }
                under_way.fetch_sub(1, Ordering::SeqCst);
                service
            }
        };
        let asked = tokio::time::timeout(PATIENCE, ask_all(all.collect(), AT_ONCE, ask)).await;
        (
            most.load(Ordering::SeqCst),
            asked.expect("whoever answers waits for the silent"),
        )
    }

    #[tokio::test]
    async fn a_service_of_silent_pods_keeps_no_other_waiting() {
        let services = [
            ("demo", "a-silent", 500, true),
            ("demo", "b", 40, false),
            ("demo", "c", 3, false),
        ];
        let (most, answers) = round(&services).await;
        assert_eq!((most, answers.len()), (AT_ONCE, 543));
        assert!(answers[..43].iter().all(|service| service != "demo/a-silent"));
    }

    #[tokio::test]
    async fn a_namespace_of_silent_services_keeps_no_other_waiting() {
        let names: Vec<String> = (0..200).map(|n| format!("silent-{n}")).collect();
        let mut services: Vec<_> = names.iter().map(|name| ("a", name.as_str(), 2, true)).collect();
        services.push(("b", "digits", 50, false));
        let (_, answers) = round(&services).await;
        assert_eq!(answers.len(), 450);
        assert!(answers[..50].iter().all(|service| service == "b/digits"));
    }

    #[tokio::test]
    async fn who_is_alone_has_all_places() {
        let (most, answers) = round(&[("demo", "digits", 100, false)]).await;
        assert_eq!((most, answers.len()), (AT_ONCE, 100));
        assert_eq!(round(&[]).await, (0, vec![]));
        assert_eq!(round(&[("demo", "none", 0, false)]).await, (0, vec![]));
    }

    #[test]
    fn places_are_shared_evenly_and_nobody_is_left_out_or_asked_twice() {
        let keys = [("a", "x"), ("a", "y"), ("b", "z")].map(|(namespace, name)| ServiceKey::new(namespace, name));
        let targets = [vec![1, 2, 3, 4], vec![11, 12], vec![21, 22, 23]];
        let mut turns = Turns::new(keys.iter().zip(targets).collect());
        let next = |turns: &mut Turns<i32>| {
            turns
                .next()
                .map(|(place, target)| (place.namespace, place.service, target))
        };
        // One each in turn by namespace, and within it by service.
        let first: Vec<_> = (0..4).filter_map(|_| next(&mut turns)).collect();
        assert_eq!(first, [(0, 0, 1), (1, 0, 21), (0, 1, 11), (1, 0, 22)]);
        // What ends makes room for who has least.
        turns.ended(Place {
            namespace: 0,
            service: 1,
        });
        let then: Vec<_> = std::iter::from_fn(|| next(&mut turns)).collect();
        assert_eq!(then[0], (0, 1, 12));
        let mut rest: Vec<i32> = then.iter().map(|(_, _, target)| *target).collect();
        rest.sort_unstable();
        assert_eq!(rest, [2, 3, 4, 12, 23]);
    }
}
