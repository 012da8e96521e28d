//! What a run is printed as: one JSON object, or a few lines for people; and the decisions as CSV.

use std::fmt::Write as _;
use std::io::Write;

use serde::Serialize;

use crate::run::{Moment, Watch};
use crate::scenario::Scenario;
use crate::score::Score;
use crate::time::{MILLISECOND, Nanos, to_seconds};

/// A run and its scores.
#[derive(Debug, Serialize)]
pub struct Report {
    pub policy: String,
    /// The knobs given, as typed.
    pub settings: Vec<String>,
    /// File name of the trace, or the form of the drawn arrivals.
    pub workload: String,
    pub seed: u64,
    pub seconds: u64,
    pub slots: u32,
    pub service_ms: f64,
    pub slo_ms: f64,
    pub initial_replicas: u32,
    pub max_replicas: u32,
    pub faults: Vec<String>,
    #[serde(flatten)]
    pub score: Score,
}

impl Report {
    /// `faults` and `settings` as typed.
    pub fn new(policy: String, settings: Vec<String>, workload: String, scenario: &Scenario, score: Score) -> Self {
        let milliseconds = |span: Nanos| span as f64 / MILLISECOND as f64;
        Self {
            policy,
            settings,
            workload,
            seed: scenario.seed,
            seconds: 0,
            slots: scenario.service.slots(),
            service_ms: milliseconds(scenario.service_mean),
            slo_ms: milliseconds(scenario.slo),
            initial_replicas: scenario.initial_replicas,
            max_replicas: scenario.max_replicas,
            faults: Vec::new(),
            score,
        }
    }

    pub fn to_text(&self) -> String {
        let mut text = String::new();
        let score = &self.score;
        let settings = self.settings.join(" ");
        let lines = [
            format!(
                "{} {}on {}, seed {}: {} s, {} requests scored",
                self.policy,
                if settings.is_empty() {
                    String::new()
                } else {
                    format!("({settings}) ")
                },
                self.workload,
                self.seed,
                self.seconds,
                score.requests
            ),
            format!(
                "  service {:.0} ms in {} slots, objective {:.0} ms",
                self.service_ms, self.slots, self.slo_ms
            ),
            format!(
                "  violations  {:.3} %   p50 {:.0} ms, p99 {:.0} ms, p99.9 {:.0} ms",
                score.violations * 100.0,
                score.p50_ms,
                score.p99_ms,
                score.p999_ms
            ),
            format!(
                "  lost        {} (refused {}, held too long {}, killed {})",
                score.lost, score.refused, score.expired, score.killed
            ),
            format!(
                "  cost        {:.3} of full utilisation ({:.0} pod-seconds)",
                score.cost, score.pod_seconds
            ),
            format!(
                "  actions     {} ({:.0} a day), {} reversals within 5 min, {} pods started, at most {} wanted",
                score.actions, score.actions_per_day, score.reversals, score.cold_starts, score.max_desired
            ),
            format!(
                "  recovery    {:.0} s at most; {} scale-downs while blind",
                score.recovery_s, score.blind_scale_downs
            ),
        ];
        for line in lines {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{line}");
        }
        text
    }
}

/// Writes each decision as a line of CSV. The first failure to write is kept for [`Self::finish`].
#[derive(Debug)]
pub struct DecisionLog<W: Write> {
    out: W,
    failed: Option<std::io::Error>,
}

impl<W: Write> DecisionLog<W> {
    pub fn new(mut out: W) -> Self {
        let failed = writeln!(
            out,
            "second,desired,decided,ready,starting,pending,draining,queued,in_service,reason"
        )
        .err();
        Self { out, failed }
    }

    pub fn finish(mut self) -> std::io::Result<()> {
        match self.failed {
            Some(error) => Err(error),
            None => self.out.flush(),
        }
    }
}

impl<W: Write> Watch for DecisionLog<W> {
    fn decided(&mut self, moment: &Moment<'_>) {
        if self.failed.is_some() {
            return;
        }
        let count = moment.count;
        self.failed = writeln!(
            self.out,
            "{:.3},{},{},{},{},{},{},{},{},\"{}\"",
            to_seconds(moment.now),
            moment.desired,
            moment.decision.replicas,
            count.ready,
            count.starting,
            count.pending,
            count.draining,
            moment.queued,
            moment.in_service,
            moment.decision.reason.replace('"', "\"\"")
        )
        .err();
    }
}
