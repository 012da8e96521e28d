//! The scrape: names of the contract, exemplars as OpenMetrics writes them.

use super::*;

#[test]
fn the_scrape_shows_the_contract_s_names_and_no_others() {
    let metrics = Metrics::default();
    let model = metrics.model("digits", "1");
    model.ended(Status::Success, 3);
    metrics.set_model_info(["digits", "1", "sha256:0", "cpu", "cuda"]);
    metrics.set_build_info("0.1.0", "1.32.0");
    let route = metrics.route(tidewright_contract::routes::PREDICT);
    metrics.answered(&route, "POST", 200);
    metrics.tls().success.inc();
    metrics.spans().sent.inc();
    metrics.loads("start", true);
    metrics.unloaded("memory");
    metrics.tier("memory").hit.inc();
    metrics.cache_bytes("memory").set(5);
    let text = metrics.scrape(State::Ready).unwrap();
    for metric in names::ALL {
        assert!(text.contains(metric.name), "{} is missing in\n{text}", metric.name);
        for label in metric.labels {
            let series = text.lines().find(|line| line.starts_with(metric.name)).unwrap();
            assert!(series.contains(&format!("{label}=\"")), "{series} has no label {label}");
        }
    }
    for line in text.lines().filter(|line| line.starts_with("# TYPE ")) {
        let name = line.split(' ').nth(2).unwrap();
        assert!(
            names::ALL.iter().any(|metric| metric.registered_name() == name),
            "{name} is not in the contract"
        );
    }
    assert!(text.contains("ml_predictions_total{model=\"digits\",model_version=\"1\",status=\"success\"} 3"));
    assert!(text.contains("inference_server_state{state=\"ready\"} 1"));
    assert!(text.contains("inference_server_state{state=\"loading\"} 0"));
    assert!(text.contains("ml_queue_depth{queue=\"batch\"} 0"));
}

#[test]
fn an_exemplar_stands_beside_its_bucket_and_nowhere_else() {
    let metrics = Metrics::default();
    let model = metrics.model("digits", "1");
    let trace = || Some(TraceId("4bf92f3577b34da6a3ce929d0e0e4736".to_owned()));
    model.took(Duration::from_micros(60), trace());
    model.took(Duration::from_secs(2), None);
    let route = metrics.route(tidewright_contract::routes::PREDICT);
    exemplars::observe(&route.duration, 0.3, trace());
    let text = metrics.scrape(State::Ready).unwrap();
    let with: Vec<&str> = text.lines().filter(|line| line.contains(" # ")).collect();
    assert_eq!(with.len(), 2, "{text}");
    for (line, start, value) in [
        (
            with[0],
            "ml_prediction_duration_seconds_bucket{le=\"0.0001\",",
            "0.00006",
        ),
        (with[1], "http_request_duration_seconds_bucket{le=\"0.5\",", "0.3"),
    ] {
        // OpenMetrics: `series value # {labels} value time`.
        let (series, exemplar) = line.split_once(" # ").unwrap();
        assert!(series.starts_with(start) && series.ends_with("} 1"), "{line}");
        let rest = exemplar.strip_prefix("{trace_id=\"4bf92f3577b34da6a3ce929d0e0e4736\"} ");
        let (number, time) = rest.unwrap_or_else(|| panic!("{line}")).split_once(' ').unwrap();
        assert_eq!(number.parse::<f64>().unwrap().to_string(), value, "{line}");
        assert!(time.parse::<f64>().unwrap() > 1e9, "{line}");
    }
    assert!(text.ends_with("# EOF\n"));
}
