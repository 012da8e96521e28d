//! Where the demo plays: a box of its own, a box that is up, or a cluster that the user has named, which it must find without any of this and leaves so.
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::core::v1::{Namespace, Node, Service};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::ListParams;
use kube::{Api, Client};
use serde_json::json;
use tokio::net::TcpStream;

use super::{NAMESPACE, SERVICE};
use crate::access::{Access, USE_EXISTING};
use crate::cluster::Cluster;
use crate::console::{progress, result};
use crate::dump::OPERATOR_NAMESPACE;
use crate::fixtures::{self, PROMETHEUS_URL};
use crate::models::Classifier;
use crate::namespace::keep;
use crate::wait::{Seen, await_condition};
use crate::{images, install, paths, storage};

/// Namespace of the Prometheus of e2e/manifests.
const MONITORING: &str = "monitoring";
const NAMESPACES: [&str; 3] = [NAMESPACE, MONITORING, OPERATOR_NAMESPACE];
/// The claim of examples/demo.yaml.
const CLAIM: &str = "models";
const DEFINITION: &str = "inferenceservices.serving.tidewright.dev";
const METRICS_APIS: [&str; 2] = ["v1beta1.custom.metrics.k8s.io", "v1beta2.custom.metrics.k8s.io"];
/// Until the proxy of a node knows a port.
const PORT_TIMEOUT: Duration = Duration::from_secs(30);
const READY_TIMEOUT: Duration = Duration::from_mins(3);
/// A volume has to be made, and an image to be pulled.
const WRITER_TIMEOUT: &str = "--timeout=3m";

/// A cluster, and how to reach into it.
#[derive(Debug)]
pub enum Ground {
    /// Started for the demo, and ended with it.
    Own(Cluster),
    /// A box that somebody else has started and will end.
    Up(Cluster),
    /// Any cluster, named by [`USE_EXISTING`].
    Existing(Existing),
}

/// A cluster of the user's.
#[derive(Debug)]
pub struct Existing {
    access: Access,
    images: Images,
}

/// Images that the nodes of an existing cluster can pull.
#[derive(Debug, Clone)]
pub struct Images {
    pub operator: String,
    pub server: String,
    /// Of e2e/images/prometheus.
    pub prometheus: String,
}

impl Images {
    /// As the environment names them.
    fn from_environment() -> Result<Self> {
        let named = |variable: &str| {
            let value = std::env::var(variable).ok().filter(|value| !value.is_empty());
            value.with_context(|| {
                format!("{USE_EXISTING} is set: {variable} must name an image that its nodes can pull")
            })
        };
        Ok(Self {
            operator: named("TIDEWRIGHT_IMAGES_OPERATOR")?,
            server: named("TIDEWRIGHT_IMAGES_SERVER")?,
            prometheus: named("TIDEWRIGHT_IMAGES_PROMETHEUS")?,
        })
    }

    /// Those that a box has on its node.
    pub fn of_boxes() -> Self {
        Self {
            operator: images::OPERATOR.to_owned(),
            server: images::INFERENCE_SERVER.to_owned(),
            prometheus: images::PROMETHEUS.to_owned(),
        }
    }
}

impl Deref for Ground {
    type Target = Access;

    fn deref(&self) -> &Access {
        match self {
            Self::Own(cluster) | Self::Up(cluster) => cluster,
            Self::Existing(existing) => &existing.access,
        }
    }
}

impl Ground {
    /// Whether the environment names a cluster.
    pub fn is_named() -> bool {
        std::env::var(USE_EXISTING).is_ok_and(|context| !context.is_empty())
    }

    /// The cluster that the environment names, if it names one.
    pub async fn existing() -> Result<Option<Self>> {
        // A program of ours is fetched or built first, which takes its time.
        let Some(access) = tokio::task::spawn_blocking(Access::to_existing).await?? else {
            return Ok(None);
        };
        Self::on(access, Images::from_environment()?).await.map(Some)
    }

    /// A cluster in which nothing is that the demo would bring, so that it can take all of that away again.
    pub async fn on(access: Access, images: Images) -> Result<Self> {
        let client = access.client().await?;
        let namespaces: Api<Namespace> = Api::all(client.clone());
        for name in NAMESPACES {
            ensure!(
                namespaces.get_opt(name).await?.is_none(),
                "the cluster has a namespace {name} already, and the demo would remove what is in it"
            );
        }
        let definitions: Api<CustomResourceDefinition> = Api::all(client);
        ensure!(
            definitions.get_opt(DEFINITION).await?.is_none(),
            "Tidewright is installed on the cluster already, and the demo would remove it"
        );
        let text = access
            .kubectl(["get", "apiservices,clusterroles", "--output=name"])
            .await?;
        let is_there = |name: &str| text.lines().any(|line| line.ends_with(name));
        if let Some(taken) = METRICS_APIS.into_iter().find(|name| is_there(name)) {
            bail!(
                "the cluster has {taken} already, of another program: request rate and queue depth could not be read by its autoscalers"
            );
        }
        ensure!(
            !is_there("/test-prometheus"),
            "the cluster has a ClusterRole test-prometheus already, and the demo would remove it"
        );
        Ok(Self::Existing(Existing { access, images }))
    }

