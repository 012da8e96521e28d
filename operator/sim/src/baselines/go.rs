//! Number conversions as Go makes them on amd64, where a float that does not fit becomes the smallest integer.
//!
//! The language leaves the result open; `CVTTSD2SL` and `CVTTSD2SQ` give "integer indefinite". Checked with go 1.26 for NaN, ±Inf and the bounds.

/// `int32(x)`: truncates toward zero; NaN and what does not fit become [`i32::MIN`].
pub fn int32(x: f64) -> i32 {
    if x > -2_147_483_649.0 && x < 2_147_483_648.0 {
        x as i32
    } else {
        i32::MIN
    }
}

/// `int64(x)`: truncates toward zero; NaN and what does not fit become [`i64::MIN`].
pub fn int64(x: f64) -> i64 {
    if (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&x) {
        x as i64
    } else {
        i64::MIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_the_smallest_integer() {
        for x in [
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            1e30,
            -1e30,
            3e9,
            -3e9,
            2_147_483_648.0,
        ] {
            assert_eq!(int32(x), i32::MIN, "{x}");
        }
        for x in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e30, -1e30, 9.3e18] {
            assert_eq!(int64(x), i64::MIN, "{x}");
        }
    }

    #[test]
    fn what_fits_is_truncated_toward_zero() {
        let cases = [
            (2_147_483_647.9, i32::MAX),
            (-2_147_483_648.9, i32::MIN),
            (1.9, 1),
            (-1.9, -1),
            (-0.0, 0),
        ];
        for (x, expected) in cases {
            assert_eq!(int32(x), expected, "{x}");
        }
        assert_eq!(int64(3e9), 3_000_000_000);
        assert_eq!(int64(-0.9), 0);
    }
}
