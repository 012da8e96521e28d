//! Runs of the sizes that items will have, where the model leaves them open and the config names them: what they cost is known before the first request.

use std::time::{Duration, Instant};

use tidewright_contract::config::ModelConfig;

use super::warmup::{Time, count, inputs, sizes, time};
use super::{Engine, RunError};
use crate::clock;
use crate::model::signature::Signature;

/// Time for all sizes together: who scales up waits for this. One run of each is made in any case.
pub const BUDGET: Duration = Duration::from_secs(3);
/// Inputs of more elements are not made up: 64 MiB of floats.
const ELEMENTS_MAX: usize = 1 << 24;

/// What to run.
#[derive(Debug, Clone, Copy)]
pub struct Plan<'a> {
    /// Largest batch.
    pub batch_size_max: usize,
    /// Of the free inner dimensions.
    pub sizes: &'a [usize],
    /// Whether the model runs on ones where it does not on zeros.
    pub ones: bool,
    pub budget: Duration,
}

/// The sizes that the config names for the model: none if it has no dimensions to have them, and none so large that nobody could mean it.
pub fn wanted(model: &ModelConfig, signature: &Signature) -> Vec<usize> {
    if !model.warmup_sizes.is_empty() && !signature.has_free_inner_dimensions() {
        tracing::warn!(
            model = model.name,
            "warmupSizes is without effect: no input leaves a dimension besides the first free"
        );
        return Vec::new();
    }
    let sizes = model.warmup_sizes.iter().map(|size| *size as usize);
    let fits = |size: &usize| {
        let fits = count(signature, 1, *size).is_some_and(|elements| elements <= ELEMENTS_MAX);
        if !fits {
            tracing::warn!(
                model = model.name,
                size,
                "not warmed up with this size: its inputs would have more than {ELEMENTS_MAX} elements"
            );
        }
        fits
    };
    sizes.filter(fits).collect()
}

/// Runs batches of 1, 2, 4, … items of each size, each size for its share of the time that is left, and says how long they took.
pub fn run(engine: &mut dyn Engine, signature: &Signature, plan: Plan<'_>) -> Vec<Time> {
    let end = clock::now() + plan.budget;
    let mut times = Vec::new();
    let mut sizes_left = plan.sizes.len();
    for size in plan.sizes {
        let now = clock::now();
        let share = end.saturating_duration_since(now) / u32::try_from(sizes_left).unwrap_or(u32::MAX);
        one_size(engine, signature, plan, *size, now + share, &mut times);
        sizes_left -= 1;
    }
    times
}

