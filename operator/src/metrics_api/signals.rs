//! What the registration of the metrics API means for those who rely on its signals.

use tokio::sync::watch;

use super::Registration;
use crate::domain::signals::Signals;

/// Keeps `signals` true to the registration, until nobody registers any more.
///
/// `has_prometheus` says whether there is a Prometheus of the operator's own.
pub async fn follow(
    mut registration: watch::Receiver<Registration>,
    signals: watch::Sender<Signals>,
    has_prometheus: bool,
) {
    loop {
        let registered = registration.borrow_and_update().clone();
        signals.send_if_modified(|before| {
            let now = after(before, &registered, has_prometheus);
            let is_changed = *before != now;
            *before = now;
            is_changed
        });
        if registration.changed().await.is_err() {
            return;
        }
    }
}

/// A look that failed changes nothing of what was seen before: the APIServices stand, or are another's, as they did.
fn after(before: &Signals, registration: &Registration, has_prometheus: bool) -> Signals {
    match registration {
        Registration::Pending => Signals::Pending,
        Registration::Registered if has_prometheus => Signals::Served,
        Registration::Registered => Signals::NoPrometheus,
        Registration::OwnedBySomeoneElse { api_service, service } => Signals::Taken(format!(
            "the metrics API is served by another program: APIService {api_service} points to {}",
            service.as_deref().unwrap_or("no Service")
        )),
        Registration::Failed { .. } if before.are_served().is_some() => before.clone(),
        Registration::Failed { message } => {
            Signals::Failing(format!("the metrics API could not be registered: {message}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_that_fails_is_not_taken_for_another_owner() {
        let failed = Registration::Failed {
            message: "timeout".to_owned(),
        };
        let foreign = Registration::OwnedBySomeoneElse {
            api_service: "v1beta1.custom.metrics.k8s.io".to_owned(),
            service: Some("monitoring/prometheus-adapter".to_owned()),
        };
        let after = |before: &Signals, registration: &Registration| after(before, registration, true);
        assert_eq!(after(&Signals::Served, &failed), Signals::Served);
        let taken = after(&Signals::Pending, &foreign);
        assert!(matches!(&taken, Signals::Taken(who) if who.contains("monitoring/prometheus-adapter")));
        assert_eq!(after(&taken, &failed), taken);
        assert!(matches!(after(&Signals::Pending, &failed), Signals::Failing(why) if why.contains("timeout")));
        assert_eq!(after(&taken, &Registration::Registered), Signals::Served);
    }

    #[test]
    fn another_owner_is_told_to_an_operator_without_prometheus_too() {
        let foreign = Registration::OwnedBySomeoneElse {
            api_service: "v1beta1.custom.metrics.k8s.io".to_owned(),
            service: None,
        };
        assert!(matches!(after(&Signals::Pending, &foreign, false), Signals::Taken(_)));
        let served = after(&Signals::Pending, &Registration::Registered, false);
        assert_eq!((served.are_served(), served), (Some(false), Signals::NoPrometheus));
    }
}
