//! The inference routes over HTTP: head, body, document, and back.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::Body;

use super::access::Details;
use super::app::App;
use super::body;
use super::call::{self, Times};
use super::respond::{self, Answer};
use super::route::{ModelRef, Route};
use crate::error::Error;
use crate::pipeline::{Ending, Serving};
use crate::protocols::document::{Document, Format};
use crate::protocols::v2_answer::{Body as Written, InferAnswer};
use crate::protocols::v2_inputs::Wanted;
use crate::protocols::{api_v1, json, msgpack, v2_rest, write};
use crate::request::{Outputs, Request};
use crate::trace::{self, Phase};

/// What the answer needs to know of the request besides its outputs.
enum Form {
    V2 {
        id: Option<String>,
        outputs: Vec<Wanted>,
    },
    /// So many items; `None`: one that was no batch.
    Items(Option<usize>),
}

/// A request that shall be inferred.
#[derive(Debug)]
pub struct Incoming<'r, B> {
    pub route: Route<'r>,
    pub headers: &'r HeaderMap,
    pub body: B,
    /// Of the answer.
    pub format: Format,
    pub times: Times,
}

/// Answers one inference request.
pub async fn infer<B>(app: &App, incoming: Incoming<'_, B>, details: &mut Details) -> Result<Answer, Error>
where
    B: Body<Data = Bytes> + Unpin,
{
    let wanted = match incoming.route {
        Route::V2Infer(model) => Some(model),
        Route::V1Predict(name) => Some(ModelRef { name, version: None }),
        _ => None,
    };
    if let Some(model) = wanted {
        details.model(model.name, model.version.unwrap_or_default());
    }
    let serving = &*app.lease(wanted, incoming.times.deadline).await?;
    details.model(&serving.facts.name, &serving.facts.version);
    let mut ending = Ending::new(&serving.metrics, 1);
    let result = answer(app, serving, incoming, &mut ending, details).await;
    ending.set(result.as_ref().err());
    result
}

async fn answer<B>(
    app: &App,
    serving: &Arc<Serving>,
    incoming: Incoming<'_, B>,
    ending: &mut Ending<'_>,
    details: &mut Details,
) -> Result<Answer, Error>
where
    B: Body<Data = Bytes> + Unpin,
{
    let Incoming {
        route,
        headers,
        body,
        format,
        times,
    } = incoming;
    let deadline = times.deadline;
    // Everything that can refuse does so before the body is read.
    let _permit = call::admit(app, serving, deadline)?;
    let limit_bytes = app.limits.body_bytes_max;
    let head = body::check_head(headers, matches!(route, Route::V2Infer(_)), limit_bytes)?;
    // Until the answer is written: as tensors the body takes as much again.
    let mut room = app.bodies.room();
    let read = body::read(headers, head, body, limit_bytes, &mut room, deadline).await;
    let bytes = read.map_err(|error| match error {
        // It is the caller who wanted to wait no longer.
        Error::BodyTimeout if times.is_callers => Error::Deadline,
        error => error,
    })?;
    trace::lap(Phase::Receive);
    details.received(bytes.len() as u64);
    let held = &mut room;
    let body = call::run(
        app,
        serving,
        ending,
        times,
        // The bytes go as soon as they are read.
        move || {
            let parsed = parse(route, head, &bytes, serving)?;
            // What a small number or a short text becomes may take many times its bytes.
            held.grow(bytes.len() as u64 + parsed.0.heap_bytes())?;
            if let Form::V2 { id: Some(id), .. } = &parsed.1 {
                details.id(id);
            }
            Ok(parsed)
        },
        |form, outputs| write(format, &form, serving, outputs),
    )
    .await?;
    Ok(respond::written(format, body))
}

fn parse(route: Route<'_>, head: body::Head, body: &[u8], serving: &Serving) -> Result<(Request, Form), Error> {
    let (document, tail) = head.split(body)?;
    match head.format {
        Format::Json => read(route, json::Reader::new(json::text(document)?), tail, serving),
        Format::Msgpack => read(route, msgpack::Reader::new(document), tail, serving),
    }
}

fn read<'a>(
    route: Route<'_>,
    document: impl Document<'a>,
    tail: Option<&[u8]>,
    serving: &Serving,
) -> Result<(Request, Form), Error> {
    let signature = &serving.facts.signature;
    Ok(match route {
        Route::V2Infer(_) => {
            let infer = v2_rest::parse(document, tail, signature)?;
            (
                infer.request,
                Form::V2 {
                    id: infer.id,
                    outputs: infer.outputs,
                },
            )
        }
        Route::Predict => (api_v1::parse_one(document, signature)?, Form::Items(None)),
        _ => {
            let request = api_v1::parse_many(document, signature)?;
            let rows = request.rows;
            (request, Form::Items(Some(rows)))
        }
    })
}

fn write(format: Format, form: &Form, serving: &Serving, outputs: &Outputs) -> Written {
    let facts = &serving.facts;
    match form {
        Form::V2 { id, outputs: wanted } => InferAnswer {
            model: &facts.name,
            version: &facts.version,
            id: id.as_deref(),
            wanted,
            signature: &facts.signature,
            outputs,
        }
        .body(format),
        Form::Items(rows) => Written {
            bytes: write::document(
                format,
                api_v1::Answer {
                    model: &facts.name,
                    version: &facts.version,
                    signature: &facts.signature,
                    outputs,
                    rows: *rows,
                },
            ),
            document_length: None,
        },
    }
}