fn one_size(
    engine: &mut dyn Engine,
    signature: &Signature,
    plan: Plan<'_>,
    size: usize,
    until: Instant,
    times: &mut Vec<Time>,
) {
    let mut before = Duration::ZERO;
    for items in sizes(signature.rows, plan.batch_size_max) {
        // Twice the items rarely take more than twice the time.
        let is_late = items > 1 && clock::now() + before * 2 > until;
        if is_late || count(signature, items, size).is_none_or(|elements| elements > ELEMENTS_MAX) {
            return;
        }
        let inputs = inputs(signature, items, size, plan.ones);
        let begun = clock::now();
        if let Err(RunError::Input(message) | RunError::Failed(message)) = engine.run(&inputs) {
            tracing::warn!(
                size,
                items,
                message,
                "not warmed up with this size: a run with made-up values failed"
            );
            return;
        }
        let first = clock::now().duration_since(begun);
        // The first run of a shape is slow, and still says more than nothing.
        before = time(engine, &inputs, until).unwrap_or(first);
        times.push(Time::of(signature, items, &inputs, before));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::signature::{Rows, Slot};
    use crate::tensor::{DataType, Tensor};

    /// Takes so long for an item, and notes items and size of each run.
    struct Slow {
        item: Duration,
        runs: Vec<(usize, usize)>,
    }

    impl Engine for Slow {
        fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunError> {
            let (items, size) = (inputs[0].rows(), inputs[0].shape()[1]);
            assert_eq!(inputs[1].shape(), [items, size, 2]);
            self.runs.push((items, size));
            if size == 13 {
                return Err(RunError::Failed("13 brings bad luck".to_owned()));
            }
            std::thread::sleep(self.item * u32::try_from(items).unwrap());
            Ok(Vec::new())
        }
    }

    fn slot(shape: &[Option<usize>]) -> Slot {
        Slot {
            name: "x".into(),
            datatype: DataType::Int64,
            shape: shape.to_vec(),
            first_symbol: "N".to_owned(),
        }
    }

    fn signature() -> Signature {
        let signature = Signature::new(
            vec![slot(&[None, None]), slot(&[None, None, Some(2)])],
            vec![slot(&[None])],
        );
        assert_eq!(signature.rows, Rows::Dynamic);
        signature
    }

    /// Items, size, and how often.
    type Ran = (usize, usize, usize);

    /// What is run; and what is learned: items and elements of one.
    fn run_of(item: Duration, sizes: &[usize], budget: Duration) -> (Vec<Ran>, Vec<(usize, usize)>) {
        let mut engine = Slow { item, runs: Vec::new() };
        let plan = Plan {
            batch_size_max: 4,
            sizes,
            ones: false,
            budget,
        };
        let times = run(&mut engine, &signature(), plan);
        assert!(
            times
                .iter()
                .all(|time| time.duration >= item * u32::try_from(time.items).unwrap())
        );
        let runs = engine
            .runs
            .chunk_by(PartialEq::eq)
            .map(|same| (same[0].0, same[0].1, same.len()));
        (
            runs.collect(),
            times.iter().map(|time| (time.items, time.elements)).collect(),
        )
    }

    #[test]
    fn sizes_are_wanted_where_an_input_leaves_them_open() {
        let mut model = ModelConfig::new("m", "m.onnx");
        model.warmup_sizes = vec![16, 1 << 23, 128];
        assert_eq!(wanted(&model, &signature()), [16, 128]);
        // The first dimension counts items, and an output's sizes follow from those of the inputs.
        let settled = Signature::new(vec![slot(&[None, Some(4)])], vec![slot(&[None, None])]);
        assert_eq!(wanted(&model, &settled), [0usize; 0]);
    }

    #[test]
    fn each_named_size_is_run_in_every_batch_size_and_timed() {
        let (runs, times) = run_of(Duration::ZERO, &[16, 128], Duration::from_secs(60));
        // One to warm up, three that are timed.
        assert_eq!(
            runs,
            [
                (1, 16, 4),
                (2, 16, 4),
                (4, 16, 4),
                (1, 128, 4),
                (2, 128, 4),
                (4, 128, 4)
            ]
        );
        assert_eq!(times, [(1, 48), (2, 48), (4, 48), (1, 384), (2, 384), (4, 384)]);
    }

    #[test]
    fn a_slow_model_is_run_once_with_each_size_whatever_time_there_is() {
        let (runs, times) = run_of(Duration::from_millis(2), &[16, 128], Duration::ZERO);
        assert_eq!(runs, [(1, 16, 1), (1, 128, 1)]);
        assert_eq!(times, [(1, 48), (1, 384)]);
    }

    #[test]
    fn no_size_takes_the_time_of_those_after_it() {
        // Each has 50 ms: four runs of one item, and two items would take longer than what is left.
        let (runs, _) = run_of(Duration::from_millis(12), &[16, 128], Duration::from_millis(100));
        assert_eq!(
            runs.iter().map(|(items, size, _)| (*items, *size)).collect::<Vec<_>>(),
            [(1, 16), (1, 128)]
        );
    }

    #[test]
    fn what_fails_or_is_too_large_is_left_out_alone() {
        // An item of the second size has as many elements as may be, so that there are no two.
        let (runs, times) = run_of(Duration::ZERO, &[13, ELEMENTS_MAX / 3, 16], Duration::from_secs(60));
        assert_eq!(runs[..2], [(1, 13, 1), (1, ELEMENTS_MAX / 3, 4)]);
        assert_eq!(runs[2..], [(1, 16, 4), (2, 16, 4), (4, 16, 4)]);
        assert_eq!(times.len(), 4);
    }
}
