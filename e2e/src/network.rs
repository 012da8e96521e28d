//! Addresses of a box, all derived from its slot, so that boxes can run side by side and tests can reach into them.
use std::net::Ipv4Addr;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// Boxes that can be up at the same time.
pub const SLOTS: u8 = 16;

/// An IPv4 network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    pub base: Ipv4Addr,
    pub prefix: u8,
}

impl Cidr {
    const fn new(base: Ipv4Addr, prefix: u8) -> Self {
        Self { base, prefix }
    }

    /// Reads `10.0.0.0/8`; an address alone is a network of one.
    pub fn parse(text: &str) -> Option<Self> {
        let (base, prefix) = text.split_once('/').unwrap_or((text, "32"));
        let prefix = prefix.parse().ok().filter(|prefix| *prefix <= 32)?;
        Some(Self::new(base.parse().ok()?, prefix))
    }

    /// Whether the two share an address.
    pub fn overlaps(self, other: Self) -> bool {
        let shorter = u32::from(self.prefix.min(other.prefix));
        let shift = 32 - shorter;
        u64::from(self.base.to_bits()) >> shift == u64::from(other.base.to_bits()) >> shift
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}/{}", self.base, self.prefix)
    }
}

/// Everything about addresses that a slot decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    slot: u8,
}

impl Network {
    pub const fn of_slot(slot: u8) -> Self {
        Self { slot }
    }

    /// The wire between the machine and the box.
    pub const fn wire(self) -> Cidr {
        Cidr::new(Ipv4Addr::new(10, 99, self.slot, 0), 24)
    }

    pub const fn pods(self) -> Cidr {
        Cidr::new(Ipv4Addr::new(10, 244, self.slot, 0), 24)
    }

    pub const fn services(self) -> Cidr {
        Cidr::new(Ipv4Addr::new(10, 96 + self.slot % 2, self.slot / 2 * 16, 0), 20)
    }

    /// The node, and with it the API server.
    pub const fn node(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 99, self.slot, 1)
    }

    /// The machine, as the box sees it.
    pub const fn host(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 99, self.slot, 254)
    }

    /// The Service `kubernetes`: always the first address.
    pub fn api_service(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.services().base.to_bits() + 1)
    }

    /// The Service of the cluster's DNS. By convention the tenth address.
    pub fn dns_service(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.services().base.to_bits() + 10)
    }

    /// The machine's end of the wire.
    pub fn interface(self) -> String {
        format!("tidewright{}", self.slot)
    }

    /// Connects the machine to the network namespace of process `init_pid`. Both go when that namespace goes.
    pub fn connect(self, init_pid: i32) -> Result<()> {
        let interface = self.interface();
        let netns = init_pid.to_string();
        ip(&[
            "link", "add", &interface, "type", "veth", "peer", "name", "eth0", "netns", &netns,
        ])?;
        ip(&[
            "address",
            "add",
            &format!("{}/{}", self.host(), self.wire().prefix),
            "dev",
            &interface,
        ])?;
        ip(&["link", "set", &interface, "up"])
    }

    /// Lets the machine reach pods and services. Needs the far end to be up.
    pub fn route_from_host(self) -> Result<()> {
        let (interface, node) = (self.interface(), self.node().to_string());
        for network in [self.pods(), self.services()] {
            ip(&[
                "route",
                "replace",
                &network.to_string(),
                "via",
                &node,
                "dev",
                &interface,
            ])?;
        }
        Ok(())
    }

    /// Lets the machine answer in the place of pods, at any of their addresses: for pods that run nothing. In such a box it reaches no others.
    pub fn answer_for_pods(self) -> Result<()> {
        ip(&[
            "route",
            "replace",
            "local",
            &self.pods().to_string(),
            "dev",
            &self.interface(),
        ])
    }

    /// The far end, inside the box.
    pub fn configure_inside(self) -> Result<()> {
        ip(&["link", "set", "lo", "up"])?;
        ip(&[
            "address",
            "add",
            &format!("{}/{}", self.node(), self.wire().prefix),
            "dev",
            "eth0",
        ])?;
        ip(&["link", "set", "eth0", "up"])?;
        // The API server and the kubelet take the address of the default route for their own.
        ip(&[
            "route",
            "add",
            "default",
            "via",
            &self.host().to_string(),
            "dev",
            "eth0",
        ])
    }

    /// Removes the wire. It is no error if it is gone already.
    pub fn disconnect(self) {
        let _ = ip(&["link", "delete", &self.interface()]);
    }

    pub fn is_connected(self) -> bool {
        std::path::Path::new("/sys/class/net").join(self.interface()).exists()
    }

    /// Whether the machine already uses some of these addresses for something else.
    pub fn collides_with(self, used: &[Cidr]) -> bool {
        [self.wire(), self.pods(), self.services()]
            .iter()
            .any(|ours| used.iter().any(|theirs| ours.overlaps(*theirs)))
    }
}

/// Networks that the machine has routes for, the default route apart.
pub fn routes_of_host() -> Result<Vec<Cidr>> {
    let output = Command::new("ip")
        .args(["-4", "route", "show"])
        .output()
        .context("running ip")?;
    ensure!(
        output.status.success(),
        "ip route show: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text
        .lines()
        .filter_map(|line| Cidr::parse(line.split_whitespace().next()?))
        .collect())
}

fn ip(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip")
        .args(arguments)
        .output()
        .context("running ip (package iproute2)")?;
    ensure!(
        output.status.success(),
        "ip {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_never_share_an_address() {
        let networks: Vec<Network> = (0..SLOTS).map(Network::of_slot).collect();
        for (index, one) in networks.iter().enumerate() {
            for other in &networks[index + 1..] {
                assert!(
                    !one.collides_with(&[other.wire(), other.pods(), other.services()]),
                    "{one:?} {other:?}"
                );
            }
        }
    }

    #[test]
    fn overlap_is_found_whichever_network_is_larger() {
        let slot = Network::of_slot(0);
        assert!(slot.collides_with(&[Cidr::parse("10.0.0.0/8").unwrap()]));
        assert!(slot.collides_with(&[Cidr::parse("10.244.0.7").unwrap()]));
        assert!(!slot.collides_with(&[Cidr::parse("192.168.0.0/16").unwrap()]));
        assert!(slot.collides_with(&[Cidr::parse("0.0.0.0/0").unwrap()]));
        assert!(Cidr::parse("default").is_none());
    }

    #[test]
    fn well_known_addresses_of_the_first_slot() {
        let slot = Network::of_slot(0);
        assert_eq!(slot.api_service().to_string(), "10.96.0.1");
        assert_eq!(slot.dns_service().to_string(), "10.96.0.10");
        assert_eq!(slot.node().to_string(), "10.99.0.1");
    }
}
