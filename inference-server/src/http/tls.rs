//! TLS of the serving ports: a certificate from two files, read again when they change, without a restart and without losing a connection.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tidewright_contract::config::TlsConfig;
use tokio_rustls::TlsAcceptor;

use crate::metrics::TlsMetrics;

/// How often the files are looked at. They are small, and whoever rotates a certificate does so hours before it expires.
const RELOAD_INTERVAL: Duration = Duration::from_secs(1);

/// The two files as they are.
#[derive(PartialEq, Eq)]
struct Files {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

/// The certificate of the moment: each handshake takes the newest one, connections keep theirs.
struct Current(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl fmt::Debug for Current {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Current").finish_non_exhaustive()
    }
}

/// A certificate that is served, and the files that it came from.
pub struct Certificate {
    config: TlsConfig,
    current: Arc<Current>,
    /// What was tried last, whether it was any good or not: the same mistake is said once.
    seen: Result<Files, String>,
}

impl Certificate {
    /// Reads the files.
    ///
    /// # Errors
    /// A sentence: a file cannot be read, holds nothing of use, or the two do not belong together.
    pub async fn read(config: &TlsConfig) -> Result<Self, String> {
        let files = files(config).await?;
        let certified = certified(&files)?;
        Ok(Self {
            config: config.clone(),
            current: Arc::new(Current(RwLock::new(Arc::new(certified)))),
            seen: Ok(files),
        })
    }

    /// What accepts connections with it: TLS 1.2 and 1.3, HTTP/2 preferred to HTTP/1.1.
    ///
    /// # Errors
    /// Never with the cipher suites of ring.
    pub fn acceptor(&self) -> Result<TlsAcceptor, String> {
        let resolver: Arc<Current> = Arc::clone(&self.current);
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    /// Looks at the files for ever; ends with the runtime.
    pub async fn follow(mut self, metrics: TlsMetrics) {
        let mut ticks = tokio::time::interval(RELOAD_INTERVAL);
        loop {
            ticks.tick().await;
            self.look(&metrics).await;
        }
    }

    /// Takes what is new and good. Anything else leaves the certificate as it is, and is said and counted.
    async fn look(&mut self, metrics: &TlsMetrics) {
        let seen = files(&self.config).await;
        if seen == self.seen {
            return;
        }
        let loaded = match &seen {
            Ok(files) => certified(files),
            Err(error) => Err(error.clone()),
        };
        match loaded {
            Ok(certified) => {
                *self.current.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(certified);
                metrics.success.inc();
                tracing::info!(file = %self.config.certificate.display(), "the new certificate is served");
            }
            Err(error) => {
                metrics.error.inc();
                tracing::error!(
                    error,
                    "the new certificate cannot be used, the one before is still served"
                );
            }
        }
        self.seen = seen;
    }
}

impl fmt::Debug for Certificate {
    /// The key is never shown.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Certificate")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

async fn files(config: &TlsConfig) -> Result<Files, String> {
    let read = async |file: &PathBuf| {
        let cannot = |error: io::Error| format!("cannot read {}: {error}", file.display());
        tokio::fs::read(file).await.map_err(cannot)
    };
    Ok(Files {
        certificate: read(&config.certificate).await?,
        key: read(&config.key).await?,
    })
}

/// Nothing of the files' contents goes into the sentence: one of them is a secret.
fn certified(files: &Files) -> Result<CertifiedKey, String> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&files.certificate)
        .collect::<Result<_, _>>()
        .map_err(|_| "the certificate file is not PEM".to_owned())?;
    if chain.is_empty() {
        return Err("the certificate file holds no certificate".to_owned());
    }
    let key = PrivateKeyDer::from_pem_slice(&files.key).map_err(|_| "the key file holds no private key".to_owned())?;
    CertifiedKey::from_der(chain, key, &ring::default_provider())
        .map_err(|error| format!("certificate and key cannot be used together: {error}"))
}
