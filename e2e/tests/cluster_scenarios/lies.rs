//! Prometheus answers, and what it answers is not to be believed: no lie changes a number of replicas, and each is called by its name.
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::Api;
use serde_json::{Value, json};
use tidewright_e2e::load::digits;
use tidewright_e2e::wait::{Seen, await_condition};

use crate::look::{ReplicaWatch, assert_nothing_failed, await_reason, condition};
use crate::lying_proxy::Answer::{Changed, Dressed, Endless, Half, Honest, Silence, Text, Torn};
use crate::lying_proxy::Subject::{Every, Rate, Samples, Targets};
use crate::lying_proxy::{Answer, LyingProxy, Subject, set, zero};
use crate::scaling::{scale_up, serve};
use crate::stage::{READY, Scene, install_operator, scene};

const ERROR: &str =
    r#"{"status":"error","errorType":"execution","error":"out of memory","data":{"resultType":"vector","result":[]}}"#;
const HTML: &str = "<!doctype html><title>0</title><p>Please log in.";

fn empty(answer: &mut Value) {
    answer["data"]["result"] = json!([]);
}

fn twice(answer: &mut Value) {
    zero(answer);
    let series = answer["data"]["result"].as_array().cloned().unwrap_or_default();
    answer["data"]["result"].as_array_mut().unwrap().extend(series);
}

fn warn(answer: &mut Value) {
    zero(answer);
    answer["warnings"] = json!(["one of two stores could not be reached"]);
}

fn shift(answer: &mut Value, seconds: f64) {
    zero(answer);
    for series in answer["data"]["result"].as_array_mut().into_iter().flatten() {
        series["value"][0] = json!(series["value"][0].as_f64().unwrap() + seconds);
    }
}

fn part(answer: &mut Value, part: &str, value: &str) {
    for series in answer["data"]["result"].as_array_mut().into_iter().flatten() {
        if series["metric"]["part"] == part {
            series["value"][1] = value.into();
        }
    }
}

/// A 0 of the present, without a word of whom it is about.
fn scalar(answer: &mut Value) {
    let time = answer["data"]["result"][0]["value"][0].clone();
    answer["data"] = json!({"resultType": "scalar", "result": [time, "0"]});
}

fn unlabelled(answer: &mut Value) {
    let time = answer["data"]["result"][0]["value"][0].clone();
    answer["data"]["result"] = json!([{"metric": {}, "value": [time, "0"]}]);
}

fn range(answer: &mut Value) {
    answer["data"]["resultType"] = "matrix".into();
    for series in answer["data"]["result"].as_array_mut().into_iter().flatten() {
        let value = series.as_object_mut().unwrap().remove("value").unwrap();
        series["values"] = json!([value]);
    }
}

/// Name, which query, what is answered, and the word that the condition has for it. Neighbours have different words: that of the lie before says nothing
/// of this one.
const LIES: [(&str, Subject, Answer, &str); 29] = [
    ("nothing", Every, Changed(empty), "NoTargets"),
    ("NaN", Rate, Changed(|answer| set(answer, "NaN")), "NotFinite"),
    ("no value", Rate, Changed(empty), "WindowNotFilled"),
    ("+Inf", Rate, Changed(|answer| set(answer, "+Inf")), "NotFinite"),
    ("no samples", Samples, Changed(empty), "NoSamples"),
    ("-Inf", Rate, Changed(|answer| set(answer, "-Inf")), "NotFinite"),
    ("below zero", Rate, Changed(|answer| set(answer, "-1")), "Negative"),
    ("huge", Rate, Changed(|answer| set(answer, "1e300")), "Implausible"),
    (
        "a hair below zero",
        Rate,
        Changed(|answer| set(answer, "-0.000001")),
        "Negative",
    ),
    (
        "of ten minutes ago",
        Rate,
        Changed(|answer| shift(answer, -600.0)),
        "ClockSkew",
    ),
    (
        "stale samples",
        Samples,
        Changed(|answer| part(answer, "age", "3600")),
        "StaleSamples",
    ),
    (
        "of tomorrow",
        Rate,
        Changed(|answer| shift(answer, 86_400.0)),
        "ClockSkew",
    ),
    (
        "an age of NaN",
        Samples,
        Changed(|answer| part(answer, "age", "NaN")),
        "AnswerMalformed",
    ),
    (
        "most pods unreachable",
        Targets,
        Changed(|answer| part(answer, "up", "1")),
        "PartialTargets",
    ),
    (
        "half a pod",
        Targets,
        Changed(|answer| part(answer, "up", "0.5")),
        "AnswerMalformed",
    ),
    (
        "pods scraped twice",
        Targets,
        Changed(|answer| part(answer, "series", "6")),
        "DuplicateTargets",
    ),
    ("a range", Rate, Changed(range), "AnswerMalformed"),
    ("two series", Rate, Changed(twice), "Ambiguous"),
    ("a scalar", Rate, Changed(scalar), "AnswerMalformed"),
    ("in part", Rate, Changed(warn), "AnswerPartial"),
    ("without labels", Rate, Changed(unlabelled), "AnswerMalformed"),
    ("status error", Rate, Text(ERROR), "PrometheusError"),
    ("HTML", Rate, Text(HTML), "AnswerMalformed"),
    ("torn", Rate, Torn, "PrometheusUnreachable"),
    ("cut off", Rate, Half, "AnswerMalformed"),
    ("endless", Rate, Endless, "AnswerTooLarge"),
    ("HTTP 503", Rate, Dressed(503, None, zero), "PrometheusError"),
    ("silence", Rate, Silence, "PrometheusTimeout"),
    (
        "HTTP 302",
        Rate,
        Dressed(302, Some(("location", "/elsewhere")), zero),
        "PrometheusRedirected",
    ),
];

