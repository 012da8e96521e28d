//! The seam between queue and engine: pulls waiting requests, makes them one job, and gives the outputs back to each caller.

use std::sync::Arc;
use std::time::Instant;

use crate::batcher::{assemble::assemble, split::split};
use crate::clock;
use crate::engine::RunError;
use crate::engine::pool::Express;
use crate::engine::worker::{Job, Source, Wake};
use crate::error::Error;
use crate::pipeline::express::RunNow;
use crate::pipeline::{Serving, Work};
use crate::queue::state::Entry;
use crate::tensor::Tensor;
use crate::trace::{Members, Run};

/// The queue of one model as a source of jobs.
#[derive(Debug)]
pub struct Feed(pub Arc<Serving>);

impl Source for Feed {
    fn next(&self, checks: &mut u64) -> Wake {
        loop {
            let Some(pulled) = self.0.queue.pull(checks) else {
                return Wake::End;
            };
            if pulled.batch.is_empty() && pulled.late.is_empty() {
                return Wake::Check;
            }
            for entry in pulled.late {
                // A caller whose deadline passed may be gone already.
                let error = self.0.late(entry.term);
                let _ = entry.payload.reply.send(Err(error));
            }
            if let Some(batch) = Batch::new(&self.0, pulled.batch) {
                return Wake::Job(Box::new(batch));
            }
        }
    }

    fn check(&self) {
        self.0.queue.check();
    }

    fn is_closed(&self) -> bool {
        self.0.queue.is_closed()
    }
}

/// How requests of this model are run on their callers' threads.
pub fn express(serving: &Arc<Serving>, engines: Express) -> RunNow {
    // It is kept by the model itself.
    let serving = Arc::downgrade(serving);
    Box::new(move |entry| {
        let mut entry = Some(entry);
        if let Some(serving) = serving.upgrade() {
            engines.try_run(&mut || Some(Box::new(Batch::new(&serving, vec![entry.take()?])?)));
        }
        entry
    })
}

type Reply = tokio::sync::oneshot::Sender<Result<Vec<Tensor>, Error>>;

/// Requests that share a run.
struct Batch {
    serving: Arc<Serving>,
    inputs: Vec<Tensor>,
    callers: std::sync::Mutex<Vec<Option<Reply>>>,
    /// Rows of each request along the first dimension.
    rows: Vec<usize>,
    /// Items of all of them: as many as rows, or one where the model takes no batches.
    items: usize,
    size_class: u8,
    started: Instant,
    /// Its span, where one of the requests is traced.
    run: Run,
}

impl Batch {
    /// `None` when nobody waits for it any more, or (told to the callers) when the requests do not fit together.
    fn new(serving: &Arc<Serving>, entries: Vec<Entry<Work>>) -> Option<Self> {
        let started = clock::now();
        let mut requests = Vec::with_capacity(entries.len());
        let mut callers = Vec::with_capacity(entries.len());
        let mut rows = Vec::with_capacity(entries.len());
        let (mut items, mut size_class) = (0, 0);
        let mut members = Members::default();
        for entry in entries {
            // Between leaving the queue and here a caller may have gone: it takes no place.
            if entry.payload.reply.is_closed() {
                continue;
            }
            serving
                .metrics
                .queue
                .observe(started.saturating_duration_since(entry.arrived).as_secs_f64());
            rows.push(entry.payload.inputs.first().map_or(1, Tensor::rows));
            items += entry.kind.items;
            size_class = entry.kind.size_class;
            entry.payload.trace.waited(entry.arrived, started);
            members.add(entry.payload.trace);
            requests.push(entry.payload.inputs);
            callers.push(entry.payload.reply);
        }
        if callers.is_empty() {
            return None;
        }
        let Some(inputs) = assemble(requests) else {
            for caller in callers {
                let _ = caller.send(Err(Error::Internal(
                    "requests of one batch do not fit together".to_owned(),
                )));
            }
            return None;
        };
        serving.metrics.batch_size.observe(items as f64);
        let run = Run::begin(members, &serving.facts.name, items, started);
        let callers = std::sync::Mutex::new(callers.into_iter().map(Some).collect());
        Some(Self {
            serving: Arc::clone(serving),
            inputs,
            callers,
            rows,
            items,
            size_class,
            started,
            run,
        })
    }

    fn take_callers(&self) -> Vec<Option<Reply>> {
        std::mem::take(&mut *self.callers.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

impl Job for Batch {
    fn inputs(&self) -> &[Tensor] {
        &self.inputs
    }

    fn divide(&self) -> Vec<Box<dyn Job>> {
        if self.rows.len() < 2 {
            return Vec::new();
        }
        let mut start = 0;
        let mut parts: Vec<Box<dyn Job>> = Vec::with_capacity(self.rows.len());
        for (place, (caller, rows)) in self.take_callers().into_iter().zip(&self.rows).enumerate() {
            let end = start + rows;
            let slices: Option<Vec<Tensor>> = self.inputs.iter().map(|tensor| tensor.slice_rows(start, end)).collect();
            start = end;
            if let (Some(inputs), Some(caller)) = (slices, caller) {
                let started = clock::now();
                parts.push(Box::new(Self {
                    serving: Arc::clone(&self.serving),
                    inputs,
                    callers: std::sync::Mutex::new(vec![Some(caller)]),
                    rows: vec![*rows],
                    // Only batches are divided.
                    items: *rows,
                    size_class: self.size_class,
                    started,
                    run: self.run.part(place, started),
                }));
            }
        }
        parts
    }

    fn finish(mut self: Box<Self>, result: Result<Vec<Tensor>, RunError>) {
        let now = clock::now();
        self.run.end(now, result.is_err());
        let duration = now.saturating_duration_since(self.started);
        self.serving.metrics.inference.observe(duration.as_secs_f64());
        self.serving
            .metrics
            .work
            .extend(duration.as_secs_f64() * self.rows.len() as f64);
        let items = self.items;
        self.serving.metrics.runs.add(items, duration, clock::wall_millis());
        if result.is_ok() {
            self.serving.pace.learn(duration, items);
            self.serving.costs.learn(self.size_class, items, duration);
        }
        let callers = self.take_callers();
        let answers: Vec<Result<Vec<Tensor>, Error>> = match result {
            Ok(outputs) => {
                if let Some(parts) = split(outputs, &self.rows) {
                    parts.into_iter().map(Ok).collect()
                } else {
                    let message = "the model did not answer one row per item; set maxBatchSize to 1";
                    self.rows
                        .iter()
                        .map(|_| Err(Error::ModelFailed(message.to_owned())))
                        .collect()
                }
            }
            Err(RunError::Input(message)) => {
                let error = Error::Invalid(format!("the model refuses the input: {message}"));
                self.rows.iter().map(|_| Err(error.clone())).collect()
            }
            Err(RunError::Failed(message)) => {
                let error = Error::ModelFailed(format!("the model failed: {message}"));
                self.rows.iter().map(|_| Err(error.clone())).collect()
            }
        };
        for (caller, answer) in callers.into_iter().zip(answers) {
            if let Some(caller) = caller {
                // Gone during the run: nothing to do, its own guard has counted it.
                let _ = caller.send(answer);
            }
        }
    }
}
