//! The life of one request after it was read: cache, queue, reply. Every way out is counted, the caller's leaving included.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::oneshot;

use crate::admission::{Admission, Permit};
use crate::batcher::cost::{CostTable, size_class};
use crate::cache::key::Prefix;
use crate::cache::levels::Levels;
use crate::clock;
use crate::error::Error;
use crate::metrics::ModelMetrics;
use crate::model::registry::Facts;
use crate::model::signature::Rows;
use crate::queue::state::{Kind, Term};
use crate::queue::task::{Part, Queue, Refused, Ticket};
use crate::request::{Outputs, Priority, Request};
use crate::tensor::{DataType, Tensor};
use crate::trace;

pub mod ending;
pub mod express;
pub mod pace;

pub use self::ending::Ending;
use self::express::Express;
use self::pace::{Pace, alone, done};

/// Everything between reading a request and writing its answer.
#[derive(Debug)]
pub struct Pipeline {
    admission: Arc<Admission>,
    /// Set once, before the first request.
    cache: OnceLock<Levels>,
}

impl Pipeline {
    /// Without a cache; at most `concurrency_max` requests at once (0: unlimited), counted by the gauge.
    pub fn new(concurrency_max: u32, in_flight: Gauge) -> Self {
        Self {
            admission: Admission::new(concurrency_max, in_flight),
            cache: OnceLock::new(),
        }
    }

    /// Puts the cache in place; `false` when there is one already.
    pub fn set_cache(&self, cache: Levels) -> bool {
        self.cache.set(cache).is_ok()
    }

    /// Whether a request may be answered from a cache.
    pub fn is_cached(&self) -> bool {
        self.cache.get().is_some()
    }

    /// A permit to be under way.
    pub fn enter(&self) -> Result<Permit, Error> {
        self.admission.enter()
    }

    /// Requests under way.
    pub fn under_way(&self) -> u32 {
        self.admission.current()
    }

    /// The outputs for a request, from the cache or from a run.
    pub async fn infer(&self, serving: &Serving, request: Request, time: Time) -> Result<Outputs, Error> {
        serving.infer(request, self.cache.get(), time).await
    }
}

/// The time of one request.
#[derive(Debug, Clone, Copy)]
pub struct Time {
    /// What an objective counts from.
    pub arrived: Instant,
    /// Its caller waits no longer.
    pub deadline: Instant,
}

/// What a worker gets to do for one part of a request.
#[derive(Debug)]
pub struct Work {
    pub inputs: Vec<Tensor>,
    pub reply: oneshot::Sender<Result<Vec<Tensor>, Error>>,
    /// The call that it is a part of, where that is traced.
    pub trace: trace::Link,
}

/// A loaded model with its queue.
#[derive(Debug)]
pub struct Serving {
    pub facts: Facts,
    pub queue: Arc<Queue<Work>>,
    pub metrics: ModelMetrics,
    pub key_prefix: Prefix,
    pub output_datatypes: Vec<DataType>,
    pub pace: Pace,
    /// What runs cost.
    pub costs: Arc<CostTable>,
    /// The way past the queue.
    pub express: Express,
    /// Time in which callers want their answers, where somebody has said it.
    pub latency_objective: Option<Duration>,
}

impl Serving {
    /// Refuses what no engine can run.
    pub fn check_ready(&self) -> Result<(), Error> {
        if self.facts.is_ready() {
            return Ok(());
        }
        Err(Error::NotReady(format!(
            "model \"{}\" has no working engine",
            self.facts.name
        )))
    }

    /// Refuses early, before the body is read: what has no room, and what those before it leave no time for.
    pub fn check_room(&self, deadline: Instant) -> Result<(), Error> {
        if self.queue.is_full() {
            return Err(self.overloaded());
        }
        // Whom an urgent one waits for is known when it has been read.
        let ahead = self.queue.ahead_of(Priority::default());
        if ahead.is_zero() || self.queue.is_ranked(clock::wall_millis()) {
            return Ok(());
        }
        self.check_time(ahead, Duration::ZERO, self.time_left(deadline, clock::now()))
    }

    /// Time in which a request has to be done to be of use.
    fn time_left(&self, deadline: Instant, now: Instant) -> Duration {
        let left = deadline.saturating_duration_since(now);
        self.latency_objective.map_or(left, |objective| left.min(objective))
    }

