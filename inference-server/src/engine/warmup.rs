//! Runs of the shapes that will be served, before anyone is told that the model is ready.

use std::time::{Duration, Instant};

use tidewright_contract::exit::Reason;

use super::{Engine, RunError};
use crate::clock;
use crate::model::signature::{Rows, Signature};
use crate::model::source::LoadError;
use crate::tensor::{DataType, Tensor, Values, elements};

/// Time after which no larger batch is tried: the first runs matter most, and whoever scales up waits for this.
const BUDGET: Duration = Duration::from_millis(250);

/// What the warm-up found out.
#[derive(Debug, PartialEq, Eq)]
pub struct Finding {
    /// Meaning of the first dimension, corrected if the model does not keep what its shapes promise.
    pub rows: Rows,
    pub runs: usize,
}

/// Runs batches of 1, 2, 4, … items of zeros; of ones, where zeros do not run: a scale of zero makes no image.
///
/// # Errors
/// `WarmupFailed` when a shape that the model declares without doubt runs with neither. A model with unknown inner dimensions, strings or integers is
/// given the benefit of the doubt: zeros of size 1 need not make sense to it, and an integer may be a size, an axis, a step or a divisor.
pub fn warm_up(engine: &mut dyn Engine, signature: &Signature, batch_size_max: usize) -> Result<Finding, LoadError> {
    let started = clock::now();
    let certain = signature.inputs.iter().all(|slot| {
        slot.datatype != DataType::Bytes
            && slot.shape.iter().skip(1).all(Option::is_some)
            && (signature.rows != Rows::None || slot.shape.iter().all(Option::is_some))
    });
    let floats = signature.inputs.iter().all(|slot| is_float(slot.datatype));
    let (mut rows, mut runs, mut ones) = (signature.rows, 0, false);
    for size in sizes(signature.rows, batch_size_max) {
        if runs > 1 && is_over(started) {
            break;
        }
        let mut outcome = engine.run(&inputs(signature, size, 1, ones));
        if runs == 0
            && outcome.is_err()
            && let Ok(outputs) = engine.run(&inputs(signature, size, 1, true))
        {
            (outcome, ones) = (Ok(outputs), true);
        }
        match outcome {
            Ok(outputs) => {
                runs += 1;
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
    Ok(Finding { rows, runs })
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

fn inputs(signature: &Signature, size: usize, free: usize, ones: bool) -> Vec<Tensor> {
    signature
        .inputs
        .iter()
        .filter_map(|slot| {
            let mut shape: Vec<usize> = slot.shape.iter().map(|dimension| dimension.unwrap_or(free)).collect();
            if let (Some(None), Some(first)) = (slot.shape.first(), shape.first_mut()) {
                *first = if signature.rows == Rows::Dynamic { size } else { 1 };
            }
            let count = elements(&shape)?;
            let mut values = Values::zeros(slot.datatype, count);
            if ones {
                set_floats_to_one(&mut values);
            }
            Tensor::new(shape, values)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::signature::Slot;

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
            warm_up(&mut Sum, &signature, 8),
            Ok(Finding {
                rows: Rows::None,
                runs: 2
            })
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
        let rows = |signature: &Signature, works: bool| warm_up(&mut Rowwise(works), signature, 8).unwrap().rows;
        assert_eq!(rows(&assumed, true), Rows::Dynamic);
        assert_eq!(rows(&declared, false), Rows::Dynamic);
        assert_eq!(rows(&assumed, false), Rows::None);
        assert_eq!(
            warm_up(&mut Sum, &assumed, 8),
            Ok(Finding {
                rows: Rows::None,
                runs: 2
            })
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
            warm_up(engine, &signature, 8).map(|finding| finding.runs)
        };
        assert_eq!(found(&mut Divides, DataType::Fp32), Ok(1));
        assert_eq!(found(&mut Divides, DataType::Int64), Ok(0));
        let refused = found(&mut Rowwise(false), DataType::Fp32).unwrap_err();
        assert_eq!(refused.reason, Reason::WarmupFailed);
        assert_eq!(refused.message, "a run with zeros failed: zeros do not suit");
    }

    #[test]
    fn sizes_double_up_to_the_largest() {
        assert_eq!(sizes(Rows::Dynamic, 12), [1, 2, 4, 8, 12]);
        assert_eq!(sizes(Rows::Dynamic, 1), [1]);
        assert_eq!(sizes(Rows::Fixed(3), 12), [1]);
    }
}
