//! Which Prometheus a service may name: the operator's own, or one of its allow-list. Pure.

use reqwest::Url;

/// Why a service may not name this server; `None` if it may. A free choice would let whoever may write a service send requests from the
/// operator's place in the network.
pub fn server_address_refusal(requested: &str, own: Option<&str>, allowed: &[String]) -> Option<String> {
    let requested_url = match parse_server(requested) {
        Ok(url) => url,
        Err(problem) => return Some(format!("serverAddress {requested:?} {problem}")),
    };
    let mut known = own.into_iter().chain(allowed.iter().map(String::as_str));
    if known.any(|candidate| parse_server(candidate).is_ok_and(|url| url == requested_url)) {
        return None;
    }
    Some(format!(
        "serverAddress {requested:?} is not one that this operator may ask: leave it out to use the operator's own Prometheus, or have the \
         address added to the operator's list of allowed servers"
    ))
}

/// A server's address in a form that can be compared: scheme, host, port and path, nothing else.
pub fn parse_server(address: &str) -> Result<Url, String> {
    if address.len() > 1024 {
        return Err("is longer than 1024 bytes".to_owned());
    }
    // The URL standard reads a backslash as a slash and drops tabs and line ends: whoever reads the address by eye would be misled.
    if let Some(odd) = address
        .chars()
        .find(|c| c.is_control() || c.is_whitespace() || *c == '\\')
    {
        return Err(format!("contains {odd:?}"));
    }
    let mut url = Url::parse(address).map_err(|problem| format!("is no URL: {problem}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("is neither http nor https".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("carries credentials".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("has a query or a fragment".to_owned());
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err("names no host".to_owned());
    }
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Option<&str> = Some("http://prometheus.monitoring:9090/");

    #[test]
    fn the_own_server_and_the_list_are_accepted_however_they_are_written() {
        let allowed = ["https://metrics.example.org/prom".to_owned()];
        for address in [
            "http://prometheus.monitoring:9090",
            "http://prometheus.monitoring:9090/",
            "HTTP://Prometheus.Monitoring:9090",
            "https://metrics.example.org:443/prom/",
        ] {
            assert_eq!(server_address_refusal(address, OWN, &allowed), None, "{address}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        let allowed = ["https://metrics.example.org/prom".to_owned()];
        for address in [
            "",
            "prometheus.monitoring:9090",
            "//prometheus.monitoring:9090",
            "file:///etc/passwd",
            "gopher://prometheus.monitoring:9090",
            "http://169.254.169.254/latest",
            "http://127.0.0.1:9090",
            "http://[::1]:9090",
            "http://prometheus.monitoring",
            "http://prometheus.monitoring:9091",
            "https://prometheus.monitoring:9090",
            "http://prometheus.monitoring:9090/x",
            "http://prometheus.monitoring:9090/../x",
            "http://prometheus.monitoring:9090/%2e%2e/x",
            "http://prometheus.monitoring:9090@evil.example:9090",
            "http://user@prometheus.monitoring:9090",
            "http://prometheus.monitoring:9090?x=1",
            "http://prometheus.monitoring:9090#x",
            "http://prometheus.monitoring:9090\\@evil.example",
            "http://prometheus.monitoring\t:9090",
            "http://prometheus.monitoring.evil.example:9090",
            "https://metrics.example.org",
            "https://metrics.example.org/prom/../other",
            "https://metrics.example.org/promX",
        ] {
            assert!(server_address_refusal(address, OWN, &allowed).is_some(), "{address}");
        }
        assert!(server_address_refusal("http://prometheus.monitoring:9090", None, &[]).is_some());
    }
}
