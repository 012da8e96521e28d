//! Names, labels and owners: the same for every child.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use tidewright_api::labels;

use crate::domain::validated::{Pool, Validated};

/// Metadata of a child; `pool` for what belongs to one pool.
pub(super) fn object(service: &Validated, name: String, pool: Option<&Pool>) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(service.namespace.clone()),
        labels: Some(own_labels(service, pool)),
        owner_references: Some(vec![service.owner.clone()]),
        ..ObjectMeta::default()
    }
}

/// The labels by which children are found again.
pub(super) fn own_labels(service: &Validated, pool: Option<&Pool>) -> BTreeMap<String, String> {
    let mut all = BTreeMap::from([
        (labels::MANAGED_BY.to_owned(), labels::MANAGER.to_owned()),
        (labels::APP_NAME.to_owned(), "inference-server".to_owned()),
        (labels::SERVICE.to_owned(), service.name.clone()),
        (labels::KSERVE_SERVICE.to_owned(), service.name.clone()),
        (labels::KSERVE_COMPONENT.to_owned(), labels::PREDICTOR.to_owned()),
    ]);
    if let Some(pool) = pool {
        all.insert(labels::POOL.to_owned(), pool.name.clone());
    }
    all
}

/// Labels that select the pods of a service, or of one of its pools. Immutable in a Deployment: never more than these.
pub(super) fn selector_labels(service: &str, pool: Option<&str>) -> BTreeMap<String, String> {
    let mut all = BTreeMap::from([(labels::SERVICE.to_owned(), service.to_owned())]);
    if let Some(pool) = pool {
        all.insert(labels::POOL.to_owned(), pool.to_owned());
    }
    all
}

/// [`selector_labels`] as a selector.
pub(super) fn selector(service: &Validated, pool: Option<&Pool>) -> LabelSelector {
    LabelSelector {
        match_labels: Some(selector_labels(&service.name, pool.map(|p| p.name.as_str()))),
        match_expressions: None,
    }
}

/// An account without rights and without a token; none if the user names one.
pub(super) fn service_account(service: &Validated) -> Option<ServiceAccount> {
    service.service_account.is_none().then(|| ServiceAccount {
        metadata: object(service, service.name.clone(), None),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    })
}
