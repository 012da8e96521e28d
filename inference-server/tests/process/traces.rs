//! Traces: a caller's trace goes on through both protocols, batches are linked, and a collector that is away costs nobody an answer.

use std::collections::HashSet;
use std::net::TcpListener;
use std::time::Duration;

use futures::StreamExt;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use tidewright_server::clock;
use tonic::Request;

use crate::collector::{Collector, attribute};
use crate::grpc::{Inference, channel, request, runtime};
use crate::support::{Answer, Client, Server, model};

const PHASES: [&str; 6] = ["admit", "receive", "pre", "queue", "infer", "post"];
const BODY: &str = r#"{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]}]}"#;

/// A caller's place in a trace that ends in this digit.
fn traceparent(digit: u8, flags: &str) -> String {
    format!("00-0af7651916cd43dd8448eb211c80319{digit}-b7ad6b716920333{digit}-{flags}")
}

fn id(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn post(server: &Server, traceparent: &str) -> Answer {
    let mut client = Client::connect(server.http).unwrap();
    let head = "POST /v2/models/affine/infer HTTP/1.1\r\nhost: test\r\ncontent-type: application/json";
    let length = BODY.len();
    let text = format!("{head}\r\ncontent-length: {length}\r\ntraceparent: {traceparent}\r\n\r\n{BODY}");
    client.send(text.as_bytes()).unwrap();
    client.answer().unwrap()
}

fn of_trace<'s>(spans: &'s [Span], trace: &[u8]) -> Vec<&'s Span> {
    spans.iter().filter(|span| span.trace_id == trace).collect()
}

fn children<'s>(spans: &'s [Span], parent: &Span) -> Vec<&'s Span> {
    let of_parent = |span: &&Span| span.trace_id == parent.trace_id && span.parent_span_id == parent.span_id;
    spans.iter().filter(of_parent).collect()
}

/// The call, its phases in their order within it, and its run, each with a link to the other.
fn check_call(spans: &[Span], call: &Span, phases: &[&str]) {
    let children = children(spans, call);
    for name in phases {
        let found: Vec<_> = children.iter().filter(|child| child.name == *name).collect();
        assert_eq!(found.len(), 1, "{name} of {children:#?}");
    }
    assert_eq!(children.len(), phases.len(), "{children:#?}");
    let mut last = call.start_time_unix_nano;
    for name in phases {
        let phase = children.iter().find(|child| child.name == *name).unwrap();
        assert!(
            last <= phase.start_time_unix_nano && phase.start_time_unix_nano <= phase.end_time_unix_nano,
            "{name} is not after {last}: {children:#?}"
        );
        last = phase.start_time_unix_nano;
        assert!(phase.end_time_unix_nano <= call.end_time_unix_nano, "{name}");
    }
    let infer = children.iter().find(|child| child.name == "infer").unwrap();
    let [link] = infer.links.as_slice() else {
        panic!("{infer:#?}");
    };
    let is_run = |span: &&Span| span.span_id == link.span_id && span.trace_id == link.trace_id;
    let run = spans.iter().find(is_run).unwrap();
    assert_eq!(run.name, "batch");
    assert!(
        run.parent_span_id.is_empty() && run.trace_id != call.trace_id,
        "{run:#?}"
    );
    assert!(run.links.iter().any(|link| link.span_id == call.span_id), "{run:#?}");
    assert_eq!(attribute(&run.attributes, "model").as_deref(), Some("affine"));
}

