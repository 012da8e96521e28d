//! Names of children, deterministic, and the proof that they fit.

/// Longest name of an InferenceService: a DNS label (63) less what the longest child appends.
pub const SERVICE_NAME_CHARS_MAX: usize = 40;
/// Longest name of a pool.
pub const POOL_NAME_CHARS_MAX: usize = 12;
/// Hexadecimal digits of a content hash in a name.
pub const HASH_CHARS: usize = 10;
/// The container that serves, by KServe's name.
pub const SERVER_CONTAINER: &str = "kserve-container";
/// The pool that exists when `spec.pools` is absent.
pub const DEFAULT_POOL: &str = "cpu";

const HEADLESS: &str = "-headless";
// Pods are named `<service>-<pool>-<10 characters>-<5 characters>` by Kubernetes; a Service is a DNS label of 63 characters.
const _: () = assert!(SERVICE_NAME_CHARS_MAX + 1 + POOL_NAME_CHARS_MAX + 1 + HASH_CHARS <= 64);
const _: () = assert!(SERVICE_NAME_CHARS_MAX + HEADLESS.len() <= 63);

/// Deployment and HorizontalPodAutoscaler of a pool.
pub fn pool(service: &str, pool: &str) -> String {
    format!("{service}-{pool}")
}

/// ConfigMap with a pool's server configuration; `hash` is that of its content.
pub fn config(service: &str, pool: &str, hash: &str) -> String {
    format!("{service}-{pool}-{hash}")
}

/// Service that resolves to each pod.
pub fn headless(service: &str) -> String {
    format!("{service}{HEADLESS}")
}
