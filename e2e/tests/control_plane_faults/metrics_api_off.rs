//! The metrics API is switched off: what it was registered by goes, or no namespace of the cluster could be deleted any more.
use anyhow::{Result, ensure};
use tidewright_e2e::chart_rights;
use tidewright_e2e::operator_process::{OperatorOptions, OperatorProcess};
use tidewright_e2e::wait::{Seen, await_condition};

use super::metrics_api::{API_SERVICES, foreign, operator, unregister};
use super::signals::{Exporter, Prometheus};
use super::{PATIENCE, turn};

#[tokio::test]
async fn switched_off_it_takes_its_own_registration_away_and_no_other() -> Result<()> {
    let (_turn, cluster) = turn().await?;
    let registered = || async {
        let list = cluster.kubectl(["get", "apiservices", "--output=name"]).await?;
        anyhow::Ok(API_SERVICES.map(|name| list.lines().any(|line| line.ends_with(name))))
    };
    let await_registered = async |wanted: [bool; 2]| {
        await_condition(&format!("the registration to be {wanted:?}"), PATIENCE, || async {
            let is = registered().await?;
            Ok(if is == wanted {
                Seen::Done(())
            } else {
                Seen::NotYet(format!("{is:?}"))
            })
        })
        .await
    };
    let exporter = Exporter::start(cluster).await?;
    let prometheus = Prometheus::start(cluster, exporter.address)?;
    let outcome = async {
        let serving = operator(cluster, &prometheus).await?;
        serving.await_ready(PATIENCE).await?;
        await_registered([true, true]).await?;
        serving.kill()?;
        // One of the two versions has come into other hands meanwhile.
        cluster.apply(&[foreign()]).await?;

        let (proxy, _) = chart_rights::proxy(cluster, ",metricsApi.enabled=false").await?;
        let switched_off = OperatorOptions::default().through(proxy.kubeconfig());
        let operator = OperatorProcess::ready(cluster, switched_off).await?;
        await_registered([true, false]).await?;
        let log = operator.log();
        ensure!(log.contains("its registration is removed"), "{}", operator.log_tail());
        Ok(())
    };
    let outcome = outcome.await;
    unregister(cluster).await?;
    outcome
}
