//! Runs of the shapes that will be served, before anyone is told that the model is ready.

use std::time::{Duration, Instant};

use tidewright_contract::exit::Reason;

use super::{Engine, RunError};
use crate::clock;
use crate::model::signature::{Rows, Signature, Slot};
use crate::model::source::LoadError;
use crate::tensor::{DataType, Tensor, Values, elements};

/// Time after which no larger batch is tried: the first runs matter most, and whoever scales up waits for this.
const BUDGET: Duration = Duration::from_millis(250);

/// Time that may be spent on timing runs: models that take longer are timed by what they serve.
const TIMING_BUDGET: Duration = Duration::from_millis(60);
/// Timed runs of one size, the fastest of which counts: the others were disturbed.
pub(super) const TIMED_RUNS: usize = 3;

/// How long a run took that was not the first of its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time {
    pub items: usize,
    /// Of one item, over all inputs.
    pub elements: usize,
    pub duration: Duration,
}

/// What the warm-up found out.
#[derive(Debug, PartialEq, Eq)]
pub struct Finding {
    /// Meaning of the first dimension, corrected if the model does not keep what its shapes promise.
    pub rows: Rows,
    pub runs: usize,
    /// Whether it runs on ones where it does not on zeros.
    pub ones: bool,
    /// By size.
    pub times: Vec<Time>,
}

/// Runs batches of 1, 2, 4, … items of zeros; of ones, where zeros do not run: a scale of zero makes no image. Free inner dimensions get the size `free`.
///
/// # Errors
/// `WarmupFailed` when a shape that the model declares without doubt runs with neither. A model with unknown inner dimensions, strings or integers is
/// given the benefit of the doubt: zeros of that size need not make sense to it, and an integer may be a size, an axis, a step or a divisor.
pub fn warm_up(
    engine: &mut dyn Engine,
    signature: &Signature,
    batch_size_max: usize,
    free: usize,
) -> Result<Finding, LoadError> {
    let started = clock::now();
    let certain = signature.inputs.iter().all(|slot| {
        slot.datatype != DataType::Bytes
            && slot.shape.iter().skip(1).all(Option::is_some)
            && (signature.rows != Rows::None || slot.shape.iter().all(Option::is_some))
    });
    let floats = signature.inputs.iter().all(|slot| is_float(slot.datatype));
    let (mut rows, mut runs, mut ones, mut times) = (signature.rows, 0, false, Vec::new());
    for size in sizes(signature.rows, batch_size_max) {
        if runs > 1 && is_over(started) {
            break;
        }
        let mut outcome = engine.run(&inputs(signature, size, free, ones));
        if runs == 0
            && outcome.is_err()
            && let Ok(outputs) = engine.run(&inputs(signature, size, free, true))
        {
            (outcome, ones) = (Ok(outputs), true);
        }
        match outcome {
            Ok(outputs) => {
                runs += 1;
                let inputs = inputs(signature, size, free, ones);
                times.extend(
                    time(engine, &inputs, started + TIMING_BUDGET).map(|time| Time::of(signature, size, &inputs, time)),
                );
                if rows == Rows::Dynamic
                    && outputs
                        .iter()
                        .any(|tensor| tensor.shape().is_empty() || tensor.rows() != size)
                {
                    tracing::warn!(
                        size,
                        "the model does not answer one row per item: requests are not put together"
                    );
                    rows = Rows::None;
                    break;
                }
            }
            Err(RunError::Input(message) | RunError::Failed(message)) if certain && floats && size == 1 => {
                return Err(LoadError::new(
                    Reason::WarmupFailed,
                    format!("a run with zeros failed: {message}"),
                ));
            }
            Err(RunError::Input(message) | RunError::Failed(message)) if certain && size > 1 => {
                tracing::warn!(size, message, "a batch of zeros failed: requests are not put together");
                rows = Rows::None;
                break;
            }
            Err(RunError::Input(message) | RunError::Failed(message)) => {
                tracing::info!(
                    size,
                    message,
                    "no warm-up: zeros do not suit the model's free dimensions, or integers"
                );
                break;
            }
        }
    }
    // One item shows nothing: any first dimension of 1 looks like a row.
    if signature.is_assumed && rows == Rows::Dynamic && runs < 2 && batch_size_max > 1 {
        tracing::info!("whether the model answers one row per item could not be tried: requests are not put together");
        rows = Rows::None;
    }
    Ok(Finding {
        rows,
        runs,
        ones,
        times,
    })
}

