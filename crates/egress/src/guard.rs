use crate::IpRange;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// IPv4 that is not the public internet, or that answers for the machine itself (IANA's special-purpose registry, and
/// the metadata service of one cloud, which has a public address).
const INSIDE_V4: [IpRange; 17] = [
    IpRange::v4(0, 0, 0, 0, 8),          // this network, unspecified
    IpRange::v4(10, 0, 0, 0, 8),         // private
    IpRange::v4(100, 64, 0, 0, 10),      // shared by carriers
    IpRange::v4(127, 0, 0, 0, 8),        // loopback
    IpRange::v4(168, 63, 129, 16, 32),   // metadata
    IpRange::v4(169, 254, 0, 0, 16),     // link-local, metadata
    IpRange::v4(172, 16, 0, 0, 12),      // private
    IpRange::v4(192, 0, 0, 0, 24),       // protocol assignments, metadata
    IpRange::v4(192, 0, 2, 0, 24),       // documentation
    IpRange::v4(192, 88, 99, 0, 24),     // relays of 6to4
    IpRange::v4(192, 168, 0, 0, 16),     // private
    IpRange::v4(198, 18, 0, 0, 15),      // benchmarking
    IpRange::v4(198, 51, 100, 0, 24),    // documentation
    IpRange::v4(203, 0, 113, 0, 24),     // documentation
    IpRange::v4(224, 0, 0, 0, 4),        // multicast
    IpRange::v4(240, 0, 0, 0, 4),        // reserved
    IpRange::v4(255, 255, 255, 255, 32), // broadcast
];

/// Of IPv6 only what is assigned as global unicast can be public.
const GLOBAL_V6: IpRange = IpRange::v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);

/// What of [`GLOBAL_V6`] is not.
const INSIDE_V6: [IpRange; 4] = [
    IpRange::v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23), // Teredo, benchmarking, ORCHID
    IpRange::v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), // documentation
    IpRange::v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16), // 6to4: an IPv4 address in disguise
    IpRange::v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20), // documentation
];

/// IPv4 addresses as a NAT64 gateway spells them, in the last 32 bits (RFC 6052).
const NAT64: IpRange = IpRange::v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96);

/// Decides which addresses may be connected to: the public internet, and what the operator allows besides.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    allow: Vec<IpRange>,
}

impl Guard {
    /// A guard that also lets through what lies in one of these ranges.
    #[must_use]
    pub const fn new(allow: Vec<IpRange>) -> Self {
        Self { allow }
    }

    /// Whether this address may be connected to.
    ///
    /// Refused are private, loopback, link-local, carrier-shared, multicast, broadcast, unspecified, documentation,
    /// benchmarking, reserved and metadata addresses, IPv6 that is not global unicast, and IPv4 addresses embedded in
    /// IPv6 (compatible, 6to4, Teredo; mapped and NAT64 when the embedded address is refused).
    #[must_use]
    pub fn permits(&self, address: IpAddr) -> bool {
        // The kernel connects a mapped address over IPv4.
        let address = address.to_canonical();
        self.allow.iter().any(|range| range.contains(address)) || is_public(address)
    }
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    !INSIDE_V4.iter().any(|range| range.contains(address.into()))
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    if NAT64.contains(address.into()) {
        let [.., a, b, c, d] = address.octets();
        return is_public_v4(Ipv4Addr::new(a, b, c, d));
    }
    GLOBAL_V6.contains(address.into())
        && !INSIDE_V6.iter().any(|range| range.contains(address.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_public_internet_is_permitted() {
        let guard = Guard::default();
        for public in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "128.0.0.1",
            "168.63.129.17",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.1",
            "193.0.0.1",
            "223.255.255.255",
            "2606:4700:4700::1111",
            "2001:4860:4860::8888",
            "2a00::1",
            "::ffff:1.1.1.1",
            "64:ff9b::101:101",
        ] {
            assert!(guard.permits(public.parse().unwrap()), "{public}");
        }
    }

    #[test]
    fn what_the_operator_allows_is_permitted_and_nothing_beside() {
        let guard = Guard::new(vec![
            "127.0.0.0/8".parse().unwrap(),
            "fd12::/16".parse().unwrap(),
        ]);
        for (address, permitted) in [
            ("127.0.0.1", true),
            ("::ffff:127.0.0.1", true),
            ("fd12::1", true),
            ("fd13::1", false),
            ("::1", false),
            ("10.0.0.1", false),
            // A gateway is another machine than this one.
            ("64:ff9b::7f00:1", false),
        ] {
            assert_eq!(
                guard.permits(address.parse().unwrap()),
                permitted,
                "{address}"
            );
        }
    }
}
