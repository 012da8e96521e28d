//! The real autoscaler of Kubernetes reads our metrics API, which reads a real Prometheus.
use std::ops::Deref;
use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::{Api, Client};
use serde_json::{Value, json};
use tidewright_e2e::api_proxy::ApiProxy;
use tidewright_e2e::chart_rights;
use tidewright_e2e::clock::Stopwatch;
use tidewright_e2e::console::progress;
use tidewright_e2e::control_plane::ControlPlane;
use tidewright_e2e::dump::OPERATOR_NAMESPACE;
use tidewright_e2e::fixtures::{self, Scenario};
use tidewright_e2e::namespace::with_temp_namespace;
use tidewright_e2e::operator_process::{OperatorOptions, OperatorProcess};
use tidewright_e2e::wait::{Seen, await_condition};

use super::signals::{Exporter, Load, Prometheus};
use super::{MODEL, PATIENCE, turn};

/// What an operator with a metrics API registers.
pub(super) const API_SERVICES: [&str; 2] = ["v1beta1.custom.metrics.k8s.io", "v1beta2.custom.metrics.k8s.io"];
const GROUP: &str = "/apis/custom.metrics.k8s.io/v1beta2";

/// An operator with the chart's rights, and what it needs to have them.
pub(super) struct Operator {
    process: OperatorProcess<'static>,
    pub(super) proxy: ApiProxy,
}

impl Deref for Operator {
    type Target = OperatorProcess<'static>;

    fn deref(&self) -> &OperatorProcess<'static> {
        &self.process
    }
}

/// Starts an operator with its metrics API, and the Service that leads the API server to it.
pub(super) async fn operator(cluster: &'static ControlPlane, prometheus: &Prometheus) -> Result<Operator> {
    operator_with(cluster, prometheus, &[]).await
}

/// The same with further arguments.
pub(super) async fn operator_with(
    cluster: &'static ControlPlane,
    prometheus: &Prometheus,
    arguments: &[&str],
) -> Result<Operator> {
    let (proxy, role) = chart_rights::proxy(cluster, "").await?;
    let mut options = OperatorOptions::default()
        .through(proxy.kubeconfig())
        .argument(format!("--owner-cluster-role={role}"))
        .argument(format!("--prometheus-url=http://{}", prometheus.address))
        // Its pods have no containers: nobody would answer, and nothing shrink.
        .argument("--ask-pods=false")
        .argument("--query-interval-seconds=1")
        .argument("--scrape-interval-seconds=2");
    options.metrics_api = true;
    options
        .arguments
        .extend(arguments.iter().map(|argument| (*argument).to_owned()));
    let operator = OperatorProcess::start(cluster, options).await?;
    let (name, port) = ("tidewright-operator", operator.metrics_api.port());
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": OPERATOR_NAMESPACE},
        "spec": {"ports": [{"port": 443, "targetPort": port}]}});
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": name, "namespace": OPERATOR_NAMESPACE, "labels": {"kubernetes.io/service-name": name}},
        "endpoints": [{"addresses": [operator.metrics_api.ip().to_string()]}], "ports": [{"port": port}]});
    cluster.apply(&[service, slice]).await?;
    Ok(Operator {
        process: operator,
        proxy,
    })
}

pub(super) async fn await_replicas(client: &Client, scenario: &Scenario, wanted: i32) -> Result<Duration> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), &scenario.namespace);
    let name = format!("{}-cpu", scenario.name);
    let watch = Stopwatch::start();
    await_condition(&format!("{name} to have {wanted} replicas"), PATIENCE, || async {
        let replicas = deployments.get(&name).await?.spec.replicas.unwrap_or(1);
        let service = scenario.api(client).get(&scenario.name).await?;
        Ok(if replicas == wanted {
            Seen::Done(())
        } else {
            Seen::NotYet(format!("{replicas}; {}", fixtures::conditions(&service)))
        })
    })
    .await?;
    Ok(watch.elapsed())
}

pub(super) async fn await_scaling(client: &Client, scenario: &Scenario, reason: &str) -> Result<String> {
    await_condition(&format!("ScalingReady to be {reason}"), PATIENCE, || async {
        let service = scenario.api(client).get(&scenario.name).await?;
        let all = service.status.iter().flat_map(|status| &status.conditions);
        let found = all
            .into_iter()
            .find(|c| c.type_ == "ScalingReady" && c.reason == reason);
        Ok(match found {
            Some(condition) => Seen::Done(condition.message.clone()),
            None => Seen::NotYet(fixtures::conditions(&service)),
        })
    })
    .await
}

