//! Whom the API server sends to vouch for users: ConfigMap `kube-system/extension-apiserver-authentication`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};

use crate::cluster::call::call;
use crate::error::{Error, Result};

const NAMESPACE: &str = "kube-system";
const NAME: &str = "extension-apiserver-authentication";

/// The `requestheader-*` part of the ConfigMap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHeader {
    /// CA of the front proxy's client certificate, PEM.
    pub client_ca_pem: String,
    /// Common names that the certificate may have; empty is any.
    pub allowed_names: Vec<String>,
    /// Headers with the user's name, in order.
    pub username_headers: Vec<String>,
    /// Headers with the user's groups.
    pub group_headers: Vec<String>,
    /// Headers with the user's uid, in order.
    pub uid_headers: Vec<String>,
    /// What headers with anything else start with.
    pub extra_prefixes: Vec<String>,
}

/// Reads the ConfigMap. `None` if the API server runs without a front proxy, in which case nobody can be authenticated.
///
/// # Errors
/// The call failed, or the ConfigMap is not as documented.
pub async fn read(client: &Client) -> Result<Option<RequestHeader>> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    let found = call(|| format!("get ConfigMap {NAMESPACE}/{NAME}"), api.get_opt(NAME)).await?;
    parse(found.and_then(|map| map.data).unwrap_or_default())
}

fn parse(mut data: BTreeMap<String, String>) -> Result<Option<RequestHeader>> {
    let Some(client_ca_pem) = data
        .remove("requestheader-client-ca-file")
        .filter(|pem| !pem.trim().is_empty())
    else {
        return Ok(None);
    };
    let mut list = |key: &str| -> Result<Vec<String>> {
        match data.remove(key) {
            None => Ok(Vec::new()),
            Some(text) => serde_json::from_str(&text)
                .map_err(|problem| Error::Undecodable(format!("ConfigMap {NAMESPACE}/{NAME}, {key}: {problem}"))),
        }
    };
    Ok(Some(RequestHeader {
        client_ca_pem,
        allowed_names: list("requestheader-allowed-names")?,
        username_headers: list("requestheader-username-headers")?,
        group_headers: list("requestheader-group-headers")?,
        uid_headers: list("requestheader-uid-headers")?,
        extra_prefixes: list("requestheader-extra-headers-prefix")?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(names: &str) -> BTreeMap<String, String> {
        [
            ("client-ca-file", "PEM of somebody else"),
            ("requestheader-client-ca-file", "PEM"),
            ("requestheader-allowed-names", names),
            ("requestheader-username-headers", r#"["X-Remote-User"]"#),
            ("requestheader-group-headers", r#"["X-Remote-Group"]"#),
            ("requestheader-extra-headers-prefix", r#"["X-Remote-Extra-"]"#),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
    }

    #[test]
    fn the_documented_form_is_read() {
        let read = parse(data(r#"["front-proxy-client"]"#)).unwrap().unwrap();
        assert_eq!(read.client_ca_pem, "PEM");
        assert_eq!(read.allowed_names, ["front-proxy-client"]);
        assert_eq!(read.username_headers, ["X-Remote-User"]);
        assert_eq!(read.group_headers, ["X-Remote-Group"]);
        assert_eq!(read.extra_prefixes, ["X-Remote-Extra-"]);
        assert!(read.uid_headers.is_empty());
    }

    #[test]
    fn no_front_proxy_and_nonsense_are_told_apart() {
        assert_eq!(parse(BTreeMap::new()).unwrap(), None);
        let mut without = data("[]");
        without.insert("requestheader-client-ca-file".to_owned(), "\n".to_owned());
        assert_eq!(parse(without).unwrap(), None);
        // Read as "any name", a broken list would let everyone in who has a certificate of that CA.
        assert!(parse(data("front-proxy-client")).is_err());
    }
}
