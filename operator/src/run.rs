//! The only place that knows everyone: builds them, starts them, ends them in order.

mod facts;
mod settings;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::CommandFactory;
use futures::StreamExt;
use kube::Config;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::args::{Cli, Command, RunArgs};
use crate::autoscaler::{Autoscaler, Plans};
use crate::clock::{SharedClock, SystemClock};
use crate::cluster::caches::Caches;
use crate::cluster::call::cluster_client;
use crate::cluster::lease::{self, LeaseSettings};
use crate::cluster::may_write::{MayWrite, Term};
use crate::cluster::record::Recorder;
use crate::cluster::watch::WATCH_SECONDS;
use crate::cluster::watches::Watches;
use crate::controller::context::{Context, Failures};
use crate::controller::last_valid::LastValid;
use crate::controller::settled::Settled;
use crate::controller::written::Written;
use crate::domain::decided::Decisions;
use crate::domain::published::{Change, Published, ServiceKey};
use crate::domain::signals::Signals;
use crate::domain::subscriptions::Subscriptions;
use crate::ledger::Ledger;
use crate::metrics::Metrics;
use crate::{admin, controller, metrics_api, sources, telemetry};
use facts::Facts;

/// Beyond the longest silence of a watch.
const READ_MARGIN: Duration = Duration::from_secs(15);
/// Services whose decision has changed and that are not looked at yet; beyond it they wait for their next look.
const DECIDED_QUEUED_MAX: usize = 1024;
/// Reconciles that have begun get this long to end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);
/// After SIGTERM the metrics API goes on answering until the API server has taken us out of the Service.
const METRICS_API_LINGER: Duration = Duration::from_secs(3);
/// The Lease is given back well within this.
const LEASE_TIMEOUT: Duration = Duration::from_secs(5);

