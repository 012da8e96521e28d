//! Quantities as numbers, or a problem.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::domain::problem::Problem;
pub(super) use crate::domain::quantity::number;

/// The amount as a number; a problem and `None` if it is none, or not above zero.
pub(super) fn positive(quantity: &Quantity, path: &str, problems: &mut Vec<Problem>) -> Option<f64> {
    let parsed = number(quantity);
    match parsed {
        Some(value) if value > 0.0 => Some(value),
        Some(_) => {
            problems.push(Problem::new(
                path,
                format!("{:?} must be greater than zero", quantity.0),
            ));
            None
        }
        None => {
            problems.push(Problem::new(
                path,
                format!("{:?} is not an amount such as 500m, 1 or 64Mi", quantity.0),
            ));
            None
        }
    }
}

/// The amount as whole bytes.
pub(super) fn bytes(quantity: &Quantity, path: &str, problems: &mut Vec<Problem>) -> Option<u64> {
    positive(quantity, path, problems).map(|value| value.ceil() as u64)
}
