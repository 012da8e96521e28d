//! Certificates that rotate under load without one failed request, and a registration that never takes what belongs to others.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod aggregated;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aggregated::{Api, Ca, Cluster, SharedCluster, front_proxy, metric, quick_settings, until};
use serde_json::{Value, json};
use tidewright_operator::metrics_api::{Lifetimes, Registration};

const USER: (&str, &str) = ("X-Remote-User", "hpa");

fn cluster(ca: &Ca) -> SharedCluster {
    Arc::new(Mutex::new(Cluster {
        front_proxy: front_proxy(&ca.pem, &[]),
        allowed: vec![USER.1.to_owned()],
        ..Cluster::default()
    }))
}

fn foreign(version: &str) -> (String, Value) {
    let name = format!("{version}.custom.metrics.k8s.io");
    let object = json!({
        "kind": "APIService", "apiVersion": "apiregistration.k8s.io/v1", "metadata": { "name": name, "resourceVersion": "7" },
        "spec": {
            "group": "custom.metrics.k8s.io", "version": version, "groupPriorityMinimum": 100, "versionPriority": 100,
            "service": { "namespace": "monitoring", "name": "prometheus-adapter" },
        },
    });
    (name, object)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_certificates_and_three_cas_later_no_request_has_failed() {
    let ca = Ca::new("front-proxy-ca");
    let shared = cluster(&ca);
    let mut settings = quick_settings();
    settings.poll = Duration::from_millis(100);
    settings.lifetimes = Lifetimes {
        ca: Duration::from_secs(12),
        serving: Duration::from_secs(4),
        propagation: Duration::from_secs(1),
    };
    let mut api = Api::start(&shared, settings.clone()).await;
    api.registered().await;
    // A second replica that never leads serves the same certificates.
    let follower = Api::start(&shared, settings).await;
    follower.leader.send_replace(false);
    let identity = ca.client("front-proxy-client", |_| {});
    let path = metric("a", "request_rate");
    until("both replicas are up", || async {
        let both = [&api, &follower].map(|api| {
            api.http(Some(&identity))
                .get(api.url(&path))
                .header(USER.0, USER.1)
                .send()
        });
        let [one, two] = both;
        one.await.is_ok_and(|r| r.status() == 200) && two.await.is_ok_and(|r| r.status() == 200)
    })
    .await;
    let (mut servings, mut cas, mut requests) = (BTreeSet::new(), BTreeSet::new(), 0);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(90);
    while servings.len() < 11 || cas.len() < 4 {
        assert!(
            tokio::time::Instant::now() < deadline,
            "{} certificates, {} CAs",
            servings.len(),
            cas.len()
        );
        for replica in [&api, &follower] {
            // A new connection each time, with the bundle of the moment, as an API server that starts just now.
            let (code, body) = replica.get(&replica.http(Some(&identity)), &path, &[USER]).await;
            assert_eq!(code, 200, "request {requests}: {body}");
            requests += 1;
        }
        let secret = shared.lock().unwrap().secret.clone().unwrap();
        servings.insert(secret["data"]["tls.crt"].to_string());
        cas.insert(secret["data"]["current-ca.crt"].to_string());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(requests > 100, "{requests} requests");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_registered_is_complete_and_then_left_alone() {
    let ca = Ca::new("front-proxy-ca");
    let mut api = Api::start(&cluster(&ca), quick_settings()).await;
    api.registered().await;
    {
        let cluster = api.cluster.lock().unwrap();
        let preferred = &cluster.api_services["v1beta2.custom.metrics.k8s.io"];
        let older = &cluster.api_services["v1beta1.custom.metrics.k8s.io"];
        assert_eq!(
            preferred["spec"]["service"],
            json!({ "namespace": "tidewright-system", "name": "tidewright-metrics-api", "port": 443 })
        );
        assert!(preferred["spec"]["versionPriority"].as_i64() > older["spec"]["versionPriority"].as_i64());
        assert_eq!(preferred["metadata"]["ownerReferences"][0]["kind"], "ClusterRole");
        assert_eq!(preferred["metadata"]["ownerReferences"][0]["uid"], "1-2-3");
    }
    let writes = api.cluster.lock().unwrap().writes.len();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(
        api.cluster.lock().unwrap().writes.len(),
        writes,
        "nothing is written while nothing changes"
    );

    // A change of what is ours is undone.
    api.cluster
        .lock()
        .unwrap()
        .api_services
        .get_mut("v1beta1.custom.metrics.k8s.io")
        .unwrap()["spec"]["caBundle"] = json!("AAAA");
    until("our own CA is back", || async {
        api.cluster.lock().unwrap().api_services["v1beta1.custom.metrics.k8s.io"]["spec"]["caBundle"] != "AAAA"
    })
    .await;

    api.stop.cancel();
    tokio::time::timeout(Duration::from_secs(10), &mut api.ended)
        .await
        .expect("it ends when told")
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_belongs_to_somebody_else_is_left_alone_until_it_is_free() {
    for version in ["v1beta1", "v1beta2", "v1beta3"] {
        let ca = Ca::new("front-proxy-ca");
        let shared = cluster(&ca);
        let (name, object) = foreign(version);
        shared.lock().unwrap().api_services.insert(name.clone(), object.clone());
        let mut api = Api::start(&shared, quick_settings()).await;
        api.wait_for(|registration| {
            *registration
                == Registration::OwnedBySomeoneElse {
                    api_service: name.clone(),
                    service: Some("monitoring/prometheus-adapter".to_owned()),
                }
        })
        .await;
        {
            let cluster = shared.lock().unwrap();
            assert_eq!(cluster.api_services.len(), 1, "{version}: none of ours beside it");
            assert_eq!(cluster.api_services[&name], object, "{version}: not overwritten");
        }
        shared.lock().unwrap().api_services.remove(&name);
        api.registered().await;
        assert_eq!(shared.lock().unwrap().api_services.len(), 2);

        // And the other way round: whoever takes it over from us keeps it.
        shared.lock().unwrap().api_services.insert(name.clone(), object.clone());
        api.wait_for(|registration| matches!(registration, Registration::OwnedBySomeoneElse { .. }))
            .await;
        assert_eq!(shared.lock().unwrap().api_services[&name], object);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_leader_writes() {
    let ca = Ca::new("front-proxy-ca");
    let shared = cluster(&ca);
    let mut settings = quick_settings();
    settings.poll = Duration::from_millis(50);
    let mut api = Api::start(&shared, settings).await;
    api.registered().await;
    api.leader.send_replace(false);
    tokio::time::sleep(Duration::from_millis(200)).await;
    {
        let mut cluster = shared.lock().unwrap();
        cluster.writes.clear();
        cluster.api_services.clear();
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(shared.lock().unwrap().writes.is_empty());
    api.leader.send_replace(true);
    until("the new leader writes", || async {
        shared.lock().unwrap().api_services.len() == 2
    })
    .await;
}
