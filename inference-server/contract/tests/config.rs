//! The config file: what the operator writes is what the server reads, goldens included, and every problem is named with its path.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use proptest::prelude::*;
use tidewright_contract::config::{
    CacheConfig, ExecutionProvider, GraphOptimization, LogFormat, MemoryCacheConfig, ModelConfig, RedisCacheConfig,
    ServeConfig, TlsConfig, TracingConfig,
};

fn small() -> ServeConfig {
    ServeConfig::new(vec![ModelConfig::new("digits", "/mnt/models/digits.onnx")])
}

fn problems(config: &ServeConfig) -> Vec<String> {
    config
        .validate()
        .err()
        .unwrap_or_default()
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn the_shortest_file_has_a_default_for_everything() {
    let parsed: ServeConfig =
        serde_json::from_str(r#"{"models":[{"name":"digits","path":"/mnt/models/digits.onnx"}]}"#).unwrap();
    assert_eq!(parsed, small());
    assert_eq!(problems(&parsed), Vec::<String>::new());
    assert_eq!(parsed.http.address.port(), 8080);
    assert_eq!(parsed.admin.address.port(), 8081);
    assert_eq!(parsed.grpc.address.port(), 9000);
    // A server from before there was gRPC reads what is written for it, unless another port is wanted.
    assert!(!serde_json::to_string(&parsed).unwrap().contains("grpc"));
}

#[test]
fn no_two_ports_share_an_address() {
    let mut config = small();
    config.grpc.address = config.admin.address;
    assert_eq!(problems(&config), ["admin.address: must differ from grpc.address"]);
    config.grpc.address = config.http.address;
    assert_eq!(problems(&config), ["grpc.address: must differ from http.address"]);
    config.grpc.address.set_port(0);
    config.http.address.set_port(0);
    assert_eq!(problems(&config), Vec::<String>::new(), "port 0 is always another one");
}

#[test]
fn golden_of_the_file_the_operator_writes() {
    let golden = include_str!("goldens/serve.json");
    let parsed: ServeConfig = serde_json::from_str(golden).unwrap();
    assert_eq!(problems(&parsed), Vec::<String>::new());

    let mut expected = small();
    expected.models[0].digest = Some(format!("sha256:{}", "0f".repeat(32)));
    expected.models[0].version = "3".to_owned();
    expected.batcher.max_batch_size = 16;
    expected.batcher.max_latency_millis = 5;
    expected.limits.max_concurrency = 200;
    expected.limits.timeout_seconds = 30;
    expected.cache = CacheConfig {
        memory: Some(MemoryCacheConfig {
            max_bytes: 1 << 20,
            ttl_seconds: 60,
        }),
        redis: Some(RedisCacheConfig {
            url: Some("redis://127.0.0.1:6379".to_owned()),
            url_file: None,
            ttl_seconds: 600,
            timeout_millis: 20,
        }),
    };
    expected.execution.providers = vec![
        ExecutionProvider::Tensorrt,
        ExecutionProvider::Cuda,
        ExecutionProvider::Cpu,
    ];
    expected.drain.grace_seconds = 5;
    expected.drain.timeout_seconds = 25;
    expected.log.format = LogFormat::Json;
    assert_eq!(parsed, expected);
    assert_eq!(serde_json::to_string_pretty(&expected).unwrap(), golden.trim_end());
    assert_eq!(expected.termination_seconds(), 30);
}

#[test]
fn tls_is_two_files_or_none() {
    assert!(!serde_json::to_string(&small()).unwrap().contains("tls"));
    let mut config = small();
    config.tls = Some(TlsConfig {
        certificate: "/tls/tls.crt".into(),
        key: "/tls/tls.key".into(),
    });
    let text = serde_json::to_string(&config).unwrap();
    assert!(
        text.contains(r#""tls":{"certificate":"/tls/tls.crt","key":"/tls/tls.key"}"#),
        "{text}"
    );
    assert_eq!(serde_json::from_str::<ServeConfig>(&text).unwrap(), config);
    assert!(problems(&config).is_empty());
    config.tls = Some(TlsConfig::default());
    assert_eq!(
        problems(&config),
        ["tls.certificate: must name a file", "tls.key: must name a file"]
    );
}

#[test]
fn traces_and_profiles_are_off_unless_asked_for() {
    let text = serde_json::to_string(&small()).unwrap();
    assert!(!text.contains("tracing") && !text.contains("profiling"), "{text}");
    let mut config = small();
    config.admin.profiling = true;
    config.tracing = Some(TracingConfig::to("http://collector:4317"));
    let text = serde_json::to_string(&config).unwrap();
    assert!(
        text.contains(r#""tracing":{"endpoint":"http://collector:4317","oneIn":1}"#),
        "{text}"
    );
    assert!(
        text.contains(r#""admin":{"address":"0.0.0.0:8081","profiling":true}"#),
        "{text}"
    );
    assert_eq!(serde_json::from_str::<ServeConfig>(&text).unwrap(), config);
    assert!(problems(&config).is_empty());
    for wrong in [
        "",
        "collector:4317",
        "https://collector:4317",
        "http://",
        "http://collector:4318/v1/traces",
    ] {
        config.tracing = Some(TracingConfig::to(wrong));
        assert_eq!(
            problems(&config),
            ["tracing.endpoint: must be http://HOST:PORT of an OTLP receiver for gRPC (port 4317, not 4318)"],
            "{wrong}"
        );
    }
}

#[test]
fn how_sessions_run_is_written_only_when_it_is_unusual() {
    let text = serde_json::to_string(&small()).unwrap();
    assert!(
        !text.contains("spinning") && !text.contains("graphOptimization"),
        "{text}"
    );
    let mut config = small();
    config.execution.spinning = true;
    for level in GraphOptimization::ALL {
        config.execution.graph_optimization = level;
        let text = serde_json::to_string(&config).unwrap();
        assert!(text.contains(r#""spinning":true"#), "{text}");
        let written = format!(r#""graphOptimization":"{}""#, level.as_str());
        assert_eq!(text.contains(&written), level != GraphOptimization::All, "{text}");
        assert_eq!(serde_json::from_str::<ServeConfig>(&text).unwrap(), config);
    }
    let wrong = r#"{"models":[],"execution":{"graphOptimization":"layout"}}"#;
    let error = serde_json::from_str::<ServeConfig>(wrong).unwrap_err().to_string();
    assert!(
        error.contains("expected one of `disabled`, `basic`, `extended`, `all`"),
        "{error}"
    );
}

#[test]
fn what_is_loaded_where_is_written_only_when_it_is_unusual() {
    let text = serde_json::to_string(&small()).unwrap();
    assert!(
        !text.contains("loadInChild") && !text.contains("optimizedModelCache"),
        "{text}"
    );
    let mut config = small();
    config.execution.load_in_child = false;
    config.execution.optimized_model_cache = Some("/var/cache/models".into());
    config.execution.optimized_model_cache_bytes_max = 1 << 30;
    let text = serde_json::to_string(&config).unwrap();
    assert!(
        text.contains(
            r#""loadInChild":false,"optimizedModelCache":"/var/cache/models","optimizedModelCacheBytesMax":1073741824"#
        ),
        "{text}"
    );
    assert_eq!(serde_json::from_str::<ServeConfig>(&text).unwrap(), config);
    config.execution.optimized_model_cache = Some("".into());
    config.execution.optimized_model_cache_bytes_max = 0;
    assert_eq!(
        problems(&config),
        [
            "execution.optimizedModelCache: must not be empty",
            "execution.optimizedModelCacheBytesMax: must be between 1048576 and 1099511627776, is 0",
        ]
    );
}

#[test]
fn sizes_to_warm_up_with_are_few_within_bounds_and_named_once() {
    assert!(!serde_json::to_string(&small()).unwrap().contains("warmupSizes"));
    let mut config = small();
    config.models[0].warmup_sizes = vec![16, 128];
    let text = serde_json::to_string(&config).unwrap();
    assert!(text.contains(r#""warmupSizes":[16,128]"#), "{text}");
    assert_eq!(serde_json::from_str::<ServeConfig>(&text).unwrap(), config);
    assert!(problems(&config).is_empty());
    config.models[0].warmup_sizes = vec![0, 65_536, 65_537, 8, 8];
    assert_eq!(
        problems(&config),
        [
            "models[0].warmupSizes[0]: must be between 1 and 65536, is 0",
            "models[0].warmupSizes[2]: must be between 1 and 65536, is 65537",
            "models[0].warmupSizes[4]: 8 is there twice",
        ]
    );
    config.models[0].warmup_sizes = (1..=17).collect();
    assert_eq!(
        problems(&config),
        ["models[0].warmupSizes: must have at most 16 sizes, has 17"]
    );
}

#[test]
fn an_unknown_field_is_refused_by_name_at_every_level() {
    for text in [
        r#"{"models":[],"batching":{}}"#,
        r#"{"models":[{"name":"a","path":"/a","batching":1}]}"#,
        r#"{"models":[],"batcher":{"batching":1}}"#,
        r#"{"models":[],"cache":{"memory":{"batching":1}}}"#,
        r#"{"models":[],"execution":{"batching":["cpu"]}}"#,
    ] {
        let error = serde_json::from_str::<ServeConfig>(text).unwrap_err().to_string();
        assert!(error.contains("unknown field `batching`"), "{text}: {error}");
    }
}

#[test]
fn all_problems_are_reported_at_once() {
    let mut config = small();
    config.models.push(ModelConfig {
        name: "digits".to_owned(),
        digest: Some("md5:1".to_owned()),
        ..ModelConfig::new("", "")
    });
    config.models.push(ModelConfig::new("../etc", "/x"));
    config.admin.address = config.http.address;
    config.batcher.max_batch_size = 0;
    config.limits.timeout_seconds = 1;
    config.batcher.max_latency_millis = 1000;
    config.execution.providers = vec![ExecutionProvider::Cuda, ExecutionProvider::Cuda];
    config.cache.redis = Some(RedisCacheConfig {
        url: Some("http://user:secret@redis".to_owned()),
        url_file: None,
        ttl_seconds: 0,
        timeout_millis: 50,
    });
    assert_eq!(
        problems(&config),
        [
            "models[1].name: \"digits\" is used twice in version \"1\"",
            "models[1].path: must not be empty",
            "models[1].digest: must be \"sha256:\" and 64 lower-case hex digits",
            "models[2].name: must be 1 to 253 of A-Z a-z 0-9 . _ - and start with a letter or digit",
            "admin.address: must differ from http.address",
            "batcher.maxBatchSize: must be between 1 and 4096, is 0",
            "batcher.maxLatencyMillis: must be less than limits.timeoutSeconds",
            "cache.redis.url: must start with redis:// or with a variable ${NAME}",
            "cache.redis.ttlSeconds: must be between 1 and 2592000, is 0",
            "execution.providers[1]: cuda is named twice",
        ]
    );
}

#[test]
fn a_password_in_the_redis_url_is_never_shown() {
    let redis = RedisCacheConfig {
        url: Some("redis://user:hunter2@redis:6379".to_owned()),
        url_file: None,
        ttl_seconds: 1,
        timeout_millis: 1,
    };
    let mut config = small();
    config.cache.redis = Some(redis);
    assert!(!format!("{config:?}").contains("hunter2"));
}

proptest! {
    #[test]
    fn what_is_written_is_what_is_read(
        batch in 1u32..=4096, latency in 0u32..1000, queue in 1u32..=1_000_000, concurrency in 0u32..1000,
        timeout in 1u32..=3600, body in 1024u64..(1 << 32), memory in proptest::option::of((1024u64..(1 << 30), 1u32..86_400)),
        workers in 0u32..=256, grace in 0u32..=600, objective in 0u32..=3_600_000,
    ) {
        let mut config = small();
        config.batcher.max_batch_size = batch;
        config.batcher.max_latency_millis = latency;
        config.limits.queue_capacity = queue;
        config.limits.max_concurrency = concurrency;
        config.limits.timeout_seconds = timeout;
        config.limits.latency_objective_millis = objective;
        config.limits.body_bytes_max = body;
        config.cache.memory = memory.map(|(max_bytes, ttl_seconds)| MemoryCacheConfig { max_bytes, ttl_seconds });
        config.execution.workers = workers;
        config.drain.grace_seconds = grace;
        prop_assert_eq!(problems(&config), Vec::<String>::new());
        let text = serde_json::to_string(&config).unwrap();
        prop_assert_eq!(serde_json::from_str::<ServeConfig>(&text).unwrap(), config);
    }
}
