//! What the operator was started with, as far as it shows in what it builds.

/// Images and times of the pods that the operator builds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodSettings {
    /// Image of the inference server.
    pub server_image: String,
    /// Image of Redis.
    pub redis_image: String,
    /// `IfNotPresent`, `Always` or `Never`.
    pub image_pull_policy: String,
    /// Seconds for which a server that is told to end still takes requests: until every node has taken it out of its Services.
    pub drain_grace_seconds: u32,
    /// Namespace of Prometheus: whoever scrapes the servers may reach their admin port. Every namespace, if there is none.
    pub monitoring_namespace: Option<String>,
    /// Namespace of the operator, where it asks the servers what they do: it may reach their admin port too.
    pub asking_namespace: Option<String>,
}
