//! A request's path and query -> what is asked for. Pure.

use reqwest::Url;

use crate::domain::published::{ServiceKey, Signal};
use crate::metrics_api::discovery::{GROUP, RESOURCE, VERSIONS};
use crate::metrics_api::refusal::Refusal;
use crate::metrics_api::selector;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// `/apis`.
    Groups,
    /// `/apis/custom.metrics.k8s.io`.
    Group,
    /// `/apis/custom.metrics.k8s.io/<version>`.
    Resources(&'static str),
    /// `/openapi/v2`.
    OpenApiV2,
    /// `/openapi/v3`.
    OpenApiV3,
    /// One metric of one service.
    Metric(Question),
}

/// One metric of one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The version asked in.
    pub version: &'static str,
    /// Whose.
    pub service: ServiceKey,
    /// Of which pools; `None` is all.
    pub pools: Option<Vec<String>>,
    /// What.
    pub signal: Signal,
}

/// Reads path and query. There is one spelling of each path: percent escapes, empty, `.` and `..` segments are found nowhere.
pub fn parse(path: &str, query: &str) -> Result<Route, Refusal> {
    let nowhere = || {
        Refusal::not_found("the server serves custom.metrics.k8s.io for InferenceServices, and nothing at this path")
    };
    let segments: Vec<&str> = path.strip_prefix('/').ok_or_else(nowhere)?.split('/').collect();
    let ordinary = |segment: &&str| {
        !segment.is_empty()
            && !matches!(*segment, "." | "..")
            && segment.len() <= 253
            && segment.bytes().all(|b| b.is_ascii_graphic() && b != b'%' && b != b'\\')
    };
    if !segments.iter().all(ordinary) {
        return Err(nowhere());
    }
    let version = |name: &str| {
        VERSIONS
            .into_iter()
            .find(|version| *version == name)
            .ok_or_else(nowhere)
    };
    match segments.as_slice() {
        ["apis"] => Ok(Route::Groups),
        ["openapi", "v2"] => Ok(Route::OpenApiV2),
        ["openapi", "v3"] => Ok(Route::OpenApiV3),
        ["apis", GROUP] => Ok(Route::Group),
        ["apis", GROUP, name] => Ok(Route::Resources(version(name)?)),
        ["apis", GROUP, name, "namespaces", namespace, RESOURCE, service, metric] => {
            metric_of(version(name)?, namespace, service, metric, query).map(Route::Metric)
        }
        ["apis", GROUP, name, "namespaces", _, other, _, _] if version(name).is_ok() => Err(Refusal::not_found(
            format!("metrics are served for {RESOURCE} only, not for {other}"),
        )),
        _ => Err(nowhere()),
    }
}

