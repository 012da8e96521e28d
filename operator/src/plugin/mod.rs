//! `kubectl tide`: why a service has the replicas that it has. A thin client: what is decided, it decides again with the operator's own code.

pub mod args;
mod history;
mod show;

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::CommandFactory as _;
use jiff::{SignedDuration, Timestamp};
use kube::config::KubeConfigOptions;
use kube::{Client, Config};
use serde::Serialize;
use tidewright_api::InferenceService;
use tidewright_scaling::policy::Tuning;
use tidewright_scaling::record::Record;
use tidewright_scaling::units::Moment;

use crate::autoscaler::{self, Times};
use crate::clock::{Clock as _, SystemClock};
use crate::cluster::call::cluster_client;
use crate::cluster::read;
use crate::validate::{Prometheus, validate};
use args::{Cli, Command, Output, Place, Subject};
use history::{Given, Other};

/// A decision did not come out the same.
const DIFFERENT: u8 = 3;
/// Older than this a decision is history.
const PRESENT_SECONDS: f64 = 90.0;
/// Between two looks of `top`.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// Clears a terminal.
const CLEAR: &str = "\u{1b}[H\u{1b}[2J";

/// Does what the command line says.
pub fn main(cli: Cli) -> ExitCode {
    let done = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(run(cli)));
    match done {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "kubectl tide: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let place = &cli.place;
    match cli.command {
        Command::Why(subject) => why(place, &subject).await?,
        Command::Explain { subject, at } => {
            let at = moment(&at)?;
            let records = match &subject.file {
                Some(path) => history::parse(&read_file(path)?).map_err(anyhow::Error::msg)?,
                None => around(place, &subject.name, at).await?,
            };
            let explained = history::explain(&records, at).map_err(anyhow::Error::msg)?;
            say(place, &explained, || show::explained(&subject.name, &explained))?;
            if !explained.is_same {
                return Ok(ExitCode::from(DIFFERENT));
            }
        }
        Command::Replay {
            subject,
            policy,
            from,
            to,
        } => {
            let from = from.as_deref().map_or(Ok(Moment::default()), moment)?;
            let to = to.as_deref().map_or(Ok(Moment::from_millis(u64::MAX)), moment)?;
            let records = records(place, &subject, Some(from)).await?;
            let other = other_spec(&policy, &records)?;
            let compared = history::compare(&records, from, to, other).map_err(anyhow::Error::msg)?;
            say(place, &compared, || show::compared(&compared))?;
        }
        Command::WhatIf {
            subject,
            rate,
            queue,
            concurrency,
        } => {
            let given = Given {
                rate,
                queue,
                concurrency,
            };
            if given == Given::default() {
                bail!("what if what? Give --rate, --queue or --concurrency, or several");
            }
            let records = records(place, &subject, Some(Moment::from_millis(u64::MAX))).await?;
            let last = records.last().filter(|_| subject.file.is_none());
            if let Some(last) = last.filter(|last| !is_present(last)) {
                bail!(
                    "the last decision about {} is of {}: the operator does not decide about it now",
                    subject.name,
                    show::time(last.at)
                );
            }
            let what_if = history::what_if(&records, given).map_err(anyhow::Error::msg)?;
            say(place, &what_if, || show::what_if(&subject.name, &what_if))?;
        }
        Command::Top { all_namespaces, once } => top(place, all_namespaces, once).await?,
        Command::Ledger { name, from, to } => {
            let from = from.as_deref().map_or(Ok(Moment::default()), moment)?;
            let to = to.as_deref().map_or(Ok(Moment::from_millis(u64::MAX)), moment)?;
            let (client, namespace) = connect(place).await?;
            let lines = fetch(&client, place, &namespace, &name, from, to).await?;
            let lines = lines.with_context(|| not_recorded(&namespace, &name))?;
            std::io::stdout().write_all(&lines)?;
        }
        Command::Completion { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "kubectl-tide", &mut std::io::stdout());
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn why(place: &Place, subject: &Subject) -> anyhow::Result<()> {
    if subject.file.is_some() {
        let records = records(place, subject, None).await?;
        let last = records.last().context("no decision")?;
        return say(place, &last.decision, || show::decision(&subject.name, &last.decision));
    }
    let (client, namespace) = connect(place).await?;
    let service = read::service(&client, &namespace, &subject.name).await?;
    let newest = Moment::from_millis(u64::MAX);
    let lines = fetch(&client, place, &namespace, &subject.name, newest, newest).await;
    let lines = lines.unwrap_or_else(|error| {
        // Whoever may not reach the operator may still read what it has written.
        let _ = writeln!(std::io::stderr(), "kubectl tide: {error:#}: from the status alone");
        None
    });
    let records = lines.map(|lines| history::parse(&String::from_utf8_lossy(&lines)).map_err(anyhow::Error::msg));
    // One that is old is of another mode, or of a service that had this name.
    let last = records
        .transpose()?
        .and_then(|mut records| records.pop())
        .filter(is_present);
    match last {
        Some(last) => say(place, &last.decision, || {
            format!(
                "{}\n{}",
                show::decision(&subject.name, &last.decision),
                show::status(&service)
            )
        }),
        // Where the operator has nothing to decide by, the status repeats what the autoscaler of Kubernetes goes by.
        None => say(place, &service.status, || show::status(&service)),
    }
}

/// Whether the operator still decides: it does so each second, and one that has just ended may be looked at still.
fn is_present(record: &Record) -> bool {
    let now = u64::try_from(SystemClock.now().as_millisecond()).unwrap_or_default();
    Moment::from_millis(now).seconds_since(record.at) < PRESENT_SECONDS
}

async fn top(place: &Place, all_namespaces: bool, once: bool) -> anyhow::Result<()> {
    let (client, namespace) = connect(place).await?;
    let of = (!all_namespaces).then_some(namespace.as_str());
    loop {
        let services = read::services(&client, of).await?;
        let statuses: Vec<_> = services
            .iter()
            .map(|service| (&service.metadata.namespace, &service.metadata.name, &service.status))
            .collect();
        let clear = if once || place.output == Output::Json {
            ""
        } else {
            CLEAR
        };
        say(place, &statuses, || format!("{clear}{}", show::top(&services)))?;
        if once || place.output == Output::Json {
            return Ok(());
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// The way to the cluster, and the namespace that is meant.
async fn connect(place: &Place) -> anyhow::Result<(Client, String)> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let options = KubeConfigOptions {
        context: place.context.clone(),
        ..KubeConfigOptions::default()
    };
    let config = Config::from_kubeconfig(&options).await.context("the kubeconfig")?;
    let namespace = place
        .namespace
        .clone()
        .unwrap_or_else(|| config.default_namespace.clone());
    Ok((cluster_client(config)?, namespace))
}

/// From the file, or from the operator: those since `from`, or all.
async fn records(place: &Place, subject: &Subject, from: Option<Moment>) -> anyhow::Result<Vec<Record>> {
    let text = if let Some(path) = &subject.file {
        read_file(path)?
    } else {
        let (client, namespace) = connect(place).await?;
        let end = Moment::from_millis(u64::MAX);
        let lines = fetch(&client, place, &namespace, &subject.name, from.unwrap_or_default(), end).await?;
        String::from_utf8(lines.with_context(|| not_recorded(&namespace, &subject.name))?)?
    };
    history::parse(&text).map_err(anyhow::Error::msg)
}

/// From the operator: the decision of a time, and what leads to it.
async fn around(place: &Place, name: &str, at: Moment) -> anyhow::Result<Vec<Record>> {
    let (client, namespace) = connect(place).await?;
    let mut lines = fetch(&client, place, &namespace, name, at, at).await?;
    if lines.is_none() {
        // Nothing is kept of that time: when the first decision is of, only all of them say.
        let end = Moment::from_millis(u64::MAX);
        lines = fetch(&client, place, &namespace, name, Moment::default(), end).await?;
    }
    let text = String::from_utf8(lines.with_context(|| not_recorded(&namespace, name))?)?;
    history::parse(&text).map_err(anyhow::Error::msg)
}

fn read_file(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| path.display().to_string())
}

async fn fetch(
    client: &Client,
    place: &Place,
    namespace: &str,
    name: &str,
    from: Moment,
    to: Moment,
) -> anyhow::Result<Option<Vec<u8>>> {
    let path = format!(
        "/ledger/{namespace}/{name}?from={}&to={}",
        from.as_millis(),
        to.as_millis()
    );
    let answer = read::from_operator(client, &place.operator_namespace, &path).await;
    let answer = answer.context("the operator's decisions (is --operator-namespace right?)")?;
    if let Some(caveat) = answer.caveat {
        let _ = writeln!(std::io::stderr(), "kubectl tide: {caveat}");
    }
    Ok(answer.body.map(|bytes| bytes.to_vec()))
}

fn not_recorded(namespace: &str, name: &str) -> String {
    format!(
        "no decision about {namespace}/{name} is recorded: the operator decides about what scales by signals that it measures"
    )
}

/// The policy of a manifest, as the operator would make it, and its schedules.
fn other_spec(path: &Path, records: &[Record]) -> anyhow::Result<Other> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let mut object: InferenceService = serde_saphyr::from_str(&text).with_context(|| path.display().to_string())?;
    // What the API server gives an object, and what plays no part here.
    object.metadata.uid.get_or_insert_with(|| "offline".to_owned());
    object.metadata.namespace.get_or_insert_with(|| "default".to_owned());
    object.metadata.name.get_or_insert_with(|| "offline".to_owned());
    let anything = Prometheus {
        query_refusal: Box::new(|_, _| None),
        address_refusal: Box::new(|_, _| None),
    };
    let service = validate(&object, &anything).map_err(|problems| {
        let all: Vec<String> = problems.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("{}: {}", path.display(), all.join("; "))
    })?;
    let recorded = records.iter().find_map(|record| record.policy.as_ref());
    let stale_after = recorded
        .and_then(|policy| policy.signals.first())
        .map_or(30.0, |s| s.stale_after_seconds);
    let tuning = recorded.map_or_else(Tuning::default, |policy| policy.tuning);
    let (has_prometheus, asks_pods) = recorded.map_or((true, false), autoscaler::sources_of);
    let times = Times {
        rate_window: Duration::ZERO,
        stale_after: Duration::from_secs_f64(stale_after),
        // As the operator was started.
        relearn: Duration::try_from_secs_f64(tuning.relearn_seconds).unwrap_or(Duration::MAX),
        has_prometheus,
        // The window of their rates is no part of a policy, and the observations have theirs.
        asks_pods: asks_pods.then_some(Duration::from_secs(1)),
    };
    let plan = autoscaler::plan(&service, &times).with_context(|| {
        format!(
            "{}: the operator decides about what scales by signals that it measures",
            path.display()
        )
    })?;
    Ok(Other::new(plan.policy, service.schedules))
}

/// RFC 3339, or so long ago.
fn moment(text: &str) -> anyhow::Result<Moment> {
    let ago = || {
        let (number, unit) = text.split_at(text.len() - text.chars().next_back().map_or(0, char::len_utf8));
        let factor = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return None,
        };
        let seconds = number.parse::<u32>().ok().filter(|number| *number > 0)?;
        Some(SystemClock.now() - SignedDuration::from_secs(i64::from(seconds) * factor))
    };
    let time = text.parse::<Timestamp>().ok().or_else(ago);
    let time = time.with_context(|| format!("{text:?} is no time: 2026-01-31T14:07:30Z, or 90s, 5m or 2h ago"))?;
    Ok(Moment::from_millis(
        u64::try_from(time.as_millisecond()).unwrap_or_default(),
    ))
}

fn say<T: Serialize>(place: &Place, value: &T, text: impl FnOnce() -> String) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match place.output {
        Output::Json => {
            serde_json::to_writer_pretty(&mut out, value)?;
            writeln!(out)?;
        }
        Output::Text => out.write_all(text().as_bytes())?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_points_or_ages() {
        assert_eq!(moment("1970-01-01T00:00:02Z").unwrap().as_millis(), 2000);
        let ago = moment("5m").unwrap();
        let now = moment("1s").unwrap();
        assert!((now.seconds_since(ago) - 299.0).abs() < 2.0);
        for wrong in ["", "5", "m", "-5m", "yesterday", "5µ"] {
            assert!(moment(wrong).unwrap_err().to_string().contains("is no time"), "{wrong}");
        }
    }
}
