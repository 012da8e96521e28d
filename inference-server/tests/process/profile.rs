//! CPU profiles: what pprof would read, taken while the server works; one at a time, and only where they are enabled.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use async_compression::tokio::write::GzipDecoder;
use prost::Message;
use tidewright_server::profile::pb::{Location, Profile};
use tokio::io::AsyncWriteExt;

use crate::grpc::runtime;
use crate::support::{Client, Server, model};

fn decode(body: &[u8]) -> Profile {
    let bytes = runtime().block_on(async {
        let mut decoder = GzipDecoder::new(Vec::new());
        decoder.write_all(body).await.unwrap();
        decoder.shutdown().await.unwrap();
        decoder.into_inner()
    });
    Profile::decode(bytes.as_slice()).unwrap()
}

fn text(profile: &Profile, index: i64) -> &str {
    &profile.string_table[usize::try_from(index).unwrap()]
}

fn names<'p>(profile: &'p Profile, location: &Location) -> Vec<&'p str> {
    let functions = location.line.iter().map(|line| {
        let id = usize::try_from(line.function_id).unwrap();
        assert_eq!(profile.function[id - 1].id, line.function_id);
        text(profile, profile.function[id - 1].name)
    });
    functions.collect()
}

#[test]
fn a_profile_shows_where_the_time_goes() {
    let server = Server::start(&["--model", &model("slow"), "--admin-profiling"]);
    let is_over = AtomicBool::new(false);
    let answers = thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut client = Client::connect(server.http).unwrap();
                while !is_over.load(Ordering::Relaxed) {
                    let answer = client.post("/api/v1/predict", r#"{"features":[1]}"#).unwrap();
                    assert_eq!(answer.status, 200, "{}", answer.body);
                }
            });
        }
        let takers = [(), ()].map(|()| {
            scope.spawn(|| {
                let mut admin = Client::connect(server.admin).unwrap();
                let path = "/debug/pprof/profile?seconds=3&frequency=200";
                let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n");
                admin.send(request.as_bytes()).unwrap();
                admin.answer_bytes().unwrap()
            })
        });
        // Meanwhile the port answers others.
        let mut other = Client::connect(server.admin).unwrap();
        while !takers.iter().all(thread::ScopedJoinHandle::is_finished) {
            assert_eq!(other.get("/live").unwrap().status, 200);
        }
        let answers = takers.map(|taker| taker.join().unwrap());
        is_over.store(true, Ordering::Relaxed);
        answers
    });
    let (taken, refused): (Vec<_>, Vec<_>) = answers
        .into_iter()
        .partition(|(head, _)| head.starts_with("http/1.1 200"));
    let ([(_, body)], [(head, _)]) = (&taken[..], &refused[..]) else {
        panic!("{} were taken", taken.len());
    };
    assert!(
        head.starts_with("http/1.1 429") && head.contains("retry-after: 3"),
        "{head}"
    );
    let profile = decode(body);
    assert_eq!(profile.string_table[0], "");
    let types: Vec<_> = profile
        .sample_type
        .iter()
        .map(|kind| (text(&profile, kind.r#type), text(&profile, kind.unit)))
        .collect();
    assert_eq!(types, [("samples", "count"), ("cpu", "nanoseconds")]);
    assert_eq!(profile.period, 5_000_000);
    assert!(profile.duration_nanos >= 3_000_000_000);
    let mut samples = 0;
    let (mut in_library, mut in_worker) = (0, 0);
    for sample in &profile.sample {
        let [count, nanos] = sample.value[..] else {
            panic!("{sample:?}");
        };
        assert_eq!(nanos, count * profile.period);
        samples += count;
        let stack: Vec<&Location> = sample
            .location_id
            .iter()
            .map(|id| &profile.location[usize::try_from(*id).unwrap() - 1])
            .collect();
        let names: Vec<&str> = stack.iter().flat_map(|location| names(&profile, location)).collect();
        // Of the sampler itself nothing is left, nor of the return from its signal: what was interrupted was outside the C library.
        let in_libc = |location: &Location| {
            let mapping = profile.mapping.iter().find(|mapping| mapping.id == location.mapping_id);
            mapping.is_some_and(|mapping| text(&profile, mapping.filename).contains("/libc.so"))
        };
        assert!(!in_libc(stack[0]), "{names:?}");
        assert!(
            !names.iter().any(|name| name.contains("perf_signal_handler")),
            "{names:?}"
        );
        let is_in_library = stack.iter().any(|location| {
            let mapping = profile.mapping.iter().find(|mapping| mapping.id == location.mapping_id);
            mapping.is_some_and(|mapping| text(&profile, mapping.filename).contains("libonnxruntime"))
        });
        in_library += if is_in_library { count } else { 0 };
        let is_in_worker = names
            .iter()
            .any(|name| name.contains("tidewright_server::engine::worker::work"));
        in_worker += if is_in_worker && is_in_library { count } else { 0 };
    }
    assert!(samples > 20, "{samples}");
    // The model is what is slow; its library has its stacks, and they lead back to the worker that called it.
    assert!(in_library * 2 > samples, "{in_library} of {samples}");
    assert!(in_worker > 0, "{in_worker} of {in_library}");
    assert!(text(&profile, profile.mapping[0].filename).ends_with("inference-server"));

    let mut admin = Client::connect(server.admin).unwrap();
    for query in ["seconds=0", "seconds=61", "frequency=1001", "debug=1"] {
        let answer = admin.get(&format!("/debug/pprof/profile?{query}")).unwrap();
        assert_eq!(answer.status, 400, "{query}: {}", answer.body);
    }
    assert_eq!(admin.post("/debug/pprof/profile?seconds=1", "").unwrap().status, 405);
}

#[test]
fn without_being_asked_for_there_are_none() {
    let server = Server::start(&["--model", &model("affine")]);
    let mut admin = Client::connect(server.admin).unwrap();
    let answer = admin.get("/debug/pprof/profile?seconds=1").unwrap();
    assert_eq!(answer.status, 404);
    assert!(answer.body.contains("admin.profiling"), "{}", answer.body);
}
