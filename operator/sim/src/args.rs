//! The command line as typed values.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::arrivals::Workload;
use crate::error::{Error, Result};
use crate::faults::Fault;
use crate::generator::Generator;
use crate::plant::{Balancing, Service, StartModel};
use crate::scenario::{PEAK_PODS, SLO_SERVICE_TIMES, Scenario, ServiceLaw};
use crate::time::{self, MILLISECOND, Nanos};
use crate::trace::Trace;

const EXAMPLES: &str = "\
Examples:
  One day of a trace with ten pods, as text:
    tidewright-sim run --trace day.csv.zst --policy fixed --set replicas=10
  Two hours of it, a tenth of the requests, one JSON object:
    tidewright-sim run --trace day.csv.zst --from 36000 --to 43200 --thin 0.1 --policy fixed --json
  Prometheus goes down for ten minutes at the peak:
    tidewright-sim run --trace day.csv.zst --policy fixed --fault prometheus-down:peak:10m
  Drawn arrivals instead of a trace, 200 ms each, an objective of 1 s, and a file with every decision:
    tidewright-sim run --arrivals flash:5:100:20m:10m:1h --service-ms 200 --slo-ms 1000 --policy fixed --decisions decisions.csv";

/// Simulates how a scaling policy treats recorded or drawn load: how late, how dear, how restless.
///
/// Equal arguments give equal bytes. Arrivals, service times and start times of a seed are the same for every policy.
#[derive(Debug, Parser)]
#[command(name = "tidewright-sim", version, max_term_width = 120, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run one workload against one policy and print its scores
    #[command(after_help = EXAMPLES)]
    Run(Box<RunArgs>),
    /// Run every policy on several traces and print a table
    ///
    /// A trace may carry options of `run`, without their dashes, behind commas: `day.csv.zst,to=3600,thin=0.4,peak-pods=6`.
    Compare(CompareArgs),
    /// Print when the requests of a workload arrive, as one JSON object: milliseconds since its beginning
    Arrivals(ArrivalsArgs),
    /// List the policies
    Policies,
    /// Print a completion script for a shell
    Completion {
        /// The shell
        shell: Shell,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Balance {
    /// Whoever waits does so at the gateway, and goes to the least busy pod
    Central,
    /// By chance to a ready pod, to wait there: behind a Service of Kubernetes
    Random,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Law {
    Lognormal,
    Exponential,
}

#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub load: LoadArgs,
    /// Who scales; `tidewright-sim policies` lists them
    #[arg(long)]
    pub policy: String,
    /// A knob of the policy, as key=value; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub settings: Vec<String>,
    #[command(flatten)]
    pub world: WorldArgs,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Write every decision to this file, as CSV
    #[arg(long, value_name = "FILE")]
    pub decisions: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct CompareArgs {
    /// Recorded arrivals, with options of `run` behind commas; may be repeated
    #[arg(long = "trace", value_name = "FILE[,OPTION=VALUE…]", required = true)]
    pub traces: Vec<String>,
    /// Runs of each policy, with the seeds 1 to N
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    pub seeds: u64,
    /// Also turn each policy's own knob
    #[arg(long)]
    pub sweep: bool,
    /// Something that goes wrong, as for `run`; may be repeated
    #[arg(long = "fault")]
    pub faults: Vec<String>,
    /// Print JSON with the scores of every run
    #[arg(long)]
    pub json: bool,
    /// Write a page with a plot per trace
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct ArrivalsArgs {
    #[command(flatten)]
    pub load: LoadArgs,
    /// Decides every draw
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Of the trace, so many seconds round its busiest minute, which lies at two thirds of them
    #[arg(long, value_name = "S", conflicts_with_all = ["arrivals", "from", "to"], value_parser = clap::value_parser!(u64).range(1..))]
    pub busiest: Option<u64>,
}

#[derive(Debug, Args)]
pub struct LoadArgs {
    /// Recorded arrivals: CSV with the header `second,count`, or `arrival_ms` and further columns; plain or zstd
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present = "arrivals",
        conflicts_with = "arrivals"
    )]
    pub trace: Option<PathBuf>,
    /// Drawn arrivals: constant:RATE:LENGTH, poisson:RATE:LENGTH, gamma:RATE:CV:LENGTH, diurnal:MEAN:AMPLITUDE:PERIOD:LENGTH
    /// or flash:BASE:PEAK:AT:FOR:LENGTH
    #[arg(long, value_name = "FORM")]
    pub arrivals: Option<String>,
    /// First second of the trace
    #[arg(long, value_name = "S", default_value_t = 0, conflicts_with = "arrivals")]
    pub from: u64,
    /// Second of the trace before which the run ends [default: its length]
    #[arg(long, value_name = "S", conflicts_with = "arrivals")]
    pub to: Option<u64>,
    /// Keep each request of the trace with this probability
    #[arg(long, value_name = "P", default_value_t = 1.0, conflicts_with = "arrivals")]
    pub thin: f64,
}

#[derive(Debug, Args)]
pub struct WorldArgs {
    /// Decides every draw
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Requests that a pod serves at the same time
    #[arg(long, value_name = "N", default_value_t = 4, conflicts_with = "batch")]
    pub slots: u32,
    /// Serve batches of up to MAX, each in ALPHA + BETA x size milliseconds, instead of slots
    #[arg(long, value_name = "ALPHA:BETA:MAX", conflicts_with = "service_ms")]
    pub batch: Option<String>,
    /// How requests reach pods
    #[arg(long, value_enum, default_value = "central", conflicts_with = "batch")]
    pub balancing: Balance,
    /// Mean service time; `auto` scales it so that the busiest 60 s need --peak-pods
    #[arg(long, value_name = "MS", default_value = "auto")]
    pub service_ms: String,
    /// What `--service-ms auto` scales to
    #[arg(long, value_name = "N", default_value_t = PEAK_PODS)]
    pub peak_pods: f64,
    /// Coefficient of variation of the service time
    #[arg(long, value_name = "CV", default_value_t = 0.5)]
    pub cs: f64,
    /// Distribution of the service time; an exponential one has no use for --cs
    #[arg(long, value_enum, default_value = "lognormal")]
    pub service_law: Law,
    /// Latency objective; `auto` is four mean service times
    #[arg(long, value_name = "MS", default_value = "auto")]
    pub slo_ms: String,
    /// Share of the requests that may exceed it
    #[arg(long, value_name = "SHARE", default_value_t = 0.01)]
    pub epsilon: f64,
    /// Median start time of a pod, or `mixture`: as measured in a production cluster, with scheduling and image pull
    #[arg(long, value_name = "S", default_value = "30")]
    pub start_s: String,
    /// Share of the pods that start warm, in 15 % of the median
    #[arg(long, value_name = "SHARE", default_value_t = 0.15)]
    pub warm_share: f64,
    /// Least replicas [default: the policy's own, 1 for hpa-cpu and hpa-rps, 0 for the rest]
    #[arg(long, value_name = "N")]
    pub min_replicas: Option<u32>,
    /// Most replicas
    #[arg(long, value_name = "N", default_value_t = 60)]
    pub max_replicas: u32,
    /// Pods at the beginning, ready [default: what the first five minutes need at 70 %]
    #[arg(long, value_name = "N")]
    pub initial_replicas: Option<u32>,
    /// The first part of a run, which is not scored
    #[arg(long, value_name = "S", default_value_t = 300.0)]
    pub warm_up_s: f64,
    /// Nodes, each with room for --pods-per-node; beyond that pods are Pending [default: unlimited]
    #[arg(long, value_name = "N")]
    pub nodes: Option<u32>,
    /// Pods that a node has room for, for example its GPUs
    #[arg(long, value_name = "N", default_value_t = 1, requires = "nodes")]
    pub pods_per_node: u32,
    /// Between two scrapes of a target
    #[arg(long, value_name = "S", default_value_t = 5.0)]
    pub scrape_s: f64,
    /// Probability that a scrape fails
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    pub scrape_failure: f64,
    /// Gateways, each a scrape target with its share of the requests
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub gateways: u64,
    /// Requests that the gateways hold; more are refused
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub queue: usize,
    /// A request that waits for longer at the gateway is given up
    #[arg(long, value_name = "S", default_value_t = 300.0)]
    pub hold_s: f64,
    /// A pod that still works this long after it was told to end is killed
    #[arg(long, value_name = "S", default_value_t = 300.0)]
    pub grace_s: f64,
    /// Something that goes wrong: prometheus-down:START:LENGTH, targets-lost:SHARE:START:LENGTH, nan:START:LENGTH,
    /// push-down:START:LENGTH, slow-start:FACTOR:START:LENGTH, pods-lost:SHARE:AT, controller-restart:AT; may be repeated.
    /// START may be `peak`
    #[arg(long = "fault", value_name = "FAULT")]
    pub faults: Vec<String>,
}

impl LoadArgs {
    pub fn workload(&self) -> Result<Workload> {
        match (&self.trace, &self.arrivals) {
            (Some(path), _) => Workload::recorded(Trace::read(path)?, self.from, self.to, self.thin),
            (None, Some(form)) => Ok(Workload::Generated(Generator::parse(form)?)),
            (None, None) => Err(Error::option("--trace", "give a trace, or --arrivals")),
        }
    }
}

impl WorldArgs {
    /// The scenario for a workload.
    pub fn scenario(&self, workload: &Workload) -> Result<Scenario> {
        let mut scenario = Scenario {
            seed: self.seed,
            service: match &self.batch {
                None => Service::Slots(self.slots),
                Some(text) => batch(text)?,
            },
            balancing: match self.balancing {
                Balance::Central => Balancing::Central,
                Balance::Random => Balancing::Random,
            },
            service_cv: self.cs,
            service_law: match self.service_law {
                Law::Lognormal => ServiceLaw::LogNormal,
                Law::Exponential => ServiceLaw::Exponential,
            },
            epsilon: self.epsilon,
            start: start(&self.start_s, self.warm_share)?,
            min_replicas: self.min_replicas,
            max_replicas: self.max_replicas,
            warm_up: seconds("--warm-up-s", self.warm_up_s)?,
            scrape_interval: seconds("--scrape-s", self.scrape_s)?,
            scrape_failure: self.scrape_failure,
            gateways: self.gateways,
            queue_capacity: self.queue,
            hold: seconds("--hold-s", self.hold_s)?,
            drain_grace: seconds("--grace-s", self.grace_s)?,
            room: self
                .nodes
                .map_or(u32::MAX, |nodes| nodes.saturating_mul(self.pods_per_node)),
            faults: self
                .faults
                .iter()
                .map(|text| Fault::parse(text))
                .collect::<Result<_>>()?,
            ..Scenario::default()
        };
        let per_second = workload.per_second(self.seed);
        scenario.service_mean = match (scenario.service, self.service_ms.as_str()) {
            (Service::Batch { alpha, beta, .. }, _) => alpha + beta,
            (Service::Slots(_), "auto") => {
                if !(self.peak_pods > 0.0 && self.peak_pods.is_finite()) {
                    return Err(Error::option("--peak-pods", "must be a number above 0"));
                }
                scenario.service_for_peak(&per_second, self.peak_pods)?
            }
            (Service::Slots(_), text) => milliseconds("--service-ms", text)?,
        };
        scenario.slo = match self.slo_ms.as_str() {
            "auto" => scenario.service_mean.saturating_mul(SLO_SERVICE_TIMES),
            text => milliseconds("--slo-ms", text)?,
        };
        scenario.check(workload.seconds())?;
        scenario.initial_replicas = match self.initial_replicas {
            None => scenario.initial_for(&per_second),
            Some(replicas) if replicas <= self.max_replicas => replicas,
            Some(_) => return Err(Error::option("--initial-replicas", "must not exceed --max-replicas")),
        };
        Ok(scenario)
    }
}

fn seconds(option: &str, value: f64) -> Result<Nanos> {
    if value.is_finite() && value >= 0.0 {
        Ok(time::from_seconds(value))
    } else {
        Err(Error::option(
            format!("{option} {value}"),
            "must be a number of seconds that is not negative",
        ))
    }
}

fn milliseconds(option: &str, text: &str) -> Result<Nanos> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value < 1e9 => Ok((value * MILLISECOND as f64) as Nanos),
        _ => Err(Error::option(
            format!("{option} {text}"),
            "must be `auto` or a number of milliseconds above 0",
        )),
    }
}

