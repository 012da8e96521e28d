//! CEL rules of the CRD: what a schema's types and bounds cannot say. The API server refuses an object that breaks one, with its message.

/// One rule, and where in the schema it stands.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// Path of properties from the root; `[]` steps into the items of a list.
    pub path: &'static str,
    /// The CEL expression; `self` is the value at `path`.
    pub rule: &'static str,
    /// What the user reads.
    pub message: &'static str,
}

const fn rule(path: &'static str, rule: &'static str, message: &'static str) -> Rule {
    Rule { path, rule, message }
}

/// Every rule.
pub const RULES: &[Rule] = &[
    rule(
        "",
        "size(self.metadata.name) <= 40",
        "metadata.name must have at most 40 characters: names of children are built from it",
    ),
    rule(
        "",
        "self.metadata.name.matches('^[a-z]([a-z0-9-]*[a-z0-9])?$')",
        "metadata.name must be a DNS label that starts with a letter: it becomes the name of a Service",
    ),
    rule(
        "spec.predictor",
        "self.minReplicas <= self.maxReplicas",
        "minReplicas must not be greater than maxReplicas",
    ),
    rule(
        "spec.predictor",
        "!has(self.batcher) || self.batcher.maxLatency < self.timeout * 1000",
        "batcher.maxLatency (milliseconds) must be less than timeout (seconds): a request would be given up while its batch fills",
    ),
    rule(
        "spec.predictor.model.storageUri",
        "self.startsWith('pvc://') || self.startsWith('file:///')",
        "storageUri must start with pvc:// (pvc://CLAIM/PATH) or file:/// (a file in the server's image); other stores are not supported yet",
    ),
    rule(
        "spec.predictor.model.storageUri",
        "self.matches('^(pvc://[a-z0-9]([a-z0-9.-]*[a-z0-9])?|file://)(/[A-Za-z0-9_][A-Za-z0-9._-]*)+$')",
        "storageUri must name a file by plain path segments (letters, digits, '.', '_', '-'; no segment starts with a dot)",
    ),
    rule(
        "spec",
        "!has(self.pools) || self.pools.all(p, self.pools.exists_one(q, q.name == p.name))",
        "pool names must be unique",
    ),
    rule(
        "spec",
        "!has(self.pools) || self.pools.all(p, (has(p.minReplicas) ? p.minReplicas : self.predictor.minReplicas) <= (has(p.maxReplicas) ? p.maxReplicas : self.predictor.maxReplicas))",
        "in every pool minReplicas must not be greater than maxReplicas (where a pool names none, the predictor's count)",
    ),
    rule(
        "spec.predictor.model.modelFormat.name",
        "self == oldSelf",
        "modelFormat is immutable: create a new InferenceService for another format",
    ),
    rule(
        "spec.predictor.autoScaling",
        "!has(self.slo) || self.mode != 'Hpa'",
        "slo belongs to the modes Advise and Direct: a HorizontalPodAutoscaler scales by amounts per replica",
    ),
    rule(
        "spec.predictor.autoScaling",
        "!self.paused || !has(self.pausedUntil)",
        "name either paused or pausedUntil: a pause with an end ends by itself",
    ),
    rule(
        "spec.predictor.autoScaling",
        "!has(self.behavior) || self.mode != 'Direct'",
        "behavior belongs to the HorizontalPodAutoscalers of the modes Hpa and Advise",
    ),
    rule(
        "spec.predictor.autoScaling",
        "self.mode != 'Direct' || !has(self.metrics) || self.metrics.all(m, (!has(m.target) || m.target.type == 'AverageValue') && (!has(m.external) || m.external.target.type == 'AverageValue'))",
        "mode Direct scales by RequestRate, QueueDepth, Concurrency and External with target.type AverageValue",
    ),
    rule(
        "spec.predictor.autoScaling.metrics[]",
        "self.type != 'Resource' || has(self.resource)",
        "a metric of type Resource needs `resource`",
    ),
    rule(
        "spec.predictor.autoScaling.metrics[]",
        "self.type == 'Resource' || !has(self.resource)",
        "`resource` belongs to type Resource only",
    ),
    rule(
        "spec.predictor.autoScaling.metrics[]",
        "self.type != 'External' || has(self.external)",
        "a metric of type External needs `external`",
    ),
    rule(
        "spec.predictor.autoScaling.metrics[]",
        "self.type == 'External' || !has(self.external)",
        "`external` belongs to type External only",
    ),
    rule(
        "spec.predictor.autoScaling.metrics[]",
        "self.type in ['RequestRate', 'QueueDepth', 'Concurrency'] ? has(self.target) : !has(self.target)",
        "`target` belongs to the types RequestRate, QueueDepth and Concurrency, which need it",
    ),
    rule(
        "spec.predictor.autoScaling.metrics[]",
        "!has(self.target) || self.target.type != 'Utilization'",
        "RequestRate, QueueDepth and Concurrency have no utilisation: target.type must be AverageValue or Value",
    ),
    rule(
        "spec.predictor.autoScaling.metrics[].resource",
        "self.target.type != 'Value'",
        "target.type of a resource must be Utilization or AverageValue",
    ),
    rule(
        "spec.predictor.autoScaling.metrics[].external",
        "has(self.metric.query)",
        "a metric of type External needs external.metric.query",
    ),
    rule(
        "spec.predictor.autoScaling.metrics[].external",
        "self.target.type != 'Utilization'",
        "an External metric has no utilisation: target.type must be AverageValue or Value",
    ),
    rule(
        "spec.predictor.autoScaling.metrics",
        "self.all(m, m.type != 'External' || !has(m.external) || !has(m.external.metric.name) || self.exists_one(n, has(n.external) && has(n.external.metric.name) && n.external.metric.name == m.external.metric.name))",
        "names of External metrics must be unique",
    ),
    rule(
        "spec.predictor.autoScaling.metrics",
        "self.all(m, m.type == 'External' || self.exists_one(n, n.type == m.type && (m.type != 'Resource' || (has(m.resource) && has(n.resource) && n.resource.name == m.resource.name))))",
        "each signal may be named once",
    ),
    rule(
        "spec.cache.redis",
        "self.mode == 'External' ? has(self.url) : !has(self.url)",
        "`url` belongs to mode External, which needs it",
    ),
    rule(
        "spec.cache.redis",
        "self.mode == 'Sidecar' || !has(self.maxMemory)",
        "`maxMemory` belongs to mode Sidecar: the memory of an External Redis is its owner's",
    ),
    rule(
        "spec.predictor.labels",
        "self.all(k, k.matches('^([a-z0-9]([a-z0-9.-]*[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$'))",
        "labels must have keys as Kubernetes writes them: NAME or DOMAIN/NAME, a NAME of at most 63 letters, digits, '-', '_' and '.'",
    ),
    rule(
        "spec.predictor.annotations",
        "self.all(k, k.matches('^([a-z0-9]([a-z0-9.-]*[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$'))",
        "annotations must have keys as Kubernetes writes them: NAME or DOMAIN/NAME, a NAME of at most 63 letters, digits, '-', '_' and '.'",
    ),
    rule(
        "spec.predictor",
        "!has(self.labels) || self.labels.all(k, !(k.startsWith('serving.tidewright.dev/') || k.startsWith('serving.kserve.io/') || k.startsWith('app.kubernetes.io/') || k == 'component' || k == 'pod-template-hash'))",
        "labels must not use the keys that the operator sets itself",
    ),
    rule(
        "spec.predictor",
        "!has(self.annotations) || self.annotations.all(k, !(k.startsWith('serving.tidewright.dev/') || k.startsWith('prometheus.io/')))",
        "annotations must not use the keys that the operator sets itself",
    ),
];

/// Rule of every [`crate::scaling::MetricTarget`], wherever it stands.
pub const TARGET_RULE: Rule = rule(
    "",
    "self.type == 'Utilization' ? (has(self.averageUtilization) && !has(self.averageValue) && !has(self.value)) : self.type == 'AverageValue' ? (has(self.averageValue) && !has(self.averageUtilization) && !has(self.value)) : (has(self.value) && !has(self.averageUtilization) && !has(self.averageValue))",
    "target needs exactly the number that its type names: averageUtilization, averageValue or value",
);

/// Where a [`crate::scaling::MetricTarget`] stands.
pub const TARGET_PATHS: [&str; 3] = [
    "spec.predictor.autoScaling.metrics[].target",
    "spec.predictor.autoScaling.metrics[].resource.target",
    "spec.predictor.autoScaling.metrics[].external.target",
];
