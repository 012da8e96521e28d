//! Which pods are known and asked, and where: those that are ours, and of them those that serve. Pure.

use std::net::{IpAddr, SocketAddr};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use tidewright_contract::routes;

/// Label by which a Deployment tells the pods of one template from those of another.
const TEMPLATE_HASH: &str = "pod-template-hash";

/// A pod that is asked while it is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// UID of the pod.
    pub uid: String,
    /// Its admin port; none where its address cannot be asked. It counts as one that does not answer then.
    pub address: Option<SocketAddr>,
    /// Whether it is ready: only those are asked and counted. Of the others it is remembered what they said, for they may come back.
    pub is_ready: bool,
    /// When it became ready, the last time.
    pub ready_at: Option<Timestamp>,
}

/// The pod, if it may serve now or later and is a child of the Deployment of this name, which the caller knows to be the service's by UID. The ReplicaSet between them
/// is not watched: its name, which is that of the Deployment and the hash of the template, stands for it.
pub fn target(pod: &Pod, deployment: &str) -> Option<Target> {
    if pod.metadata.deletion_timestamp.is_some() || !is_child(pod, deployment) {
        return None;
    }
    let status = pod.status.as_ref()?;
    if matches!(status.phase.as_deref(), Some("Failed" | "Succeeded")) {
        return None;
    }
    let mut conditions = status.conditions.iter().flatten();
    let ready = conditions.find(|c| c.type_ == "Ready" && c.status == "True");
    let is_of_host = pod.spec.as_ref().is_some_and(|spec| spec.host_network == Some(true));
    let address = status.pod_ip.as_deref().filter(|_| !is_of_host).and_then(askable);
    Some(Target {
        uid: pod.uid()?,
        address,
        is_ready: ready.is_some(),
        ready_at: ready.and_then(|ready| Some(ready.last_transition_time.as_ref()?.0)),
    })
}

fn is_child(pod: &Pod, deployment: &str) -> bool {
    let Some(hash) = pod.labels().get(TEMPLATE_HASH) else {
        return false;
    };
    let mut owners = pod.owner_references().iter();
    owners.any(|owner| {
        owner.controller == Some(true)
            && owner.kind == "ReplicaSet"
            && owner
                .name
                .strip_prefix(deployment)
                .and_then(|rest| rest.strip_prefix('-'))
                == Some(hash)
    })
}

/// An address that a pod can have, and that nobody but a pod answers at: whoever may write a pod's status must not send us elsewhere.
fn askable(ip: &str) -> Option<SocketAddr> {
    let ip: IpAddr = ip.parse().ok()?;
    let is_special = match ip.to_canonical() {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    let is_special = is_special || ip.to_canonical().is_loopback() || ip.is_unspecified() || ip.is_multicast();
    (!is_special).then_some(SocketAddr::new(ip, routes::ADMIN_PORT))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(changes: impl FnOnce(&mut Value)) -> Pod {
        let mut pod = json!({
            "metadata": {"name": "p", "uid": "u", "labels": {"pod-template-hash": "5d8f"}, "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "digits-cpu-5d8f", "uid": "r", "controller": true}]},
            "spec": {"containers": []},
            "status": {"podIP": "10.1.2.3", "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
        });
        changes(&mut pod);
        serde_json::from_value(pod).unwrap()
    }

    /// Where it is asked; `silent` where its address cannot be asked.
    fn address(changes: impl FnOnce(&mut Value)) -> Option<String> {
        let target = target(&pod(changes), "digits-cpu").filter(|target| target.is_ready)?;
        let address = target.address.map(|address| address.to_string());
        Some(address.unwrap_or_else(|| "silent".to_owned()))
    }

    #[test]
    fn ready_children_are_asked_and_nobody_else() {
        assert_eq!(address(|_| ()), Some("10.1.2.3:8081".to_owned()));
        assert_eq!(target(&pod(|_| ()), "digits"), None, "of another Deployment");
        for at in [
            "/metadata/ownerReferences/0/kind",
            "/metadata/labels/pod-template-hash",
            "/status/conditions/0/status",
        ] {
            assert_eq!(
                address(|pod| *pod.pointer_mut(at).unwrap() = json!("other")),
                None,
                "{at}"
            );
        }
        assert_eq!(
            address(|pod| pod["metadata"]["ownerReferences"][0]["controller"] = json!(false)),
            None
        );
        assert_eq!(
            address(|pod| pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z")),
            None
        );
    }

    #[test]
    fn one_that_may_come_back_is_known_and_not_asked() {
        let lost = pod(|pod| pod["status"]["conditions"][0]["status"] = json!("False"));
        let known = target(&lost, "digits-cpu").unwrap();
        assert_eq!((known.uid.as_str(), known.is_ready, known.ready_at), ("u", false, None));
        let failed = pod(|pod| pod["status"]["phase"] = json!("Failed"));
        assert_eq!(target(&failed, "digits-cpu"), None);
    }

    #[test]
    fn an_address_that_is_no_pods_is_not_asked_and_counts_as_silent() {
        for ip in [
            "127.0.0.1",
            "169.254.169.254",
            "0.0.0.0",
            "::1",
            "::ffff:127.0.0.1",
            "fe80::1",
            "224.0.0.1",
            "255.255.255.255",
            "x",
        ] {
            assert_eq!(
                address(|pod| pod["status"]["podIP"] = json!(ip)),
                Some("silent".to_owned()),
                "{ip}"
            );
        }
        assert_eq!(
            address(|pod| pod["spec"]["hostNetwork"] = json!(true)),
            Some("silent".to_owned())
        );
        assert_eq!(
            address(|pod| pod["status"]["podIP"] = Value::Null),
            Some("silent".to_owned())
        );
        assert_eq!(
            address(|pod| pod["status"]["podIP"] = json!("fd00::7")),
            Some("[fd00::7]:8081".to_owned())
        );
    }
}
