//! Flags above the file, and what is said of wrong ones.

use super::*;

fn parse(arguments: &[&str]) -> ServeArgs {
    match Args::try_parse_from([&["inference-server", "serve"], arguments].concat())
        .unwrap()
        .command
    {
        Command::Serve(args) => *args,
        other => panic!("unexpected {other:?}"),
    }
}

#[test]
fn the_command_line_is_consistent() {
    Args::command().debug_assert();
}

#[test]
fn flags_stand_above_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("server.json");
    fs::write(
        &file,
        r#"{"models":[{"name":"a","path":"/a"}],"limits":{"timeoutSeconds":7,"queueCapacity":5}}"#,
    )
    .unwrap();
    let file = file.to_str().unwrap();
    let config = parse(&[
        "--config",
        file,
        "--model",
        "b=/b",
        "--model",
        "c=/c",
        "--timeout-seconds",
        "9",
        "--providers",
        "cuda,cpu",
    ])
    .config()
    .unwrap();
    assert_eq!(
        config.models,
        [ModelConfig::new("b", "/b"), ModelConfig::new("c", "/c")]
    );
    assert_eq!((config.limits.timeout_seconds, config.limits.queue_capacity), (9, 5));
    assert_eq!(
        config.execution.providers,
        [ExecutionProvider::Cuda, ExecutionProvider::Cpu]
    );
    assert!(config.cache.memory.is_none() && config.cache.redis.is_none());
    let cached = parse(&["--config", file, "--cache-bytes", "4096", "--redis", "redis://r"])
        .config()
        .unwrap();
    assert_eq!(cached.cache.memory.unwrap().max_bytes, 4096);
    assert_eq!(cached.cache.redis.unwrap().url.as_deref(), Some("redis://r"));
}

#[test]
fn models_of_a_directory_and_the_policy_have_flags() {
    let config = parse(&[
        "--repository-directory",
        "/models",
        "--loaded-bytes-max",
        "7",
        "--batcher-policy",
        "fixedDelay",
    ])
    .config()
    .unwrap();
    let repository = &config.repository;
    assert_eq!((repository.enabled, repository.loaded_bytes_max), (false, 7));
    assert_eq!(repository.directory.as_deref(), Some(Path::new("/models")));
    assert_eq!(config.batcher.policy(), BatchingPolicy::FixedDelay);
    let config = parse(&["--model", "a=/a", "--repository", "true"]).config().unwrap();
    assert!(config.repository.enabled);
    assert_eq!(config.batcher.policy(), BatchingPolicy::Adaptive);
    let delayed = parse(&["--model", "a=/a", "--max-latency-millis", "5"])
        .config()
        .unwrap();
    assert_eq!(
        delayed.batcher.policy(),
        BatchingPolicy::FixedDelay,
        "who asks for a delay gets it"
    );
    assert!(
        Args::try_parse_from([
            "inference-server",
            "serve",
            "--model",
            "a=/a",
            "--batcher-policy",
            "other"
        ])
        .is_err()
    );
}

#[test]
fn how_sessions_run_has_flags() {
    let config = parse(&["--model", "a=/a"]).config().unwrap();
    let execution = &config.execution;
    assert_eq!(
        (execution.spinning, execution.graph_optimization),
        (false, GraphOptimization::All)
    );
    let config = parse(&["--model", "a=/a", "--spinning", "true", "--graph-optimization", "basic"])
        .config()
        .unwrap();
    let execution = &config.execution;
    assert_eq!(
        (execution.spinning, execution.graph_optimization),
        (true, GraphOptimization::Basic)
    );
    let wrong = [
        "inference-server",
        "serve",
        "--model",
        "a=/a",
        "--graph-optimization",
        "layout",
    ];
    let error = Args::try_parse_from(wrong).unwrap_err().to_string();
    assert!(error.contains("expected disabled, basic, extended or all"), "{error}");
}

#[test]
fn what_is_wrong_is_said_in_full() {
    assert!(parse(&[]).config().unwrap_err().contains("nothing to serve"));
    assert!(
        parse(&["--config", "/nowhere/x.json"])
            .config()
            .unwrap_err()
            .starts_with("cannot read /nowhere/x.json")
    );
    let error = parse(&["--model", "a=/a", "--max-batch-size", "0", "--timeout-seconds", "0"])
        .config()
        .unwrap_err();
    assert_eq!(error.lines().count(), 3, "{error}");
    assert!(Args::try_parse_from(["inference-server", "serve", "--model", "nonsense"]).is_err());
}
