//! The APIServices by which the API server finds our metrics API. Never taken from somebody else.

use k8s_openapi::ByteString;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::{APIService, APIServiceSpec, ServiceReference};
use kube::api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, Preconditions};
use kube::{Api, Client};

use crate::cluster::call::call;
use crate::cluster::owner;
use crate::error::{Error, Result};

const FIELD_MANAGER: &str = "tidewright";
/// As of other metrics APIs: this group competes with no other.
const GROUP_PRIORITY: i32 = 100;

/// What to register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// API group.
    pub group: String,
    /// Versions, preferred first.
    pub versions: Vec<String>,
    /// Namespace of our Service.
    pub service_namespace: String,
    /// Our Service.
    pub service_name: String,
    /// Its port.
    pub service_port: i32,
    /// A ClusterRole of our installation: with it the APIServices go too.
    pub owner_cluster_role: Option<String>,
}

/// Whether the group is ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Registration {
    /// Not looked at yet.
    Pending,
    /// All versions lead to us.
    Registered,
    /// Another installation serves the group; nothing was written.
    OwnedBySomeoneElse {
        /// Name of the APIService that is not ours.
        api_service: String,
        /// Namespace and name of the Service behind it.
        service: Option<String>,
    },
    /// It could not be found out or written.
    Failed {
        /// What the API server said.
        message: String,
    },
}

/// The outcome of one round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Round {
    /// Whose the group is.
    pub registration: Registration,
    /// Whether no APIService of ours carries another CA bundle than the given one.
    pub bundle_published: bool,
}

/// Registers what is missing, corrects what is ours, and leaves everything else alone.
///
/// # Errors
/// A call failed.
pub async fn register(client: &Client, wanted: &Wanted, ca_bundle: &str) -> Result<Round> {
    let api: Api<APIService> = Api::all(client.clone());
    let all = call(|| "list APIServices".to_owned(), api.list(&ListParams::default())).await?;
    let of_group: Vec<APIService> = all
        .items
        .into_iter()
        .filter(|service| service.spec.as_ref().and_then(|spec| spec.group.as_deref()) == Some(&wanted.group))
        .collect();
    let foreign = of_group.iter().find(|service| !is_ours(service, wanted));
    let owner = match foreign {
        Some(_) => None,
        None => owner::of_installation(client, wanted.owner_cluster_role.as_deref()).await?,
    };
    let mut bundle_published = true;
    let mut registration = match foreign {
        None => Registration::Registered,
        Some(other) => owned_by(other),
    };
    for (index, version) in wanted.versions.iter().enumerate() {
        let name = format!("{version}.{}", wanted.group);
        let existing = of_group
            .iter()
            .find(|service| service.metadata.name.as_deref() == Some(&name));
        match existing {
            Some(existing) if !is_ours(existing, wanted) => {}
            // While another one serves part of the group, a second version of ours would take its clients away: none is added.
            None if foreign.is_some() => {}
            _ => {
                let owner = owner.clone().or_else(|| current_owner(existing));
                let desired = desired(&name, version, index, wanted, ca_bundle, owner, existing);
                if existing.is_some_and(|existing| covers(existing, &desired)) {
                    continue;
                }
                match apply(&api, &name, &desired, existing.is_some()).await {
                    Ok(()) => {}
                    // Somebody wrote it in between: whose it is now shows in the next round.
                    Err(error) if error.category() == "Conflict" => {
                        bundle_published = false;
                        registration = Registration::Failed {
                            message: error.to_string(),
                        };
                    }
                    Err(error) => return Err(error),
                }
            }
        }
    }
    Ok(Round {
        registration,
        bundle_published,
    })
}

