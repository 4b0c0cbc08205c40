use crate::IpRange;
use ipnet::{Ipv4Net, Ipv6Net};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// IPv4 ranges that are not the public internet: IANA's special-purpose registry, and the metadata
/// service of one cloud, which has a public address.
const NON_PUBLIC_V4: [Ipv4Net; 17] = [
    v4([0, 0, 0, 0], 8),          // this network, unspecified
    v4([10, 0, 0, 0], 8),         // private
    v4([100, 64, 0, 0], 10),      // carrier-grade NAT
    v4([127, 0, 0, 0], 8),        // loopback
    v4([168, 63, 129, 16], 32),   // metadata
    v4([169, 254, 0, 0], 16),     // link-local, metadata
    v4([172, 16, 0, 0], 12),      // private
    v4([192, 0, 0, 0], 24),       // protocol assignments, metadata
    v4([192, 0, 2, 0], 24),       // documentation
    v4([192, 88, 99, 0], 24),     // 6to4 relays
    v4([192, 168, 0, 0], 16),     // private
    v4([198, 18, 0, 0], 15),      // benchmarking
    v4([198, 51, 100, 0], 24),    // documentation
    v4([203, 0, 113, 0], 24),     // documentation
    v4([224, 0, 0, 0], 4),        // multicast
    v4([240, 0, 0, 0], 4),        // reserved
    v4([255, 255, 255, 255], 32), // broadcast
];

/// IPv6 addresses that can be public: only the range assigned as global unicast.
const GLOBAL_UNICAST_V6: Ipv6Net = v6([0x2000, 0], 3);

/// Parts of [`GLOBAL_UNICAST_V6`] that are not public.
const NON_PUBLIC_V6: [Ipv6Net; 4] = [
    v6([0x2001, 0], 23),     // Teredo, benchmarking, ORCHID
    v6([0x2001, 0xdb8], 32), // documentation
    v6([0x2002, 0], 16),     // 6to4, which embeds an IPv4 address
    v6([0x3fff, 0], 20),     // documentation
];

/// Range in which NAT64 gateways embed an IPv4 address in the last 32 bits (RFC 6052).
const NAT64: Ipv6Net = v6([0x64, 0xff9b], 96);

const fn v4([a, b, c, d]: [u8; 4], prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6([a, b]: [u16; 2], prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, 0), prefix)
}

/// Filter of the addresses that may be connected to: those of the public internet and those in the
/// ranges that the operator allows.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    allow: Vec<IpRange>,
}

impl Guard {
    /// Creates a guard that also permits the addresses in `allow`.
    #[must_use]
    pub const fn new(allow: Vec<IpRange>) -> Self {
        Self { allow }
    }

    /// Returns whether this address may be connected to.
    ///
    /// The guard refuses private, loopback, link-local, carrier-grade NAT, multicast, broadcast,
    /// unspecified, documentation, benchmarking, reserved and metadata addresses; IPv6 addresses
    /// that are not global unicast; and IPv4 addresses embedded in IPv6: always in compatible, 6to4
    /// and Teredo addresses; in a mapped address if the IPv4 address is refused; in a NAT64 address
    /// if the IPv4 address is not public, even if `allow` contains it.
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
    !NON_PUBLIC_V4.iter().any(|range| range.contains(&address))
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    if NAT64.contains(&address) {
        let [.., a, b, c, d] = address.octets();
        return is_public_v4(Ipv4Addr::new(a, b, c, d));
    }
    GLOBAL_UNICAST_V6.contains(&address)
        && !NON_PUBLIC_V6.iter().any(|range| range.contains(&address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_addresses_are_permitted() {
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
    fn only_allowed_ranges_are_added() {
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
            // The gateway is not this machine.
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