/// The fastest run of these inputs, of those that begin in time.
pub(super) fn time(engine: &mut dyn Engine, inputs: &[Tensor], until: Instant) -> Option<Duration> {
    let mut fastest: Option<Duration> = None;
    for _ in 0..TIMED_RUNS {
        let begun = clock::now();
        if begun > until || engine.run(inputs).is_err() {
            break;
        }
        let took = clock::now().duration_since(begun);
        fastest = Some(fastest.map_or(took, |fastest| fastest.min(took)));
    }
    fastest
}

impl Time {
    /// Of a run of these inputs, as requests are counted: a fixed first dimension is as many items.
    pub(super) fn of(signature: &Signature, size: usize, inputs: &[Tensor], duration: Duration) -> Self {
        let items = match signature.rows {
            Rows::Fixed(count) => count,
            Rows::Dynamic | Rows::None => size,
        };
        let elements: usize = inputs.iter().map(|tensor| tensor.values().len()).sum();
        Self {
            items,
            elements: elements / items.max(1),
            duration,
        }
    }
}

const fn is_float(datatype: DataType) -> bool {
    matches!(
        datatype,
        DataType::Fp16 | DataType::Bf16 | DataType::Fp32 | DataType::Fp64
    )
}

/// Floats that are 1; the rest stays as it is.
fn set_floats_to_one(values: &mut Values) {
    match values {
        Values::Fp16(values) => values.fill(half::f16::ONE),
        Values::Bf16(values) => values.fill(half::bf16::ONE),
        Values::Fp32(values) => values.fill(1.0),
        Values::Fp64(values) => values.fill(1.0),
        _ => {}
    }
}

fn is_over(started: Instant) -> bool {
    clock::now().duration_since(started) > BUDGET
}

/// The batch sizes to try: 1, 2, 4, … and the largest itself.
pub fn sizes(rows: Rows, batch_size_max: usize) -> Vec<usize> {
    if rows != Rows::Dynamic {
        return vec![1];
    }
    let mut sizes: Vec<usize> = std::iter::successors(Some(1usize), |size| size.checked_mul(2))
        .take_while(|size| *size < batch_size_max)
        .collect();
    sizes.push(batch_size_max.max(1));
    sizes
}

/// Inputs of zeros for so many items; free inner dimensions get the size `free`.
pub(super) fn zeros(signature: &Signature, size: usize, free: usize) -> Vec<Tensor> {
    inputs(signature, size, free, false)
}

/// Inputs of zeros, or of ones where the datatype knows them.
pub(super) fn inputs(signature: &Signature, size: usize, free: usize, ones: bool) -> Vec<Tensor> {
    signature
        .inputs
        .iter()
        .filter_map(|slot| {
            let shape = shape(signature, slot, size, free);
            let mut values = Values::zeros(slot.datatype, elements(&shape)?);
            if ones {
                set_floats_to_one(&mut values);
            }
            Tensor::new(shape, values)
        })
        .collect()
}

/// How many elements such inputs have; `None` where that is no number.
pub(super) fn count(signature: &Signature, size: usize, free: usize) -> Option<usize> {
    signature.inputs.iter().try_fold(0usize, |sum, slot| {
        sum.checked_add(elements(&shape(signature, slot, size, free))?)
    })
}

