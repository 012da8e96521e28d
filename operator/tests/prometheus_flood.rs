//! Endless answers cost a bounded amount of memory. Alone in its binary, because it watches the memory of the whole process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod prometheus;

use prometheus::{FakePrometheus, Lie, Source, quick};
use tidewright_operator::domain::published::{Reason, Signal};

/// Resident memory, now or at its highest, in MiB.
fn memory(field: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gigabyte_costs_at_most_sixteen_megabytes() {
    let fake = FakePrometheus::start().await;
    let mut settings = quick(&fake.address);
    settings.timeout = std::time::Duration::from_secs(15);
    let source = Source::start(settings);
    source.two_ticks().await;
    assert!(source.read(&Signal::RequestRate).is_ok());
    let before = memory("VmRSS:");
    for lie in [Lie::Flood, Lie::FloodChunked, Lie::Series(30_000), Lie::Series(200_000)] {
        let name = format!("{lie:?}");
        fake.lie(None, lie);
        for _ in 0..3 {
            source.two_ticks().await;
            let reason = source.read(&Signal::RequestRate).unwrap_err().reason;
            assert_eq!(reason, Reason::AnswerTooLarge, "{name}");
        }
        println!("{name}: from {before:.1} to {:.1} MiB", memory("VmHWM:"));
    }
    let peak = memory("VmHWM:");
    assert!(peak > before, "the measurement measures");
    assert!(peak - before <= 16.0, "from {before:.1} to {peak:.1} MiB");
}
