//! One inference call, over whichever protocol it came: admitted, parsed, run, written, timed and counted.

use std::sync::Arc;
use std::time::Instant;

use super::app::App;
use crate::admission::Permit;
use crate::clock;
use crate::error::Error;
use crate::pipeline::{Ending, Serving};
use crate::request::{Outputs, Request};

/// Refuses early what cannot be served: everything that can be known before the request is read.
pub fn admit(app: &App, serving: &Serving) -> Result<Permit, Error> {
    if !app.lifecycle.state().serves() {
        return Err(app.not_ready());
    }
    let permit = app.pipeline.enter()?;
    serving.check_room()?;
    Ok(permit)
}

/// From the bytes of a request to those of its answer. What `parse` finds besides the request is handed to `write`.
pub async fn run<F, T>(
    app: &App,
    serving: &Arc<Serving>,
    ending: &mut Ending<'_>,
    deadline: Instant,
    parse: impl FnOnce() -> Result<(Request, F), Error>,
    write: impl FnOnce(F, &Outputs) -> T,
) -> Result<T, Error> {
    let seconds = |from: Instant, to: Instant| to.saturating_duration_since(from).as_secs_f64();
    let begun = clock::now();
    let (request, form) = parse()?;
    ending.set_items(request.rows);
    let parsed = clock::now();
    serving.metrics.preprocess.observe(seconds(begun, parsed));
    let outputs = app.pipeline.infer(serving, request, deadline).await?;
    let inferred = clock::now();
    let answer = write(form, &outputs);
    let written = clock::now();
    serving.metrics.postprocess.observe(seconds(inferred, written));
    serving.metrics.took(written.saturating_duration_since(begun));
    Ok(answer)
}
