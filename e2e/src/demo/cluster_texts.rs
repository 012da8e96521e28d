//! What a user reads, kept for the report.
use anyhow::Result;

use super::{NAMESPACE, SERVICE};
use crate::access::Access;

/// Runs kubectl as a user would and keeps command and answer.
async fn kubectl(access: &Access, texts: &mut Vec<(String, String)>, when: &str, arguments: &[&str]) -> Result<()> {
    let mut all = arguments.to_vec();
    all.extend(["--namespace", NAMESPACE]);
    let text = access.kubectl(&all).await?;
    texts.push((format!("kubectl {}   ({when})", all.join(" ")), text));
    Ok(())
}

/// In the middle of a load.
pub async fn during(access: &Access, texts: &mut Vec<(String, String)>, when: &str) -> Result<()> {
    kubectl(access, texts, when, &["get", "isvc"]).await
}

/// When all is over.
pub async fn after(access: &Access, texts: &mut Vec<(String, String)>) -> Result<()> {
    let when = "at the end";
    kubectl(access, texts, when, &["get", "isvc"]).await?;
    kubectl(access, texts, when, &["get", "isvc", "--output=wide"]).await?;
    kubectl(access, texts, when, &["describe", "isvc", SERVICE]).await?;
    kubectl(access, texts, when, &["describe", "hpa"]).await?;
    kubectl(
        access,
        texts,
        when,
        &["get", "deployments,services,hpa,pdb,networkpolicies,configmaps,pods"],
    )
    .await
}
