//! One box per tier and test binary: the first test that asks starts it, the end of the process takes it down.
use anyhow::Result;
use tokio::sync::OnceCell;

use crate::cluster::Cluster;
use crate::control_plane::ControlPlane;
use crate::options::ClusterOptions;

/// Set to the name of a box that is up, to spare the start of one while writing tests.
pub const USE_BOX: &str = "TIDEWRIGHT_E2E_USE_BOX";

/// The cluster of this process. `options` counts for the first caller only.
pub async fn shared_cluster(options: impl FnOnce() -> Result<ClusterOptions>) -> Result<&'static Cluster> {
    static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
    CLUSTER
        .get_or_try_init(|| async {
            match named_box() {
                Some(name) => Cluster::attach(&name),
                None => Cluster::start(options()?).await,
            }
        })
        .await
}

/// The control plane of this process. `options` counts for the first caller only.
pub async fn shared_control_plane(options: impl FnOnce() -> Result<ClusterOptions>) -> Result<&'static ControlPlane> {
    static CONTROL_PLANE: OnceCell<ControlPlane> = OnceCell::const_new();
    CONTROL_PLANE
        .get_or_try_init(|| async {
            match named_box() {
                Some(name) => ControlPlane::attach(&name),
                None => ControlPlane::start(options()?).await,
            }
        })
        .await
}

fn named_box() -> Option<String> {
    std::env::var(USE_BOX).ok().filter(|name| !name.is_empty())
}