#[test]
fn a_caller_s_trace_goes_on_through_http_and_grpc() {
    let collector = Collector::start();
    let server = Server::start(&[
        "--model",
        &model("affine"),
        "--otlp-endpoint",
        &collector.url(),
        "--trace-one-in",
        "0",
    ]);
    let mut client = Client::connect(server.http).unwrap();
    // Not decided by the caller, decided against, and metadata: none of them is traced.
    assert_eq!(client.post("/v2/models/affine/infer", BODY).unwrap().status, 200);
    let against = post(&server, &traceparent(9, "00"));
    let told = against.header("traceparent").unwrap();
    assert!(
        told.starts_with("00-0af7651916cd43dd8448eb211c803199-") && told.ends_with("-00"),
        "{told}"
    );
    assert_eq!(client.get("/v2").unwrap().header("traceparent"), None);

    let answer = post(&server, &traceparent(1, "01"));
    assert_eq!(answer.status, 200, "{}", answer.body);
    let told = answer.header("traceparent").unwrap().to_owned();
    let called = runtime().block_on(async {
        let mut client = Inference::new(channel(&server).await);
        let mut call = Request::new(request("affine", "", &[1.0, 2.0, 3.0, 4.0]));
        call.metadata_mut()
            .insert("traceparent", traceparent(2, "01").parse().unwrap());
        let answer = client.model_infer(call).await.unwrap();
        let told = answer
            .metadata()
            .get("traceparent")
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        let mut failing = Request::new(request("nobody", "", &[1.0]));
        failing
            .metadata_mut()
            .insert("traceparent", traceparent(3, "01").parse().unwrap());
        client.model_infer(failing).await.unwrap_err();
        let messages = futures::stream::iter(["a", "b"]).map(|id| request("affine", id, &[1.0, 2.0, 3.0, 4.0]));
        let mut stream = Request::new(messages);
        stream
            .metadata_mut()
            .insert("traceparent", traceparent(4, "01").parse().unwrap());
        let mut answers = client.model_stream_infer(stream).await.unwrap().into_inner();
        while let Some(answer) = answers.message().await.unwrap() {
            assert_eq!(answer.error_message, "");
        }
        told
    });

    // Spans are sent in the order in which they end, and a call ends after all that it is made of.
    let spans = collector.spans(|spans| {
        let count = |is: fn(&&Span) -> bool| spans.iter().filter(is).count();
        count(|span| span.kind == SpanKind::Server as i32) == 4 && count(|span| span.name == "message") == 2
    });
    for (digit, told, name, phases) in [
        (1, told, "/v2/models/{model}/infer", &PHASES[..]),
        (2, called, "inference.GRPCInferenceService/ModelInfer", &PHASES[..]),
    ] {
        let trace = id(&format!("0af7651916cd43dd8448eb211c80319{digit}"));
        let all = of_trace(&spans, &trace);
        let root = all.iter().find(|span| span.kind == SpanKind::Server as i32).unwrap();
        assert_eq!(root.name, name);
        assert_eq!(root.parent_span_id, id(&format!("b7ad6b716920333{digit}")));
        assert_eq!(attribute(&root.attributes, "model").as_deref(), Some("affine"));
        let [version, in_trace, in_span, flags] = told.split('-').collect::<Vec<_>>()[..] else {
            panic!("{told}");
        };
        assert_eq!(
            (version, id(in_trace), id(in_span), flags),
            ("00", trace, root.span_id.clone(), "01")
        );
        // Over gRPC the message is there before anything is decided.
        let mut phases = phases.to_vec();
        if digit == 2 {
            phases.swap(0, 1);
        }
        check_call(&spans, root, &phases);
    }
    let http = of_trace(&spans, &id("0af7651916cd43dd8448eb211c803191"));
    let http = http.iter().find(|span| span.kind == SpanKind::Server as i32).unwrap();
    assert_eq!(
        attribute(&http.attributes, "http.response.status_code").as_deref(),
        Some("200")
    );
    let failed = of_trace(&spans, &id("0af7651916cd43dd8448eb211c803193"));
    let failed = failed.iter().find(|span| span.kind == SpanKind::Server as i32).unwrap();
    assert_eq!(
        attribute(&failed.attributes, "rpc.grpc.status_code").as_deref(),
        Some("5")
    );
    let stream = of_trace(&spans, &id("0af7651916cd43dd8448eb211c803194"));
    let messages: Vec<_> = stream.iter().filter(|span| span.name == "message").collect();
    assert_eq!(messages.len(), 2, "{stream:#?}");
    for message in messages {
        check_call(&spans, message, &["admit", "pre", "queue", "infer", "post"]);
    }
    assert!(of_trace(&spans, &id("0af7651916cd43dd8448eb211c803199")).is_empty());

    let resource = collector.requests()[0].resource_spans[0].resource.clone().unwrap();
    assert_eq!(
        attribute(&resource.attributes, "service.name").as_deref(),
        Some("inference-server")
    );
    let metrics = Client::connect(server.admin).unwrap().get("/metrics").unwrap().body;
    for histogram in [
        "ml_prediction_duration_seconds_bucket",
        "http_request_duration_seconds_bucket",
    ] {
        let is_exemplar =
            |line: &str| line.starts_with(histogram) && line.contains("# {trace_id=\"0af7651916cd43dd8448eb211c80319");
        assert!(metrics.lines().any(is_exemplar), "{histogram} in\n{metrics}");
    }
    assert!(metrics.ends_with("# EOF\n"));
}

