//! Writes that the API server refuses. Once, somebody else was faster, which the next look sees; look after look at the same number, somebody forbids it, as
//! an admission policy does, and people are told. Pure.

use std::collections::BTreeMap;

use super::Step;
use crate::domain::published::ServiceKey;
use crate::error::Error;

/// Refusals in a row that are a problem: a cache hears of another's change well before.
const TOLD_AFTER: u32 = 5;

/// Why a number was not written.
#[derive(Debug)]
pub enum Failure {
    /// It was refused, as it is where somebody else was faster.
    Refused(Refusal),
    /// Anything else, as people are told at once.
    Problem(String),
}

/// One write that was refused.
#[derive(Debug)]
pub struct Refusal {
    pool: String,
    /// The number that was believed to be there.
    from: i32,
    /// What the API server said.
    answer: String,
    /// The same with what it was asked, which moves with the load.
    why: String,
}

impl Failure {
    /// Of a step that was not taken.
    pub fn of(step: &Step, error: &Error) -> Self {
        let why = error.to_string();
        if !matches!(error.category(), "Conflict" | "Invalid" | "NotFound") {
            return Self::Problem(why);
        }
        let answer = std::error::Error::source(error).map_or_else(|| why.clone(), ToString::to_string);
        Self::Refused(Refusal {
            pool: step.pool.clone(),
            from: step.from,
            answer,
            why,
        })
    }
}

/// What was refused at the last look, and how many times in a row.
#[derive(Debug, Default)]
pub struct Refusals(BTreeMap<(ServiceKey, String), (Refusal, u32)>);

impl Refusals {
    /// What people are told of the writes that have come to an end since the last look. A pool of which nothing was refused begins anew, unless its
    /// service has a write under way.
    pub fn told(
        &mut self,
        outcomes: Vec<(ServiceKey, Option<Failure>)>,
        is_under_way: impl Fn(&ServiceKey) -> bool,
    ) -> Vec<(ServiceKey, String)> {
        let mut before = std::mem::take(&mut self.0);
        let mut told = Vec::new();
        for (key, failure) in outcomes {
            let refusal = match failure {
                None => continue,
                Some(Failure::Problem(problem)) => {
                    tracing::warn!(service = %key, problem, "not scaled");
                    told.push((key, problem));
                    continue;
                }
                Some(Failure::Refused(refusal)) => refusal,
            };
            let place = (key.clone(), refusal.pool.clone());
            let (refusal, times) = match before.remove(&place) {
                // Had somebody else been faster, there would be another number by now.
                Some((first, times)) if first.from == refusal.from => {
                    // What is told stays while the answer does: the number that is asked for moves with the load.
                    let is_same = first.answer == refusal.answer;
                    (if is_same { first } else { refusal }, times.saturating_add(1))
                }
                _ => (refusal, 1),
            };
            if times < TOLD_AFTER {
                tracing::debug!(service = %key, why = refusal.why, "somebody else was faster");
            } else {
                let problem = format!("refused time and again: {}", refusal.why);
                if times == TOLD_AFTER {
                    tracing::warn!(service = %key, problem, "not scaled");
                }
                told.push((key, problem));
            }
            self.0.insert(place, (refusal, times));
        }
        before.retain(|(key, _), _| is_under_way(key));
        self.0.append(&mut before);
        told
    }
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};
    use kube::Client;
    use kube::client::Body;
    use serde_json::json;

    use super::*;
    use crate::cluster::scale::scale;

    const DENIAL: &str = "ValidatingAdmissionPolicy 'at-most-3' denied request: no more than 3 replicas at night";

    /// An API server that answers with this status and message.
    fn client(code: u16, message: &'static str) -> Client {
        let service = tower::service_fn(move |_: Request<Body>| async move {
            let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
                "reason": "Invalid", "code": code});
            let body = Body::from(serde_json::to_vec(&status)?);
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(Response::builder().status(code).body(body)?)
        });
        Client::new(service, "default")
    }

    /// A look that wants another number, and what is told of it.
    async fn look(refusals: &mut Refusals, client: &Client, from: i32, to: i32) -> Option<String> {
        let step = Step {
            pool: "cpu".to_owned(),
            from,
            to,
        };
        let error = scale(client, "demo", "digits-cpu", "u", from, to).await.unwrap_err();
        let outcomes = vec![(ServiceKey::new("demo", "digits"), Some(Failure::of(&step, &error)))];
        refusals.told(outcomes, |_| false).pop().map(|(_, problem)| problem)
    }

    #[tokio::test]
    async fn a_number_that_is_refused_at_every_look_is_a_problem_that_people_are_told() {
        for code in [400, 409, 422] {
            let (client, mut refusals) = (client(code, DENIAL), Refusals::default());
            for time in 1..TOLD_AFTER {
                assert_eq!(look(&mut refusals, &client, 3, 5).await, None, "{code}: {time}");
            }
            let told = look(&mut refusals, &client, 3, 5).await.unwrap();
            assert!(told.contains(DENIAL), "{told}");
            // The load moves and asks for another number: a status is not written for that.
            assert_eq!(look(&mut refusals, &client, 3, 6).await.unwrap(), told);
            let other = self::client(422, "quota exceeded");
            let told = look(&mut refusals, &other, 3, 6).await.unwrap();
            assert!(told.contains("quota exceeded"), "{told}");
        }
    }

    #[tokio::test]
    async fn who_was_faster_is_no_problem() {
        let (client, mut refusals) = (client(422, "the server rejected our request"), Refusals::default());
        for from in 0..20 {
            assert_eq!(
                look(&mut refusals, &client, from, 30).await,
                None,
                "another number each time"
            );
        }
        // A look that wants nothing, or whose write is taken, ends the row.
        for _ in 0..5 {
            for _ in 1..TOLD_AFTER {
                assert_eq!(look(&mut refusals, &client, 3, 5).await, None);
            }
            let taken = vec![(ServiceKey::new("demo", "digits"), None)];
            assert!(refusals.told(taken, |_| false).is_empty());
        }
    }

    #[tokio::test]
    async fn what_nobody_was_faster_in_is_told_at_once() {
        let (client, mut refusals) = (client(403, "no right to patch"), Refusals::default());
        let told = look(&mut refusals, &client, 3, 5).await.unwrap();
        assert!(told.contains("no right to patch"), "{told}");
    }
}
