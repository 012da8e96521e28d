//! Services: one for clients, one that resolves to each pod.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tidewright_api::names;

use super::metadata;
use crate::domain::validated::Validated;

/// Port that clients use.
const CLIENT_PORT: i32 = 80;

pub(super) fn for_clients(service: &Validated) -> Service {
    build(service, service.name.clone(), CLIENT_PORT, None)
}

pub(super) fn headless(service: &Validated) -> Service {
    let port = i32::from(tidewright_contract::routes::HTTP_PORT);
    build(service, names::headless(&service.name), port, Some("None".to_owned()))
}

fn build(service: &Validated, name: String, port: i32, cluster_ip: Option<String>) -> Service {
    Service {
        metadata: metadata::object(service, name, None),
        spec: Some(ServiceSpec {
            cluster_ip,
            selector: Some(metadata::selector_labels(&service.name, None)),
            ports: Some(vec![
                service_port("http", port),
                service_port("grpc", i32::from(tidewright_contract::routes::GRPC_PORT)),
            ]),
            type_: Some("ClusterIP".to_owned()),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

/// To the container's port of the same name.
fn service_port(name: &str, port: i32) -> ServicePort {
    ServicePort {
        name: Some(name.to_owned()),
        port,
        protocol: Some("TCP".to_owned()),
        target_port: Some(IntOrString::String(name.to_owned())),
        ..ServicePort::default()
    }
}
