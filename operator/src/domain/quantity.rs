//! Quantities as numbers.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube_quantity::ParsedQuantity;

/// The amount as a number, if it is one.
pub fn number(quantity: &Quantity) -> Option<f64> {
    ParsedQuantity::try_from(quantity)
        .ok()?
        .to_bytes_f64()
        .filter(|v| v.is_finite())
}
