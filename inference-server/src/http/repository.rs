//! The model repository extension, on the admin port: which models there are, load one, unload one. Off unless the config enables it.

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Body;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidewright_contract::routes;

use super::app::App;
use super::respond;
/// What is done to a model.
pub use crate::catalog::Kind;
use crate::catalog::table::Phase;
use crate::catalog::{ModelRef, Status};
use crate::error::{Error, clip};
use crate::model::directory;
use crate::protocols::document::Format;

/// What a body's failure has to become.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Nothing that is asked for here is long.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// What a path asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action<'p> {
    Index,
    Change(ModelRef<'p>, Kind),
}

/// Whether the path is one of the repository's.
pub fn is_route(path: &str) -> bool {
    action(path).is_some()
}

fn action(path: &str) -> Option<Action<'_>> {
    if path == routes::REPOSITORY_INDEX {
        return Some(Action::Index);
    }
    let rest = path.strip_prefix(routes::REPOSITORY_MODELS)?;
    let (model, verb) = rest.rsplit_once('/')?;
    let kind = match verb {
        "load" => Kind::Load,
        "unload" => Kind::Unload,
        _ => return None,
    };
    let (name, version) = match model.split_once("/versions/") {
        Some((name, version)) => (name, Some(version)),
        None => (model, None),
    };
    let is_plain = |text: &str| !text.is_empty() && !text.contains('/');
    let is_plain = is_plain(name) && version.is_none_or(is_plain);
    is_plain.then_some(Action::Change(ModelRef { name, version }, kind))
}

/// Answers a request whose path [`is_route`].
pub async fn handle<B>(app: &App, request: Request<B>) -> Response<Full<Bytes>>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    let (head, body) = request.into_parts();
    match answer(app, &head.method, head.uri.path(), body).await {
        Ok(response) => response,
        Err(error) => respond::error(Format::Json, &error),
    }
}

async fn answer<B>(app: &App, method: &Method, path: &str, body: B) -> Result<Response<Full<Bytes>>, Error>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    check_enabled(app)?;
    if method != Method::POST {
        return Err(Error::MethodNotAllowed { allow: "POST" });
    }
    let whole = Limited::new(body, BODY_BYTES_MAX).collect().await;
    let whole = whole.map_err(|_| Error::TooLarge {
        limit_bytes: BODY_BYTES_MAX as u64,
    })?;
    let body = whole.to_bytes();
    match action(path) {
        Some(Action::Index) => {
            let wanted: IndexRequest = read(&body)?;
            let lines = index(app, wanted.ready).await?;
            Ok(respond::value(Format::Json, StatusCode::OK, &lines))
        }
        Some(Action::Change(model, kind)) => {
            let wanted: ChangeRequest = read(&body)?;
            change(app, model, kind, wanted.parameters.keys()).await?;
            Ok(respond::value(Format::Json, StatusCode::OK, &serde_json::Map::new()))
        }
        None => Err(Error::NotFound("no such route".to_owned())),
    }
}

fn check_enabled(app: &App) -> Result<(), Error> {
    if app.repository.enabled {
        return Ok(());
    }
    Err(Error::NotFound(
        "the model repository is off; repository.enabled (--repository true) turns it on".to_owned(),
    ))
}

/// What may be asked of the index.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct IndexRequest {
    /// Only models that are ready.
    #[serde(default)]
    ready: bool,
}

/// A model of the repository.
#[derive(Debug, Serialize)]
pub struct IndexLine {
    pub name: String,
    pub version: String,
    pub state: &'static str,
    pub reason: String,
}

/// Which models there are, or only those that are ready.
///
/// # Errors
/// The repository is off, or its directory cannot be read.
pub async fn index(app: &App, is_ready_wanted: bool) -> Result<Vec<IndexLine>, Error> {
    check_enabled(app)?;
    look_again(app).await?;
    let all = app.catalog.index().into_iter();
    let wanted = all.filter(|status| status.serves || !is_ready_wanted);
    Ok(wanted.map(IndexLine::from).collect())
}