    /// By how much longer things may take: a cluster of the user's has the autoscaler's usual timing, not that of the box.
    pub fn patience(&self) -> u32 {
        match self {
            Self::Own(_) | Self::Up(_) => 1,
            Self::Existing(_) => 4,
        }
    }

    /// Installs Prometheus. Where it answers.
    pub async fn install_prometheus(&self) -> Result<SocketAddr> {
        let image = match self {
            Self::Own(_) | Self::Up(_) => images::PROMETHEUS,
            Self::Existing(existing) => &existing.images.prometheus,
        };
        fixtures::install_prometheus(self, image).await?;
        self.address(&self.client().await?, MONITORING, "prometheus").await
    }

    /// Installs the charts, for the Prometheus that [`Self::install_prometheus`] has installed.
    pub async fn install_operator(&self) -> Result<()> {
        let images = match self {
            Self::Own(_) | Self::Up(_) => json!({}),
            Self::Existing(Existing { images, .. }) => json!({"operator": images.operator, "server": images.server}),
        };
        let prometheus = json!({"url": PROMETHEUS_URL, "queryIntervalSeconds": 2, "scrapeIntervalSeconds": 2});
        install::tidewright(self, &json!({"images": images, "prometheus": prometheus})).await
    }

    /// Publishes the model, applies examples/demo.yaml and waits until it is Ready.
    pub async fn serve(&self, client: &Client, classifier: &Classifier) -> Result<()> {
        let example = paths::source_dir().join("examples/demo.yaml");
        let text = std::fs::read_to_string(&example).with_context(|| format!("reading {}", example.display()))?;
        let restricted = json!({"pod-security.kubernetes.io/enforce": "restricted"});
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": restricted}});
        self.apply(&[namespace]).await?;
        let model = std::fs::read(&classifier.onnx)?;
        self.publish("digits-wide.onnx", &model).await?;
        self.apply(&fixtures::objects(&text)?).await?;
        fixtures::await_ready(client, NAMESPACE, SERVICE, READY_TIMEOUT)
            .await
            .map(drop)
    }

    /// Puts a model on the claim of the demo.
    async fn publish(&self, file: &str, content: &[u8]) -> Result<()> {
        match self {
            Self::Own(cluster) | Self::Up(cluster) => {
                storage::publish(cluster, NAMESPACE, CLAIM, &[(file, content)]).await
            }
            Self::Existing(existing) => existing.publish(file, content).await,
        }
    }

    /// Where requests from this machine reach a Service.
    pub async fn address(&self, client: &Client, namespace: &str, service: &str) -> Result<SocketAddr> {
        match self {
            Self::Own(_) | Self::Up(_) => fixtures::cluster_address(client, namespace, service).await,
            Self::Existing(existing) => existing.address(client, namespace, service).await,
        }
    }

    /// Takes away what was brought, or leaves all of it with `KEEP=1`.
    pub async fn leave(self) -> Result<()> {
        match self {
            Self::Up(_) => Ok(()),
            Self::Own(cluster) if keep() => {
                let control_plane = cluster.into_control_plane();
                result(format_args!(
                    "export KUBECONFIG={}",
                    control_plane.kubeconfig().display()
                ));
                let name = control_plane.name();
                progress(format_args!(
                    "the cluster stays; `{} down --name {name}` takes it down",
                    paths::box_call()
                ));
                control_plane.detach()
            }
            Self::Own(cluster) => tokio::task::spawn_blocking(move || cluster.into_control_plane().down()).await?,
            Self::Existing(_) if keep() => {
                progress(format_args!(
                    "what the demo has brought stays in the namespaces {NAMESPACES:?}"
                ));
                Ok(())
            }
            Self::Existing(existing) => existing.clear().await,
        }
    }
}

