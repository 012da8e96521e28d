//! Certificates and kubeconfigs of one box: two authorities, made new each time, never reused.
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SerialNumber,
};
use serde_json::json;

/// A certificate authority whose certificate lies in the folder.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// The folder of certificates, and the two authorities to sign more.
pub struct Pki {
    dir: PathBuf,
    cluster: Authority,
    front_proxy: Authority,
}

impl std::fmt::Debug for Pki {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Pki({})", self.dir.display())
    }
}

/// Who a client is to the API server.
#[derive(Debug, Clone, Copy)]
pub struct Identity<'a> {
    pub user: &'a str,
    pub group: Option<&'a str>,
}

impl Pki {
    /// Makes both authorities and the keys of service accounts in `dir`.
    pub fn create(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
        let cluster = Authority::create(dir, "ca", "tidewright-box")?;
        let front_proxy = Authority::create(dir, "front-proxy-ca", "tidewright-box-front-proxy")?;
        let service_accounts = KeyPair::generate()?;
        write_secret(&dir.join("service-account.key"), &service_accounts.serialize_pem())?;
        write_secret(&dir.join("service-account.pub"), &service_accounts.public_key_pem())?;
        let pki = Self {
            dir: dir.to_owned(),
            cluster,
            front_proxy,
        };
        let client = CertificateParams::default();
        pki.front_proxy.sign(
            dir,
            "front-proxy-client",
            Identity {
                user: "front-proxy-client",
                group: None,
            },
            client,
        )?;
        Ok(pki)
    }

    /// Path of one of the files: `ca.crt`, `NAME.crt`, `NAME.key`.
    pub fn path(&self, file: &str) -> PathBuf {
        self.dir.join(file)
    }

    /// The cluster's authority as objects carry it: PEM in base64.
    pub fn authority(&self) -> String {
        base64(self.cluster.pem.as_bytes())
    }

    /// A certificate for a server, good for a client of that name as well.
    pub fn server(&self, name: &str, identity: Identity<'_>, names: &[&str], addresses: &[Ipv4Addr]) -> Result<()> {
        let names: Vec<String> = names
            .iter()
            .map(ToString::to_string)
            .chain(addresses.iter().map(ToString::to_string))
            .collect();
        self.cluster
            .sign(&self.dir, name, identity, CertificateParams::new(names)?)
    }

    /// A client certificate inside a kubeconfig that needs no other file. Returns its path.
    pub fn kubeconfig(&self, path: &Path, context: &str, server: &str, identity: Identity<'_>) -> Result<()> {
        let name = format!("client-{}", identity.user.replace(':', "-"));
        self.cluster
            .sign(&self.dir, &name, identity, CertificateParams::default())?;
        let read = |file: String| -> Result<String> { Ok(base64(&fs::read(self.dir.join(file))?)) };
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": context, "cluster": {"server": server, "certificate-authority-data": self.authority()}}],
            "users": [{"name": context, "user": {
                "client-certificate-data": read(format!("{name}.crt"))?,
                "client-key-data": read(format!("{name}.key"))?,
            }}],
            "contexts": [{"name": context, "context": {"cluster": context, "user": context}}],
            "current-context": context,
        });
        write_secret(path, &serde_json::to_string_pretty(&config)?)
    }
}

impl Authority {
    fn create(dir: &Path, name: &str, common_name: &str) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        params.distinguished_name.push(DnType::CommonName, common_name);
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        write_secret(&dir.join(format!("{name}.crt")), &pem)?;
        write_secret(&dir.join(format!("{name}.key")), &key.serialize_pem())?;
        Ok(Self {
            pem,
            issuer: Issuer::new(params, key),
        })
    }

    fn sign(&self, dir: &Path, name: &str, identity: Identity<'_>, mut params: CertificateParams) -> Result<()> {
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, identity.user);
        if let Some(group) = identity.group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        params.serial_number = Some(SerialNumber::from(rand::random::<u64>() >> 1));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        write_secret(&dir.join(format!("{name}.crt")), &certificate.pem())?;
        write_secret(&dir.join(format!("{name}.key")), &key.serialize_pem())
    }
}

fn write_secret(path: &Path, text: &str) -> Result<()> {
    use std::io::Write as _;
    let file = fs::File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("writing {}", path.display()))
}

/// Standard base64 with padding (RFC 4648, section 4).
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0_u32, |group, byte| group << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for index in 0..4 {
            let letter = ALPHABET[(group >> (18 - 6 * index) & 63) as usize];
            text.push(if index <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_the_rfc() {
        let pairs = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("foobar", "Zm9vYmFy"),
        ];
        for (plain, encoded) in pairs {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
    }
}
