//! One inference call, over whichever protocol it came: admitted, parsed, run, written, timed and counted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::app::App;
use crate::admission::Permit;
use crate::clock;
use crate::error::Error;
use crate::pipeline::{Ending, Serving, Time};
use crate::request::{Outputs, Request};
use crate::trace::{self, Phase};

/// When a request came, and when nobody waits for its answer any more.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    pub arrived: Instant,
    pub deadline: Instant,
    /// Whether that is the caller's word, and not the server's own limit.
    pub is_callers: bool,
}

impl Times {
    /// With the time that the caller gives, where that is shorter.
    #[must_use]
    pub fn within(self, timeout: Option<Duration>) -> Self {
        self.until(timeout.and_then(|timeout| self.arrived.checked_add(timeout)))
    }

    /// With the end that the caller gives, where that is earlier.
    #[must_use]
    pub fn until(self, end: Option<Instant>) -> Self {
        match end {
            Some(end) if end < self.deadline => Self {
                deadline: end,
                is_callers: true,
                ..self
            },
            _ => self,
        }
    }
}

/// Refuses early what cannot be served: everything that can be known before the request is read.
pub fn admit(app: &App, serving: &Serving, deadline: Instant) -> Result<Permit, Error> {
    if !app.lifecycle.state().serves() {
        return Err(app.not_ready());
    }
    let permit = app.pipeline.enter()?;
    serving.check_ready()?;
    // Whether it needs a place is known when it has been looked up.
    if !app.pipeline.is_cached() {
        serving.check_room(deadline)?;
    }
    trace::admitted(&serving.facts.name);
    Ok(permit)
}

/// From the bytes of a request to those of its answer. What `parse` finds besides the request is handed to `write`.
pub async fn run<F, T>(
    app: &App,
    serving: &Arc<Serving>,
    ending: &mut Ending<'_>,
    times: Times,
    parse: impl FnOnce() -> Result<(Request, F), Error>,
    write: impl FnOnce(F, &Outputs) -> T,
) -> Result<T, Error> {
    let seconds = |from: Instant, to: Instant| to.saturating_duration_since(from).as_secs_f64();
    let begun = clock::now();
    let (request, form) = parse()?;
    ending.set_items(request.rows);
    let parsed = clock::now();
    serving.metrics.preprocess.observe(seconds(begun, parsed));
    trace::phase(Phase::Pre, begun, parsed);
    let deadline = times.within(request.timeout).deadline;
    // Its time may have passed while it was read, or while its model was loaded.
    if deadline <= parsed {
        return Err(Error::Deadline);
    }
    let time = Time {
        arrived: times.arrived,
        deadline,
    };
    let outputs = app.pipeline.infer(serving, request, time).await?;
    let inferred = clock::now();
    let answer = write(form, &outputs);
    let written = clock::now();
    serving.metrics.postprocess.observe(seconds(inferred, written));
    serving
        .metrics
        .work
        .add(seconds(begun, parsed) + seconds(inferred, written));
    trace::phase(Phase::Post, inferred, written);
    let took = written.saturating_duration_since(begun);
    serving.metrics.took(took, trace::exemplar());
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_may_shorten_its_time_and_never_lengthen_it() {
        let arrived = clock::now();
        let times = Times {
            arrived,
            deadline: arrived + Duration::from_secs(10),
            is_callers: false,
        };
        for (timeout, seconds) in [
            (None, 10),
            (Some(Duration::from_secs(3)), 3),
            (Some(Duration::from_secs(30)), 10),
            (Some(Duration::MAX), 10),
        ] {
            let within = times.within(timeout);
            assert_eq!(within.deadline, arrived + Duration::from_secs(seconds), "{timeout:?}");
            assert_eq!(within.is_callers, seconds == 3, "{timeout:?}");
        }
    }
}