impl Existing {
    /// Through a pod, because nobody knows where its volumes lie.
    async fn publish(&self, file: &str, content: &[u8]) -> Result<()> {
        let labels = json!({"app": "model-writer"});
        let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": CLAIM, "namespace": NAMESPACE},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "64Mi"}}}});
        let container = json!({
            "name": "writer", "image": self.images.prometheus, "command": ["sh", "-c", "trap exit TERM; sleep 3600 & wait"],
            "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}},
            "volumeMounts": [{"name": "models", "mountPath": "/models"}],
        });
        let user = json!({"runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532, "seccompProfile": {"type": "RuntimeDefault"}});
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "model-writer", "namespace": NAMESPACE, "labels": labels},
            "spec": {"restartPolicy": "Never", "automountServiceAccountToken": false, "securityContext": user, "containers": [container],
                "volumes": [{"name": "models", "persistentVolumeClaim": {"claimName": CLAIM}}]}});
        self.access.apply(&[claim, pod]).await?;
        let pod = "pod/model-writer";
        let wait = [
            "wait",
            "--for=condition=Ready",
            pod,
            "--namespace",
            NAMESPACE,
            WRITER_TIMEOUT,
        ];
        self.access
            .kubectl(wait)
            .await
            .context("a pod that writes the model: has the cluster a default StorageClass?")?;
        let mut text = String::with_capacity(content.len() * 2);
        for byte in content {
            write!(text, "{byte:02X}")?;
        }
        let script = format!("basenc --base16 --decode > /models/.partial && mv /models/.partial '/models/{file}'");
        let exec = [
            "exec",
            "--stdin",
            pod,
            "--namespace",
            NAMESPACE,
            "--",
            "sh",
            "-c",
            &script,
        ];
        self.access
            .program("kubectl", exec, Some(&text))
            .await
            .context("writing the model")?;
        let delete = ["delete", pod, "--namespace", NAMESPACE, "--wait"];
        self.access.kubectl(delete).await.map(drop)
    }

    /// A port of every node leads to the pods, with the Service's own balancing.
    async fn address(&self, client: &Client, namespace: &str, service: &str) -> Result<SocketAddr> {
        let services: Api<Service> = Api::namespaced(client.clone(), namespace);
        let spec = services.get(service).await?.spec.context("a Service without spec")?;
        let port = spec
            .ports
            .unwrap_or_default()
            .into_iter()
            .next()
            .context("a Service without port")?;
        let name = format!("{service}-from-outside");
        let outside = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace},
            "spec": {"type": "NodePort", "selector": spec.selector, "ports": [{"port": port.port, "targetPort": port.target_port}]}});
        self.access.apply(&[outside]).await?;
        let spec = services.get(&name).await?.spec.context("a Service without spec")?;
        let port = spec
            .ports
            .unwrap_or_default()
            .first()
            .and_then(|port| port.node_port)
            .context("no port of the nodes")?;
        let nodes = Api::<Node>::all(client.clone()).list(&ListParams::default()).await?;
        let addresses = nodes
            .items
            .iter()
            .filter_map(|node| node.status.as_ref()?.addresses.as_ref())
            .flatten();
        let internal = addresses
            .filter(|address| address.type_ == "InternalIP")
            .find_map(|address| address.address.parse::<IpAddr>().ok());
        let Some(address) = internal else {
            bail!("no node has an address of type InternalIP");
        };
        let outside = SocketAddr::new(address, u16::try_from(port)?);
        // The nodes' proxies learn of the port some time after the API server.
        await_condition(&format!("{outside} to lead to {service}"), PORT_TIMEOUT, || async {
            Ok(match TcpStream::connect(outside).await {
                Ok(_) => Seen::Done(outside),
                Err(error) => Seen::not_yet(error),
            })
        })
        .await
    }

    /// Everything that was brought, in the order in which nobody misses it.
    async fn clear(&self) -> Result<()> {
        progress("removing what the demo has brought …");
        let delete = |arguments: &[&str]| {
            let arguments: Vec<String> = ["delete", "--ignore-not-found", "--timeout=3m"]
                .iter()
                .chain(arguments)
                .map(|&text| text.to_owned())
                .collect();
            async move { self.access.kubectl(arguments).await.map(drop) }
        };
        delete(&["namespace", NAMESPACE]).await?;
        let releases = ["list", "--short", "--namespace", OPERATOR_NAMESPACE];
        let releases = self.access.program("helm", releases, None).await?;
        for release in releases.lines() {
            install::uninstall(&self.access, release, OPERATOR_NAMESPACE).await?;
        }
        delete(&["namespace", MONITORING, OPERATOR_NAMESPACE]).await?;
        delete(&["crd", DEFINITION]).await?;
        delete(&["clusterrole,clusterrolebinding", "test-prometheus"]).await
    }
}
