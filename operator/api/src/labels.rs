//! Label and annotation keys, and the field managers' names.

/// Whose child an object is: the service's name.
pub const SERVICE: &str = "serving.tidewright.dev/inferenceservice";
/// Which pool an object belongs to.
pub const POOL: &str = "serving.tidewright.dev/pool";
/// Kubernetes' own key for the managing program.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Kubernetes' own key for the application's name.
pub const APP_NAME: &str = "app.kubernetes.io/name";
/// Value of [`MANAGED_BY`].
pub const MANAGER: &str = "tidewright";
/// KServe's label on pods, kept so that existing selectors and dashboards go on working.
pub const KSERVE_SERVICE: &str = "serving.kserve.io/inferenceservice";
/// KServe's component label on pods.
pub const KSERVE_COMPONENT: &str = "component";
/// KServe's component value: there is only a predictor.
pub const PREDICTOR: &str = "predictor";
/// Hash of the object as the operator wrote it: equal hash, no write.
pub const APPLIED_HASH: &str = "serving.tidewright.dev/applied-hash";
/// Who writes a Deployment's `spec.replicas`: [`REPLICAS_FIXED`] or [`REPLICAS_AUTOSCALED`].
pub const REPLICAS_WRITER: &str = "serving.tidewright.dev/replicas";
/// The operator writes it: a fixed number was asked for.
pub const REPLICAS_FIXED: &str = "fixed";
/// An autoscaler writes it: a HorizontalPodAutoscaler, or the operator's own through the scale subresource. The reconcile never does.
pub const REPLICAS_AUTOSCALED: &str = "autoscaled";
/// Kubernetes' own key: of the ready pods of a ReplicaSet those of the lowest cost are removed first. None is 0.
pub const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// Field manager of everything that the reconcile applies.
pub const FIELD_MANAGER: &str = "tidewright";
/// Field manager of the status.
pub const STATUS_MANAGER: &str = "tidewright-status";
/// Field manager of the operator's own autoscaler (mode Direct), which writes `spec.replicas` through the scale subresource and nothing else.
pub const SCALE_MANAGER: &str = "tidewright-scale";
/// Field manager of [`DELETION_COST`] on pods: of somebody else's value it takes nothing.
pub const DELETION_COST_MANAGER: &str = "tidewright-deletion-cost";
/// Holds `spec.replicas` for the moment between a fixed number and a HorizontalPodAutoscaler, so that dropping our claim does not reset it to 1.
pub const HANDOVER_MANAGER: &str = "tidewright-handover";

/// What KServe's labels and annotations begin with.
pub const KSERVE_PREFIX: &str = "serving.kserve.io/";
/// Prefixes that users may not set in `spec.predictor.labels` and `annotations`: they are ours or Kubernetes'.
pub const RESERVED_PREFIXES: [&str; 4] = [
    "serving.tidewright.dev/",
    KSERVE_PREFIX,
    "app.kubernetes.io/",
    "prometheus.io/",
];
