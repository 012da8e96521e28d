//! Schedules of the spec.

use croner::parser::{CronParser, Seconds, Year};
use jiff::SignedDuration;
use jiff::tz::TimeZoneDatabase;
use tidewright_api::scaling::Schedule as Spec;

use crate::domain::calendar::Schedule;
use crate::domain::problem::Problem;
use crate::domain::validated::Pool;

/// Fields of a cron expression.
const FIELDS: usize = 5;
/// Longest time that one lasts: a week, after which it may as well be the minimum.
const LASTS_MAX: SignedDuration = SignedDuration::from_hours(7 * 24);

pub(super) fn validate(given: &[Spec], pools: &[Pool], problems: &mut Vec<Problem>) -> Vec<Schedule> {
    let mut all: Vec<Schedule> = Vec::new();
    for (index, spec) in given.iter().enumerate() {
        let path = format!("spec.predictor.autoScaling.schedules[{index}]");
        if all.iter().any(|other| other.name == spec.name) {
            problems.push(Problem::new(
                format!("{path}.name"),
                format!("{:?} is the name of another schedule already", spec.name),
            ));
        }
        all.extend(one(spec, &path, pools, problems));
    }
    all
}

/// All problems of one, not only the first.
fn one(spec: &Spec, path: &str, pools: &[Pool], problems: &mut Vec<Problem>) -> Option<Schedule> {
    let before = problems.len();
    let mut problem = |field: &str, message: String| problems.push(Problem::new(format!("{path}.{field}"), message));
    let parser = CronParser::builder()
        .seconds(Seconds::Disallowed)
        .year(Year::Disallowed)
        .build();
    let begins = match parser.parse(&spec.schedule) {
        _ if spec.schedule.split_whitespace().count() != FIELDS => {
            problem(
                "schedule",
                format!(
                    "{:?} has not the five fields of cron: minute, hour, day of the month, month, day of the week",
                    spec.schedule
                ),
            );
            None
        }
        Ok(cron) => Some(cron),
        Err(error) => {
            problem(
                "schedule",
                format!("{:?} is no cron expression: {error}", spec.schedule),
            );
            None
        }
    };
    let zone = TimeZoneDatabase::bundled().get(&spec.time_zone).ok();
    if zone.is_none() {
        problem(
            "timeZone",
            format!(
                "{:?} is no IANA name of a time zone such as Europe/Berlin",
                spec.time_zone
            ),
        );
    }
    let lasts = duration(&spec.duration);
    if lasts.is_none() {
        problem(
            "duration",
            format!(
                "{:?} is not a time such as 30m, 8h or 2d of at most a week",
                spec.duration
            ),
        );
    }
    let mut concerned = pools
        .iter()
        .filter(|pool| spec.pool.as_ref().is_none_or(|of| *of == pool.name))
        .peekable();
    if concerned.peek().is_none() {
        problem(
            "pool",
            format!(
                "{:?} is no pool of this service",
                spec.pool.as_deref().unwrap_or_default()
            ),
        );
    }
    if let Some(pool) = concerned.find(|pool| spec.min_replicas > pool.replicas_max) {
        problem(
            "minReplicas",
            format!(
                "{} is greater than maxReplicas of pool {}, {}",
                spec.min_replicas, pool.name, pool.replicas_max
            ),
        );
    }
    let schedule = Schedule {
        name: spec.name.clone(),
        begins: begins?,
        zone: zone?,
        lasts: lasts?,
        replicas: spec.min_replicas,
        pool: spec.pool.clone(),
    };
    if problems.len() > before {
        return None;
    }
    if !schedule.comes() {
        problems.push(Problem::new(
            format!("{path}.schedule"),
            format!("{:?} never comes", spec.schedule),
        ));
        return None;
    }
    Some(schedule)
}

/// How long a number that is set by hand counts.
pub(super) fn override_lasts(text: Option<&str>, problems: &mut Vec<Problem>) -> Option<SignedDuration> {
    let text = text?;
    let lasts = duration(text);
    if lasts.is_none() {
        problems.push(Problem::new(
            "spec.predictor.autoScaling.overrideTTL",
            format!("{text:?} is not a time such as 30m, 2h or 1d of at most a week"),
        ));
    }
    lasts
}