#[test]
fn no_lie_can_be_taken_for_the_one_before() {
    for two in LIES.windows(2) {
        assert_ne!(two[0].3, two[1].3, "{} and {}", two[0].0, two[1].0);
    }
}

/// Waits until operator and autoscaler have both met the lie.
async fn await_lie(scene: &Scene, proxy: &LyingProxy, name: &str, word: &str) -> Result<()> {
    let services: Api<tidewright_api::InferenceService> = Api::namespaced(scene.client.clone(), &scene.namespace);
    let autoscalers: Api<HorizontalPodAutoscaler> = Api::namespaced(scene.client.clone(), &scene.namespace);
    await_condition(&format!("{name} to be told twice"), READY, || async {
        let told = proxy.told();
        Ok(if told >= 2 {
            Seen::Done(())
        } else {
            Seen::not_yet(format!("{told} times"))
        })
    })
    .await?;
    await_condition(&format!("{name}: the condition to say {word}"), READY, || async {
        let said = condition(&services.get("digits").await?, "ScalingReady").context("no condition")?;
        Ok(if said.0 != "True" && said.2.contains(word) {
            Seen::Done(())
        } else {
            Seen::not_yet(format!("{said:?}"))
        })
    })
    .await?;
    await_condition(&format!("{name}: the autoscaler to hold"), READY, || async {
        let status = autoscalers.get("digits-cpu").await?.status.unwrap_or_default();
        let active = status
            .conditions
            .into_iter()
            .flatten()
            .find(|condition| condition.type_ == "ScalingActive");
        let active = active.context("no condition")?;
        let holds = active.status == "False" && active.message.as_ref().is_some_and(|message| message.contains(word));
        Ok(if holds {
            Seen::Done(())
        } else {
            Seen::not_yet(format!("{active:?}"))
        })
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_lie_of_prometheus_changes_a_number_of_replicas() {
    scene("lies", |scene| async move {
        let proxy = LyingProxy::start(scene.prometheus).await?;
        let url = format!("http://{}:{}", scene.cluster.host_address(), proxy.port);
        install_operator(
            scene.cluster,
            &json!({"prometheus": {"url": url, "queryIntervalSeconds": 2}}),
        )
        .await?;
        let outcome = tell_all(&scene, &proxy).await;
        install_operator(scene.cluster, &json!({})).await?;
        outcome
    })
    .await;
}

async fn tell_all(scene: &Scene, proxy: &LyingProxy) -> Result<()> {
    // No window: whatever the autoscaler believes, it does at its next look.
    let at_once =
        json!({"stabilizationWindowSeconds": 0, "policies": [{"type": "Percent", "value": 1000, "periodSeconds": 1}]});
    let service = scene
        .service("digits", "digits.onnx")
        .with(
            "/autoScaling/behavior",
            json!({"scaleUp": at_once, "scaleDown": at_once}),
        )
        .request_rate("20");
    let replicas = serve(scene, &service).await?;
    let load = scale_up(
        scene,
        &service,
        &replicas,
        (50.0, digits::single(&scene.models.digits)),
        3,
    )
    .await?;
    await_reason(&scene.client, &service, ("ScalingReady", "True", "Scaling"), READY).await?;
    let before = replicas.wanted().len();
    for (name, subject, answer, word) in LIES {
        proxy.tell(subject, answer);
        await_lie(scene, proxy, name, word)
            .await
            .with_context(|| replicas_of(&replicas))?;
        ensure!(
            replicas.last().wanted == 3,
            "{name} was believed: {}",
            replicas_of(&replicas)
        );
    }
    proxy.tell(Every, Honest);
    await_reason(&scene.client, &service, ("ScalingReady", "True", "Scaling"), READY).await?;
    // Nor was any for a moment in between.
    ensure!(replicas.wanted().len() == before, "{}", replicas_of(&replicas));
    // The check can fail: a 0 about which nothing is odd is believed, and done at once.
    proxy.tell(Rate, Changed(zero));
    replicas
        .reach("one replica", Duration::from_secs(20), |state| state.wanted == 1)
        .await?;
    proxy.tell(Every, Honest);
    assert_nothing_failed(&load.stop().await)
}

fn replicas_of(replicas: &ReplicaWatch) -> String {
    let wanted: Vec<i32> = replicas.wanted().iter().map(|state| state.wanted).collect();
    format!("replicas {wanted:?}")
}
