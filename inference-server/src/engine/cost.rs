//! What a run costs by the number of items in it, measured with made-up inputs.

use std::time::Duration;

use tidewright_contract::exit::Reason;

use super::warmup::{sizes, zeros};
use super::{Engine, RunError};
use crate::clock;
use crate::model::signature::{Rows, Signature};
use crate::model::source::LoadError;

/// One measured batch size.
#[derive(Debug, Clone, PartialEq)]
pub struct Cost {
    /// Items in the run.
    pub items: usize,
    /// Median time of a run.
    pub median: Duration,
    /// The fastest run: what the others were without the machine's noise.
    pub fastest: Duration,
    pub runs: usize,
}

impl Cost {
    /// Items per second at the median.
    pub fn items_per_second(&self) -> f64 {
        self.items as f64 / self.median.as_secs_f64().max(1e-9)
    }
}

/// What to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Largest batch.
    pub batch_size_max: usize,
    /// Size of the model's free inner dimensions.
    pub free_dimension: usize,
    /// Time for each batch size; at least three runs are made, whatever they take.
    pub time_per_size: Duration,
}

/// Runs batches of 1, 2, 4, … zeros and times them; the first run of each size is not counted.
///
/// # Errors
/// `WarmupFailed` when the model does not run on zeros of these shapes.
pub fn measure(engine: &mut dyn Engine, signature: &Signature, plan: Plan) -> Result<Vec<Cost>, LoadError> {
    const RUNS_MIN: usize = 3;
    let mut table = Vec::new();
    for size in sizes(signature.rows, plan.batch_size_max) {
        let inputs = zeros(signature, size, plan.free_dimension);
        let mut run = || -> Result<Duration, LoadError> {
            let started = clock::now();
            engine.run(&inputs).map_err(|error| {
                let (RunError::Input(message) | RunError::Failed(message)) = error;
                LoadError::new(
                    Reason::WarmupFailed,
                    format!("a run with {size} items of zeros failed: {message}"),
                )
            })?;
            Ok(clock::now().duration_since(started))
        };
        run()?;
        let mut times = Vec::new();
        let mut spent = Duration::ZERO;
        while times.len() < RUNS_MIN || spent < plan.time_per_size {
            let time = run()?;
            spent += time;
            times.push(time);
        }
        times.sort_unstable();
        let (Some(median), Some(fastest)) = (times.get(times.len() / 2), times.first()) else {
            continue;
        };
        let items = if let Rows::Fixed(count) = signature.rows {
            count
        } else {
            size
        };
        table.push(Cost {
            items,
            median: *median,
            fastest: *fastest,
            runs: times.len(),
        });
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::signature::Slot;
    use crate::tensor::{DataType, Tensor};

    /// Counts what it is given.
    struct Counting(Vec<usize>);

    impl Engine for Counting {
        fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunError> {
            assert_eq!(inputs[0].shape()[1..], [7]);
            self.0.push(inputs[0].rows());
            Ok(Vec::new())
        }
    }

    #[test]
    fn each_size_is_run_at_least_three_times_and_once_before() {
        let slot = Slot {
            name: "x".into(),
            datatype: DataType::Fp32,
            shape: vec![None, None],
            first_symbol: "N".to_owned(),
        };
        let signature = Signature::new(vec![slot.clone()], vec![slot]);
        let mut engine = Counting(Vec::new());
        let plan = Plan {
            batch_size_max: 3,
            free_dimension: 7,
            time_per_size: Duration::ZERO,
        };
        let table = measure(&mut engine, &signature, plan).unwrap();
        assert_eq!(engine.0, [1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3]);
        let sizes: Vec<(usize, usize)> = table.iter().map(|cost| (cost.items, cost.runs)).collect();
        assert_eq!(sizes, [(1, 3), (2, 3), (3, 3)]);
    }
}
