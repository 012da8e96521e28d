//! The autoscalers that ours is compared with, from their sources: Kubernetes' HPA, KEDA, and Knative's KPA.
//!
//! Every one is a function of values: the time is an argument (nanoseconds since an epoch that the caller chooses), there is no randomness, and what
//! an autoscaler remembers from one step to the next is a struct that the caller owns. Nothing here knows the simulator.
//!
//! | module | what | source, version |
//! |---|---|---|
//! | [`hpa`] | `autoscaling/v2` controller | kubernetes/kubernetes v1.37.2, `pkg/controller/podautoscaler` |
//! | [`keda`] | scale loop, Prometheus scaler, fallback | kedacore/keda main at 8b4f083c (2026-08-20), the state that becomes 2.21 |
//! | [`kpa`] | autoscaler, metric windows, scale to zero | knative/serving main at 98e5ef90 (2026-08-21), after 1.23.0 |
//!
//! Integer arithmetic, truncation and overflow are those of the sources as compiled for amd64 ([`go`]).

pub mod go;
pub mod hpa;
pub mod keda;
pub mod kpa;
