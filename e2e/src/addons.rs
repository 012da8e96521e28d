//! What a cluster has besides Kubernetes itself: name service and resource metrics, as programs on the node.
use std::fs;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::control_plane::ControlPlane;
use crate::network::Network;
use crate::options::ClusterOptions;
use crate::pki::Identity;

const METRICS_PORT: u16 = 10260;

/// Objects that the two need. `authority` is the cluster's certificate authority, in base64.
pub fn objects(network: Network, authority: &str) -> Vec<Value> {
    let mut objects = rights();
    objects.extend(service(
        network,
        "kube-dns",
        Some(network.dns_service().to_string()),
        &[("dns", "UDP", 53, 53), ("dns-tcp", "TCP", 53, 53)],
    ));
    objects.extend(service(
        network,
        "metrics-server",
        None,
        &[("https", "TCP", 443, METRICS_PORT)],
    ));
    objects.push(json!({
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": "v1beta1.metrics.k8s.io"},
        "spec": {
            "group": "metrics.k8s.io", "version": "v1beta1", "groupPriorityMinimum": 100, "versionPriority": 100,
            "caBundle": authority,
            "service": {"name": "metrics-server", "namespace": "kube-system"},
        },
    }));
    objects
}

/// A Service without selector, whose only endpoint is the node.
fn service(network: Network, name: &str, cluster_ip: Option<String>, ports: &[(&str, &str, u16, u16)]) -> [Value; 2] {
    let service_ports: Vec<Value> =
        ports.iter().map(|(name, protocol, port, target)| json!({"name": name, "protocol": protocol, "port": port, "targetPort": target})).collect();
    let endpoint_ports: Vec<Value> = ports
        .iter()
        .map(|(name, protocol, _, target)| json!({"name": name, "protocol": protocol, "port": target}))
        .collect();
    let mut spec = json!({"ports": service_ports});
    if let Some(address) = cluster_ip {
        spec["clusterIP"] = json!(address);
    }
    [
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "kube-system"}, "spec": spec}),
        json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": name, "namespace": "kube-system", "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [network.node()], "conditions": {"ready": true}}],
            "ports": endpoint_ports,
        }),
    ]
}

fn rights() -> Vec<Value> {
    let user = |name: &str| json!([{"kind": "User", "name": name, "apiGroup": "rbac.authorization.k8s.io"}]);
    let role = |name: &str, rules: Value| json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules});
    let binding = |name: &str, role: &str, subject: &str| {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name}, "subjects": user(subject),
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        })
    };
    let read = json!(["get", "list", "watch"]);
    vec![
        role(
            "box:coredns",
            json!([
                {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": read},
                {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": read},
            ]),
        ),
        binding("box:coredns", "box:coredns", "system:coredns"),
        role(
            "box:metrics-server",
            json!([
                {"apiGroups": [""], "resources": ["nodes/metrics"], "verbs": ["get"]},
                {"apiGroups": [""], "resources": ["nodes", "pods"], "verbs": read},
            ]),
        ),
        role(
            "box:metrics-reader",
            json!([{"apiGroups": ["metrics.k8s.io"], "resources": ["nodes", "pods"], "verbs": read}]),
        ),
        binding("box:metrics-server", "box:metrics-server", "system:metrics-server"),
        binding(
            "box:metrics-server:delegator",
            "system:auth-delegator",
            "system:metrics-server",
        ),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": "box:metrics-server", "namespace": "kube-system"}, "subjects": user("system:metrics-server"),
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "extension-apiserver-authentication-reader"},
        }),
    ]
}

/// Arguments of CoreDNS.
pub fn coredns(control_plane: &ControlPlane) -> Result<Vec<String>> {
    let kubeconfig = control_plane.write_kubeconfig(
        "coredns",
        Identity {
            user: "system:coredns",
            group: None,
        },
    )?;
    let corefile = format!(
        "cluster.local in-addr.arpa:53 {{\n    bind {}\n    errors\n    kubernetes {{\n        kubeconfig {}\n        pods insecure\n        ttl 5\n    }}\n    cache 5\n}}\n",
        control_plane.network().node(),
        kubeconfig.display(),
    );
    let path = control_plane.dir().join("config/Corefile");
    fs::write(&path, corefile).with_context(|| format!("writing {}", path.display()))?;
    Ok(vec!["-conf".to_owned(), path.display().to_string()])
}

/// Arguments of metrics-server.
pub fn metrics_server(control_plane: &ControlPlane, options: &ClusterOptions) -> Result<Vec<String>> {
    let pki = control_plane.pki()?;
    let identity = Identity {
        user: "system:metrics-server",
        group: None,
    };
    let names = ["metrics-server.kube-system.svc"];
    pki.server("metrics-server", identity, &names, &[control_plane.network().node()])?;
    let kubeconfig = control_plane.write_kubeconfig("metrics-server", identity)?;
    let kubeconfig = kubeconfig.display();
    Ok(vec![
        format!("--kubeconfig={kubeconfig}"),
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
        format!("--secure-port={METRICS_PORT}"),
        format!("--tls-cert-file={}", pki.path("metrics-server.crt").display()),
        format!("--tls-private-key-file={}", pki.path("metrics-server.key").display()),
        format!("--kubelet-certificate-authority={}", pki.path("ca.crt").display()),
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
        format!("--metric-resolution={}s", options.metric_resolution.as_secs()),
        // It insists on less than nine tenths of the resolution.
        "--kubelet-request-timeout=5s".to_owned(),
    ])
}
