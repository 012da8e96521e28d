//! The same slice on two services at once, one scaled by the operator and one by the HorizontalPodAutoscaler, while things go wrong.
use anyhow::{Context as _, Result};
use serde::Serialize;

use super::capacity::Capacity;
use super::chaos::plan;
use super::ground::{Ground, Scaler, slow};
use super::replayed::{self, Part, Replayed};
use super::simulator::Slice;
use crate::console::progress;
use crate::namespace::TestNamespace;

pub(super) const DIRECT: &str = "direct";
pub(super) const HPA: &str = "hpa";

/// Both, in this order.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Race {
    pub(super) slice: Slice,
    pub(super) replayed: Replayed,
}

impl Race {
    /// One number of both: the operator's, and the pod autoscaler's.
    pub(super) fn of_both(&self, value: impl Fn(&super::score::Score) -> f64) -> Option<(f64, f64)> {
        let [direct, hpa] = self.replayed.courses.as_slice() else {
            return None;
        };
        Some((value(&direct.score), value(&hpa.score)))
    }
}

pub(super) async fn run(
    ground: &Ground,
    namespace: &TestNamespace,
    slices: &[Slice],
    capacity: &Capacity,
    seed: u64,
) -> Result<Race> {
    let slice = slices.first().context("no slice")?;
    progress(format_args!("chaos: {}", slice.about()));
    ground.publish(namespace).await?;
    let part = |name: &str, scaler| Part {
        service: slow(namespace, name, Some(scaler)),
        slice: &slice.fitted,
    };
    let parts = [part(DIRECT, Scaler::Direct(capacity)), part(HPA, Scaler::Hpa(capacity))];
    let troubles = plan(slice.fitted.seconds, seed);
    let replayed = replayed::run(namespace, &parts, capacity, &troubles).await?;
    Ok(Race {
        slice: slice.clone(),
        replayed,
    })
}
