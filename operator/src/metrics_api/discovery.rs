//! The documents by which the API server and the HPA controller find the group. Static.

use serde_json::{Value, json};

/// The group.
pub const GROUP: &str = "custom.metrics.k8s.io";
/// The versions, preferred first.
pub const VERSIONS: [&str; 2] = ["v1beta2", "v1beta1"];
/// Our resource, as the HPA names it: plural and group.
pub const RESOURCE: &str = "inferenceservices.serving.tidewright.dev";
/// The metrics that every service has. External ones are not listed: their names are the tenants' business.
const METRICS: [&str; 3] = ["request_rate", "queue_depth", "concurrency"];
/// What a client says that wants all groups with all resources in one answer.
const AGGREGATED: [&str; 2] = [
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
    "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
];

/// A document and its media type.
pub type Document = (&'static str, Value);

/// `/apis`: the group list, or all in one if the client asks for it first.
pub fn groups(accept: &str) -> Document {
    let wanted = accept.split(',').map(|range| range.replace(' ', ""));
    for range in wanted {
        if let Some(index) = AGGREGATED.iter().position(|media| range.starts_with(media)) {
            return (AGGREGATED[index], aggregated(["v2", "v2beta1"][index]));
        }
        if range == "application/json" || range.starts_with("application/json;q=") {
            break;
        }
    }
    let list = json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": [group_entry()] });
    ("application/json", list)
}

/// `/apis/custom.metrics.k8s.io`.
pub fn group() -> Document {
    let mut group = group_entry();
    if let Some(fields) = group.as_object_mut() {
        fields.insert("kind".to_owned(), json!("APIGroup"));
        fields.insert("apiVersion".to_owned(), json!("v1"));
    }
    ("application/json", group)
}

/// `/apis/custom.metrics.k8s.io/<version>`.
pub fn resources(version: &str) -> Document {
    let resources: Vec<Value> = METRICS
        .iter()
        .map(|metric| {
            json!({
                "name": format!("{RESOURCE}/{metric}"),
                "singularName": "",
                "namespaced": true,
                "kind": "MetricValueList",
                "verbs": ["get"],
            })
        })
        .collect();
    let list = json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": format!("{GROUP}/{version}"),
        "resources": resources,
    });
    ("application/json", list)
}

/// `/openapi/v2`: we describe no schema, and say so in the right form, else the API server's log fills with complaints.
pub fn openapi_v2() -> Document {
    let info = json!({ "title": "Tidewright metrics", "version": env!("CARGO_PKG_VERSION") });
    (
        "application/json",
        json!({ "swagger": "2.0", "info": info, "paths": {} }),
    )
}

/// `/openapi/v3`.
pub fn openapi_v3() -> Document {
    ("application/json", json!({ "paths": {} }))
}

fn group_entry() -> Value {
    let version = |version: &str| json!({ "groupVersion": format!("{GROUP}/{version}"), "version": version });
    json!({
        "name": GROUP,
        "versions": VERSIONS.map(version),
        "preferredVersion": version(VERSIONS[0]),
    })
}

fn aggregated(discovery_version: &str) -> Value {
    let versions = VERSIONS.map(|version| {
        let subresources = METRICS.map(|metric| {
            json!({
                "subresource": metric,
                "responseKind": { "group": GROUP, "version": version, "kind": "MetricValueList" },
                "verbs": ["get"],
            })
        });
        json!({
            "version": version,
            "freshness": "Current",
            "resources": [{
                "resource": RESOURCE,
                // The parent serves nothing by itself; clients of Kubernetes 1.26 need the field all the same.
                "responseKind": { "group": "", "version": "", "kind": "" },
                "scope": "Namespaced",
                "singularResource": "",
                "verbs": [],
                "subresources": subresources,
            }],
        })
    });
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{discovery_version}"),
        "metadata": {},
        "items": [{ "metadata": { "name": GROUP }, "versions": versions }],
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{APIGroup, APIGroupList, APIResourceList};

    use super::*;

    #[test]
    fn the_documents_are_kubernetes_own_types() {
        let list: APIGroupList = serde_json::from_value(groups("application/json").1).unwrap();
        let group: APIGroup = serde_json::from_value(group().1).unwrap();
        assert_eq!(list.groups[0].name, GROUP);
        assert_eq!(group.preferred_version.unwrap().version, "v1beta2");
        for version in VERSIONS {
            let resources: APIResourceList = serde_json::from_value(resources(version).1).unwrap();
            assert_eq!(resources.group_version, format!("{GROUP}/{version}"));
            let names: Vec<&str> = resources.resources.iter().map(|r| r.name.as_str()).collect();
            assert_eq!(
                names,
                [
                    "inferenceservices.serving.tidewright.dev/request_rate",
                    "inferenceservices.serving.tidewright.dev/queue_depth",
                    "inferenceservices.serving.tidewright.dev/concurrency"
                ]
            );
        }
    }

    #[test]
    fn all_in_one_is_for_those_who_ask_for_it_first() {
        let aggregator = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
                          application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
        let (media, document) = groups(aggregator);
        assert!(media.contains("v=v2;"), "{media}");
        assert_eq!(document["kind"], "APIGroupDiscoveryList");
        assert_eq!(document["apiVersion"], "apidiscovery.k8s.io/v2");
        let old = groups("application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList");
        assert_eq!(old.1["apiVersion"], "apidiscovery.k8s.io/v2beta1");
        for accept in ["", "*/*", "application/json", "application/json, */*"] {
            assert_eq!(groups(accept).1["kind"], "APIGroupList", "{accept:?}");
        }
    }
}