/// A time such as `90s`, `30m`, `8h` or `2d`.
fn duration(text: &str) -> Option<SignedDuration> {
    let unit = text.chars().next_back()?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 24 * 3600,
        _ => return None,
    };
    let number = text.strip_suffix(unit)?.parse::<u32>().ok()?;
    let lasts = SignedDuration::from_secs(i64::from(number) * seconds);
    (lasts > SignedDuration::ZERO && lasts <= LASTS_MAX).then_some(lasts)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::test_support::{inference_service, prometheus, validated};
    use crate::validate::validate;

    /// A service of one to ten replicas with this change to a schedule that is right.
    fn spec(field: &str, value: Value) -> Value {
        let mut schedule = json!({"name": "day", "schedule": "0 8 * * MON-FRI", "timeZone": "Europe/Berlin", "duration": "10h", "minReplicas": 4});
        schedule[field] = value;
        json!({"spec": {"predictor": {"autoScaling": {"schedules": [schedule]}}}})
    }

    fn problems(field: &str, value: Value) -> Vec<String> {
        let outcome = validate(&inference_service(spec(field, value)), &prometheus());
        outcome
            .err()
            .unwrap_or_default()
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn what_is_wrong_is_said_with_its_field() {
        let path = "spec.predictor.autoScaling.schedules[0]";
        let five = "has not the five fields of cron: minute, hour, day of the month, month, day of the week";
        let rows = [
            (
                "schedule",
                json!("0 8 * *"),
                format!("{path}.schedule: \"0 8 * *\" {five}"),
            ),
            (
                "schedule",
                json!("0 0 8 * * *"),
                format!("{path}.schedule: \"0 0 8 * * *\" {five}"),
            ),
            (
                "schedule",
                json!("@daily"),
                format!("{path}.schedule: \"@daily\" {five}"),
            ),
            (
                "schedule",
                json!("0 0 30 2 *"),
                format!("{path}.schedule: \"0 0 30 2 *\" never comes"),
            ),
            (
                "timeZone",
                json!("Europe/Bielefeld"),
                format!("{path}.timeZone: \"Europe/Bielefeld\" is no IANA name of a time zone such as Europe/Berlin"),
            ),
            (
                "duration",
                json!("8d"),
                format!("{path}.duration: \"8d\" is not a time such as 30m, 8h or 2d of at most a week"),
            ),
            (
                "minReplicas",
                json!(11),
                format!("{path}.minReplicas: 11 is greater than maxReplicas of pool cpu, 10"),
            ),
            (
                "pool",
                json!("gpu"),
                format!("{path}.pool: \"gpu\" is no pool of this service"),
            ),
        ];
        for (field, value, expected) in rows {
            assert_eq!(problems(field, value.clone()), [expected], "{field}: {value}");
        }
        for wrong in ["61 8 * * *", "0 8 * * FOO", "0 25 * * *", "a b c d e"] {
            let [said] = problems("schedule", json!(wrong)).try_into().unwrap();
            assert!(said.contains("is no cron expression"), "{said}");
        }
    }

    #[test]
    fn a_number_by_hand_counts_for_a_week_at_most() {
        let problems = |ttl: &str| {
            let spec = json!({"spec": {"predictor": {"autoScaling": {"overrideTTL": ttl}}}});
            validate(&inference_service(spec), &prometheus())
                .err()
                .unwrap_or_default()
                .len()
        };
        for ttl in ["90s", "30m", "2h", "7d"] {
            assert_eq!(problems(ttl), 0, "{ttl}");
        }
        for ttl in ["0s", "8d", "2w", "", "h", "-1h"] {
            assert_eq!(problems(ttl), 1, "{ttl}");
        }
    }

    #[test]
    fn a_floor_is_there_while_it_lasts_unless_scaling_pauses() {
        let floor = |changes: Value, time: &str| {
            let service = validated(changes).at(time.parse().unwrap());
            (
                service.pools[0].fewest(),
                service.changes_at(time.parse().unwrap()).unwrap().to_string(),
            )
        };
        let scheduled = || spec("minReplicas", json!(4));
        let (before, within) = ("2026-02-02T06:59:59Z", "2026-02-02T07:00:00Z");
        assert_eq!(floor(scheduled(), before), (1, "2026-02-02T07:00:00Z".to_owned()));
        assert_eq!(floor(scheduled(), within), (4, "2026-02-02T17:00:00Z".to_owned()));
        let mut paused = scheduled();
        paused["spec"]["predictor"]["autoScaling"]["paused"] = json!(true);
        assert_eq!(floor(paused, within).0, 1);
    }
}
