//! What was kept of the operator's decisions, without the operator.
use anyhow::{Context as _, Result, ensure};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use tidewright_e2e::console::progress;
use tidewright_e2e::operator_process::OperatorProcess;
use tidewright_e2e::plugin::{Answer, tide};
use tidewright_scaling::record::{Record, Replay, Replayed, differences};

/// Kills the operator, with which its ledger goes. What was fetched of it before says as much: each decision of the run comes out again, bit for bit, and
/// to `kubectl tide` too; and a sample that was changed is named.
pub(super) async fn replays_offline(operator: &OperatorProcess<'_>, namespace: &str, signal: &str) -> Result<()> {
    let (missing, _) = operator.ask(&format!("/ledger/{namespace}/nobody")).await?;
    ensure!(missing == 404, "{missing}");
    let (status, lines) = operator.ask(&format!("/ledger/{namespace}/digits")).await?;
    ensure!(status == 200, "{status}: {lines}");
    operator.kill()?;
    let left = operator.ask("/healthz").await;
    ensure!(left.is_err(), "it answers still: {left:?}");
    let decided = every_decision_comes_out_again(&lines)?;

    let records: Vec<Value> = lines.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let last = explain(&records, records.len() - 1).await?;
    let is_same = last.stdout.contains("the same decision, bit for bit") && last.stdout.contains(signal);
    ensure!(last.code == Some(0) && is_same, "{last:?}");
    let is_sampled = |record: &Value| record["seen"]["signals"][0]["Ok"].is_object();
    let index = records.iter().position(is_sampled);
    let index = index.context("no sample in the whole run")?;
    let mut changed = records;
    changed[index]["seen"]["signals"][0]["Ok"]["value"] = json!(9999.0);
    let answer = explain(&changed, index).await?;
    ensure!(
        answer.code == Some(3) && answer.stdout.contains(&format!("signal {signal}")),
        "{answer:?}"
    );
    progress(format_args!("{decided} recorded decisions replayed offline"));
    Ok(())
}

/// How many there are, all of them equal.
fn every_decision_comes_out_again(lines: &str) -> Result<usize> {
    let records: Vec<Record> = lines.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    ensure!(records.len() > 10, "{} decisions", records.len());
    let mut replay = Replay::default();
    let different = records.iter().filter_map(|record| {
        let how = match replay.next(record) {
            Replayed::Equal => return None,
            Replayed::Different(other) => differences(&record.decision, &other).join("; "),
            Replayed::Skipped => "nothing is known to begin with".to_owned(),
        };
        Some(format!("{}: {how}", record.at.time_of_day()))
    });
    let different: Vec<String> = different.collect();
    ensure!(
        different.is_empty(),
        "{} of {} decisions: {different:#?}",
        different.len(),
        records.len()
    );
    Ok(records.len())
}

/// What `kubectl tide` makes of the record at `index`.
async fn explain(records: &[Value], index: usize) -> Result<Answer> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("ledger.jsonl");
    let text: Vec<String> = records.iter().map(ToString::to_string).collect();
    std::fs::write(&file, text.join("\n"))?;
    let millis = records[index]["at"].as_i64().context("no time")?;
    let at = Timestamp::from_millisecond(millis)?.to_string();
    let nowhere = folder.path().join("no-kubeconfig");
    let file = file.display().to_string();
    tide(&nowhere, &["explain", "digits", "--file", &file, "--at", &at]).await
}
