//! One service's own PromQL query: confined to its namespace, checked like everything else.

use std::collections::BTreeSet;

use crate::clock::SharedClock;
use crate::domain::published::{Reading, Reason, Sample, Unavailable};
use crate::domain::subscriptions::ExternalQuery;
use crate::sources::check::{plausible, sane_age};
use crate::sources::decode::Line;
use crate::sources::enforce::Confined;
use crate::sources::prometheus::Prometheus;
use crate::sources::queries::{PART_LABEL, selector_ages};
use crate::sources::settings::Settings;

/// A query's confined form, or why it has none; worked out once, for parsing can be slow.
pub type Prepared = Result<Confined, String>;

/// Runs one external query.
pub async fn read(
    query: &ExternalQuery,
    prepared: &Prepared,
    prometheus: &Prometheus,
    settings: &Settings,
    clock: &SharedClock,
) -> Reading {
    let confined = prepared.as_ref().map_err(|problem| {
        Unavailable::new(
            Reason::QueryRefused,
            format!("external metric {}: {problem}", query.name),
        )
    })?;
    let ages_text = selector_ages(&confined.selectors);
    let ages = async {
        match &ages_text {
            Some(text) => prometheus.query_one(text).await.map(Some),
            None => Ok(None),
        }
    };
    let (answer, ages) = tokio::join!(prometheus.query_one(&confined.query), ages);
    judge(&query.name, &answer?, confined, ages?.as_deref(), settings, clock)
}

/// One number, backed by fresh samples of everything that it is made of. Pure but for the clock.
fn judge(
    name: &str,
    answer: &[Line],
    confined: &Confined,
    ages: Option<&[Line]>,
    settings: &Settings,
    clock: &SharedClock,
) -> Reading {
    let metric = format!("external metric {name}");
    let value = match answer {
        [line] => plausible(line.value, &metric)?,
        [] => {
            let message = format!("the query of {metric} answers nothing");
            return Err(Unavailable::new(Reason::NoSamples, message));
        }
        many => {
            let message = format!("the query of {metric} answers {} series instead of one", many.len());
            return Err(Unavailable::new(Reason::Ambiguous, message));
        }
    };
    let Some(ages) = ages else {
        // No selector of the present: a constant, the time of day, or a question about the past.
        return Ok(Sample { value, at: clock.now() });
    };
    let mut oldest = None;
    let mut seen = BTreeSet::new();
    for line in ages {
        let part = line.label(PART_LABEL).parse().ok();
        let Some(selector) = part.and_then(|part: usize| confined.selectors.get(part)) else {
            return Err(Unavailable::new(
                Reason::AnswerMalformed,
                "the answer is not that of Prometheus: an age of nothing",
            ));
        };
        let age = sane_age(
            line.value,
            settings.external_max_sample_age,
            settings.max_clock_skew,
            &metric,
        )?;
        oldest = oldest.max(Some(age));
        seen.insert(selector.as_str());
    }
    // `sum(x) or vector(0)` answers 0 when x is gone: a number with a missing part is not believed.
    if let Some(missing) = confined.basis.missing(&|selector: &str| seen.contains(selector)) {
        let message = format!("{metric} is made of {missing}, of which there is no sample");
        return Err(Unavailable::new(Reason::NoSamples, message));
    }
    let Some(oldest) = oldest else {
        let message = format!("none of the series that {metric} asks for exists");
        return Err(Unavailable::new(Reason::NoSamples, message));
    };
    Ok(Sample {
        value,
        at: clock.now() - oldest,
    })
}
