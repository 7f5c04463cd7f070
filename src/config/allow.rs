//! Which addresses may be dialled when someone else names them.

use std::net::IpAddr;

use ipnet::IpNet;

/// Networks of machines that one's own people run: loopback, RFC 1918, and unique local IPv6.
const DEFAULT: [&str; 6] = ["127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"];

/// The networks in which a discovered address must lie. Whoever can name an address could otherwise have our
/// password sent to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowList(Vec<IpNet>);

impl Default for AllowList {
    fn default() -> Self {
        Self(DEFAULT.iter().filter_map(|network| network.parse().ok()).collect())
    }
}

impl AllowList {
    pub(super) fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// One address.
    #[cfg(test)]
    pub(crate) fn only(address: IpAddr) -> Self {
        Self(vec![address.into()])
    }

    /// Whether the address lies in one of the networks; an IPv4 address in IPv6 clothes is an IPv4 address.
    #[must_use]
    pub fn permits(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// `10.0.0.0/8`, or a single address.
pub(super) fn network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permits(list: &AllowList, address: &str) -> bool {
        list.permits(address.parse().unwrap())
    }

    #[test]
    fn the_default_is_loopback_and_private() {
        let list = AllowList::default();
        for address in ["127.0.0.9", "10.255.0.1", "172.31.0.1", "192.168.1.1", "::1", "fd00::1", "::ffff:10.0.0.1"] {
            assert!(permits(&list, address), "{address}");
        }
        // 169.254.169.254 hands out the credentials of cloud machines.
        for address in ["8.8.8.8", "172.32.0.1", "169.254.169.254", "2001:db8::1", "::ffff:8.8.8.8", "0.0.0.0"] {
            assert!(!permits(&list, address), "{address}");
        }
    }

    #[test]
    fn a_network_or_an_address() {
        let list = AllowList::new(["203.0.113.0/24", "2001:db8::7"].iter().filter_map(|text| network(text)).collect());
        assert!(permits(&list, "203.0.113.200") && permits(&list, "2001:db8::7"));
        assert!(!permits(&list, "127.0.0.1") && !permits(&list, "2001:db8::8"));
        assert!(["10.0.0.0/33", "host", "10.0.0", ""].iter().all(|text| network(text).is_none()));
    }
}
