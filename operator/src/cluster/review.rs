//! May this user do that? Asked of the API server (SubjectAccessReview), remembered for some seconds.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};

use crate::clock::SharedClock;
use crate::cluster::call::call;
use crate::error::Result;

/// Answers that are remembered. A caller that varies its name cannot make it grow.
const REMEMBERED_MAX: usize = 1024;

/// Somebody, as the front proxy named them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct User {
    /// Name.
    pub name: String,
    /// Unique id, if told.
    pub uid: Option<String>,
    /// Groups.
    pub groups: Vec<String>,
    /// Anything else.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// What they want: to read one metric of one object.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Access {
    /// Namespace of the object.
    pub namespace: String,
    /// API group of the metric.
    pub group: &'static str,
    /// Version of the group.
    pub version: &'static str,
    /// Resource, with the object's own group.
    pub resource: &'static str,
    /// Name of the object.
    pub name: String,
    /// Name of the metric.
    pub subresource: String,
}

/// Asks, and remembers.
#[derive(Debug)]
pub struct Reviewer {
    api: Api<SubjectAccessReview>,
    ttl: Duration,
    clock: SharedClock,
    remembered: Mutex<HashMap<(User, Access), (bool, Timestamp)>>,
}

impl Reviewer {
    /// `ttl` is how long an answer is believed; a right that is taken away works for that long.
    pub fn new(client: Client, ttl: Duration, clock: SharedClock) -> Self {
        Self {
            api: Api::all(client),
            ttl,
            clock,
            remembered: Mutex::default(),
        }
    }

    /// Whether `user` may.
    ///
    /// # Errors
    /// The API server could not be asked; the caller must take it for a no.
    pub async fn allows(&self, user: &User, access: &Access) -> Result<bool> {
        let key = (user.clone(), access.clone());
        if let Some(allowed) = self.recall(&key) {
            return Ok(allowed);
        }
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(user.name.clone()),
                uid: user.uid.clone(),
                groups: (!user.groups.is_empty()).then(|| user.groups.clone()),
                extra: (!user.extra.is_empty()).then(|| user.extra.clone()),
                resource_attributes: Some(ResourceAttributes {
                    namespace: Some(access.namespace.clone()),
                    verb: Some("get".to_owned()),
                    group: Some(access.group.to_owned()),
                    version: Some(access.version.to_owned()),
                    resource: Some(access.resource.to_owned()),
                    subresource: Some(access.subresource.clone()),
                    name: Some(access.name.clone()),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let params = PostParams::default();
        let answer = call(
            || "create SubjectAccessReview".to_owned(),
            self.api.create(&params, &review),
        )
        .await?;
        let allowed = answer
            .status
            .is_some_and(|status| status.allowed && status.denied != Some(true));
        self.remember(key, allowed);
        Ok(allowed)
    }

    fn recall(&self, key: &(User, Access)) -> Option<bool> {
        let now = self.clock.now();
        let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        remembered
            .get(key)
            .filter(|(_, at)| self.is_fresh(*at, now))
            .map(|(allowed, _)| *allowed)
    }

    fn remember(&self, key: (User, Access), allowed: bool) {
        let now = self.clock.now();
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= REMEMBERED_MAX {
            remembered.retain(|_, (_, at)| self.is_fresh(*at, now));
            if remembered.len() >= REMEMBERED_MAX {
                remembered.clear();
            }
        }
        remembered.insert(key, (allowed, now));
    }

    fn is_fresh(&self, at: Timestamp, now: Timestamp) -> bool {
        now.duration_since(at).abs() < SignedDuration::try_from(self.ttl).unwrap_or(SignedDuration::ZERO)
    }
}
