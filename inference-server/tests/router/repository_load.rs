//! Models come and go a thousand times under load.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::repository::{change, infer, with_directory};
use crate::support::{Server, model, server};

/// Asks for the model again and again until told to stop; answers how often, and every status that was not 200.
async fn ask(server: Server, names: Vec<&'static str>, numbers: usize, done: Arc<AtomicBool>) -> (u64, Vec<u16>) {
    let (mut count, mut bad) = (0, Vec::new());
    while !done.load(Ordering::Relaxed) {
        for name in &names {
            let status = infer(&server, name, numbers).await;
            count += 1;
            bad.extend((status != 200).then_some(status));
            // Time for the others: this is no race for the processor.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    (count, bad)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_loads_and_unloads_under_load_fail_no_request() {
    const CYCLES: u64 = 1000;
    let folder = tempfile::tempdir().unwrap();
    let files = [
        ("two/1/model.onnx", "layers"),
        ("two/2/model.onnx", "layers"),
        ("p.onnx", "layers"),
        ("q.onnx", "layers"),
    ];
    let mut config = with_directory(folder.path(), &files);
    let one = fs::metadata(model("layers").path).unwrap().len();
    // Both versions of one, and one of the others, which push each other out all the time.
    config.repository.loaded_bytes_max = 3 * one + 1000;
    let server = server(&config);
    assert_eq!(change(&server, "two/versions/1", "load").await, 200);
    let done = Arc::new(AtomicBool::new(false));
    let askers: Vec<_> = [
        (vec!["affine"], 4),
        (vec!["two"], 64),
        (vec!["two"], 64),
        (vec!["p", "q"], 64),
    ]
    .into_iter()
    .map(|(names, numbers)| tokio::spawn(ask(server.clone(), names, numbers, Arc::clone(&done))))
    .collect();
    for _ in 0..CYCLES {
        assert_eq!(change(&server, "two/versions/2", "load").await, 200);
        assert_eq!(change(&server, "two/versions/2", "unload").await, 200);
    }
    done.store(true, Ordering::Relaxed);
    let mut total = 0;
    for asker in askers {
        let (count, bad) = asker.await.unwrap();
        assert!(count > CYCLES / 10, "{count} requests are no load");
        assert_eq!(bad, Vec::<u16>::new());
        total += count;
    }
    let evictions = server.metric("ml_model_unloads_total{cause=\"memory\"}");
    assert!(evictions > 10.0, "{evictions}");
    println!("{CYCLES} cycles and {evictions} evictions under {total} requests, none failed");
}
