//! From the command line to the settings of each part.

use crate::args::RunArgs;
use crate::autoscaler::Times;
use crate::domain::settings::PodSettings;
use crate::validate::Prometheus;
use crate::{metrics_api, sources};

pub(super) fn prometheus_rules(args: &RunArgs) -> Prometheus {
    let own = args.prometheus_url.clone();
    let allowed = args.allowed_prometheus_urls.clone();
    Prometheus {
        query_refusal: Box::new(sources::query_refusal),
        address_refusal: Box::new(move |address, _| sources::server_address_refusal(address, own.as_deref(), &allowed)),
    }
}

pub(super) fn pod_settings(args: &RunArgs) -> PodSettings {
    PodSettings {
        server_image: args.server_image.clone(),
        redis_image: args.redis_image.clone(),
        image_pull_policy: args.image_pull_policy.clone(),
        drain_grace_seconds: args.drain_grace_seconds,
        monitoring_namespace: args.monitoring_namespace.clone(),
        asking_namespace: args.ask_pods.then(|| args.namespace.clone()),
    }
}

pub(super) fn source_settings(args: &RunArgs) -> sources::Settings {
    let mut settings =
        sources::Settings::new(args.prometheus_url.clone()).with_scrape_interval(args.scrape_interval_seconds);
    settings.ca_file.clone_from(&args.prometheus_ca_file);
    settings.bearer_token_file.clone_from(&args.prometheus_token_file);
    settings.allowed_servers.clone_from(&args.allowed_prometheus_urls);
    settings.tick = args.query_interval_seconds;
    settings.timeout = settings.timeout.min(args.query_interval_seconds.mul_f64(0.8));
    settings.hold = args.hold_seconds;
    settings
}

pub(super) fn metrics_api_settings(args: &RunArgs) -> metrics_api::Settings {
    let mut settings = metrics_api::Settings::new(&args.namespace);
    settings.listen = args.metrics_api_address;
    settings.service.clone_from(&args.service_name);
    settings.service_port = args.service_port;
    settings.owner_cluster_role.clone_from(&args.owner_cluster_role);
    settings
}

/// How old the readings are that the autoscaler decides on, and who is asked for them.
pub(super) fn times(args: &RunArgs) -> Times {
    let readings = source_settings(args);
    Times {
        rate_window: readings.rate_window,
        stale_after: readings.reading_age_max(),
        relearn: args.scaling_relearn_seconds,
        has_prometheus: args.prometheus_url.is_some(),
        asks_pods: args.ask_pods.then_some(args.scaling_interval_seconds),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    #[test]
    fn what_the_command_line_says_of_prometheus_reaches_the_source() {
        let line = [
            "tidewright-operator",
            "run",
            "--server-image=a",
            "--redis-image=b",
            "--prometheus-url=https://p:9090",
            "--prometheus-ca-file=/ca.crt",
            "--prometheus-token-file=/token",
            "--allowed-prometheus-url=http://other:9090",
            "--query-interval-seconds=2",
            "--scrape-interval-seconds=10",
            "--hold-seconds=7",
        ];
        let Command::Run(args) = Cli::try_parse_from(line).unwrap().command else {
            panic!("not run")
        };
        let settings = source_settings(&args);
        assert_eq!(settings.url.as_deref(), Some("https://p:9090"));
        assert_eq!(settings.ca_file.as_deref(), Some(Path::new("/ca.crt")));
        assert_eq!(settings.bearer_token_file.as_deref(), Some(Path::new("/token")));
        assert_eq!(settings.allowed_servers, ["http://other:9090"]);
        let seconds = [settings.tick, settings.rate_window, settings.hold].map(|time| time.as_secs());
        assert_eq!(seconds, [2, 60, 7]);
        assert!(settings.timeout < settings.tick, "{:?}", settings.timeout);
    }

    #[test]
    fn how_long_nothing_shrinks_at_first_is_what_every_service_has_unless_it_is_said() {
        let relearn = |more: &[&str]| {
            let line = ["tidewright-operator", "run", "--server-image=a", "--redis-image=b"];
            let Command::Run(args) = Cli::try_parse_from(line.iter().chain(more)).unwrap().command else {
                panic!("not run")
            };
            times(&args).relearn.as_secs_f64()
        };
        let default = tidewright_scaling::policy::Tuning::default().relearn_seconds;
        assert!((relearn(&[]) - default).abs() < 1e-9);
        assert!((relearn(&["--scaling-relearn-seconds=20"]) - 20.0).abs() < 1e-9);
    }
}