/// Why a pool has as many replicas as it has.
pub(super) async fn decision(client: &Client, scenario: &Scenario, reason: &str) -> Result<()> {
    await_condition(&format!("the decision to be {reason}"), PATIENCE, || async {
        let service = scenario.api(client).get(&scenario.name).await?;
        let decision = service
            .status
            .and_then(|status| status.pools.into_iter().next()?.decision);
        Ok(match decision {
            Some(decision) if decision.reason == reason => Seen::Done(()),
            other => Seen::NotYet(format!("{other:?}")),
        })
    })
    .await
}

#[tokio::test]
async fn real_autoscaler_follows_rate_queue_and_concurrency_and_holds_while_prometheus_is_dead() -> Result<()> {
    let (_turn, cluster) = turn().await?;
    let exporter = Exporter::start(cluster).await?;
    let prometheus = Prometheus::start(cluster, exporter.address)?;
    let operator = operator(cluster, &prometheus).await?;
    operator.await_ready(PATIENCE).await?;
    let outcome = with_temp_namespace(cluster, "signals", |namespace| async move {
        let client = &namespace.client;
        let rate = Scenario::new(&namespace.name, "rate", MODEL).request_rate("10");
        let queue = Scenario::new(&namespace.name, "queue", MODEL).queue_depth("5");
        let work = Scenario::new(&namespace.name, "work", MODEL).concurrency("10");
        for scenario in [&rate, &queue, &work] {
            scenario.apply(client).await?;
        }
        for scenario in [&rate, &queue, &work] {
            scenario.ready(client, PATIENCE).await?;
            await_scaling(client, scenario, "Scaling").await?;
        }
        exporter.set("rate", Load { rate: 35.0, queue: 0.0 });
        exporter.set("queue", Load { rate: 1.0, queue: 18.0 });
        exporter.set("work", Load { rate: 1.0, queue: 18.0 });
        let by_rate = await_replicas(client, &rate, 4).await?;
        let by_queue = await_replicas(client, &queue, 4).await?;
        await_replicas(client, &work, 4).await?;
        progress(format_args!(
            "from load to replicas: request rate {by_rate:.1?}, queue depth {by_queue:.1?} (seen after it)"
        ));
        decision(client, &rate, "RequestRate").await?;
        decision(client, &queue, "QueueDepth").await?;
        decision(client, &work, "Concurrency").await?;
        rights(cluster, &namespace.name, operator.metrics_api).await?;

        prometheus.kill()?;
        exporter.set("rate", Load::default());
        exporter.set("queue", Load::default());
        exporter.set("work", Load::default());
        let message = await_scaling(client, &rate, "MetricsUnavailable").await?;
        ensure!(
            message.contains("RequestRate") && message.contains("nothing is scaled down"),
            "{message}"
        );
        await_scaling(client, &queue, "MetricsUnavailable").await?;
        hold(client, &rate, 4).await?;
        hold(client, &queue, 4).await?;
        hold(client, &work, 4).await?;
        prometheus.start_again()?;
        await_replicas(client, &rate, 1).await?;
        await_replicas(client, &queue, 1).await?;
        await_replicas(client, &work, 1).await?;
        await_scaling(client, &rate, "Scaling").await?;

        // An edit that cannot be acted on: what ran before goes on scaling, by the signals that it had.
        let cache = json!({"memory": {"maxBytes": "200Mi", "ttl": "5m"}});
        rate.clone().with_spec("/cache", cache).apply(client).await?;
        await_scaling(client, &rate, "InvalidSpec").await?;
        exporter.set("rate", Load { rate: 35.0, queue: 0.0 });
        await_replicas(client, &rate, 4).await?;
        await_condition("the refused service to be counted on", PATIENCE, || async {
            let status = rate.api(client).get("rate").await?.status.unwrap_or_default();
            Ok(if status.desired_replicas == Some(4) {
                Seen::Done(())
            } else {
                Seen::NotYet(format!("{:?}", status.desired_replicas))
            })
        })
        .await
    })
    .await;
    unregister(cluster).await?;
    outcome
}

