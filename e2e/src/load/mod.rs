//! Open-loop load over HTTP: requests are sent when they are due, whether or not earlier ones were answered.
//!
//! Latency counts from the instant at which a request was due, so a server that stalls is charged for everything that should have been sent meanwhile
//! (Tene, "How NOT to measure latency": coordinated omission). Every request that was due ends in exactly one [`Outcome`].
mod arrivals;
mod client;
pub mod digits;
mod record;
mod replay;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt as _, SeedableRng as _};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

pub use arrivals::Arrivals;
pub use record::{Outcome, Quantiles, Report, Second, Totals, Window};
pub use replay::{Sample, one_by_one, replay};

use arrivals::Schedule;
use client::{Client, Connection};
use record::Recorder;

/// Decides whether an answer is right; the text says what is wrong with it.
pub type Check = Arc<dyn Fn(&[u8]) -> Result<(), String> + Send + Sync>;

/// One request that may be sent, and what its answer must be.
#[derive(Clone)]
pub struct Request {
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// Sent as JSON if it is not empty.
    pub body: Bytes,
    /// Sent in place of `content-type: application/json`.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Of the body of an answer with status 200.
    pub check: Check,
}

impl std::fmt::Debug for Request {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} {} ({} bytes)", self.method, self.path, self.body.len())
    }
}

/// What is sent, and how often. It may change while the load runs.
#[derive(Debug, Clone)]
pub struct Profile {
    /// Requests per second; 0 pauses.
    pub rate: f64,
    /// Each request is one of these, drawn with equal chances.
    pub requests: Arc<[Request]>,
}

/// Whom the load is for, and the client's limits.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    pub address: SocketAddr,
    pub arrivals: Arrivals,
    /// Same seed, same arrivals and same choice of requests.
    pub seed: u64,
    /// Connections, and so requests in flight, at a time. Further requests wait in the client, and their latency runs.
    pub connections_max: usize,
    /// Requests that may wait in the client. Beyond it they end as [`Outcome::NotSent`].
    pub waiting_max: usize,
    /// From when a request was due to the end of its answer.
    pub timeout: Duration,
    /// A right answer that took at most so long is counted as in time.
    pub in_time: Duration,
    pub connect_timeout: Duration,
    /// Further attempts to connect, where one has failed, before the request ends as [`Outcome::ConnectFailed`]. Counted, because it hides a failure.
    pub connect_retries: u32,
    /// A connection is replaced after so many requests or so long a time: connections are balanced, not requests, and new pods shall get their share.
    pub connection_requests_max: u64,
    pub connection_age_max: Duration,
}

impl LoadOptions {
    /// Poisson arrivals and a client's usual limits.
    pub fn to(address: SocketAddr) -> Self {
        Self {
            address,
            arrivals: Arrivals::Poisson,
            seed: 1,
            connections_max: 64,
            waiting_max: 100_000,
            timeout: Duration::from_secs(30),
            in_time: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(5),
            connect_retries: 0,
            connection_requests_max: 100,
            connection_age_max: Duration::from_secs(2),
        }
    }
}

/// A request that is due.
#[derive(Debug)]
struct Job {
    due: Instant,
    request: Request,
}

/// Load that runs. Dropping it aborts the requests in flight; [`Load::stop`] lets them end.
#[derive(Debug)]
pub struct Load {
    profile: watch::Sender<Profile>,
    bursts: mpsc::UnboundedSender<usize>,
    recorder: Arc<Recorder>,
    generator: JoinSet<()>,
    workers: JoinSet<()>,
    stop: watch::Sender<bool>,
}

impl Load {
    /// Starts at once.
    pub fn start(options: LoadOptions, profile: Profile) -> Self {
        let recorder = Arc::new(Recorder::start(options.in_time));
        let (profile, profiles) = watch::channel(profile);
        let (bursts, more) = mpsc::unbounded_channel();
        let (stop, stopped) = watch::channel(false);
        let (sender, receiver) = mpsc::channel(options.waiting_max.max(1));
        let receiver = Arc::new(Mutex::new(receiver));
        let mut workers = JoinSet::new();
        for _ in 0..options.connections_max.max(1) {
            workers.spawn(work(Client::new(&options), receiver.clone(), recorder.clone()));
        }
        let mut generator = JoinSet::new();
        generator.spawn(generate(
            options.arrivals,
            options.seed,
            (profiles, more),
            stopped,
            sender,
            recorder.clone(),
        ));
        Self {
            profile,
            bursts,
            recorder,
            generator,
            workers,
            stop,
        }
    }

