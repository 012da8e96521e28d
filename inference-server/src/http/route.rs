//! From a path to a route template and its parameters. Pure; a match on segments, no table to walk.

use tidewright_contract::routes;

pub use crate::catalog::ModelRef;

/// What a path asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route<'p> {
    Health,
    Predict,
    PredictBatch,
    V2,
    V2Live,
    V2Ready,
    V2Model(ModelRef<'p>),
    V2ModelReady(ModelRef<'p>),
    V2Infer(ModelRef<'p>),
    /// Of one model, or of all.
    V2Statistics(Option<ModelRef<'p>>),
    OpenApi,
    V1Models,
    V1Model(&'p str),
    V1Predict(&'p str),
    Unknown,
}

/// Reads a path. Names of models need no percent-encoding: their characters are restricted.
pub fn route(path: &str) -> Route<'_> {
    match path {
        routes::HEALTH => return Route::Health,
        routes::PREDICT => return Route::Predict,
        routes::PREDICT_BATCH => return Route::PredictBatch,
        routes::V2 | "/v2/" => return Route::V2,
        routes::V2_LIVE => return Route::V2Live,
        routes::V2_READY => return Route::V2Ready,
        // Whoever has a model of this name asks for its metadata by its version.
        routes::V2_STATISTICS => return Route::V2Statistics(None),
        routes::V1_MODELS => return Route::V1Models,
        routes::OPENAPI => return Route::OpenApi,
        _ => {}
    }
    if let Some(rest) = path.strip_prefix("/v2/models/") {
        return v2_model(rest);
    }
    if let Some(rest) = path.strip_prefix("/v1/models/") {
        return match rest.split_once(':') {
            _ if rest.is_empty() || rest.contains('/') => Route::Unknown,
            Some((name, "predict")) if !name.is_empty() => Route::V1Predict(name),
            Some(_) => Route::Unknown,
            None => Route::V1Model(rest),
        };
    }
    Route::Unknown
}

fn v2_model(rest: &str) -> Route<'_> {
    let mut segments = rest.split('/');
    let parts = [
        segments.next(),
        segments.next(),
        segments.next(),
        segments.next(),
        segments.next(),
    ];
    let (name, version, verb) = match parts {
        [Some(name), Some("versions"), Some(version), verb, None] if !version.is_empty() => (name, Some(version), verb),
        [Some(name), verb, None, None, None] => (name, None, verb),
        _ => return Route::Unknown,
    };
    if name.is_empty() {
        return Route::Unknown;
    }
    let model = ModelRef { name, version };
    match verb {
        None => Route::V2Model(model),
        Some("ready") => Route::V2ModelReady(model),
        Some("infer") => Route::V2Infer(model),
        Some("stats") => Route::V2Statistics(Some(model)),
        Some(_) => Route::Unknown,
    }
}

impl Route<'_> {
    /// The template, as the label `route` shows it.
    pub const fn template(&self) -> &'static str {
        match self {
            Self::Health => routes::HEALTH,
            Self::Predict => routes::PREDICT,
            Self::PredictBatch => routes::PREDICT_BATCH,
            Self::V2 => routes::V2,
            Self::V2Live => routes::V2_LIVE,
            Self::V2Ready => routes::V2_READY,
            Self::V2Model(ModelRef { version: None, .. }) => routes::V2_MODEL,
            Self::V2Model(_) => routes::V2_VERSION,
            Self::V2ModelReady(ModelRef { version: None, .. }) => routes::V2_MODEL_READY,
            Self::V2ModelReady(_) => routes::V2_VERSION_READY,
            Self::V2Infer(ModelRef { version: None, .. }) => routes::V2_MODEL_INFER,
            Self::V2Infer(_) => routes::V2_VERSION_INFER,
            Self::V2Statistics(None) => routes::V2_STATISTICS,
            Self::V2Statistics(Some(ModelRef { version: None, .. })) => routes::V2_MODEL_STATISTICS,
            Self::V2Statistics(_) => routes::V2_VERSION_STATISTICS,
            Self::V1Models => routes::V1_MODELS,
            Self::OpenApi => routes::OPENAPI,
            Self::V1Model(_) | Self::V1Predict(_) => routes::V1_MODEL,
            Self::Unknown => routes::UNMATCHED,
        }
    }

    /// Whether it costs a run of the model.
    pub const fn infers(&self) -> bool {
        matches!(
            self,
            Self::Predict | Self::PredictBatch | Self::V2Infer(_) | Self::V1Predict(_)
        )
    }

    /// The methods that are answered.
    pub const fn allow(&self) -> &'static str {
        if self.infers() { "POST" } else { "GET, HEAD" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_their_templates() {
        let model = |name, version| ModelRef { name, version };
        for (path, expected, template) in [
            ("/health", Route::Health, routes::HEALTH),
            ("/api/v1/predict", Route::Predict, routes::PREDICT),
            ("/api/v1/predict/batch", Route::PredictBatch, routes::PREDICT_BATCH),
            ("/v2", Route::V2, routes::V2),
            ("/v2/health/live", Route::V2Live, routes::V2_LIVE),
            (
                "/v2/models/a.b-c",
                Route::V2Model(model("a.b-c", None)),
                routes::V2_MODEL,
            ),
            (
                "/v2/models/a/ready",
                Route::V2ModelReady(model("a", None)),
                routes::V2_MODEL_READY,
            ),
            (
                "/v2/models/a/infer",
                Route::V2Infer(model("a", None)),
                routes::V2_MODEL_INFER,
            ),
            (
                "/v2/models/a/versions/1",
                Route::V2Model(model("a", Some("1"))),
                routes::V2_VERSION,
            ),
            (
                "/v2/models/a/versions/1/infer",
                Route::V2Infer(model("a", Some("1"))),
                routes::V2_VERSION_INFER,
            ),
            (
                "/v2/models/a/versions/1/ready",
                Route::V2ModelReady(model("a", Some("1"))),
                routes::V2_VERSION_READY,
            ),
            (
                "/v2/models/a/stats",
                Route::V2Statistics(Some(model("a", None))),
                routes::V2_MODEL_STATISTICS,
            ),
            (
                "/v2/models/a/versions/1/stats",
                Route::V2Statistics(Some(model("a", Some("1")))),
                routes::V2_VERSION_STATISTICS,
            ),
            ("/v2/models/stats", Route::V2Statistics(None), routes::V2_STATISTICS),
            (
                "/v2/models/stats/stats",
                Route::V2Statistics(Some(model("stats", None))),
                routes::V2_MODEL_STATISTICS,
            ),
            (
                "/v2/models/stats/versions/1",
                Route::V2Model(model("stats", Some("1"))),
                routes::V2_VERSION,
            ),
            (
                "/v2/models/stats/infer",
                Route::V2Infer(model("stats", None)),
                routes::V2_MODEL_INFER,
            ),
            ("/openapi.json", Route::OpenApi, routes::OPENAPI),
            ("/v1/models", Route::V1Models, routes::V1_MODELS),
            ("/v1/models/a", Route::V1Model("a"), routes::V1_MODEL),
            ("/v1/models/a:predict", Route::V1Predict("a"), routes::V1_MODEL),
        ] {
            assert_eq!(route(path), expected, "{path}");
            assert_eq!(route(path).template(), template, "{path}");
        }
        for path in [
            "/",
            "",
            "/v2/models",
            "/v2/models/",
            "/v2/models/a/",
            "/v2/models/a/infer/",
            "/v2/models/a/versions",
            "/v2/models/a/versions/",
            "/v2/models/a/versions//infer",
            "/v2/models//infer",
            "/v2/models/a/versions/1/infer/x",
            "/v1/models/",
            "/v1/models/a:explain",
            "/v1/models/:predict",
            "/v1/models/a/b",
            "/metrics",
            "/api/v1/predict/",
            "/health/",
        ] {
            assert_eq!(route(path), Route::Unknown, "{path}");
        }
    }
}
