//! The folder of optimised models: the second start does without a trial, and damage costs nothing but that.

use std::fs;
use std::path::PathBuf;

use xxhash_rust::xxh3::xxh3_128;

use crate::support::{Client, Server, model};

/// Field 11 of stat, cminflt: what children that were waited for have cost; 0 when there was none.
fn had_a_child(server: &Server) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", server.id())).unwrap();
    let cost: u64 = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .nth(8)
        .unwrap()
        .parse()
        .unwrap();
    cost > 0
}

#[test]
fn a_model_is_tried_out_and_optimised_once() {
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("kept");
    let body = format!("{{\"features\": [{}]}}", vec!["0.25"; 64].join(","));
    let start = |cached: bool| {
        let (model, kept) = (model("layers"), kept.display().to_string());
        let mut arguments = vec!["--model", &model];
        if cached {
            arguments.extend(["--optimized-model-cache", &kept]);
        }
        let server = Server::start(&arguments);
        let answer = Client::connect(server.http)
            .unwrap()
            .post("/api/v1/predict", &body)
            .unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);
        (had_a_child(&server), answer.body)
    };
    let files = || -> Vec<PathBuf> {
        fs::read_dir(&kept)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect()
    };

    let (tried, without) = start(false);
    assert!(tried && !kept.exists());
    assert_eq!(start(true), (true, without.clone()), "the first start fills the folder");
    let [file] = files().try_into().unwrap();
    let whole = fs::read(&file).unwrap();
    assert_eq!(start(true), (false, without.clone()), "the second start finds it");

    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    assert_eq!(start(true), (true, without.clone()), "half an entry is none");
    assert_eq!(fs::read(&file).unwrap(), whole, "it was made anew");
    assert_eq!(start(true), (false, without.clone()));

    // Whole, ours, and no model: the key is kept, and the checksum is right.
    let mut nothing = whole[..40].to_vec();
    nothing.extend_from_slice(&xxh3_128(b"").to_le_bytes());
    fs::write(&file, nothing).unwrap();
    assert_eq!(start(true), (true, without.clone()), "what does not load is made anew");
    assert_eq!(start(true), (false, without));
    assert_eq!(files().len(), 1);
}

#[test]
fn a_model_that_is_optimised_less_is_another_one() {
    let kept = tempfile::tempdir().unwrap();
    let folder = kept.path().display().to_string();
    let model = model("layers");
    let mut sizes = Vec::new();
    for (level, is_new) in [("all", true), ("disabled", true), ("all", false), ("disabled", false)] {
        let server = Server::start(&[
            "--model",
            &model,
            "--optimized-model-cache",
            &folder,
            "--graph-optimization",
            level,
        ]);
        assert_eq!(had_a_child(&server), is_new, "{level}");
        let entries = fs::read_dir(kept.path()).unwrap();
        sizes = entries.map(|entry| entry.unwrap().metadata().unwrap().len()).collect();
    }
    assert!(sizes.len() == 2 && sizes[0] != sizes[1], "{sizes:?}");
}
