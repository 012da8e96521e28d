//! Who asks: the user whom the API server's front proxy names, and nobody else.
//!
//! A request carries two proofs: the client certificate of the connection, which must be the front proxy's, and only then the headers with the
//! user's name. Headers without the certificate are anybody's claim.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::HeaderMap;
use jiff::Timestamp;
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::cluster::request_header::RequestHeader;
use crate::cluster::review::User;
use crate::error::{Error, Result};
use crate::metrics_api::refusal::Refusal;
use crate::metrics_api::tls::provider;

/// How to recognise the front proxy, and how to read what it says.
#[derive(Debug)]
pub struct FrontProxy {
    verifier: Arc<dyn ClientCertVerifier>,
    source: RequestHeader,
}

impl FrontProxy {
    /// Prepares the check.
    ///
    /// # Errors
    /// The CA is no certificate.
    pub fn new(source: RequestHeader) -> Result<Self> {
        let unusable = |problem: String| Error::Tls(format!("CA of the front proxy: {problem}"));
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(source.client_ca_pem.as_bytes()) {
            let certificate = certificate.map_err(|problem| unusable(problem.to_string()))?;
            roots
                .add(certificate)
                .map_err(|problem| unusable(problem.to_string()))?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map_err(|problem| unusable(problem.to_string()))?;
        Ok(Self { verifier, source })
    }

    /// What it was made from.
    pub fn source(&self) -> &RequestHeader {
        &self.source
    }

    /// The user of a request that came over a connection with these client certificates.
    pub fn identify(
        &self,
        certificates: &[CertificateDer<'static>],
        headers: &HeaderMap,
        now: Timestamp,
    ) -> Result<User, Refusal> {
        self.recognise(certificates, now)?;
        self.user(headers)
            .ok_or_else(|| Refusal::unauthorized("the front proxy names no user"))
    }

    /// Whether these are the front proxy's client certificates.
    pub fn recognise(&self, certificates: &[CertificateDer<'static>], now: Timestamp) -> Result<(), Refusal> {
        let [own, intermediates @ ..] = certificates else {
            return Err(Refusal::unauthorized("no client certificate"));
        };
        let seconds = u64::try_from(now.as_second()).unwrap_or_default();
        let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        self.verifier
            .verify_client_cert(own, intermediates, at)
            .map_err(|_| Refusal::unauthorized("the client certificate is not that of the front proxy"))?;
        let name = common_name(own)
            .ok_or_else(|| Refusal::unauthorized("the client certificate has no single common name"))?;
        let allowed = &self.source.allowed_names;
        if !allowed.is_empty() && !allowed.contains(&name) {
            return Err(Refusal::unauthorized(
                "the client certificate's common name is not one of requestheader-allowed-names",
            ));
        }
        Ok(())
    }

    fn user(&self, headers: &HeaderMap) -> Option<User> {
        let first = |names: &[String]| {
            names
                .iter()
                .filter_map(|name| headers.get(name)?.to_str().ok())
                .find(|value| !value.is_empty())
                .map(ToOwned::to_owned)
        };
        let all = |name: &str| {
            headers
                .get_all(name)
                .iter()
                .filter_map(|value| value.to_str().ok())
                .map(ToOwned::to_owned)
                .collect::<Vec<_>>()
        };
        let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for name in headers.keys() {
            // Header names arrive in lower case.
            let key = self
                .source
                .extra_prefixes
                .iter()
                .find_map(|prefix| name.as_str().strip_prefix(&prefix.to_ascii_lowercase()));
            if let Some(key) = key {
                extra.entry(unescape(key)).or_default().extend(all(name.as_str()));
            }
        }
        Some(User {
            name: first(&self.source.username_headers)?,
            uid: first(&self.source.uid_headers),
            groups: self.source.group_headers.iter().flat_map(|name| all(name)).collect(),
            extra,
        })
    }
}

/// The subject's common name, if there is exactly one.
fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let mut names = parsed.subject().iter_common_name();
    let name = names.next()?.as_str().ok()?.to_owned();
    names.next().is_none().then_some(name)
}

/// Keys of `extra` are percent-escaped, since header names allow few characters. What is no escape stays as it is.
fn unescape(key: &str) -> String {
    let mut bytes = Vec::with_capacity(key.len());
    let mut rest = key.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = (*first == b'%')
            .then(|| tail.get(..2))
            .flatten()
            .and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        if let Some(byte) = escaped {
            bytes.push(byte);
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| key.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extra_keys_are_unescaped() {
        assert_eq!(unescape("scopes"), "scopes");
        assert_eq!(
            unescape("authentication.kubernetes.io%2fpod-name"),
            "authentication.kubernetes.io/pod-name"
        );
        for odd in ["%", "%4", "%zz", "%ff"] {
            assert_eq!(unescape(odd), odd);
        }
    }
}
