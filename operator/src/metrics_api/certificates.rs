//! The life of CA and serving certificate: what they are, and what to do next. Pure but for the making of keys; `now` is given.
//!
//! The API server trusts the bundle that stands in the APIServices. A serving certificate of a new CA is used only after a bundle with both CAs has
//! stood there for a while, and the old CA stays in it until it runs out: whichever certificate a replica serves, the bundle of the moment has its CA.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::error::{Error, Result};
use crate::metrics_api::tls::{ServingCertificate, provider};

/// Certificates are valid from a little before they are made: not every clock in a cluster is right.
const BACKDATED: Duration = Duration::from_secs(300);

/// How long things live.
#[derive(Debug, Clone, Copy)]
pub struct Lifetimes {
    /// A CA. At two thirds of it the next one is made.
    pub ca: Duration,
    /// A serving certificate; well below a third of `ca`. At two thirds of it the next one is made.
    pub serving: Duration,
    /// How long a bundle must have been published before a certificate that needs it is used: every API server has to have seen it.
    pub propagation: Duration,
}

impl Default for Lifetimes {
    fn default() -> Self {
        const DAY: u64 = 24 * 3600;
        Self {
            ca: Duration::from_secs(730 * DAY),
            serving: Duration::from_secs(60 * DAY),
            propagation: Duration::from_secs(60),
        }
    }
}

/// A certificate with its key, PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    /// Certificate.
    pub certificate: String,
    /// PKCS 8 key.
    pub key: String,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pair")
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

/// Everything there is, as it stands in the Secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Material {
    /// Signs serving certificates.
    pub ca: Pair,
    /// Will sign them.
    pub next_ca: Option<Pair>,
    /// Since when the bundle with the next CA has been published.
    pub next_published: Option<Timestamp>,
    /// Signed them before; certificate only.
    pub previous_ca: Option<String>,
    /// What is served.
    pub serving: Pair,
}

impl Material {
    /// Every CA by which a replica's certificate may be signed: the `caBundle`.
    pub fn bundle(&self) -> String {
        let next = self.next_ca.as_ref().map(|pair| pair.certificate.as_str());
        [Some(self.ca.certificate.as_str()), next, self.previous_ca.as_deref()]
            .into_iter()
            .flatten()
            .collect()
    }

    /// Reads what was written by [`Self::to_data`]. `None` if anything is missing or unreadable.
    pub fn from_data(data: &BTreeMap<String, Vec<u8>>) -> Option<Self> {
        let text = |key: &str| data.get(key).and_then(|bytes| String::from_utf8(bytes.clone()).ok());
        let pair = |certificate: &str, key: &str| {
            let pair = Pair {
                certificate: text(certificate)?,
                key: text(key)?,
            };
            not_after(&pair.certificate).ok()?;
            KeyPair::from_pem(&pair.key).ok()?;
            Some(pair)
        };
        Some(Self {
            ca: pair("current-ca.crt", "current-ca.key")?,
            next_ca: pair("next-ca.crt", "next-ca.key"),
            next_published: text("next-ca.published").and_then(|text| text.parse().ok()),
            previous_ca: text("previous-ca.crt").filter(|pem| not_after(pem).is_ok()),
            serving: pair("tls.crt", "tls.key")?,
        })
    }

    /// Keys of the Secret.
    pub fn to_data(&self) -> BTreeMap<String, Vec<u8>> {
        let next = |part: fn(&Pair) -> &String| self.next_ca.as_ref().map(|pair| part(pair).clone());
        [
            ("ca.crt", Some(self.bundle())),
            ("current-ca.crt", Some(self.ca.certificate.clone())),
            ("current-ca.key", Some(self.ca.key.clone())),
            ("next-ca.crt", next(|pair| &pair.certificate)),
            ("next-ca.key", next(|pair| &pair.key)),
            ("next-ca.published", self.next_published.map(|at| at.to_string())),
            ("previous-ca.crt", self.previous_ca.clone()),
            ("tls.crt", Some(self.serving.certificate.clone())),
            ("tls.key", Some(self.serving.key.clone())),
        ]
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value?.into_bytes())))
        .collect()
    }
}

