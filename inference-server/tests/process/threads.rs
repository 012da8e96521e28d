//! What the threads of the process leave to each other.

use std::fs;

use crate::support::{Client, Server, model};

/// Runs on the threads that read requests, so far.
fn express_runs(server: &Server) -> u32 {
    let metrics = Client::connect(server.admin).unwrap().get("/metrics").unwrap();
    let runs = metrics
        .body
        .lines()
        .find_map(|line| line.strip_prefix("ml_express_runs_total{"));
    let count = runs.map_or("0", |line| line.rsplit(' ').next().unwrap());
    count.parse().unwrap()
}

#[test]
fn workers_give_way_to_the_threads_that_read() {
    let server = Server::start(&["--model", &model("affine")]);
    let tasks = fs::read_dir(format!("/proc/{}/task", server.id())).unwrap();
    let stats = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("stat")).unwrap());
    // Behind the name, which may hold blanks, the policy is field 41.
    let policies = stats.filter(|stat| stat.contains("(affine-")).map(|stat| {
        let fields = stat.rsplit(')').next().unwrap();
        fields.split_whitespace().nth(38).unwrap().parse::<i32>().unwrap()
    });
    assert_eq!(policies.collect::<Vec<_>>(), [libc::SCHED_BATCH]);
}

#[test]
fn a_thread_that_has_waited_for_the_network_may_run_a_small_request_again() {
    // More than there are threads, each of which has one run without having waited.
    const WANTED: u32 = 200;
    let server = Server::start(&["--model", &model("affine")]);
    let mut client = Client::connect(server.http).unwrap();
    let mut asked = 0;
    // A run that took long, for whatever reason, is believed to be long for a while.
    while express_runs(&server) < WANTED && asked < 50 * WANTED {
        for _ in 0..WANTED {
            let answer = client.post("/v1/models/affine:predict", r#"{"instances":[[1,0,3,0]]}"#);
            assert_eq!(answer.unwrap().status, 200);
        }
        asked += WANTED;
    }
    assert!(express_runs(&server) >= WANTED, "{} of {asked}", express_runs(&server));
}
