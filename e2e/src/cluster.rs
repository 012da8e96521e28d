//! The second tier: the control plane, and one node on which containers run and services answer.
use std::ops::Deref;
use std::time::Duration;

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client};

use crate::clock::Stopwatch;
use crate::console::progress;
use crate::control_plane::{ControlPlane, prepare};
use crate::images::Built;
use crate::options::ClusterOptions;
use crate::wait::{Seen, await_condition};
use crate::{addons, images, node, node_template, packages};

/// A cluster of one node. Everything that a control plane offers is there too.
#[derive(Debug)]
pub struct Cluster {
    control_plane: ControlPlane,
}

impl Deref for Cluster {
    type Target = ControlPlane;

    fn deref(&self) -> &ControlPlane {
        &self.control_plane
    }
}

impl Cluster {
    /// Builds what is missing, then starts. Ends when the value is dropped.
    pub async fn start(options: ClusterOptions) -> Result<Self> {
        let binaries = prepare(&[packages::CONTROL_PLANE, packages::NODE, packages::IMAGES]).await?;
        let mut recipes = vec![images::pause()?];
        recipes.extend(options.images.iter().cloned());
        let built = tokio::task::spawn_blocking(move || images::build(&recipes)).await??;
        let mut control_plane = ControlPlane::create(&options, binaries).await?;
        let target = control_plane.dir().join("containerd");
        control_plane.ready_after += node_template::clone_into(&target, &built, control_plane.binaries()).await?;
        let watch = Stopwatch::start();
        // containerd needs nobody else: it starts while the API server does.
        let snapshotter = node::snapshotter(control_plane.dir());
        control_plane.run("containerd", node::containerd(&control_plane, snapshotter)?, &options)?;
        control_plane.start_programs(&options).await?;
        start_node(&control_plane, &options).await?;
        control_plane.ready_after += watch.elapsed();
        Ok(Self { control_plane })
    }

    /// Puts images on the node that it does not have yet. Blocks for about a second per 100 MB.
    pub fn import(&self, built: &[Built]) -> Result<()> {
        let watch = Stopwatch::start();
        let new = images::import(&self.control_plane, built)?;
        if new > 0 {
            progress(format_args!("imported {new} image(s) in {:.1} s", watch.seconds()));
        }
        Ok(())
    }

    /// A box that another process has started.
    pub fn attach(name: &str) -> Result<Self> {
        Ok(Self {
            control_plane: ControlPlane::attach(name)?,
        })
    }

    pub fn into_control_plane(self) -> ControlPlane {
        self.control_plane
    }
}

async fn start_node(control_plane: &ControlPlane, options: &ClusterOptions) -> Result<()> {
    control_plane.run("kubelet", node::kubelet(control_plane, options)?, options)?;
    control_plane.run("kube-scheduler", node::scheduler(control_plane)?, options)?;
    control_plane.run("kube-proxy", node::kube_proxy(control_plane)?, options)?;
    let addons = addons::objects(control_plane.network(), &control_plane.pki()?.authority());
    control_plane.apply(&addons).await.context("installing the add-ons")?;
    control_plane.run("coredns", addons::coredns(control_plane)?, options)?;
    control_plane.run(
        "metrics-server",
        addons::metrics_server(control_plane, options)?,
        options,
    )?;
    await_node(control_plane.client().await?, &node::name(control_plane))
        .await
        .with_context(|| {
            format!(
                "{}\n{}",
                control_plane.log_tail("kubelet"),
                control_plane.log_tail("containerd")
            )
        })
}

async fn await_node(client: Client, name: &str) -> Result<()> {
    let nodes: Api<Node> = Api::all(client);
    await_condition("the node to be Ready", Duration::from_secs(90), || async {
        let Some(node) = nodes.get_opt(name).await? else {
            return Ok(Seen::not_yet("no node"));
        };
        let conditions = node.status.and_then(|status| status.conditions).unwrap_or_default();
        Ok(match conditions.iter().find(|condition| condition.type_ == "Ready") {
            Some(ready) if ready.status == "True" => Seen::Done(()),
            Some(ready) => Seen::not_yet(ready.message.as_deref().unwrap_or("not ready")),
            None => Seen::not_yet("a node without conditions"),
        })
    })
    .await
}