/// The next step, if one is due. `published` says whether the present bundle stands in the APIServices (or nobody reads them).
///
/// # Errors
/// Keys or certificates could not be made.
pub fn next_step(
    current: Option<&Material>,
    published: bool,
    names: &[String],
    lifetimes: &Lifetimes,
    now: Timestamp,
) -> Result<Option<Material>> {
    let Some(current) = current else {
        return fresh(names, lifetimes, now).map(Some);
    };
    let ca_end = not_after(&current.ca.certificate)?;
    // Too late for anything gentle: the operator was away, or the lifetimes were made shorter.
    if ca_end <= now {
        return fresh(names, lifetimes, now).map(Some);
    }
    let mut next = current.clone();
    if let Some(previous) = &current.previous_ca
        && not_after(previous)? <= now
    {
        next.previous_ca = None;
    }
    if let Some(next_ca) = &current.next_ca {
        match current.next_published {
            None if published => next.next_published = Some(now),
            // A clock that went back, or one that was ahead: waiting for that time could take years.
            Some(since) if since > now => next.next_published = Some(now),
            Some(since) if now.duration_since(since) >= signed(lifetimes.propagation) => {
                next.previous_ca = Some(current.ca.certificate.clone());
                next.ca = next_ca.clone();
                next.next_ca = None;
                next.next_published = None;
                next.serving = serving(&next.ca, names, lifetimes, now)?;
            }
            _ => {}
        }
    } else if ca_end.duration_since(now) < signed(lifetimes.ca / 3) {
        next.next_ca = Some(new_ca(lifetimes, now)?);
    }
    let serving_end = not_after(&next.serving.certificate)?;
    let possible_end = (now + signed(lifetimes.serving)).min(not_after(&next.ca.certificate)?);
    let due = serving_end.duration_since(now) < signed(lifetimes.serving / 3);
    // A CA near its end gives no longer life: waiting for the next one is all there is to do.
    let is_outlived = due && possible_end.duration_since(serving_end) > SignedDuration::from_secs(1);
    // The Service has another name than it had, or somebody wrote parts of the Secret that do not belong together.
    if is_outlived || !is_good(&next, names, now) {
        next.serving = serving(&next.ca, names, lifetimes, now)?;
    }
    if !is_good(&next, names, now) {
        // The CA's own parts do not belong together.
        return fresh(names, lifetimes, now).map(Some);
    }
    Ok((next != *current).then_some(next))
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

fn fresh(names: &[String], lifetimes: &Lifetimes, now: Timestamp) -> Result<Material> {
    let ca = new_ca(lifetimes, now)?;
    Ok(Material {
        serving: serving(&ca, names, lifetimes, now)?,
        ca,
        next_ca: None,
        next_published: None,
        previous_ca: None,
    })
}

fn new_ca(lifetimes: &Lifetimes, now: Timestamp) -> Result<Pair> {
    let mut params = CertificateParams::default();
    // Each CA has its own name: by it a verifier finds the right one in the bundle.
    let name = format!("tidewright-metrics-api-ca@{}", now.as_millisecond());
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    set_validity(&mut params, now, now + signed(lifetimes.ca));
    let key = KeyPair::generate().map_err(unmade)?;
    let certificate = params.self_signed(&key).map_err(unmade)?;
    Ok(Pair {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    })
}

fn serving(ca: &Pair, names: &[String], lifetimes: &Lifetimes, now: Timestamp) -> Result<Pair> {
    let ca_key = KeyPair::from_pem(&ca.key).map_err(unmade)?;
    let issuer = Issuer::from_ca_cert_pem(&ca.certificate, ca_key).map_err(unmade)?;
    let mut params = CertificateParams::new(names.to_vec()).map_err(unmade)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, names.first().map_or("tidewright", String::as_str));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let end = (now + signed(lifetimes.serving)).min(not_after(&ca.certificate)?);
    set_validity(&mut params, now, end);
    let key = KeyPair::generate().map_err(unmade)?;
    let certificate = params.signed_by(&key, &issuer).map_err(unmade)?;
    Ok(Pair {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    })
}

fn set_validity(params: &mut CertificateParams, now: Timestamp, end: Timestamp) {
    let date = |at: Timestamp| {
        rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(u64::try_from(at.as_second()).unwrap_or_default())
    };
    params.not_before = date(now - signed(BACKDATED));
    params.not_after = date(end);
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn unmade(problem: rcgen::Error) -> Error {
    Error::Tls(format!("a certificate could not be made: {problem}"))
}

/// Whether whoever trusts the bundle believes the serving certificate to be that of each of the names, and its key fits.
fn is_good(material: &Material, names: &[String], now: Timestamp) -> bool {
    let mut roots = RootCertStore::empty();
    for ca in CertificateDer::pem_slice_iter(material.bundle().as_bytes()) {
        // One that cannot be read is trusted by nobody.
        let _ = ca.map(|ca| roots.add(ca));
    }
    let Ok(verifier) = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build() else {
        return false;
    };
    let Ok(certificate) = CertificateDer::from_pem_slice(material.serving.certificate.as_bytes()) else {
        return false;
    };
    let seconds = u64::try_from(now.as_second()).unwrap_or_default();
    let time = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    let is_believed = |name: &String| {
        let name = ServerName::try_from(name.clone());
        name.is_ok_and(|name| verifier.verify_server_cert(&certificate, &[], &name, &[], time).is_ok())
    };
    let served = ServingCertificate::default();
    names.iter().all(is_believed)
        && served
            .install(&material.serving.certificate, &material.serving.key)
            .is_ok()
}

fn unreadable(problem: &dyn std::fmt::Display) -> Error {
    Error::Tls(format!("a stored certificate cannot be read: {problem}"))
}

/// When a PEM certificate runs out.
pub fn not_after(pem: &str) -> Result<Timestamp> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|problem| unreadable(&problem))?;
    let (_, parsed) = X509Certificate::from_der(&der).map_err(|problem| unreadable(&problem))?;
    Timestamp::from_second(parsed.validity().not_after.timestamp()).map_err(|problem| unreadable(&problem))
}

#[cfg(test)]
mod tests;
