//! Who may talk to the pods: clients to the serving port, Prometheus and the operator (which asks what they do) to the admin port. Pods reach DNS and an
//! external Redis, nothing else.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
    NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tidewright_contract::routes;

use super::metadata;
use crate::domain::settings::PodSettings;
use crate::domain::validated::{RedisPlace, Validated};

const REDIS_PORT_DEFAULT: i32 = 6379;
const DNS_PORT: i32 = 53;
/// A label of the operator's pods, as its chart sets it.
const APP: &str = "app.kubernetes.io/name";
const OPERATOR: &str = "tidewright-operator";

pub(super) fn build(service: &Validated, settings: &PodSettings) -> NetworkPolicy {
    let serving = NetworkPolicyIngressRule {
        from: None,
        ports: Some(vec![
            port("TCP", i32::from(routes::HTTP_PORT)),
            port("TCP", i32::from(routes::GRPC_PORT)),
        ]),
    };
    let operator = settings.asking_namespace.as_ref().map(|name| NetworkPolicyPeer {
        pod_selector: Some(LabelSelector {
            match_labels: Some(BTreeMap::from([(APP.to_owned(), OPERATOR.to_owned())])),
            match_expressions: None,
        }),
        ..from_namespace(name)
    });
    let scraping = NetworkPolicyIngressRule {
        from: settings
            .monitoring_namespace
            .as_ref()
            .map(|name| std::iter::once(from_namespace(name)).chain(operator).collect()),
        ports: Some(vec![port("TCP", i32::from(routes::ADMIN_PORT))]),
    };
    NetworkPolicy {
        metadata: metadata::object(service, service.name.clone(), None),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(metadata::selector(service, None)),
            policy_types: Some(vec!["Ingress".to_owned(), "Egress".to_owned()]),
            ingress: Some(vec![serving, scraping]),
            egress: external_redis_ports(service).map(|redis| {
                vec![
                    NetworkPolicyEgressRule {
                        ports: Some(vec![port("UDP", DNS_PORT), port("TCP", DNS_PORT)]),
                        to: None,
                    },
                    NetworkPolicyEgressRule {
                        ports: Some(redis.into_iter().map(|number| port("TCP", number)).collect()),
                        to: None,
                    },
                ]
            }),
        }),
    }
}

fn from_namespace(name: &str) -> NetworkPolicyPeer {
    NetworkPolicyPeer {
        namespace_selector: Some(LabelSelector {
            match_labels: Some(BTreeMap::from([(
                "kubernetes.io/metadata.name".to_owned(),
                name.to_owned(),
            )])),
            match_expressions: None,
        }),
        ..NetworkPolicyPeer::default()
    }
}

fn port(protocol: &str, number: i32) -> NetworkPolicyPort {
    NetworkPolicyPort {
        protocol: Some(protocol.to_owned()),
        port: Some(IntOrString::Int(number)),
        end_port: None,
    }
}

/// The port of its address, and the usual one: behind a Service pods may listen on another port than it has, and that is the one that counts.
fn external_redis_ports(service: &Validated) -> Option<Vec<i32>> {
    let RedisPlace::External { url } = &service.server.redis_cache.as_ref()?.place else {
        return None;
    };
    let host = url.trim_start_matches("redis://").split('/').next().unwrap_or_default();
    let named = host.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    let mut ports = vec![named.unwrap_or(REDIS_PORT_DEFAULT), REDIS_PORT_DEFAULT];
    ports.dedup();
    Some(ports)
}
