//! Moments in a sentence: times of day behind `until` and `not before`, as the decision writes them. Pure.

use jiff::Timestamp;
use jiff::civil::Time;

/// A sentence stays for so many seconds after a moment that it names: where such moments move all the time it is made anew once a minute at most.
const KEPT_SECONDS: i64 = 60;
/// What was longer ago than this is ahead: nothing is held for half a day.
const BEHIND_SECONDS_MAX: i64 = 43_200;
const DAY_SECONDS: i64 = 86_400;

/// Whether a sentence names a moment that has passed, a minute ago or more. The end of a schedule is told beside the sentence, and may be far ahead.
pub(super) fn has_one_passed(sentence: &str, now: Timestamp) -> bool {
    ["until ", "not before "].iter().any(|word| {
        let named = sentence.split(word).skip(1).filter_map(|rest| rest.split_at_checked(8));
        named
            .filter(|(_, rest)| !rest.starts_with(" by schedule"))
            .filter_map(|(time, _)| time.parse::<Time>().ok())
            .any(|time| {
                let of_day = i64::from(time.hour()) * 3600 + i64::from(time.minute()) * 60 + i64::from(time.second());
                let behind = (now.as_second() - of_day).rem_euclid(DAY_SECONDS);
                (KEPT_SECONDS..BEHIND_SECONDS_MAX).contains(&behind)
            })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_passed_for_a_minute_has_passed() {
        let passed =
            |sentence: &str, now: &str| has_one_passed(sentence, format!("2026-02-02T{now}Z").parse().unwrap());
        let kept = "4 cpu: 9 req/s needs 2 (8 req/s each at most); kept until 14:02:11, was needed again before";
        for (now, has_passed) in [
            ("13:10:00", false),
            ("14:02:11", false),
            ("14:03:10", false),
            ("14:03:11", true),
            ("20:00:00", true),
        ] {
            assert_eq!(passed(kept, now), has_passed, "{now}");
        }
        let before = "4 cpu: 9 req/s needs 4; up above 12 req/s; down to 3 below 6 req/s, not before 23:59:30";
        assert!(!passed(before, "23:40:00") && passed(before, "00:00:30"));
        assert!(!passed(
            "4 cpu: at least 4 until 07:00:00 by schedule night",
            "08:00:00"
        ));
        for nothing in [
            "",
            "until",
            "until ten",
            "4 cpu: no shrink while replicas start",
            "until \u{2192}\u{2192}\u{2192}",
        ] {
            assert!(!passed(nothing, "08:00:00"), "{nothing}");
        }
    }
}
