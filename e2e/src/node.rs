//! Configuration of the node's programs: containerd, its network plugins, the kubelet, kube-proxy.
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::cgroup;
use crate::control_plane::ControlPlane;
use crate::options::ClusterOptions;
use crate::pki::Identity;

/// Image of the container that holds a pod's namespaces.
pub const PAUSE_IMAGE: &str = "localhost/pause:1";

/// containerd's socket, inside the box.
pub const CONTAINERD_SOCKET: &str = "/run/containerd/containerd.sock";

/// Name of the node.
pub fn name(control_plane: &ControlPlane) -> String {
    format!("box-{}", control_plane.name())
}

fn write(path: PathBuf, text: &str) -> Result<PathBuf> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    Ok(path)
}

/// Arguments of containerd. `snapshotter` is `overlayfs`, or `native` where overlays cannot be stacked.
pub fn containerd(control_plane: &ControlPlane, snapshotter: &str) -> Result<Vec<String>> {
    let dir = control_plane.dir();
    let plugins = control_plane.binaries().dir_of("bridge")?.display();
    let network_dir = dir.join("cni");
    let config = format!(
        r#"version = 3
root = "{root}"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.blockfile", "io.containerd.snapshotter.v1.devmapper", "io.containerd.internal.v1.opt", "io.containerd.nri.v1.nri", "io.containerd.tracing.processor.v1.otlp"]
[grpc]
address = "{CONTAINERD_SOCKET}"
[plugins.'io.containerd.cri.v1.images']
snapshotter = "{snapshotter}"
[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = "{PAUSE_IMAGE}"
[plugins.'io.containerd.cri.v1.runtime']
# Without CAP_SYS_RESOURCE the kernel refuses to lower an OOM score, and every sandbox would die for it.
restrict_oom_score_adj = true
enable_selinux = false
[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ["{plugins}"]
conf_dir = "{network_dir}"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
snapshotter = "{snapshotter}"
"#,
        root = dir.join("containerd").display(),
        network_dir = network_dir.display(),
    );
    let path = write(dir.join("config/containerd.toml"), &config)?;
    let network = json!({
        "cniVersion": "1.0.0",
        "name": "box",
        "plugins": [
            {
                "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "dataDir": "/run/cni",
                    "ranges": [[{"subnet": control_plane.network().pods().to_string()}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    });
    write(
        network_dir.join("10-box.conflist"),
        &serde_json::to_string_pretty(&network)?,
    )?;
    Ok(vec![
        format!("--config={}", path.display()),
        "--log-level=warn".to_owned(),
    ])
}

/// Arguments of the kubelet.
pub fn kubelet(control_plane: &ControlPlane, options: &ClusterOptions) -> Result<Vec<String>> {
    let (dir, pki, node) = (control_plane.dir(), control_plane.pki()?, name(control_plane));
    let address = control_plane.network().node();
    let user = format!("system:node:{node}");
    let identity = Identity {
        user: &user,
        group: Some("system:nodes"),
    };
    pki.server("kubelet", identity, &[&node], &[address])?;
    let kubeconfig = control_plane.write_kubeconfig("kubelet", identity)?;
    let config = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": pki.path("ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": pki.path("kubelet.crt"),
        "tlsPrivateKeyFile": pki.path("kubelet.key"),
        "containerRuntimeEndpoint": format!("unix://{CONTAINERD_SOCKET}"),
        "clusterDNS": [control_plane.network().dns_service()],
        "clusterDomain": "cluster.local",
        // No name can be looked up outside the box.
        "resolvConf": "",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{}", cgroup::root_name(control_plane.name())),
        "failCgroupV1": false,
        "failSwapOn": false,
        "podLogsDir": "/var/log/pods",
        "volumePluginDir": dir.join("kubelet/volume-plugins"),
        // The machine's disk and memory are shared with whatever else runs: a nearly full one is no reason to evict.
        "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%", "nodefs.inodesFree": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "nodeStatusUpdateFrequency": "5s",
        "syncFrequency": "10s",
        "serializeImagePulls": false,
        "maxPods": 110,
        "registerNode": true,
        "shutdownGracePeriod": "0s",
    });
    let path = write(dir.join("config/kubelet.json"), &serde_json::to_string_pretty(&config)?)?;
    Ok(vec![
        format!("--config={}", path.display()),
        format!("--kubeconfig={}", kubeconfig.display()),
        format!("--node-ip={address}"),
        format!("--hostname-override={node}"),
        // metrics-server cannot see more often than the kubelet looks. The default is 10 s.
        format!(
            "--housekeeping-interval={}ms",
            options.metric_resolution.as_millis() / 2
        ),
    ])
}

/// Arguments of kube-proxy.
pub fn kube_proxy(control_plane: &ControlPlane) -> Result<Vec<String>> {
    let kubeconfig = control_plane.write_kubeconfig(
        "kube-proxy",
        Identity {
            user: "system:kube-proxy",
            group: None,
        },
    )?;
    Ok(vec![
        format!("--kubeconfig={}", kubeconfig.display()),
        "--proxy-mode=nftables".to_owned(),
        format!("--cluster-cidr={}", control_plane.network().pods()),
        format!("--hostname-override={}", name(control_plane)),
        // These limits belong to the whole machine.
        "--conntrack-max-per-core=0".to_owned(),
        "--conntrack-min=0".to_owned(),
        "--conntrack-tcp-timeout-established=0s".to_owned(),
        "--conntrack-tcp-timeout-close-wait=0s".to_owned(),
    ])
}

/// Arguments of the scheduler.
pub fn scheduler(control_plane: &ControlPlane) -> Result<Vec<String>> {
    let kubeconfig = control_plane.write_kubeconfig(
        "kube-scheduler",
        Identity {
            user: "system:kube-scheduler",
            group: None,
        },
    )?;
    let kubeconfig = kubeconfig.display();
    Ok(vec![
        format!("--kubeconfig={kubeconfig}"),
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
        "--leader-elect=false".to_owned(),
    ])
}

/// Whether overlays can be used on the file system of `dir`; not where it is an overlay itself.
pub fn snapshotter(dir: &Path) -> &'static str {
    use nix::sys::statfs::{OVERLAYFS_SUPER_MAGIC, statfs};
    match statfs(dir) {
        Ok(found) if found.filesystem_type() == OVERLAYFS_SUPER_MAGIC => "native",
        _ => "overlayfs",
    }
}