    /// Sends each request once, one after the other.
    pub async fn once(options: &LoadOptions, requests: &[Request]) -> Report {
        let (client, recorder) = (Client::new(options), Recorder::start(options.in_time));
        let mut connection: Option<Connection> = None;
        for request in requests {
            let due = Instant::now();
            recorder.due(due, due);
            let exchange = client.exchange(&mut connection, request, due).await;
            recorder.client(&exchange);
            recorder.end(due, exchange.ended, &exchange.outcome);
        }
        recorder.report()
    }

    /// Sends something else, or at another rate, from now on.
    pub fn set(&self, profile: Profile) {
        self.profile.send_replace(profile);
    }

    /// Goes on with the same requests at another rate.
    pub fn set_rate(&self, rate: f64) {
        self.profile.send_modify(|profile| profile.rate = rate);
    }

    /// Has `count` requests due now, besides those of the rate.
    pub fn burst(&self, count: usize) {
        // The generator ends with the load alone.
        let _ = self.bursts.send(count);
    }

    /// Everything since the start.
    pub fn totals(&self) -> Totals {
        self.recorder.totals()
    }

    /// What happened since the last call, for a live line.
    pub fn window(&self) -> Window {
        self.recorder.window()
    }

    /// Sends nothing new, waits for every answer that is still due, and reports.
    pub async fn stop(mut self) -> Report {
        self.stop.send_replace(true);
        while self.generator.join_next().await.is_some() {}
        // The generator held the only sender: the workers end when nothing waits any more. Timeouts bound it.
        while self.workers.join_next().await.is_some() {}
        self.recorder.report()
    }
}

/// Puts each request into the queue when it is due. Late by the timer's millisecond at most; what it is late counts as latency.
async fn generate(
    arrivals: Arrivals,
    seed: u64,
    (mut profiles, mut bursts): (watch::Receiver<Profile>, mpsc::UnboundedReceiver<usize>),
    mut stopped: watch::Receiver<bool>,
    sender: mpsc::Sender<Job>,
    recorder: Arc<Recorder>,
) {
    let mut choice = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut schedule = Schedule::new(arrivals, choice.random());
    let mut send = |profile: &Profile, due: Instant, now: Instant| {
        let Some(request) = pick(&profile.requests, &mut choice) else {
            return;
        };
        recorder.due(due, now);
        if sender.try_send(Job { due, request }).is_err() {
            recorder.end(due, now, &Outcome::NotSent);
        }
    };
    loop {
        let profile = profiles.borrow_and_update().clone();
        schedule.restart(Instant::now(), profile.rate);
        loop {
            let due = schedule.next();
            tokio::select! {
                biased;
                _ = stopped.wait_for(|stopped| *stopped) => return,
                changed = profiles.changed() => match changed { Ok(()) => break, Err(_) => return },
                Some(count) = bursts.recv() => {
                    let now = Instant::now();
                    (0..count).for_each(|_| send(&profile, now, now));
                }
                () = until(due) => {}
            }
            let now = Instant::now();
            while let Some(due) = schedule.take(now) {
                send(&profile, due, now);
            }
        }
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

fn pick(requests: &[Request], choice: &mut Xoshiro256PlusPlus) -> Option<Request> {
    match requests.len() {
        0 => None,
        count => requests.get(choice.random_range(0..count)).cloned(),
    }
}

async fn work(client: Client, jobs: Arc<Mutex<mpsc::Receiver<Job>>>, recorder: Arc<Recorder>) {
    let mut connection: Option<Connection> = None;
    loop {
        // The lock is held while waiting: idle workers take turns in the order in which they became idle.
        let Some(job) = jobs.lock().await.recv().await else {
            return;
        };
        let exchange = client.exchange(&mut connection, &job.request, job.due).await;
        recorder.client(&exchange);
        recorder.end(job.due, exchange.ended, &exchange.outcome);
    }
}

#[cfg(test)]
mod tests;