impl From<Status> for IndexLine {
    fn from(status: Status) -> Self {
        let (state, reason) = match status.phase {
            Phase::Ready => ("READY", String::new()),
            Phase::Loading if status.serves => ("READY", "is being loaded anew".to_owned()),
            Phase::Loading => ("LOADING", String::new()),
            Phase::Unloading(_) => ("UNLOADING", String::new()),
            Phase::Dormant => ("UNAVAILABLE", "loaded at its next request".to_owned()),
            Phase::Unloaded => ("UNAVAILABLE", "unloaded".to_owned()),
            Phase::Failed { reason, message, .. } => ("UNAVAILABLE", format!("{}: {message}", reason.as_str())),
        };
        Self {
            name: status.name,
            version: status.version,
            state,
            reason,
        }
    }
}

/// What may be asked of a load or an unload; every parameter is refused, none is known.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangeRequest {
    #[serde(default)]
    parameters: serde_json::Map<String, Value>,
}

/// Loads or unloads a model. Done when it answers.
///
/// # Errors
/// The repository is off; a parameter is given that is not known; there is no such model; it cannot be loaded.
pub async fn change(
    app: &App,
    model: ModelRef<'_>,
    kind: Kind,
    mut parameters: impl Iterator<Item = &String>,
) -> Result<(), Error> {
    check_enabled(app)?;
    // What tritonclient always sends, for ensembles, which are not there.
    let unknown = |name: &&String| !(kind == Kind::Unload && *name == "unload_dependents");
    if let Some(name) = parameters.find(unknown) {
        return Err(Error::Invalid(format!(
            "the parameter {:?} is not known; a model's files and config are the server's own",
            clip(name)
        )));
    }
    if !app.lifecycle.state().serves() {
        return Err(app.not_ready());
    }
    look_again(app).await?;
    let meant = app.catalog.meant_indices(model)?;
    let targets = match (kind, model.version) {
        // As a request for inference without a version means it.
        (Kind::Load, None) => meant.into_iter().take(1).collect(),
        _ => meant,
    };
    for index in targets {
        app.catalog.order(index, kind).await.map_err(|error| match error {
            Some(error) => Error::ModelFailed(format!(
                "model {:?} could not be loaded: {}: {}",
                clip(model.name),
                error.reason.as_str(),
                error.message
            )),
            None => Error::NotReady("the server is stopping".to_owned()),
        })?;
    }
    Ok(())
}

fn read<T: Default + for<'a> Deserialize<'a>>(body: &[u8]) -> Result<T, Error> {
    if body.is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(body).map_err(|error| Error::Invalid(format!("the body: {error}")))
}

/// Takes in what has come into the directory.
async fn look_again(app: &App) -> Result<(), Error> {
    let Some(folder) = app.repository.directory.clone() else {
        return Ok(());
    };
    let found = tokio::task::spawn_blocking(move || directory::scan(&folder)).await;
    let found = found.map_err(|error| Error::Internal(error.to_string()))?;
    app.catalog.add(found.map_err(Error::ModelFailed)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_what_they_ask_for() {
        let change = |name, version, kind| Some(Action::Change(ModelRef { name, version }, kind));
        for (path, expected) in [
            ("/v2/repository/index", Some(Action::Index)),
            ("/v2/repository/models/a/load", change("a", None, Kind::Load)),
            ("/v2/repository/models/a/unload", change("a", None, Kind::Unload)),
            (
                "/v2/repository/models/a/versions/2/load",
                change("a", Some("2"), Kind::Load),
            ),
            ("/v2/repository/models/a", None),
            ("/v2/repository/models//load", None),
            ("/v2/repository/models/load", None),
            ("/v2/repository/models/a/b/load", None),
            ("/v2/repository/models/a/versions//load", None),
            ("/v2/repository/models/a/reload", None),
            ("/metrics", None),
        ] {
            assert_eq!(action(path), expected, "{path}");
        }
    }
}