fn metric_of(
    version: &'static str,
    namespace: &str,
    service: &str,
    metric: &str,
    query: &str,
) -> Result<Question, Refusal> {
    if service == "*" {
        return Err(Refusal::bad_request(
            "metrics are served for one InferenceService at a time: name it instead of \"*\"",
        ));
    }
    let signal = Signal::from_metric_name(metric).ok_or_else(|| {
        Refusal::not_found(format!(
            "InferenceServices have the metrics request_rate, queue_depth, concurrency and external-NAME, not {metric}"
        ))
    })?;
    let mut metric_selector: Option<String> = None;
    // A base that is never used: only the query's decoding is wanted.
    let decoded = Url::parse(&format!("http://localhost/?{query}"))
        .map_err(|problem| Refusal::bad_request(format!("the query string cannot be read: {problem}")))?;
    for (name, value) in decoded.query_pairs() {
        match &*name {
            "metricLabelSelector" if metric_selector.is_some() => {
                return Err(Refusal::bad_request("metricLabelSelector is given twice"));
            }
            "metricLabelSelector" => metric_selector = Some(value.into_owned()),
            "labelSelector" | "fieldSelector" if !value.is_empty() => {
                return Err(Refusal::bad_request(format!(
                    "{name} has no meaning beside the name of one object"
                )));
            }
            "watch" if !matches!(&*value, "" | "0" | "false") => {
                return Err(Refusal::method_not_allowed("metrics cannot be watched"));
            }
            _ => {}
        }
    }
    Ok(Question {
        version,
        service: ServiceKey::new(namespace, service),
        pools: selector::pools(&metric_selector.unwrap_or_default())?,
        signal,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const METRIC: &str =
        "/apis/custom.metrics.k8s.io/v1beta2/namespaces/a/inferenceservices.serving.tidewright.dev/digits/request_rate";

    fn code(path: &str, query: &str) -> u16 {
        parse(path, query).map_or_else(|refusal| refusal.code, |_| 200)
    }

    #[test]
    fn the_question_of_the_hpa_is_understood() {
        assert_eq!(
            parse(METRIC, "metricLabelSelector=pool%3Dcpu"),
            Ok(Route::Metric(Question {
                version: "v1beta2",
                service: ServiceKey::new("a", "digits"),
                pools: Some(vec!["cpu".to_owned()]),
                signal: Signal::RequestRate,
            }))
        );
        let old = METRIC
            .replace("v1beta2", "v1beta1")
            .replace("request_rate", "external-lag");
        assert!(matches!(parse(&old, ""), Ok(Route::Metric(q)) if q.version == "v1beta1" && q.pools.is_none()));
        for path in [
            "/apis",
            "/apis/custom.metrics.k8s.io",
            "/apis/custom.metrics.k8s.io/v1beta1",
            "/openapi/v2",
            "/openapi/v3",
        ] {
            assert_eq!(code(path, "timeout=32s"), 200, "{path}");
        }
    }

    #[test]
    fn there_is_one_spelling_of_a_path() {
        for path in [
            "",
            "/",
            "apis",
            "/apis/",
            "//apis",
            "/api",
            "/apis/custom.metrics.k8s.io/",
            "/apis/custom.metrics.k8s.io/v1",
            "/apis/external.metrics.k8s.io",
            "/metrics",
            "/healthz",
            &METRIC.replace("/a/", "/a/../b/"),
            &METRIC.replace("/a/", "/a/./"),
            &METRIC.replace("/a/", "/%61/"),
            &METRIC.replace("/a/", "/%2e%2e/"),
            &METRIC.replace("/a/", "/a%2fb/"),
            &METRIC.replace("/a/", "//"),
            &METRIC.replace("/a/", "/a\\b/"),
            &METRIC.replace("/digits/", "/digits//"),
            &METRIC.replace("request_rate", "cpu"),
            &METRIC.replace("request_rate", "external-"),
            &METRIC.replace("request_rate", "request_rate/status"),
            &METRIC.replace("inferenceservices.serving.tidewright.dev", "pods"),
            &METRIC.replace("inferenceservices.serving.tidewright.dev", "inferenceservices"),
            &METRIC.replace("/inferenceservices.serving.tidewright.dev/digits", "/metrics"),
            &METRIC.replace("/namespaces/a", ""),
            &METRIC.replace("digits", &"d".repeat(300)),
        ] {
            assert_eq!(code(path, ""), 404, "{path}");
        }
    }

    #[test]
    fn questions_that_are_not_understood_are_refused() {
        for (query, expected) in [
            ("metricLabelSelector=", 200),
            ("metricLabelSelector=pool!%3Dcpu", 400),
            ("metricLabelSelector=pool%3Dcpu&metricLabelSelector=pool%3Dgpu", 400),
            ("labelSelector=a%3Db", 400),
            ("labelSelector=", 200),
            ("fieldSelector=metadata.name%3Dx", 400),
            ("watch=true", 405),
            ("watch=false", 200),
        ] {
            assert_eq!(code(METRIC, query), expected, "{query}");
        }
        assert_eq!(code(&METRIC.replace("digits", "*"), ""), 400);
    }
}
