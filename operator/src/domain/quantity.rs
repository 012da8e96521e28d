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

/// The amount in thousandths, rounded up as Kubernetes does where it compares amounts; none for what is below zero.
pub fn thousandths(quantity: &Quantity) -> Option<u64> {
    // What floats add to a whole number is no fraction of it.
    const SLACK: f64 = 1.0 - 1e-15;
    let value = number(quantity)? * 1000.0;
    (value >= 0.0).then_some((value * SLACK).ceil() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousandths_are_rounded_up_and_whole_ones_stay() {
        let of = |text: &str| thousandths(&Quantity(text.to_owned()));
        for (text, expected) in [
            ("0", 0),
            ("1n", 1),
            ("123456789n", 124),
            ("124000000n", 124),
            ("250m", 250),
            ("1.5", 1500),
            ("100Mi", 104_857_600_000),
            ("123456Ki", 126_418_944_000),
            ("8Gi", 8_589_934_592_000),
        ] {
            assert_eq!(of(text), Some(expected), "{text}");
        }
        for milli in 1..2000_u64 {
            assert_eq!(of(&format!("{}n", milli * 1_000_000)), Some(milli));
            assert_eq!(of(&format!("{milli}m")), Some(milli));
        }
        assert_eq!(of("-1"), None);
        assert_eq!(of("much"), None);
    }
}
