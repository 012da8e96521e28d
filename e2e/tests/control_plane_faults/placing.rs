//! Which pods go when a pool of mode Direct shrinks: the real ReplicaSet controller removes the emptiest, as their servers say. The pods run nothing; the test
//! answers for them, at their own addresses.
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result, ensure};
use http::Method;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;
use tidewright_api::labels;
use tidewright_contract::routes::ADMIN_PORT;
use tidewright_contract::signals::{Signals, VERSION};
use tidewright_e2e::api_proxy::{Exchange, Fault};
use tidewright_e2e::fixtures::Scenario;
use tidewright_e2e::namespace::with_temp_namespace;
use tidewright_e2e::wait::{Seen, await_condition};
use tokio::net::TcpListener;

use super::{MODEL, PATIENCE, through_proxy, turn};

/// What the server of a pod would say.
#[derive(Debug, Default)]
struct Server {
    in_flight: AtomicU64,
    asked: AtomicU64,
}

impl Server {
    /// Answers at the address of the pod.
    async fn of(pod: &Pod) -> Result<Arc<Self>> {
        let status = pod.status.as_ref().context("a pod without status")?;
        let address = status.pod_ip.as_ref().context("a pod without address")?.parse()?;
        let listener = TcpListener::bind(SocketAddr::new(address, ADMIN_PORT)).await?;
        let server = Arc::new(Self::default());
        let shared = Arc::clone(&server);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = Arc::clone(&shared);
                let service = service_fn(move |_: Request<Incoming>| {
                    let answer = server.answer();
                    async move { Ok::<_, Infallible>(Response::new(answer)) }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Ok(server)
    }

    fn answer(&self) -> String {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let said = Signals {
            version: VERSION,
            process: 1,
            arrivals: 0,
            completions: 0,
            service_seconds: 0.0,
            queued: 0,
            in_flight: self.in_flight.load(Ordering::SeqCst),
        };
        serde_json::to_string(&said).unwrap()
    }
}

/// The pods of a service that are there, by name, with their servers.
struct Servers {
    client: Client,
    service: Scenario,
    all: BTreeMap<String, Arc<Server>>,
}

impl Servers {
    /// Waits until there are so many pods, and answers for those that are new; their names.
    async fn join(&mut self, count: usize) -> Result<Vec<String>> {
        let pods = await_condition(&format!("{count} pods with addresses"), PATIENCE, || async {
            let pods = self.service.pods(&self.client).await?;
            let running = pods.iter().filter(|pod| address(pod).is_some()).count();
            Ok(if running == count && pods.len() == count {
                Seen::Done(pods)
            } else {
                Seen::NotYet(format!("{running} of {}", pods.len()))
            })
        })
        .await?;
        let mut new = Vec::new();
        for pod in pods {
            let name = pod.name_any();
            if !self.all.contains_key(&name) {
                self.all.insert(name.clone(), Server::of(&pod).await?);
                new.push(name);
            }
        }
        Ok(new)
    }

    /// Sets what pods have to do, and waits until the operator has heard it: the second question after it comes when the first answer has been taken in.
    async fn work(&self, in_flight: &[(&str, u64)]) -> Result<()> {
        for (pod, count) in in_flight {
            self.all[*pod].in_flight.store(*count, Ordering::SeqCst);
        }
        let asked = || -> BTreeMap<&str, u64> {
            let all = self.all.iter();
            all.map(|(pod, server)| (pod.as_str(), server.asked.load(Ordering::SeqCst)))
                .collect()
        };
        let before = asked();
        await_condition("every pod to be asked twice more", PATIENCE, || async {
            let now = asked();
            let is_heard = now.iter().all(|(pod, count)| *count >= before[pod] + 2);
            Ok(if is_heard {
                Seen::Done(())
            } else {
                Seen::NotYet(format!("{before:?}, {now:?}"))
            })
        })
        .await
    }

    /// Bounds the pool: it shrinks at once to its maximum, however little is known yet.
    async fn bound(&self, fewest: u32, most: u32) -> Result<()> {
        let service = self.service.clone().with("/minReplicas", json!(fewest));
        let service = service.with("/maxReplicas", json!(most));
        service.apply(&self.client).await.map(drop)
    }

    /// Waits until these pods are left, and no others.
    async fn left(&mut self, expected: &[&str]) -> Result<()> {
        let left = await_condition("the pool to have shrunk", PATIENCE, || async {
            let pods = self.service.pods(&self.client).await?;
            let mut names: Vec<String> = pods.iter().map(kube::ResourceExt::name_any).collect();
            names.sort();
            Ok(if names.len() == expected.len() {
                Seen::Done(names)
            } else {
                Seen::NotYet(format!("{names:?}"))
            })
        })
        .await?;
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        ensure!(left == expected, "left: {left:?}, expected: {expected:?}");
        self.all.retain(|pod, _| left.contains(pod));
        Ok(())
    }

    /// Waits until these pods have these costs, and the others none.
    async fn costs(&self, expected: &[(&str, &str)]) -> Result<()> {
        await_condition(&format!("the costs to be {expected:?}"), PATIENCE, || async {
            let pods = self.service.pods(&self.client).await?;
            let costs: BTreeMap<String, String> = pods
                .iter()
                .filter_map(|pod| Some((pod.name_any(), pod.annotations().get(labels::DELETION_COST)?.clone())))
                .collect();
            let expected = expected
                .iter()
                .map(|(pod, cost)| ((*pod).to_owned(), (*cost).to_owned()));
            Ok(if costs == expected.collect() {
                Seen::Done(())
            } else {
                Seen::NotYet(format!("{costs:?}"))
            })
        })
        .await
    }
}

fn address(pod: &Pod) -> Option<&str> {
    pod.status.as_ref()?.pod_ip.as_deref()
}

fn is_patch(exchange: &Exchange, part: &str) -> bool {
    exchange.method == Method::PATCH && exchange.path.contains(part)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_shrinks_loses_its_emptiest_pod_and_not_a_busy_one() -> Result<()> {
    let (_turn, cluster) = turn().await?;
    cluster.network().answer_for_pods()?;
    let (proxy, operator) = through_proxy(cluster).await?;
    with_temp_namespace(cluster, "placing", |namespace| async move {
        let client = &namespace.client;
        let rate = json!({"type": "RequestRate", "target": {"type": "AverageValue", "averageValue": "10"}});
        let service = Scenario::new(&namespace.name, "digits", MODEL)
            .with("/autoScaling", json!({"mode": "Direct", "metrics": [rate]}));
        let (client, all) = (client.clone(), BTreeMap::new());
        let mut servers = Servers { client, service, all };
        servers.bound(1, 5).await?;
        let eldest = servers.join(1).await?.remove(0);
        age(&servers, &eldest).await?;
        servers.bound(4, 5).await?;
        let new = servers.join(4).await?;
        let [a, b, c] = [0, 1, 2].map(|index: usize| new[index].as_str());

        // By itself Kubernetes removes one of the young ones.
        servers.work(&[(&eldest, 0), (a, 4), (b, 2), (c, 7)]).await?;
        servers.bound(1, 3).await?;
        servers.left(&[a, b, c]).await?;
        servers.costs(&[]).await?;

        // A shrink that fails leaves its costs, and the next one goes by what is so then.
        proxy.inject(Fault::Answer(500), None, |exchange| {
            is_patch(exchange, "/deployments/digits-cpu/scale")
        });
        servers.work(&[(a, 0), (b, 2), (c, 7)]).await?;
        servers.bound(1, 2).await?;
        servers.costs(&[(a, "-1")]).await?;
        servers.work(&[(a, 9), (b, 2), (c, 1)]).await?;
        servers.costs(&[(c, "-1")]).await?;
        proxy.heal();
        servers.left(&[a, b]).await?;
        servers.costs(&[]).await?;

        // Costs that cannot be written keep nothing from shrinking.
        proxy.inject(Fault::Answer(403), None, |exchange| is_patch(exchange, "/pods/"));
        servers.work(&[(a, 9), (b, 0)]).await?;
        servers.bound(1, 1).await?;
        let deployments: Api<Deployment> = Api::namespaced(servers.client.clone(), &servers.service.namespace);
        await_condition("the pool to shrink all the same", PATIENCE, || async {
            let replicas = deployments.get("digits-cpu").await?.spec.replicas;
            Ok(if replicas == Some(1) {
                Seen::Done(())
            } else {
                Seen::NotYet(format!("{replicas:?}"))
            })
        })
        .await?;
        let counted = async |outcome: &str| {
            operator
                .metric(
                    "tidewright_operator_deletion_costs_total",
                    &format!("outcome=\"{outcome}\""),
                )
                .await
        };
        ensure!(counted("Ok").await? >= 4.0 && counted("Forbidden").await? >= 1.0);
        proxy.heal();
        Ok(())
    })
    .await
}

/// Makes a pod the oldest by far.
async fn age(servers: &Servers, pod: &str) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(servers.client.clone(), &servers.service.namespace);
    let ready = json!({"type": "Ready", "lastTransitionTime": "2020-01-01T00:00:00Z"});
    let patch = Patch::Strategic(json!({"status": {"conditions": [ready]}}));
    pods.patch_status(pod, &PatchParams::default(), &patch).await?;
    Ok(())
}
