//! The table of lies about the request rate, and the reason that each must be found out for.

use tidewright_operator::domain::published::Reason;

use super::Question::{self, Rate, Samples, Targets};
use super::{Lie, line, of_pool, truth, unix_now, vector};

pub type Row = (&'static str, Option<Question>, Lie, Reason);

fn value(text: &str) -> Lie {
    Lie::Json(vector(&[of_pool(&[], unix_now(), text)]))
}

fn json(text: &str) -> Lie {
    Lie::Json(text.to_owned())
}

pub fn status(line: &'static str) -> Lie {
    Lie::Answer(line, "", String::new())
}

fn parts(up: &str, all: &str, series: &str) -> Lie {
    let lines = [("up", up), ("all", all), ("series", series)]
        .map(|(name, value)| of_pool(&[("part", name)], unix_now(), &format!("\"{value}\"")));
    Lie::Json(vector(&lines))
}

fn samples(age: &str, pods: &str, covered: &str) -> Lie {
    let lines = [("age", age), ("pods", pods), ("covered", covered)].map(|(name, value)| {
        of_pool(
            &[("part", name), ("signal", "request_rate")],
            unix_now(),
            &format!("\"{value}\""),
        )
    });
    Lie::Json(vector(&lines))
}

/// Lies about the request rate.
pub fn lies() -> Vec<Row> {
    use Reason::{
        Ambiguous, AnswerMalformed, AnswerPartial, AnswerTooLarge, ClockSkew, Implausible, Negative, NoSamples,
        NoTargets, NotFinite, PartialTargets, PrometheusError, PrometheusForbidden, PrometheusRedirected,
        PrometheusThrottled, PrometheusTimeout, PrometheusUnreachable, StaleSamples, WindowNotFilled,
    };
    let honest = truth(Rate);
    let gzip_of_nothing = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut bomb = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 20\r\n\r\n".to_vec();
    bomb.extend_from_slice(&gzip_of_nothing);
    let many_labels: Vec<String> = (0..100).map(|n| format!("l{n}")).collect();
    let many_labels: Vec<(&str, &str)> = many_labels.iter().map(|name| (name.as_str(), "v")).collect();
    let other_pool = [("namespace", "a"), ("inferenceservice", "digits"), ("pool", "gpu")];
    let other_namespace = [("namespace", "b"), ("inferenceservice", "digits"), ("pool", "cpu")];
    let mut rows: Vec<Row> = vec![
        (
            "HTML with 200",
            None,
            Lie::Answer("200 OK", "", "<html>login</html>".into()),
            AnswerMalformed,
        ),
        ("an empty body", None, Lie::Json(String::new()), AnswerMalformed),
        (
            "status:error in a 200",
            None,
            json(r#"{"status":"error","errorType":"execution","error":"boom"}"#),
            PrometheusError,
        ),
        (
            "status:error with data",
            Some(Rate),
            Lie::Json(honest.replace("success", "error")),
            PrometheusError,
        ),
        (
            "another status",
            Some(Rate),
            Lie::Json(honest.replace("success", "partial")),
            AnswerMalformed,
        ),
        (
            "success and an error",
            Some(Rate),
            Lie::Json(honest.replacen('{', r#"{"error":"x","#, 1)),
            AnswerMalformed,
        ),
        ("no data", None, json(r#"{"status":"success"}"#), AnswerMalformed),
        (
            "null data",
            None,
            json(r#"{"status":"success","data":null}"#),
            AnswerMalformed,
        ),
        (
            "null result",
            None,
            json(r#"{"status":"success","data":{"resultType":"vector","result":null}}"#),
            AnswerMalformed,
        ),
        (
            "warnings",
            Some(Rate),
            Lie::Json(honest.replacen('{', r#"{"warnings":["a store is away"],"#, 1)),
            AnswerPartial,
        ),
        ("an empty rate", Some(Rate), Lie::Json(vector(&[])), WindowNotFilled),
        ("no targets", Some(Targets), Lie::Json(vector(&[])), NoTargets),
        ("no samples", Some(Samples), Lie::Json(vector(&[])), NoSamples),
        (
            "two of one pool",
            Some(Rate),
            Lie::Json(vector(&[
                of_pool(&[], unix_now(), "\"1\""),
                of_pool(&[], unix_now(), "\"2\""),
            ])),
            Ambiguous,
        ),
        (
            "another label",
            Some(Rate),
            Lie::Json(vector(&[of_pool(&[("pod", "x")], unix_now(), "\"1\"")])),
            AnswerMalformed,
        ),
        (
            "no labels",
            Some(Rate),
            Lie::Json(vector(&[line(&[], unix_now(), "\"1\"")])),
            AnswerMalformed,
        ),
        (
            "a hundred labels",
            Some(Rate),
            Lie::Json(vector(&[of_pool(&many_labels, unix_now(), "\"1\"")])),
            AnswerMalformed,
        ),
        (
            "another pool",
            Some(Rate),
            Lie::Json(vector(&[line(&other_pool, unix_now(), "\"1\"")])),
            WindowNotFilled,
        ),
        (
            "another namespace",
            Some(Rate),
            Lie::Json(vector(&[line(&other_namespace, unix_now(), "\"1\"")])),
            WindowNotFilled,
        ),
        (
            "a scalar",
            Some(Rate),
            Lie::Json(format!(
                r#"{{"status":"success","data":{{"resultType":"scalar","result":[{},"1"]}}}}"#,
                unix_now()
            )),
            AnswerMalformed,
        ),
        (
            "a string",
            Some(Rate),
            Lie::Json(format!(
                r#"{{"status":"success","data":{{"resultType":"string","result":[{},"1"]}}}}"#,
                unix_now()
            )),
            AnswerMalformed,
        ),
        (
            "a matrix",
            Some(Rate),
            Lie::Json(format!(
                r#"{{"status":"success","data":{{"resultType":"matrix","result":[{{"metric":{{}},"values":[[{},"1"]]}}]}}}}"#,
                unix_now()
            )),
            AnswerMalformed,
        ),
        (
            "a histogram",
            Some(Rate),
            Lie::Json(format!(
                r#"{{"status":"success","data":{{"resultType":"vector","result":[{{"metric":{{}},"histogram":[{},{{}}]}}]}}}}"#,
                unix_now()
            )),
            AnswerMalformed,
        ),
        ("NaN", Some(Rate), value("\"NaN\""), NotFinite),
        ("+Inf", Some(Rate), value("\"+Inf\""), NotFinite),
        ("-Inf", Some(Rate), value("\"-Inf\""), NotFinite),
        ("1e400", Some(Rate), value("\"1e400\""), NotFinite),
        ("-5", Some(Rate), value("\"-5\""), Negative),
        ("1e308", Some(Rate), value("\"1e308\""), Implausible),
        ("abc", Some(Rate), value("\"abc\""), AnswerMalformed),
        ("an empty number", Some(Rate), value("\"\""), AnswerMalformed),
        ("a bare number", Some(Rate), value("12.5"), AnswerMalformed),
        ("a null number", Some(Rate), value("null"), AnswerMalformed),
        ("a hexadecimal number", Some(Rate), value("\"0x10\""), AnswerMalformed),
        (
            "dated an hour ago",
            Some(Rate),
            Lie::Json(vector(&[of_pool(&[], unix_now() - 3600.0, "\"12.5\"")])),
            ClockSkew,
        ),
        (
            "dated in an hour",
            Some(Rate),
            Lie::Json(vector(&[of_pool(&[], unix_now() + 3600.0, "\"12.5\"")])),
            ClockSkew,
        ),
        (
            "dated never",
            Some(Rate),
            Lie::Json(vector(&[of_pool(&[], 1e300, "\"12.5\"")])),
            ClockSkew,
        ),
        ("stale samples", Some(Samples), samples("47.3", "0", "1"), StaleSamples),
        (
            "samples of the future",
            Some(Samples),
            samples("-60", "1", "1"),
            ClockSkew,
        ),
        (
            "an age of NaN",
            Some(Samples),
            samples("NaN", "1", "1"),
            AnswerMalformed,
        ),
        ("half a pod", Some(Samples), samples("1", "0.5", "1"), AnswerMalformed),
        ("no fresh pod", Some(Samples), samples("1", "0", "1"), PartialTargets),
        (
            "two scrapes in a window of six",
            Some(Samples),
            samples("1", "1", "0"),
            WindowNotFilled,
        ),
        ("targets down", Some(Targets), parts("0", "1", "0"), PartialTargets),
        (
            "pods scraped twice",
            Some(Targets),
            parts("1", "1", "2"),
            Reason::DuplicateTargets,
        ),
        (
            "minus one target",
            Some(Targets),
            parts("-1", "1", "1"),
            AnswerMalformed,
        ),
        (
            "a part twice",
            Some(Targets),
            Lie::Json(vector(&[
                of_pool(&[("part", "up")], unix_now(), "\"1\""),
                of_pool(&[("part", "up")], unix_now(), "\"1\""),
            ])),
            AnswerMalformed,
        ),
        (
            "an unknown part",
            Some(Targets),
            Lie::Json(vector(&[of_pool(&[("part", "x")], unix_now(), "\"1\"")])),
            AnswerMalformed,
        ),
        (
            "302",
            Some(Rate),
            Lie::Answer("302 Found", "location: http://127.0.0.1:1/\r\n", honest.clone()),
            PrometheusRedirected,
        ),
        (
            "307",
            Some(Rate),
            Lie::Answer("307 Temporary Redirect", "location: /elsewhere\r\n", honest.clone()),
            PrometheusRedirected,
        ),
        ("204", None, status("204 No Content"), PrometheusError),
        (
            "400",
            None,
            Lie::Answer(
                "400 Bad Request",
                "",
                r#"{"status":"error","error":"parse error"}"#.into(),
            ),
            PrometheusError,
        ),
        ("401", None, status("401 Unauthorized"), PrometheusForbidden),
        ("403", None, status("403 Forbidden"), PrometheusForbidden),
        (
            "404",
            Some(Rate),
            Lie::Answer("404 Not Found", "", honest.clone()),
            PrometheusError,
        ),
        (
            "429",
            Some(Rate),
            Lie::Answer("429 Too Many Requests", "retry-after: 3600\r\n", honest.clone()),
            PrometheusThrottled,
        ),
        (
            "500 with a good body",
            Some(Rate),
            Lie::Answer("500 Internal Server Error", "", honest.clone()),
            PrometheusError,
        ),
        ("503", None, status("503 Service Unavailable"), PrometheusError),
        (
            "no HTTP",
            None,
            Lie::Raw(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()),
            PrometheusUnreachable,
        ),
        ("closed at once", None, Lie::Raw(Vec::new()), PrometheusUnreachable),
        (
            "cut off body",
            None,
            Lie::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{\"status\":\"succ".to_vec()),
            PrometheusUnreachable,
        ),
        (
            "cut off JSON",
            None,
            Lie::Json(honest[..honest.len() - 3].to_owned()),
            AnswerMalformed,
        ),
        (
            "JSON and more",
            None,
            Lie::Json(format!("{honest}{honest}")),
            AnswerMalformed,
        ),
        ("a reset", None, Lie::Reset, PrometheusUnreachable),
        ("gzip that nobody asked for", None, Lie::Raw(bomb), AnswerMalformed),
        ("a gigabyte", None, Lie::Flood, AnswerTooLarge),
        ("chunks without end", None, Lie::FloodChunked, AnswerTooLarge),
        ("ten bytes per second", None, Lie::Drip, PrometheusTimeout),
        ("silence", None, Lie::Silence, PrometheusTimeout),
        (
            "JSON 100,000 deep",
            None,
            Lie::Json("[".repeat(100_000)),
            AnswerMalformed,
        ),
    ];
    let series: Vec<String> = (0..300)
        .map(|n| {
            line(
                &[("namespace", "a"), ("inferenceservice", "x"), ("pool", &n.to_string())],
                unix_now(),
                "\"1\"",
            )
        })
        .collect();
    rows.push((
        "more series than are read",
        Some(Rate),
        Lie::Json(vector(&series)),
        AnswerTooLarge,
    ));
    rows
}