#[test]
fn requests_of_a_batch_and_their_run_are_linked_and_the_last_spans_are_sent() {
    let collector = Collector::start();
    let slow = model("slow");
    let server = Server::start(&[
        "--model",
        &slow,
        "--max-batch-size",
        "4",
        "--otlp-endpoint",
        &collector.url(),
    ]);
    runtime().block_on(async {
        let client = Inference::new(channel(&server).await);
        let mut calls = tokio::task::JoinSet::new();
        for number in 0..12u8 {
            let mut client = client.clone();
            calls.spawn(async move { client.model_infer(request("slow", "", &[number.into()])).await.unwrap() });
        }
        calls.join_all().await;
    });
    // What waited to be sent is sent before the end.
    server.signal("TERM");
    let ended = server.end();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.log);
    let spans = collector.spans(|_| true);
    let calls: Vec<&Span> = spans
        .iter()
        .filter(|span| span.kind == SpanKind::Server as i32)
        .collect();
    assert_eq!(calls.len(), 12);
    let runs: Vec<&Span> = spans.iter().filter(|span| span.name == "batch").collect();
    let linked: HashSet<_> = runs
        .iter()
        .flat_map(|run| &run.links)
        .map(|link| link.span_id.clone())
        .collect();
    assert_eq!(linked, calls.iter().map(|call| call.span_id.clone()).collect());
    let mut largest = 0;
    for run in runs {
        let members: HashSet<_> = run.links.iter().map(|link| link.span_id.clone()).collect();
        // The requests that say that they were in it are those that it names.
        let of_run = spans
            .iter()
            .filter(|span| span.links.iter().any(|link| link.span_id == run.span_id));
        assert_eq!(
            of_run.map(|span| span.parent_span_id.clone()).collect::<HashSet<_>>(),
            members
        );
        let said = attribute(&run.attributes, "batch.requests").unwrap();
        assert_eq!(said, members.len().to_string());
        largest = largest.max(members.len());
    }
    assert!(largest > 1, "no batch had company");
}

#[test]
fn a_collector_that_is_away_or_silent_costs_nobody_an_answer() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    for address in [gone, silent.local_addr().unwrap()] {
        let url = format!("http://{address}");
        let server = Server::start(&["--model", &model("affine"), "--otlp-endpoint", &url]);
        let mut admin = Client::connect(server.admin).unwrap();
        let mut client = Client::connect(server.http).unwrap();
        let mut served = 0;
        let start = clock::now();
        // Until some have failed and more than the queue holds were made.
        loop {
            for _ in 0..100 {
                let began = clock::now();
                assert_eq!(client.post("/v2/models/affine/infer", BODY).unwrap().status, 200);
                assert!(
                    began.elapsed() < Duration::from_secs(1),
                    "a request waited for the collector"
                );
                served += 1;
            }
            let metrics = admin.get("/metrics").unwrap().body;
            let count = |outcome: &str| -> u64 {
                let series = format!("inference_server_trace_spans_total{{outcome=\"{outcome}\"}} ");
                let line = metrics.lines().find_map(|line| line.strip_prefix(&series));
                line.unwrap().parse().unwrap()
            };
            assert_eq!(count("sent"), 0);
            assert!(count("recorded") >= served * 7, "{served}");
            if count("failed") > 0 && served > 1000 {
                break;
            }
            assert!(
                start.elapsed() < Duration::from_secs(60),
                "no span failed in\n{metrics}"
            );
        }
        server.signal("TERM");
        let asked = clock::now();
        let ended = server.end();
        assert_eq!(ended.status.code(), Some(0), "{}", ended.log);
        assert!(
            asked.elapsed() < Duration::from_secs(10),
            "the end waited for the collector"
        );
        assert_eq!(ended.log.matches("spans cannot be sent").count(), 1, "{}", ended.log);
    }
}

#[test]
fn an_address_that_is_none_is_refused() {
    for (url, expected) in [
        ("collector:4317", "tracing.endpoint: must be http://HOST:PORT"),
        ("http://a b", "tracing.endpoint: "),
    ] {
        let output = crate::support::run(&["serve", "--model", &model("affine"), "--otlp-endpoint", url]);
        assert_eq!(output.status.code(), Some(3), "{url}");
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(log.contains(expected), "{log}");
    }
}
