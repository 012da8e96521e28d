//! What the metrics API has that it cannot serve without, for readiness.

use std::sync::atomic::{AtomicBool, Ordering};

/// Set once, by whoever brings it.
#[derive(Debug, Default)]
pub struct Progress {
    certificate: AtomicBool,
    front_proxy: AtomicBool,
}

impl Progress {
    /// A certificate is served.
    pub fn has_certificate(&self) {
        self.certificate.store(true, Ordering::Relaxed);
    }

    /// It is known by whom the API server's front proxy is to be recognised.
    pub fn knows_front_proxy(&self) {
        self.front_proxy.store(true, Ordering::Relaxed);
    }

    /// What is missing.
    pub fn waiting_for(&self) -> Vec<&'static str> {
        let parts = [
            (&self.certificate, "the certificate of the metrics API"),
            (&self.front_proxy, "the CA of the API server's front proxy"),
        ];
        let missing = parts.into_iter().filter(|(has, _)| !has.load(Ordering::Relaxed));
        missing.map(|(_, what)| what).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Progress;

    #[test]
    fn both_are_waited_for() {
        let progress = Progress::default();
        assert_eq!(progress.waiting_for().len(), 2);
        progress.has_certificate();
        assert_eq!(progress.waiting_for(), ["the CA of the API server's front proxy"]);
        progress.knows_front_proxy();
        assert!(progress.waiting_for().is_empty());
    }
}
