//! The Secret in which all replicas find the metrics API's certificates. The leader writes, everyone reads.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client};

use crate::cluster::call::call;
use crate::cluster::owner;
use crate::error::{Error, Result};

/// What the Secret holds, and which version of it that was.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stored {
    /// By key.
    pub data: BTreeMap<String, Vec<u8>>,
    /// `None` if there is no Secret yet.
    pub resource_version: Option<String>,
}

/// The Secret.
#[derive(Debug, Clone)]
pub struct CertificateSecret {
    api: Api<Secret>,
    namespace: String,
    name: String,
    owner_cluster_role: Option<String>,
}

impl CertificateSecret {
    /// Names it, and the ClusterRole that owns it.
    pub fn new(client: Client, namespace: &str, name: &str, owner_cluster_role: Option<String>) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            owner_cluster_role,
        }
    }

    /// Reads it.
    pub async fn read(&self) -> Result<Stored> {
        let found = call(|| format!("get Secret {self}"), self.api.get_opt(&self.name)).await?;
        Ok(found.map_or_else(Stored::default, |secret| Stored {
            data: secret
                .data
                .unwrap_or_default()
                .into_iter()
                .map(|(key, value)| (key, value.0))
                .collect(),
            resource_version: secret.metadata.resource_version,
        }))
    }

    /// Replaces what was read. `false` if somebody else was faster: read again.
    pub async fn write(&self, stored: &Stored) -> Result<bool> {
        let client = self.api.clone().into_client();
        let owner = owner::of_installation(&client, self.owner_cluster_role.as_deref()).await?;
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                namespace: Some(self.namespace.clone()),
                resource_version: stored.resource_version.clone(),
                labels: Some(BTreeMap::from([(
                    "app.kubernetes.io/managed-by".to_owned(),
                    "tidewright".to_owned(),
                )])),
                owner_references: owner.map(|owner| vec![owner]),
                ..ObjectMeta::default()
            },
            type_: Some("Opaque".to_owned()),
            data: Some(
                stored
                    .data
                    .iter()
                    .map(|(key, value)| (key.clone(), ByteString(value.clone())))
                    .collect(),
            ),
            ..Secret::default()
        };
        let params = PostParams::default();
        // The version that was read is the precondition; without one, that there is none.
        let outcome = if stored.resource_version.is_some() {
            call(
                || format!("replace Secret {self}"),
                self.api.replace(&self.name, &params, &secret),
            )
            .await
        } else {
            call(|| format!("create Secret {self}"), self.api.create(&params, &secret)).await
        };
        match outcome {
            Ok(_) => Ok(true),
            Err(Error::Api { source, .. }) if matches!(&*source, kube::Error::Api(status) if status.code == 409) => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}

impl std::fmt::Display for CertificateSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}