/// Does what the command line says.
pub fn main(cli: Cli) -> ExitCode {
    let done = match cli.command {
        Command::Run(args) => run_blocking(*args),
        Command::Crd => print_crds(),
        Command::Completion { shell } => {
            clap_complete::generate(
                shell,
                &mut Cli::command(),
                "tidewright-operator",
                &mut std::io::stdout(),
            );
            Ok(())
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            use std::io::Write;
            let _ = writeln!(std::io::stderr(), "tidewright-operator: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn print_crds() -> anyhow::Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    for crd in tidewright_api::crd::all_crds() {
        write!(out, "---\n{}", tidewright_api::crd::to_yaml(&crd)?)?;
    }
    Ok(())
}

fn run_blocking(args: RunArgs) -> anyhow::Result<()> {
    telemetry::start(args.log_format, &args.log).context("--log")?;
    // Two crates bring a TLS provider along; one must be named. An error means that it was named before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(args))
}

async fn run(args: RunArgs) -> anyhow::Result<()> {
    let mut config = Config::infer()
        .await
        .context("no way to the API server: neither a kubeconfig nor a ServiceAccount")?;
    // Retrying is ours: the client would retry for up to 1000 s, and a create that timed out may have been done.
    config.default_retry = false;
    // The client waits for ever for an answer; a watch is silent for as long as the API server keeps it open.
    config.read_timeout = Some(Duration::from_secs(u64::from(WATCH_SECONDS)) + READ_MARGIN);
    let client = cluster_client(config.clone())?;
    let clock: SharedClock = Arc::new(SystemClock);
    let stop = CancellationToken::new();
    let stop_serving = CancellationToken::new();
    let metrics = Metrics::default();
    let watches = Watches::default();
    let subscriptions = Arc::new(Subscriptions::default());
    let published = Arc::new(Published::default());
    let query_counters = Arc::new(sources::Counters::default());
    let api_counters = Arc::new(metrics_api::Counters::default());
    let progress = Arc::new(metrics_api::Progress::default());
    let (leader_sender, leader) = watch::channel(!args.leader_elect);
    let (term_sender, term) = watch::channel(if args.leader_elect { Term::Over } else { Term::Unlimited });
    let at_start = if args.metrics_api {
        Signals::Pending
    } else {
        Signals::Off
    };
    let (signals_sender, signals) = watch::channel(at_start);
    let (registration_sender, registration) = watch::channel(metrics_api::Registration::Pending);

    let (caches, changed) = Caches::start(&client, &watches, &stop);
    let caches = Arc::new(caches);
    let plans = Arc::new(Plans::default());
    let decisions = Arc::new(Decisions::default());
    let times = settings::times(&args);
    let (decided_sender, decided) = mpsc::channel(DECIDED_QUEUED_MAX);
    let may_write = MayWrite::new(term);
    let ledger = Arc::new(Ledger::new(args.ledger_bytes));
    let services = caches.inference_services.clone();
    let ctx = Arc::new(Context {
        client: client.clone(),
        caches: Arc::clone(&caches),
        recorder: Recorder::new(client.clone(), &args.pod_name),
        clock: Arc::clone(&clock),
        may_write: may_write.clone(),
        subscriptions: Arc::clone(&subscriptions),
        published: Arc::clone(&published),
        plans: Arc::clone(&plans),
        times,
        decisions: Arc::clone(&decisions),
        signals: signals.clone(),
        prometheus: settings::prometheus_rules(&args),
        pods: settings::pod_settings(&args),
        metrics: metrics.clone(),
        reconcile_timeout: args.reconcile_timeout_seconds,
        failures: Failures::default(),
        last_valid: LastValid::default(),
        settled: Settled::default(),
        written: Written::default(),
    });

    let facts = Arc::new(Facts {
        metrics: metrics.clone(),
        watches,
        leader: leader.clone(),
        services: services.clone(),
        queries: Arc::clone(&query_counters),
        api_requests: Arc::clone(&api_counters),
        registration: args.metrics_api.then(|| registration.clone()),
        progress: Arc::clone(&progress),
        published: args.prometheus_url.is_some().then(|| Arc::clone(&published)),
        ledger: Arc::clone(&ledger),
        started_at: clock.now(),
        clock: Arc::clone(&clock),
    });
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(named(
        "admin",
        admin::serve(args.admin_address, facts, stop_serving.clone()),
    ));
    tasks.spawn(named(
        "metrics source",
        sources::run(
            settings::source_settings(&args),
            Arc::clone(&subscriptions),
            Arc::clone(&published),
            query_counters,
            Arc::clone(&clock),
            stop_serving.clone(),
        ),
    ));
    let autoscaler = Autoscaler {
        interval: args.scaling_interval_seconds,
        times,
        client: client.clone(),
        caches,
        published: Arc::clone(&published),
        plans,
        decisions,
        may_write,
        metrics: metrics.clone(),
        clock: Arc::clone(&clock),
        ledger,
        changed: decided_sender,
    };
    // It writes: it ends with the controller, before the Lease is given back.
    let mut scaling = Some(tokio::spawn(autoscaler.run(stop.clone())));
    if args.metrics_api {
        tasks.spawn(named(
            "metrics API",
            metrics_api::run(
                settings::metrics_api_settings(&args),
                metrics_api::Parts {
                    client: client.clone(),
                    subscriptions: Arc::clone(&subscriptions),
                    published: Arc::clone(&published),
                    leader: leader.clone(),
                    registration: registration_sender,
                    counters: Arc::clone(&api_counters),
                    progress,
                    clock: Arc::clone(&clock),
                },
                stop_serving.clone(),
            ),
        ));
    } else {
        let settings = settings::metrics_api_settings(&args);
        tokio::spawn(metrics_api::retire::retire(
            settings,
            client.clone(),
            leader.clone(),
            stop.clone(),
        ));
    }
    let stop_lease = CancellationToken::new();
    let mut leading = args.leader_elect.then(|| {
        let settings = LeaseSettings {
            namespace: args.namespace.clone(),
            name: args.lease_name.clone(),
            identity: args.pod_name.clone(),
            owner_cluster_role: args.owner_cluster_role.clone(),
            lasts: args.lease_duration_seconds,
        };
        tokio::spawn(lease::lead(
            config,
            settings,
            leader_sender,
            term_sender,
            Arc::clone(&clock),
            stop_lease.clone(),
        ))
    });
    if args.metrics_api {
        let has_prometheus = args.prometheus_url.is_some();
        tokio::spawn(metrics_api::signals::follow(
            registration,
            signals_sender,
            has_prometheus,
        ));
    }

    let all = everything(services, leader, signals, published.changes());
    let decided = futures::stream::unfold(decided, |mut decided| async move {
        decided.recv().await.map(|key| (key, decided))
    });
    let requests = futures::stream::select(changed, futures::stream::select(all, decided));
    let mut controlling = tokio::spawn(controller::run(ctx, requests, args.reconcile_concurrency, stop.clone()));

    let failure = tokio::select! {
        signal = stop_signal() => { tracing::info!(signal, "ending"); None }
        Some(ended) = tasks.join_next() => Some(ended.unwrap_or_else(|error| Err(anyhow::anyhow!("{error}")))),
        ended = &mut controlling => Some(ended.context("the controller's loop")),
        ended = end_of(&mut scaling) => Some(ended.map_err(anyhow::Error::from).and_then(|ended| ended.map_err(Into::into)).context("the autoscaler")),
        // Without it the process would be a follower for ever, and seem well.
        ended = end_of(&mut leading) => Some(ended.map_err(anyhow::Error::from).and_then(|led| led.map_err(Into::into)).context("the election")),
    };
    stop.cancel();
    if !controlling.is_finished() && tokio::time::timeout(DRAIN_TIMEOUT, controlling).await.is_err() {
        tracing::warn!("reconciles that had begun did not end in {} s", DRAIN_TIMEOUT.as_secs());
    }
    if let Some(scaling) = scaling.filter(|task| !task.is_finished()) {
        // A write that has begun ends within three seconds.
        let _ = tokio::time::timeout(LEASE_TIMEOUT, scaling).await;
    }
    stop_lease.cancel();
    if let Some(leading) = leading.filter(|task| !task.is_finished()) {
        let _ = tokio::time::timeout(LEASE_TIMEOUT, leading).await;
    }
    tokio::time::sleep(METRICS_API_LINGER).await;
    stop_serving.cancel();
    match failure {
        Some(Err(error)) => Err(error),
        Some(Ok(())) => anyhow::bail!("a part of the operator ended by itself"),
        None => Ok(()),
    }
}

async fn named(name: &'static str, part: impl Future<Output = crate::error::Result<()>>) -> anyhow::Result<()> {
    part.await.with_context(|| name)
}

/// The end of a task; never, if there is none.
async fn end_of<T>(task: &mut Option<tokio::task::JoinHandle<T>>) -> Result<T, tokio::task::JoinError> {
    match task {
        Some(task) => task.await,
        None => std::future::pending().await,
    }
}

async fn stop_signal() -> &'static str {
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => "SIGTERM",
        _ = int.recv() => "SIGINT",
    }
}