#[tokio::test]
async fn autoscaler_holds_when_prometheus_comes_back_under_load() -> Result<()> {
    let (_turn, cluster) = turn().await?;
    let exporter = Exporter::start(cluster).await?;
    let prometheus = Prometheus::start(cluster, exporter.address)?;
    let operator = operator(cluster, &prometheus).await?;
    operator.await_ready(PATIENCE).await?;
    let outcome = with_temp_namespace(cluster, "return", |namespace| async move {
        let client = &namespace.client;
        let rate = Scenario::new(&namespace.name, "rate", MODEL).request_rate("10");
        rate.apply(client).await?;
        rate.ready(client, PATIENCE).await?;
        await_scaling(client, &rate, "Scaling").await?;
        exporter.set("rate", Load { rate: 38.0, queue: 0.0 });
        await_replicas(client, &rate, 4).await?;
        // Longer than the window of the rate, and than that in which the autoscaler remembers what it wanted.
        prometheus.kill()?;
        await_scaling(client, &rate, "MetricsUnavailable").await?;
        hold(client, &rate, 4).await?;
        prometheus.start_again()?;
        // From the first scrape on, over the time in which the window fills, and after it.
        hold(client, &rate, 4).await?;
        await_scaling(client, &rate, "Scaling").await?;
        hold(client, &rate, 4).await?;
        Ok(())
    })
    .await;
    unregister(cluster).await?;
    outcome
}

/// Three times the window after which the autoscaler would scale down, if it believed in no load.
async fn hold(client: &Client, scenario: &Scenario, replicas: i32) -> Result<()> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), &scenario.namespace);
    let watch = Stopwatch::start();
    let left = await_condition("some time without a change", PATIENCE, || async {
        let now = deployments.get(&format!("{}-cpu", scenario.name)).await?.spec.replicas;
        Ok(if now != Some(replicas) {
            Seen::Done(now)
        } else if watch.elapsed() > Duration::from_secs(15) {
            Seen::Done(None)
        } else {
            Seen::not_yet("it holds")
        })
    })
    .await?;
    ensure!(left.is_none(), "scaled to {left:?} without a signal");
    Ok(())
}

/// Who may read a metric: whom RBAC lets, by namespace; nobody who comes without the API server.
async fn rights(cluster: &ControlPlane, namespace: &str, direct: std::net::SocketAddr) -> Result<()> {
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "reader", "namespace": namespace},
        "rules": [{"apiGroups": ["custom.metrics.k8s.io"], "resources": ["inferenceservices.serving.tidewright.dev/request_rate"], "verbs": ["get"]}]});
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "reader", "namespace": namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "reader"}]});
    cluster.apply(&[role, binding]).await?;
    let url = |namespace: &str, metric: &str| {
        format!(
            "{GROUP}/namespaces/{namespace}/inferenceservices.serving.tidewright.dev/rate/{metric}?metricLabelSelector=pool%3Dcpu"
        )
    };
    let read =
        |url: String, user: &'static str| async move { cluster.kubectl(["get", "--raw", &url, "--as", user]).await };
    let list = await_condition("the right to be in force", PATIENCE, || async {
        let text = read(url(namespace, "request_rate"), "reader").await?;
        Ok(Seen::Done(serde_json::from_str::<Value>(&text)?))
    })
    .await?;
    ensure!(list["items"][0]["describedObject"]["name"] == "rate", "{list}");
    for (place, metric, user) in [
        (namespace, "request_rate", "somebody"),
        (namespace, "queue_depth", "reader"),
        ("default", "request_rate", "reader"),
    ] {
        let refused = read(url(place, metric), user).await.unwrap_err().to_string();
        ensure!(
            refused.contains("Forbidden") || refused.contains("forbidden"),
            "{refused}"
        );
    }
    let client = reqwest::Client::builder()
        .tls_danger_accept_invalid_certs(true)
        .no_proxy()
        .build()?;
    let answer = client
        .get(format!("https://{direct}{}", url(namespace, "request_rate")))
        .header("X-Remote-User", "system:admin")
        .header("X-Remote-Group", "system:masters")
        .send()
        .await?;
    ensure!(answer.status() == 401, "{}", answer.status());
    Ok(())
}