fn start(text: &str, warm_share: f64) -> Result<StartModel> {
    if text == "mixture" {
        return Ok(StartModel::Mixture);
    }
    if !(0.0..=1.0).contains(&warm_share) {
        return Err(Error::option(
            format!("--warm-share {warm_share}"),
            "must be from 0 to 1",
        ));
    }
    match text.parse::<f64>() {
        Ok(median) if (0.0..1e6).contains(&median) => Ok(StartModel::Median {
            median: time::from_seconds(median),
            warm_share,
        }),
        _ => Err(Error::option(
            format!("--start-s {text}"),
            "must be `mixture` or a number of seconds",
        )),
    }
}

fn batch(text: &str) -> Result<Service> {
    let wrong = || Error::option(format!("--batch {text}"), "write ALPHA:BETA:MAX, for example 40:5:16");
    let [alpha, beta, max] = text.split(':').collect::<Vec<_>>()[..] else {
        return Err(wrong());
    };
    let span = |text: &str| match text.parse::<f64>() {
        Ok(value) if (0.0..1e9).contains(&value) => Ok((value * MILLISECOND as f64) as Nanos),
        _ => Err(wrong()),
    };
    match max.parse::<u32>() {
        Ok(max) if max > 0 => Ok(Service::Batch {
            alpha: span(alpha)?,
            beta: span(beta)?,
            max,
        }),
        _ => Err(wrong()),
    }
}