fn shape(signature: &Signature, slot: &Slot, size: usize, free: usize) -> Vec<usize> {
    let mut shape: Vec<usize> = slot.shape.iter().map(|dimension| dimension.unwrap_or(free)).collect();
    if let (Some(None), Some(first)) = (slot.shape.first(), shape.first_mut()) {
        *first = if signature.rows == Rows::Dynamic { size } else { 1 };
    }
    shape
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sum;

    impl Engine for Sum {
        fn run(&mut self, _: &[Tensor]) -> Result<Vec<Tensor>, RunError> {
            Ok(vec![Tensor::new(vec![1], Values::Fp32(vec![0.0])).unwrap()])
        }
    }

    #[test]
    fn a_model_that_sums_over_its_first_dimension_is_found_out() {
        let slot = |inner: &[usize]| Slot {
            name: "x".into(),
            datatype: DataType::Fp32,
            shape: std::iter::once(None).chain(inner.iter().copied().map(Some)).collect(),
            first_symbol: "N".to_owned(),
        };
        let signature = Signature::new(vec![slot(&[3])], vec![slot(&[])]);
        assert_eq!(signature.rows, Rows::Dynamic);
        assert_eq!(
            warm_up(&mut Sum, &signature, 8, 1).map(|finding| (finding.rows, finding.runs)),
            Ok((Rows::None, 2))
        );
    }

    /// Answers a row per item, or nothing at all.
    struct Rowwise(bool);

    impl Engine for Rowwise {
        fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunError> {
            if !self.0 {
                return Err(RunError::Failed("zeros do not suit".to_owned()));
            }
            let rows = inputs[0].rows();
            Ok(vec![Tensor::new(vec![rows], Values::Fp32(vec![0.0; rows])).unwrap()])
        }
    }

    #[test]
    fn what_is_assumed_is_kept_only_when_a_run_shows_it() {
        let slot = |name: &str, symbol: &str| Slot {
            name: name.into(),
            datatype: DataType::Fp32,
            shape: vec![None, None],
            first_symbol: symbol.to_owned(),
        };
        let declared = Signature::new(vec![slot("x", "N")], vec![slot("y", "N")]);
        let assumed = Signature::new(vec![slot("x", "N")], vec![slot("y", "Gemmy_dim_0")]);
        let rows = |signature: &Signature, works: bool| warm_up(&mut Rowwise(works), signature, 8, 1).unwrap().rows;
        assert_eq!(rows(&assumed, true), Rows::Dynamic);
        assert_eq!(rows(&declared, false), Rows::Dynamic);
        assert_eq!(rows(&assumed, false), Rows::None);
        assert_eq!(
            warm_up(&mut Sum, &assumed, 8, 1).map(|finding| (finding.rows, finding.runs)),
            Ok((Rows::None, 2))
        );
    }

    /// Runs when no float is zero, and no integer.
    struct Divides;

    impl Engine for Divides {
        fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunError> {
            let by_zero = inputs.iter().any(|tensor| match tensor.values() {
                Values::Fp32(values) => values.contains(&0.0),
                Values::Int64(values) => values.contains(&0),
                _ => false,
            });
            if by_zero {
                return Err(RunError::Failed("division by zero".to_owned()));
            }
            Ok(vec![Tensor::new(vec![1], Values::Fp32(vec![0.0])).unwrap()])
        }
    }

    #[test]
    fn zeros_that_make_no_sense_do_not_condemn_a_model() {
        let slot = |name: &str, datatype: DataType| Slot {
            name: name.into(),
            datatype,
            shape: vec![Some(4)],
            first_symbol: String::new(),
        };
        let found = |engine: &mut dyn Engine, datatype| {
            let signature = Signature::new(vec![slot("x", datatype)], vec![slot("y", DataType::Fp32)]);
            warm_up(engine, &signature, 8, 1).map(|finding| finding.runs)
        };
        assert_eq!(found(&mut Divides, DataType::Fp32), Ok(1));
        assert_eq!(found(&mut Divides, DataType::Int64), Ok(0));
        let refused = found(&mut Rowwise(false), DataType::Fp32).unwrap_err();
        assert_eq!(refused.reason, Reason::WarmupFailed);
        assert_eq!(refused.message, "a run with zeros failed: zeros do not suit");
    }

    /// Takes no images of less than four pixels in height and width.
    struct Convolution;

    impl Engine for Convolution {
        fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunError> {
            if inputs[0].shape()[2] < 4 {
                return Err(RunError::Failed("smaller than the kernel".to_owned()));
            }
            Rowwise(true).run(inputs)
        }
    }

    #[test]
    fn what_runs_on_no_single_pixel_is_tried_with_the_size_that_is_named() {
        let image = Slot {
            name: "x".into(),
            datatype: DataType::Fp32,
            shape: vec![None, Some(3), None, None],
            first_symbol: "N".to_owned(),
        };
        let labels = Slot {
            name: "y".into(),
            first_symbol: "unk__1".to_owned(),
            ..image.clone()
        };
        let signature = Signature::new(vec![image], vec![labels]);
        let found = |free| warm_up(&mut Convolution, &signature, 2, free).map(|finding| (finding.rows, finding.runs));
        assert_eq!(found(1), Ok((Rows::None, 0)));
        assert_eq!(found(4), Ok((Rows::Dynamic, 2)));
    }

    #[test]
    fn a_fixed_first_dimension_counts_as_so_many_items_as_in_requests() {
        let slot = Slot {
            name: "x".into(),
            datatype: DataType::Fp32,
            shape: vec![Some(5), Some(7)],
            first_symbol: String::new(),
        };
        let signature = Signature::new(vec![slot.clone()], vec![slot]);
        let times = warm_up(&mut Rowwise(true), &signature, 8, 1).unwrap().times;
        let sizes: Vec<_> = times.iter().map(|time| (time.items, time.elements)).collect();
        assert_eq!(sizes, [(5, 7)]);
    }

    #[test]
    fn sizes_double_up_to_the_largest() {
        assert_eq!(sizes(Rows::Dynamic, 12), [1, 2, 4, 8, 12]);
        assert_eq!(sizes(Rows::Dynamic, 1), [1]);
        assert_eq!(sizes(Rows::Fixed(3), 12), [1]);
    }
}