/// Removes what is ours, and says what that was.
///
/// # Errors
/// A call failed.
pub async fn deregister(client: &Client, wanted: &Wanted) -> Result<Vec<String>> {
    let api: Api<APIService> = Api::all(client.clone());
    let mut removed = Vec::new();
    for version in &wanted.versions {
        let name = format!("{version}.{}", wanted.group);
        let found = call(|| format!("get APIService {name}"), api.get_opt(&name)).await?;
        let Some(ours) = found.filter(|service| is_ours(service, wanted)) else {
            continue;
        };
        // Just the one that was looked at: another may have taken the name.
        let params = DeleteParams::default().preconditions(Preconditions {
            uid: ours.metadata.uid,
            resource_version: ours.metadata.resource_version,
        });
        match call(|| format!("delete APIService {name}"), api.delete(&name, &params)).await {
            Ok(_) => removed.push(name),
            Err(error) if error.category() == "NotFound" => {}
            Err(error) => return Err(error),
        }
    }
    Ok(removed)
}

fn is_ours(service: &APIService, wanted: &Wanted) -> bool {
    service
        .spec
        .as_ref()
        .and_then(|spec| spec.service.as_ref())
        .is_some_and(|reference| {
            reference.namespace.as_deref() == Some(&wanted.service_namespace)
                && reference.name.as_deref() == Some(&wanted.service_name)
        })
}

fn owned_by(other: &APIService) -> Registration {
    let service = other
        .spec
        .as_ref()
        .and_then(|spec| spec.service.as_ref())
        .map(|reference| {
            format!(
                "{}/{}",
                reference.namespace.as_deref().unwrap_or_default(),
                reference.name.as_deref().unwrap_or_default()
            )
        });
    Registration::OwnedBySomeoneElse {
        api_service: other.metadata.name.clone().unwrap_or_default(),
        service,
    }
}

fn current_owner(existing: Option<&APIService>) -> Option<OwnerReference> {
    existing?.metadata.owner_references.as_ref()?.first().cloned()
}

fn desired(
    name: &str,
    version: &str,
    index: usize,
    wanted: &Wanted,
    ca_bundle: &str,
    owner: Option<OwnerReference>,
    existing: Option<&APIService>,
) -> APIService {
    APIService {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            // A precondition: nobody wrote it since it was found to be ours.
            resource_version: existing.and_then(|existing| existing.metadata.resource_version.clone()),
            labels: Some([("app.kubernetes.io/managed-by".to_owned(), "tidewright".to_owned())].into()),
            owner_references: owner.map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(APIServiceSpec {
            ca_bundle: Some(ByteString(ca_bundle.as_bytes().to_vec())),
            group: Some(wanted.group.clone()),
            group_priority_minimum: GROUP_PRIORITY,
            // Said, not left out: a `true` that somebody else set would switch the CA off.
            insecure_skip_tls_verify: Some(false),
            service: Some(ServiceReference {
                name: Some(wanted.service_name.clone()),
                namespace: Some(wanted.service_namespace.clone()),
                port: Some(wanted.service_port),
            }),
            version: Some(version.to_owned()),
            // Earlier is better, and only the order within the group counts.
            version_priority: 200_i32.saturating_sub(100 * i32::try_from(index).unwrap_or(1)).max(1),
        }),
        status: None,
    }
}

/// Whether everything we would write is there already.
fn covers(existing: &APIService, desired: &APIService) -> bool {
    let (Some(is), Some(should)) = (&existing.spec, &desired.spec) else {
        return false;
    };
    let same_spec = is.ca_bundle == should.ca_bundle
        && is.service == should.service
        && is.group_priority_minimum == should.group_priority_minimum
        && is.version_priority == should.version_priority
        && is.insecure_skip_tls_verify != Some(true);
    let same_owner = desired.metadata.owner_references.iter().flatten().all(|owner| {
        existing
            .metadata
            .owner_references
            .iter()
            .flatten()
            .any(|o| o.uid == owner.uid)
    });
    same_spec && same_owner
}

/// Force only for what is ours: on a new name a conflict says that somebody else was faster.
async fn apply(api: &Api<APIService>, name: &str, desired: &APIService, ours: bool) -> Result<(), Error> {
    let mut params = PatchParams::apply(FIELD_MANAGER);
    params.force = ours;
    call(
        || format!("apply APIService {name}"),
        api.patch(name, &params, &Patch::Apply(desired)),
    )
    .await
    .map(|_| ())
}
