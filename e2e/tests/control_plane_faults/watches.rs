//! K5 and worse: watches that cannot go on where they were, an API server and an etcd that are killed.
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use tidewright_e2e::access::await_api_server;
use tidewright_e2e::api_proxy::{ApiProxy, Fault};
use tidewright_e2e::clock::Stopwatch;
use tidewright_e2e::console::progress;
use tidewright_e2e::fixtures::Scenario;
use tidewright_e2e::namespace::with_temp_namespace;
use tidewright_e2e::operator_process::{OperatorOptions, OperatorProcess};
use tidewright_e2e::wait::{Seen, await_condition};

use super::{MODEL, PATIENCE, reaction, through_proxy, turn};

/// The resource version that a watch wants to start from.
fn start_of(query: &str) -> Option<&str> {
    query.split('&').find_map(|part| part.strip_prefix("resourceVersion="))
}

#[tokio::test]
async fn k5_resource_version_that_is_gone_for_ever_is_replaced_by_a_new_list() -> Result<()> {
    let (_turn, cluster) = turn().await?;
    let proxy = ApiProxy::start(cluster, cluster.host_address(), None)?;
    // The version of the first watch is gone and stays gone, as after a compaction: only a new list gives another.
    let gone: Mutex<Option<String>> = Mutex::new(None);
    proxy.inject(Fault::Answer(410), None, move |e| {
        if !e.is_watch("inferenceservices") {
            return false;
        }
        let mut gone = gone.lock().unwrap();
        let start = start_of(&e.query).unwrap_or_default();
        gone.get_or_insert_with(|| start.to_owned()) == start
    });
    let options = OperatorOptions::default().through(proxy.kubeconfig());
    let _operator = OperatorProcess::start(cluster, options).await?;
    await_condition("the first watch to be refused", PATIENCE, || async {
        let refused = proxy
            .exchanges()
            .iter()
            .any(|e| e.is_watch("inferenceservices") && e.status == Some(410));
        Ok(if refused {
            Seen::Done(())
        } else {
            Seen::not_yet("not yet")
        })
    })
    .await?;
    with_temp_namespace(cluster, "k5", |namespace| async move {
        let scenario = Scenario::new(&namespace.name, "digits", MODEL);
        let watch = Stopwatch::start();
        scenario.apply(&namespace.client).await?;
        scenario.ready(&namespace.client, PATIENCE).await?;
        let took = watch.elapsed();
        let lists = proxy
            .exchanges()
            .iter()
            .filter(|e| e.is_list("inferenceservices"))
            .count();
        progress(format_args!("K5: ready {took:.1?} after the change, {lists} lists"));
        // With the library's default it would ask for that version for ever.
        ensure!(took < Duration::from_secs(30) && lists >= 2, "{took:?}, {lists} lists");
        // And it follows again, not only lists.
        let took = reaction(&namespace.client, &scenario, 8).await?;
        ensure!(took < Duration::from_secs(5), "{took:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn list_that_is_never_answered_is_given_up_and_asked_again() -> Result<()> {
    let (_turn, cluster) = turn().await?;
    let proxy = ApiProxy::start(cluster, cluster.host_address(), None)?;
    proxy.inject(Fault::Silence, Some(1), |e| e.is_list("configmaps"));
    let options = OperatorOptions::default().through(proxy.kubeconfig());
    let operator = OperatorProcess::start(cluster, options).await?;
    let watch = Stopwatch::start();
    operator.await_ready(PATIENCE).await?;
    progress(format_args!(
        "a list without an answer delays the start by {:.1?}",
        watch.elapsed()
    ));
    Ok(())
}

#[tokio::test]
async fn killed_api_server_and_etcd_are_survived_without_touching_what_runs() -> Result<()> {
    let (_turn, cluster) = turn().await?;
    let (proxy, operator) = through_proxy(cluster).await?;
    with_temp_namespace(cluster, "killed", |namespace| async move {
        let scenario = Scenario::new(&namespace.name, "digits", MODEL);
        scenario.apply(&namespace.client).await?;
        scenario.ready(&namespace.client, PATIENCE).await?;
        let pods: Api<Pod> = Api::namespaced(namespace.client.clone(), &namespace.name);
        let running = || async {
            let all = pods.list(&ListParams::default()).await?.items;
            anyhow::Ok(
                all.into_iter()
                    .map(|pod| (pod.metadata.name, pod.metadata.uid))
                    .collect::<BTreeMap<_, _>>(),
            )
        };
        let before = running().await?;
        for programs in [&["kube-apiserver"][..], &["etcd", "kube-apiserver"][..]] {
            for program in programs {
                cluster.kill_program(program)?;
            }
            for program in programs {
                cluster.start_program(program)?;
            }
            await_api_server(&namespace.client, PATIENCE).await?;
            proxy.forget();
            let most = 8 + u32::try_from(programs.len())?;
            let took = reaction(&namespace.client, &scenario, most).await?;
            progress(format_args!(
                "{programs:?} killed and started again: reacts {took:.1?} after it answers"
            ));
            ensure!(took < PATIENCE, "{took:?}");
            ensure!(
                running().await? == before,
                "pods were replaced: {before:?} to {:?}",
                running().await?
            );
            let mut deletes = proxy.writes(&namespace.name);
            deletes.retain(|write| write.method == http::Method::DELETE);
            ensure!(deletes.is_empty(), "{deletes:?}");
        }
        let (status, text) = operator.ask("/healthz").await?;
        ensure!(status == 200, "{text}");
        Ok(())
    })
    .await
}
