//! Who may read which metric: over real TLS sockets, with every way to get in that should not work.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod aggregated;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use aggregated::{Api, Ca, Cluster, GROUP, SharedCluster, front_proxy, metric, publish, quick_settings, until};
use rcgen::ExtendedKeyUsagePurpose;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::json;
use tidewright_operator::clock::{Clock, SystemClock};

const USER: (&str, &str) = (
    "X-Remote-User",
    "system:serviceaccount:kube-system:horizontal-pod-autoscaler",
);

fn cluster(ca: &Ca) -> SharedCluster {
    Arc::new(Mutex::new(Cluster {
        front_proxy: front_proxy(&ca.pem, &["front-proxy-client"]),
        allowed: vec![USER.1.to_owned()],
        ..Cluster::default()
    }))
}

async fn started() -> (Ca, Api) {
    let ca = Ca::new("front-proxy-ca");
    let mut api = Api::start(&cluster(&ca), quick_settings()).await;
    api.registered().await;
    let good = api.http(Some(&ca.client("front-proxy-client", |_| {})));
    until("the front proxy's CA is loaded", || async {
        api.get(&good, "/apis", &[USER]).await.0 == 200
    })
    .await;
    (ca, api)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_front_proxy_reads_what_its_user_may() {
    let (ca, api) = started().await;
    let http = api.http(Some(&ca.client("front-proxy-client", |_| {})));
    let groups = [
        ("X-Remote-Group", "system:serviceaccounts"),
        ("X-Remote-Group", "system:authenticated"),
    ];
    let extra = ("X-Remote-Extra-Authentication.kubernetes.io%2fcredential-id", "JTI=1");
    let path = format!("{}?metricLabelSelector=pool%3Dcpu", metric("a", "request_rate"));
    let (code, body) = api
        .get(
            &http,
            &path,
            &[USER, groups[0], groups[1], extra, ("X-Remote-Uid", "u1")],
        )
        .await;
    assert_eq!(code, 200, "{body}");
    assert_eq!(body["items"].as_array().unwrap().len(), 1);
    assert_eq!(body["items"][0]["value"], "12500m");
    assert_eq!(
        api.cluster.lock().unwrap().reviews.last().unwrap(),
        &json!({
            "user": USER.1,
            "uid": "u1",
            "groups": ["system:serviceaccounts", "system:authenticated"],
            "extra": { "authentication.kubernetes.io/credential-id": ["JTI=1"] },
            "resourceAttributes": {
                "namespace": "a", "verb": "get", "group": "custom.metrics.k8s.io", "version": "v1beta2",
                "resource": "inferenceservices.serving.tidewright.dev", "subresource": "request_rate", "name": "digits",
            },
        })
    );

    let (_, other) = api.get(&http, &metric("b", "request_rate"), &[USER]).await;
    assert_eq!(other["items"][0]["value"], "99", "each namespace has its own number");
    let (_, external) = api.get(&http, &metric("a", "external-lag"), &[USER]).await;
    assert_eq!(external["items"][0]["value"], "7250m");
    let old = metric("a", "request_rate").replace("v1beta2", "v1beta1");
    let (code, old) = api.get(&http, &old, &[USER]).await;
    assert_eq!((code, &old["items"][0]["metricName"]), (200, &json!("request_rate")));

    for (namespace, name, expected, message) in [
        (
            "a",
            "queue_depth",
            503,
            "queue_depth of InferenceService a/digits: StaleSamples: the newest sample of queue_depth is 47s old",
        ),
        ("unread", "request_rate", 503, "NotYetRead"),
        ("nowhere", "request_rate", 404, "nowhere/digits is not there"),
        ("a", "external-other", 404, "no external metric \"other\""),
        (
            "a",
            "request_rate?metricLabelSelector=pool%3Dgpu",
            404,
            "no pool \"gpu\"",
        ),
        ("a", "request_rate?metricLabelSelector=pool!%3Dgpu", 400, "pool=NAME"),
    ] {
        let (code, body) = api.get(&http, &metric(namespace, name), &[USER]).await;
        assert_eq!(
            (code, &body["kind"]),
            (expected, &json!("Status")),
            "{namespace} {name}: {body}"
        );
        assert_eq!(body["code"], expected);
        assert!(body["message"].as_str().unwrap().contains(message), "{body}");
        assert!(body.get("items").is_none());
    }
    publish(
        &api.published,
        SystemClock.now() - jiff::SignedDuration::from_secs(60),
        Duration::from_secs(18),
    );
    let (code, body) = api.get(&http, &metric("a", "request_rate"), &[USER]).await;
    assert_eq!(code, 503, "a source that stopped has no numbers: {body}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_else_gets_in() {
    let (ca, api) = started().await;
    let reviews = api.cluster.lock().unwrap().reviews.len();
    // The same names, but another key.
    let impostor = Ca::new("front-proxy-ca");
    let rows = [
        ("no certificate", None),
        ("another CA", Some(impostor.client("front-proxy-client", |_| {}))),
        ("another common name", Some(ca.client("somebody", |_| {}))),
        (
            "no common name",
            Some(ca.client("front-proxy-client", |params| {
                params.distinguished_name = rcgen::DistinguishedName::new();
            })),
        ),
        (
            "two common names",
            Some(ca.client("somebody", |params| {
                params.distinguished_name.push(rcgen::DnType::OrganizationName, "x");
                params
                    .distinguished_name
                    .push(rcgen::DnType::CommonName, "somebody,CN=front-proxy-client");
            })),
        ),
        (
            "expired",
            Some(ca.client("front-proxy-client", |params| {
                params.not_after = rcgen::date_time_ymd(2020, 1, 1);
            })),
        ),
        (
            "not valid yet",
            Some(ca.client("front-proxy-client", |params| {
                params.not_before = rcgen::date_time_ymd(4000, 1, 1);
            })),
        ),
        (
            "a server's certificate",
            Some(ca.client("front-proxy-client", |params| {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            })),
        ),
    ];
    for (name, identity) in rows {
        let http = api.http(identity.as_deref());
        for path in ["/apis", GROUP, "/openapi/v2", "/nowhere", &metric("a", "request_rate")] {
            let (code, body) = api
                .get(&http, path, &[USER, ("X-Remote-Group", "system:masters")])
                .await;
            assert_eq!(
                (code, &body["reason"]),
                (401, &json!("Unauthorized")),
                "{name} {path}: {body}"
            );
        }
        // The public API's way to say who one is counts for nothing here.
        let (code, _) = api
            .get(
                &http,
                &metric("a", "request_rate"),
                &[("Authorization", "Bacon x"), USER],
            )
            .await;
        assert_eq!(code, 401, "{name}");
    }
    let good = api.http(Some(&ca.client("front-proxy-client", |_| {})));
    for headers in [
        &[][..],
        &[("X-Remote-User", "")],
        &[("X-Remote-Group", "system:masters")],
    ] {
        assert_eq!(
            api.get(&good, &metric("a", "request_rate"), headers).await.0,
            401,
            "{headers:?}"
        );
    }
    assert_eq!(
        api.cluster.lock().unwrap().reviews.len(),
        reviews,
        "no review for the unknown"
    );
    let plain = reqwest::Client::new()
        .get(format!("http://{}/apis", api.address))
        .send()
        .await;
    assert!(plain.is_err(), "no TLS, no answer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cluster_decides_who_may_and_is_asked_again() {
    let (ca, api) = started().await;
    let http = api.http(Some(&ca.client("front-proxy-client", |_| {})));
    let path = metric("a", "request_rate");
    let mallory = [("X-Remote-User", "mallory")];
    let (code, body) = api.get(&http, &path, &mallory).await;
    assert_eq!((code, &body["reason"]), (403, &json!("Forbidden")));
    // Whether there is such a service is nothing that who may not ask learns.
    assert_eq!(
        api.get(&http, &metric("nowhere", "request_rate"), &mallory).await.0,
        403
    );
    assert_eq!(
        api.get(&http, "/apis", &mallory).await.0,
        200,
        "discovery is for every user"
    );

    let before = api.cluster.lock().unwrap().reviews.len();
    for _ in 0..5 {
        assert_eq!(api.get(&http, &path, &[USER]).await.0, 200);
    }
    assert_eq!(
        api.cluster.lock().unwrap().reviews.len(),
        before + 1,
        "an answer is remembered"
    );
    // Somebody else, elsewhere, or another metric is another question.
    assert_eq!(api.get(&http, &metric("b", "request_rate"), &[USER]).await.0, 200);
    assert_eq!(api.get(&http, &metric("a", "external-lag"), &[USER]).await.0, 200);
    assert_eq!(api.get(&http, &path, &[USER, ("X-Remote-Group", "x")]).await.0, 200);
    assert_eq!(api.cluster.lock().unwrap().reviews.len(), before + 4);

    api.cluster.lock().unwrap().allowed.clear();
    until("a right that was taken away is gone", || async {
        api.get(&http, &path, &[USER]).await.0 == 403
    })
    .await;

    {
        let mut cluster = api.cluster.lock().unwrap();
        cluster.allowed = vec![USER.1.to_owned()];
        cluster.reviews_fail = true;
    }
    until("no answer is a no", || async {
        api.get(&http, &path, &[USER]).await.0 == 503
    })
    .await;
    let (_, body) = api.get(&http, &path, &[USER]).await;
    assert!(body.get("items").is_none(), "{body}");

    for method in [
        reqwest::Method::POST,
        reqwest::Method::PUT,
        reqwest::Method::DELETE,
        reqwest::Method::PATCH,
        reqwest::Method::OPTIONS,
    ] {
        let request = http.request(method.clone(), api.url(&path)).header(USER.0, USER.1);
        assert_eq!(request.send().await.unwrap().status().as_u16(), 405, "{method}");
    }
    assert!(
        api.counters
            .snapshot()
            .iter()
            .any(|(code, count)| *code == 405 && *count == 5)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotated_front_proxy_is_followed_on_open_connections() {
    let (ca, api) = started().await;
    let old = api.http(Some(&ca.client("front-proxy-client", |_| {})));
    let path = metric("a", "request_rate");
    assert_eq!(api.get(&old, &path, &[USER]).await.0, 200);
    let next = Ca::new("front-proxy-ca-2");
    let new = api.http(Some(&next.client("aggregator", |_| {})));
    assert_eq!(api.get(&new, &path, &[USER]).await.0, 401);
    api.cluster.lock().unwrap().front_proxy = front_proxy(&next.pem, &["aggregator"]);
    until("the new CA is trusted", || async {
        api.get(&new, &path, &[USER]).await.0 == 200
    })
    .await;
    assert_eq!(
        api.get(&old, &path, &[USER]).await.0,
        401,
        "the old one no longer, on an open connection"
    );

    // Nonsense is not taken over; an empty list of names is Kubernetes' way to say any.
    api.cluster.lock().unwrap().front_proxy =
        json!({ "requestheader-client-ca-file": "nonsense", "requestheader-allowed-names": "[" });
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(api.get(&new, &path, &[USER]).await.0, 200);
    api.cluster.lock().unwrap().front_proxy = front_proxy(&next.pem, &[]);
    let anyone = api.http(Some(&next.client("anyone", |_| {})));
    until("any name is allowed", || async {
        api.get(&anyone, &path, &[USER]).await.0 == 200
    })
    .await;
    api.cluster.lock().unwrap().front_proxy = json!({});
    until("without a front proxy nobody is let in", || async {
        api.get(&new, &path, &[USER]).await.0 == 401
    })
    .await;
}

/// Whoever can reach the port can open connections; the API server must still find a place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_cannot_take_all_places() {
    let (ca, api) = started().await;
    let mut roots = rustls::RootCertStore::empty();
    let bundle = api.cluster.lock().unwrap().ca_bundle().expect("registered");
    for certificate in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let config = rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let mut held = Vec::new();
    for _ in 0..300 {
        let connect = async {
            let stream = tokio::net::TcpStream::connect(api.address).await.ok()?;
            let name = ServerName::try_from(aggregated::NAME).unwrap();
            connector.connect(name, stream).await.ok()
        };
        // Beyond the places of all, a connection waits: that is what the next one would meet.
        match tokio::time::timeout(Duration::from_secs(1), connect).await {
            Ok(stream) => held.extend(stream),
            Err(_) => break,
        }
    }
    assert!(held.len() > 64, "{} connections are not many", held.len());
    let front_proxy = api.http(Some(&ca.client("front-proxy-client", |_| {})));
    let asking = api.get(&front_proxy, "/apis", &[USER]);
    let (code, _) = tokio::time::timeout(Duration::from_secs(3), asking)
        .await
        .expect("no place is left");
    assert_eq!(code, 200);
    drop(held);
}