    /// Refuses what the work that waits before it leaves no time for, as far as is known. `own` is what its own run takes.
    fn check_time(&self, ahead: Duration, own: Duration, within: Duration) -> Result<(), Error> {
        let done = done(ahead, own, self.facts.alive.load(Ordering::Relaxed));
        if ahead.is_zero() || done <= within {
            return Ok(());
        }
        let waiting = self.queue.len();
        let message = format!(
            "{waiting} requests wait for model \"{}\": this one would be done in about {} ms, longer than it may take",
            self.facts.name,
            done.as_millis()
        );
        Err(self.refusal(waiting, message))
    }

    fn overloaded(&self) -> Error {
        let waiting = self.queue.len();
        let name = &self.facts.name;
        self.refusal(
            waiting,
            format!("the queue of model \"{name}\" is full ({waiting} requests wait)"),
        )
    }

    fn too_much(&self) -> Error {
        let name = &self.facts.name;
        let message = format!("model \"{name}\" has more to do than can be answered in time");
        self.refusal(self.queue.len(), message)
    }

    /// Come back when those who wait have been served.
    fn refusal(&self, waiting: usize, message: String) -> Error {
        Error::Overloaded {
            message,
            retry_after: self.pace.retry_after(waiting, self.facts.workers),
        }
    }

    /// From the cache or from a run, before the deadline.
    async fn infer(&self, request: Request, cache: Option<&Levels>, time: Time) -> Result<Outputs, Error> {
        let within = time.deadline.saturating_duration_since(clock::now());
        let answer = async {
            let Some(levels) = cache else {
                return self.run(request, time).await;
            };
            let names = self.facts.signature.inputs.iter().map(|slot| &*slot.name);
            let key = self.key_prefix.key(names.zip(&request.inputs));
            // Boxed: large, and what is not boxed is moved with every request.
            Box::pin(levels.get_or_run(key, &self.output_datatypes, || self.run(request, time))).await
        };
        tokio::time::timeout(within, answer)
            .await
            .unwrap_or(Err(Error::Deadline))
    }

    /// Puts the request into the queue, in parts no larger than a batch, and waits for all of them.
    async fn run(&self, request: Request, time: Time) -> Result<Outputs, Error> {
        let (rows, priority) = (request.rows, request.priority);
        if priority != Priority::default() {
            self.queue.saw_rank(clock::wall_millis());
        }
        let parts = self.parts(request)?;
        let trace = trace::link();
        let (work, replies): (Vec<_>, Vec<_>) = parts
            .into_iter()
            .map(|(inputs, items)| {
                let (reply, receiver) = oneshot::channel();
                let kind = Kind {
                    priority,
                    group: group(&inputs),
                    items,
                    size_class: item_size_class(&inputs, items),
                    work: Duration::ZERO,
                };
                let part = Part {
                    kind,
                    payload: Work {
                        inputs,
                        reply,
                        trace: trace.clone(),
                    },
                };
                (part, receiver)
            })
            .unzip();
        // Dropped with this future: whoever leaves gives up the places that still wait.
        let (tickets, due) = self.begin(work, time)?;
        let mut answers = pin!(gather(replies));
        let in_time = match due {
            Some(due) => tokio::time::timeout_at(due.into(), answers.as_mut()).await.ok(),
            None => Some(answers.as_mut().await),
        };
        let mut outputs = match in_time {
            Some(outputs) => outputs?,
            // The last part is the last to be run: while it waits, the answer is not near.
            None if tickets.last().is_some_and(Ticket::give_up) => return Err(self.too_much()),
            None => answers.await?,
        };
        drop(tickets);
        if outputs.len() == 1 {
            return Ok(Outputs::new(outputs.pop().unwrap_or_default()));
        }
        let joined: Option<Vec<Tensor>> = (0..self.output_datatypes.len())
            .map(|position| {
                Tensor::concat(
                    &outputs
                        .iter()
                        .map(|part| part.get(position))
                        .collect::<Option<Vec<_>>>()?,
                )
            })
            .collect();
        joined
            .map(Outputs::new)
            .ok_or_else(|| Error::ModelFailed(format!("the outputs of {rows} items do not fit together")))
    }

