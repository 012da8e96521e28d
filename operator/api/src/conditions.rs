//! Condition types and reasons: closed lists, because people and programs match on them.

/// Types of conditions. At rest all of them are positive: True is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConditionType {
    /// The spec is honoured, the model is loaded, and every pool's rollout is complete.
    Ready,
    /// Every pool runs the template of this generation and has the replicas it must have.
    PredictorReady,
    /// The model is loaded by the replicas of this generation.
    ModelLoaded,
    /// The signals that scale are available and a HorizontalPodAutoscaler, or in mode Direct the operator, acts on them.
    ScalingReady,
    /// Every field of the spec is acted on.
    SpecHonoured,
}

impl ConditionType {
    /// The type as it stands in the object.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::PredictorReady => "PredictorReady",
            Self::ModelLoaded => "ModelLoaded",
            Self::ScalingReady => "ScalingReady",
            Self::SpecHonoured => "SpecHonoured",
        }
    }
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident),+ $(,)?) => {
        /// Reasons of conditions and events.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason { $($(#[doc = $doc])+ $name),+ }
        impl Reason {
            /// Every reason.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];
            /// The reason as it stands in the object.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name)),+ }
            }
        }
    };
}

reasons! {
    /// Everything is as it should be.
    Ready,
    /// Not observed yet.
    Pending,
    /// The spec cannot be honoured: the message names the field.
    InvalidSpec,
    /// Every field is acted on.
    Honoured,
    /// Pods of this generation replace older ones.
    RollingOut,
    /// Fewer replicas are ready than must be.
    NotEnoughReplicas,
    /// Replicas take too long to become ready: scaling does not count on them.
    ReplicasStuck,
    /// The scheduler finds no node.
    Unschedulable,
    /// No node has a free GPU of the kind that is asked for.
    GPUUnschedulable,
    /// An image cannot be pulled.
    ImageUnavailable,
    /// A container keeps ending.
    Crashing,
    /// A container ended because it used more memory than its limit.
    OutOfMemory,
    /// A volume cannot be mounted: often a claim that does not exist.
    VolumeUnavailable,
    /// A container cannot be created.
    ContainerNotCreated,
    /// Pods cannot be created: quota, or admission.
    PodsRefused,
    /// The server started and the model does not load.
    ModelLoadFailed,
    /// The model file has another digest than the spec.
    DigestMismatch,
    /// The model is being loaded.
    Loading,
    /// The model is loaded.
    Loaded,
    /// Signals arrive, and a HorizontalPodAutoscaler, or in mode Direct the operator, acts on them.
    Scaling,
    /// A fixed number of replicas: nothing scales.
    FixedReplicas,
    /// Scaling pauses, as asked.
    Paused,
    /// A signal is missing, stale or implausible: nothing is scaled down.
    MetricsUnavailable,
    /// Another program serves the metrics API: request rate, queue depth and External queries cannot be read.
    MetricsApiTaken,
    /// The HorizontalPodAutoscaler cannot act, or in mode Direct the number could not be written: the message says why.
    AutoscalerInactive,
    /// A call to the API server failed.
    ApiError,
    /// Reconciling panicked.
    Panic,
    /// A child of the wanted name belongs to somebody else.
    NotOurs,
}
