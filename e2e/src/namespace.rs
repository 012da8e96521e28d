//! A namespace of its own for each test, gone afterwards unless `KEEP=1`.
use std::panic::{AssertUnwindSafe, resume_unwind};

use anyhow::{Context as _, Result};
use futures::FutureExt as _;
use kube::Client;
use serde_json::json;

use crate::access::Access;
use crate::console::progress;
use crate::{dump, storage};

/// The namespace of one test.
#[derive(Clone)]
pub struct TestNamespace {
    pub name: String,
    /// Of the test's own runtime.
    pub client: Client,
}

impl std::fmt::Debug for TestNamespace {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "TestNamespace({})", self.name)
    }
}

/// Creates a namespace that admits restricted pods only, runs the test in it, and removes it. If the test fails or panics,
/// what there is to know about the namespace is printed first.
pub async fn with_temp_namespace<F, Fut>(access: &Access, test: &str, body: F) -> Result<()>
where
    F: FnOnce(TestNamespace) -> Fut,
    Fut: Future<Output = Result<()>>,
{
    let name = format!("{test}-{:06x}", rand::random::<u32>() & 0xff_ffff);
    let levels = json!({"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/enforce-version": "latest"});
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": levels}});
    access
        .apply(&[namespace])
        .await
        .context("creating the namespace of the test")?;
    let client = access.client().await?;
    let outcome = AssertUnwindSafe(body(TestNamespace {
        name: name.clone(),
        client,
    }))
    .catch_unwind()
    .await;
    if !matches!(outcome, Ok(Ok(()))) {
        dump::namespace(access, &name).await;
    }
    if keep() {
        progress(format_args!(
            "KEEP is set: namespace {name} stays; KUBECONFIG={}",
            access.kubeconfig().display()
        ));
    } else {
        remove(access, &name).await?;
    }
    outcome.unwrap_or_else(|panic| resume_unwind(panic))
}

/// Whether namespaces and clusters of tests shall stay for a look at them.
pub fn keep() -> bool {
    std::env::var("KEEP").is_ok_and(|value| !matches!(value.as_str(), "" | "0"))
}

/// Starts the removal. It is not waited for: no other test uses the name.
async fn remove(access: &Access, name: &str) -> Result<()> {
    access
        .kubectl(["delete", "namespace", name, "--wait=false"])
        .await
        .context("removing the namespace of the test")?;
    let volumes = format!("--selector={}={name}", storage::NAMESPACE_LABEL);
    access
        .kubectl(["delete", "persistentvolume", &volumes, "--wait=false"])
        .await
        .context("removing the volumes of the test")?;
    Ok(())
}