/// Services to look at again for reasons that no watch sees: we lead now, a signal came or went, the metrics API changed hands.
fn everything(
    services: kube::runtime::reflector::Store<tidewright_api::InferenceService>,
    leader: watch::Receiver<bool>,
    served: watch::Receiver<Signals>,
    changes: crate::domain::published::Changes,
) -> impl futures::Stream<Item = ServiceKey> + Send {
    let leads = tokio_stream_of(leader).map(|_| Change::All);
    let served = tokio_stream_of(served).map(|_| Change::All);
    let signals = futures::stream::unfold(changes, |mut changes| async move {
        changes.next().await.map(|change| (change, changes))
    });
    futures::stream::select(futures::stream::select(leads, served), signals).flat_map(move |change| {
        let keys: Vec<ServiceKey> = match change {
            Change::Service(key) => vec![key],
            Change::All => services
                .state()
                .iter()
                .filter_map(|s| crate::cluster::watch::own_key(s.as_ref()))
                .collect(),
        };
        futures::stream::iter(keys)
    })
}

fn tokio_stream_of<T: Clone + Send + Sync + 'static>(
    receiver: watch::Receiver<T>,
) -> futures::stream::BoxStream<'static, T> {
    futures::stream::unfold(receiver, |mut receiver| async move {
        receiver.changed().await.ok()?;
        let value = receiver.borrow_and_update().clone();
        Some((value, receiver))
    })
    .boxed()
}