#[tokio::test]
async fn metrics_api_of_another_program_is_left_alone_and_cpu_scales_alone() -> Result<()> {
    let (_turn, cluster) = turn().await?;
    cluster.apply(&[foreign()]).await?;
    let exporter = Exporter::start(cluster).await?;
    let prometheus = Prometheus::start(cluster, exporter.address)?;
    let operator = operator(cluster, &prometheus).await?;
    let outcome = with_temp_namespace(cluster, "taken", |namespace| async move {
        let client = &namespace.client;
        let scenario = Scenario::new(&namespace.name, "digits", MODEL)
            .cpu(70)
            .request_rate("10");
        // Names no signals: the defaults are CPU, request rate and queue depth.
        let defaults = Scenario::new(&namespace.name, "defaults", MODEL);
        for scenario in [&scenario, &defaults] {
            scenario.apply(client).await?;
            scenario.ready(client, PATIENCE).await?;
        }
        await_metrics(client, &defaults, &["ContainerResource"]).await?;
        await_metrics(client, &scenario, &["ContainerResource", "Object"]).await?;
        let message = await_scaling(client, &scenario, "MetricsApiTaken").await?;
        ensure!(message.contains("nothing is scaled down"), "{message}");
        let message = await_scaling(client, &defaults, "MetricsApiTaken").await?;
        ensure!(message.contains("CPU alone scales, up and down"), "{message}");
        ensure!(
            message.contains("v1beta1.custom.metrics.k8s.io") && message.contains("monitoring/prometheus-adapter"),
            "{message}"
        );
        let list = ["get", "apiservices", "--output=json"];
        let all: Value = serde_json::from_str(&cluster.kubectl(list).await?)?;
        let of_group: Vec<&Value> = all["items"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|item| item["spec"]["group"] == "custom.metrics.k8s.io")
            .collect();
        ensure!(of_group.len() == 1, "{of_group:?}");
        ensure!(
            of_group[0]["spec"]["service"]["name"] == "prometheus-adapter",
            "{of_group:?}"
        );
        await_condition("the event", PATIENCE, || async {
            let events = cluster
                .kubectl(["get", "events", "--namespace", &namespace.name])
                .await?;
            // With its text: who has it.
            let is_told =
                |line: &str| line.contains("MetricsApiTaken") && line.contains("monitoring/prometheus-adapter");
            Ok(if events.lines().any(is_told) {
                Seen::Done(())
            } else {
                Seen::NotYet(events)
            })
        })
        .await?;
        let (status, text) = operator.ask("/readyz").await?;
        ensure!(status == 200, "{text}");

        // The other program is removed: what was left out is there again.
        unregister(cluster).await?;
        await_metrics(client, &defaults, &["ContainerResource", "Object", "Object"]).await?;
        Ok(())
    })
    .await;
    unregister(cluster).await?;
    outcome
}

/// The group in the hands of another program.
pub(super) fn foreign() -> Value {
    json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": API_SERVICES[0]},
        "spec": {"group": "custom.metrics.k8s.io", "version": "v1beta1", "groupPriorityMinimum": 100, "versionPriority": 100,
            "insecureSkipTLSVerify": true, "caBundle": null, "service": {"name": "prometheus-adapter", "namespace": "monitoring", "port": 443}}})
}

/// Waits until the autoscaler of a service reads metrics of these types.
async fn await_metrics(client: &Client, scenario: &Scenario, wanted: &[&str]) -> Result<()> {
    let autoscalers: Api<HorizontalPodAutoscaler> = Api::namespaced(client.clone(), &scenario.namespace);
    let name = format!("{}-cpu", scenario.name);
    await_condition(&format!("{name} to read {wanted:?}"), PATIENCE, || async {
        let metrics = autoscalers.get(&name).await?.spec.metrics.unwrap_or_default();
        let types: Vec<String> = metrics.into_iter().map(|metric| metric.type_).collect();
        Ok(if types == wanted {
            Seen::Done(())
        } else {
            Seen::NotYet(format!("{types:?}"))
        })
    })
    .await
}

/// Without an answering server, an APIService would keep namespaces from being deleted.
pub(super) async fn unregister(cluster: &ControlPlane) -> Result<()> {
    let arguments = [
        "delete",
        "apiservice",
        "--ignore-not-found",
        API_SERVICES[0],
        API_SERVICES[1],
    ];
    cluster.kubectl(arguments).await.map(drop)
}