    /// Runs the parts at once, or puts them into the queue: then also until when their run must have begun, where that is before the deadline.
    fn begin(&self, mut work: Vec<Part<Work>>, time: Time) -> Result<(Vec<Ticket<Work>>, Option<Instant>), Error> {
        let now = clock::now();
        if let ([part], true) = (work.as_slice(), self.queue.is_empty())
            && self.express.pays(&self.costs, part.kind)
            && let Some(part) = work.pop()
        {
            match self.express.run(part, now, time.deadline) {
                None => {
                    self.metrics.express_runs.inc();
                    return Ok((Vec::new(), None));
                }
                Some(part) => work.push(part),
            }
        }
        for Part { kind, .. } in &mut work {
            kind.work = self.costs.work(kind.size_class, kind.items);
        }
        let term = self.check_parts(&work, now, time)?;
        let tickets = self.queue.push_all(work, term).map_err(|refused| match refused {
            Refused::Full => self.overloaded(),
            Refused::Closed => Error::NotReady("the server is stopping".to_owned()),
        })?;
        Ok((tickets, (term.due < term.deadline).then_some(term.due)))
    }

    /// Refuses a request whose last part would be done too late. Otherwise for how long its parts are of use.
    fn check_parts(&self, parts: &[Part<Work>], now: Instant, time: Time) -> Result<Term, Error> {
        let Time { arrived, deadline } = time;
        let Some((last, others)) = parts.split_last() else {
            return Ok(deadline.into());
        };
        let before: Duration = others.iter().map(|part| part.kind.work).sum();
        let run = self.costs.at_least(last.kind.size_class, last.kind.items);
        let run = run.unwrap_or_default();
        let end = self.latency_objective.map_or(deadline, |objective| arrived + objective);
        let end = end.min(deadline);
        let ahead = self.queue.ahead_of(last.kind.priority);
        if !ahead.is_zero() {
            self.check_time(ahead + before, run, end.saturating_duration_since(now))?;
        }
        // One that takes longer by itself is late in any case, and of use all the same: it is not given up for it.
        let alone = alone(before, run, self.facts.alive.load(Ordering::Relaxed));
        let due = if now + alone <= end { end } else { deadline };
        Ok(Term { due, deadline })
    }

    /// Why an entry that waited is not run any more: its caller waits no longer, or those before it took longer than was known.
    pub fn late(&self, term: Term) -> Error {
        if term.due < term.deadline {
            self.too_much()
        } else {
            Error::Deadline
        }
    }

    /// The request as pieces of at most one batch, each with its number of items.
    fn parts(&self, request: Request) -> Result<Vec<(Vec<Tensor>, usize)>, Error> {
        let largest = match self.facts.signature.rows {
            Rows::Dynamic => self.facts.batch_size_max,
            Rows::Fixed(count) => count,
            Rows::None => return Ok(vec![(request.inputs, 1)]),
        };
        if request.rows <= largest {
            return Ok(vec![(request.inputs, request.rows)]);
        }
        (0..request.rows)
            .step_by(largest)
            .map(|start| {
                let end = request.rows.min(start + largest);
                let slices: Option<Vec<Tensor>> = request
                    .inputs
                    .iter()
                    .map(|tensor| tensor.slice_rows(start, end))
                    .collect();
                slices
                    .map(|inputs| (inputs, end - start))
                    .ok_or_else(|| Error::Internal("rows out of bounds".to_owned()))
            })
            .collect()
    }
}

/// The answers of all parts, in their order.
async fn gather(replies: Vec<oneshot::Receiver<Result<Vec<Tensor>, Error>>>) -> Result<Vec<Vec<Tensor>>, Error> {
    let mut outputs = Vec::with_capacity(replies.len());
    for reply in replies {
        let part = reply
            .await
            .unwrap_or_else(|_| Err(Error::Internal("a worker dropped the request".to_owned())))?;
        outputs.push(part);
    }
    Ok(outputs)
}

/// Requests with equal inner shapes share a group. A collision is harmless: the batch is then run piece by piece.
fn group(inputs: &[Tensor]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for tensor in inputs {
        tensor.shape().get(1..).hash(&mut hasher);
    }
    hasher.finish()
}

/// The class of the size of one item, over all inputs.
fn item_size_class(inputs: &[Tensor], items: usize) -> u8 {
    let elements: usize = inputs.iter().map(|tensor| tensor.values().len()).sum();
    size_class(elements / items.max(1))
}
