//! A number of replicas that was set by hand, and ends by itself: since when it counts, and when it is over.
//!
//! The field is the user's. The operator takes back one number alone: that which its own status says it has seen, for as long as the spec says.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tidewright_api::status::OverrideStatus;

use super::conditions::whole_seconds;
use crate::domain::validated::Validated;

/// What the status says of it. Another number begins anew; another time to live counts from when the number was first seen.
pub(super) fn of(service: &Validated, before: Option<&OverrideStatus>, now: Timestamp) -> Option<OverrideStatus> {
    let (replicas, lasts) = (service.fixed_total()?, service.override_lasts?);
    let since = before
        .filter(|before| before.replicas == replicas)
        .map_or_else(|| whole_seconds(now), |before| before.since.0);
    Some(OverrideStatus {
        replicas,
        since: Time(since),
        until: Time(since.checked_add(lasts).ok()?),
    })
}

/// The number whose time is over. One that has not been seen before begins now, and is not over.
pub fn over(service: &Validated, before: Option<&OverrideStatus>, now: Timestamp) -> Option<i32> {
    let is = of(service, before, now)?;
    (is.until.0 <= now).then_some(is.replicas)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::test_support::validated;

    fn fixed(replicas: i32, ttl: Option<&str>) -> Validated {
        validated(json!({"spec": {"predictor": {"replicas": replicas, "autoScaling": {"overrideTTL": ttl}}}}))
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn it_counts_from_when_it_was_first_seen() {
        let first = of(&fixed(3, Some("1m")), None, at(100)).unwrap();
        assert_eq!((first.replicas, first.since.0, first.until.0), (3, at(100), at(160)));
        assert_eq!(of(&fixed(3, Some("1m")), Some(&first), at(130)).as_ref(), Some(&first));
        let other = of(&fixed(4, Some("1m")), Some(&first), at(130)).unwrap();
        assert_eq!(
            (other.replicas, other.until.0),
            (4, at(190)),
            "another number begins anew"
        );
        let longer = of(&fixed(3, Some("5m")), Some(&first), at(130)).unwrap();
        assert_eq!(longer.until.0, at(400));
        assert_eq!(
            of(&fixed(3, None), Some(&first), at(130)),
            None,
            "it counts until it is changed"
        );
        assert_eq!(of(&fixed(0, Some("1m")), Some(&first), at(130)), None);
    }

    #[test]
    fn only_the_number_that_was_seen_is_taken_back_and_only_when_its_time_is_over() {
        let seen = of(&fixed(3, Some("1m")), None, at(100)).unwrap();
        let over = |replicas: i32, ttl, before: Option<&OverrideStatus>, second: i64| {
            super::over(&fixed(replicas, ttl), before, at(second))
        };
        assert_eq!(over(3, Some("1m"), Some(&seen), 159), None);
        assert_eq!(over(3, Some("1m"), Some(&seen), 160), Some(3));
        assert_eq!(
            over(4, Some("1m"), Some(&seen), 999),
            None,
            "a number that nobody has seen yet"
        );
        assert_eq!(over(3, Some("1m"), None, 999), None);
        assert_eq!(over(3, None, Some(&seen), 999), None);
        assert_eq!(over(0, Some("1m"), Some(&seen), 999), None);
        assert_eq!(over(3, Some("1h"), Some(&seen), 160), None, "it has been given longer");
    }
}
