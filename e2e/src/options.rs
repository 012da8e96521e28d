//! What a box may be asked to be.
use std::time::Duration;

/// How much of a cluster is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// etcd, API server and controller manager: objects are real, nothing runs.
    ControlPlane,
    /// A whole cluster of one node: containers run, services answer.
    #[default]
    Cluster,
}

/// Settings of a box.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// Unique on this machine.
    pub name: String,
    pub hpa: HpaTiming,
    /// Period of metrics-server. It refuses less than 10 s.
    pub metric_resolution: Duration,
    /// Nodes and pods of KWOK, for tests that need many of them and run nothing. Only without real node.
    pub fake_nodes: u32,
    /// Further arguments of programs by name, such as `("kube-apiserver", "--v=4")`. They win over ours.
    pub extra_arguments: Vec<(String, String)>,
    /// Images that the node has from the start, besides the one that every pod needs. Only with a real node.
    pub images: Vec<crate::images::Recipe>,
}

impl ClusterOptions {
    /// The defaults of Kubernetes under a name.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            hpa: HpaTiming::default(),
            metric_resolution: Duration::from_secs(15),
            fake_nodes: 0,
            extra_arguments: Vec::new(),
            images: Vec::new(),
        }
    }

    /// A name that no other process uses, and timing for tests that do not want to wait.
    pub fn for_tests(suite: &str) -> Self {
        let mut options = Self::named(format!("{suite}-{}", std::process::id()));
        options.hpa = HpaTiming::fast();
        options.metric_resolution = Duration::from_secs(10);
        options
    }

    /// With nodes and pods of KWOK, which send no heartbeats: they are believed for longer than any test takes.
    #[must_use]
    pub fn with_fake_nodes(mut self, count: u32) -> Self {
        self.fake_nodes = count;
        let patience = "--node-monitor-grace-period=24h".to_owned();
        self.extra_arguments
            .push(("kube-controller-manager".to_owned(), patience));
        self
    }
}

/// How fast the horizontal pod autoscaler looks and acts. The defaults are those of kube-controller-manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HpaTiming {
    pub sync_period: Duration,
    /// Window over which the highest recommendation counts, where `behavior` does not say otherwise.
    pub downscale_stabilization: Duration,
    /// A pod's first readiness change is believed after this.
    pub initial_readiness_delay: Duration,
    /// A pod's CPU figures are doubted for this long after its start.
    pub cpu_initialization_period: Duration,
}

impl Default for HpaTiming {
    fn default() -> Self {
        Self {
            sync_period: Duration::from_secs(15),
            downscale_stabilization: Duration::from_mins(5),
            initial_readiness_delay: Duration::from_secs(30),
            cpu_initialization_period: Duration::from_mins(5),
        }
    }
}

impl HpaTiming {
    /// The same controller, with less patience.
    pub fn fast() -> Self {
        Self {
            sync_period: Duration::from_secs(2),
            downscale_stabilization: Duration::from_secs(15),
            initial_readiness_delay: Duration::from_secs(5),
            cpu_initialization_period: Duration::from_secs(10),
        }
    }

    /// As arguments of kube-controller-manager.
    pub fn arguments(&self) -> [String; 4] {
        let flag = |name: &str, value: Duration| format!("--horizontal-pod-autoscaler-{name}={}ms", value.as_millis());
        [
            flag("sync-period", self.sync_period),
            flag("downscale-stabilization", self.downscale_stabilization),
            flag("initial-readiness-delay", self.initial_readiness_delay),
            flag("cpu-initialization-period", self.cpu_initialization_period),
        ]
    }
}
