//! Which address a request came from. Behind a proxy that is what the proxy says in `X-Forwarded-For`, and only what it
//! says: whatever stands to the left of the last address that is no proxy of ours may be anybody's invention.

use axum::extract::ConnectInfo;
use http::{Extensions, HeaderMap};
use sealpost_egress::IpRange;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

const FORWARDED_FOR: &str = "x-forwarded-for";
/// Of an IPv6 address, what one customer of a provider has at least.
const NETWORK_BITS: u32 = 64;

/// The proxies that are believed.
#[derive(Debug, Clone)]
pub(crate) struct TrustedProxies(Vec<IpRange>);

impl TrustedProxies {
    /// Those in these ranges.
    #[must_use]
    pub(crate) const fn new(ranges: Vec<IpRange>) -> Self {
        Self(ranges)
    }

    fn contains(&self, address: IpAddr) -> bool {
        self.0
            .iter()
            .any(|range| range.contains(address.to_canonical()))
    }
}

/// Who asks, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asker(Option<IpAddr>);

impl Asker {
    /// Who sent a request. Not known when it came from a trusted proxy that does not say, a program of this machine for
    /// example: all of them together are nobody.
    #[must_use]
    pub(crate) fn of(
        extensions: &Extensions,
        headers: &HeaderMap,
        proxies: &TrustedProxies,
    ) -> Self {
        // Without an address it came through a socket in the file system, which only a proxy of ours may open.
        let peer = extensions
            .get::<ConnectInfo<SocketAddr>>()
            .map(|ConnectInfo(peer)| peer.ip());
        if let Some(stranger) = peer.filter(|peer| !proxies.contains(*peer)) {
            return Self(Some(stranger));
        }
        let values = headers
            .get_all(FORWARDED_FOR)
            .into_iter()
            .rev()
            .filter_map(|value| value.to_str().ok());
        let mut hops = values
            .flat_map(|value| value.rsplit(','))
            .map(|hop| parse(hop.trim()));
        Self(
            hops.find(|hop| hop.is_none_or(|address| !proxies.contains(address)))
                .flatten(),
        )
    }

    pub(super) fn network(self) -> Option<Network> {
        self.0.map(|address| match address.to_canonical() {
            IpAddr::V6(address) => Network(
                Ipv6Addr::from_bits(address.to_bits() >> NETWORK_BITS << NETWORK_BITS).into(),
            ),
            v4 @ IpAddr::V4(_) => Network(v4),
        })
    }
}

/// An IPv4 address, or the first 64 bits of an IPv6 one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Network(IpAddr);

impl Network {
    pub(super) const EVERYBODY: Self = Self(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
}

/// Some proxies add the port.
fn parse(hop: &str) -> Option<IpAddr> {
    let address = hop
        .parse()
        .or_else(|_| hop.parse::<SocketAddr>().map(|hop| hop.ip()));
    address
        .or_else(|_| hop.trim_start_matches('[').trim_end_matches(']').parse())
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asker(peer: &str, forwarded: &[&str]) -> Option<String> {
        let proxies = TrustedProxies::new(
            ["127.0.0.0/8", "10.0.0.0/8"]
                .map(|range| range.parse().unwrap())
                .to_vec(),
        );
        let mut extensions = Extensions::new();
        if let Ok(peer) = peer.parse() {
            extensions.insert(ConnectInfo(SocketAddr::new(peer, 4_000)));
        }
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append(FORWARDED_FOR, value.parse().unwrap());
        }
        let Network(address) = Asker::of(&extensions, &headers, &proxies).network()?;
        Some(address.to_string())
    }

    #[test]
    fn only_what_a_proxy_of_ours_says_is_believed() {
        for (peer, forwarded, expected) in [
            ("192.0.2.1", &[][..], Some("192.0.2.1")),
            ("192.0.2.1", &["198.51.100.1"], Some("192.0.2.1")),
            ("127.0.0.1", &["198.51.100.1"], Some("198.51.100.1")),
            ("::ffff:127.0.0.1", &["198.51.100.1"], Some("198.51.100.1")),
            (
                "127.0.0.1",
                &["1.1.1.1, 198.51.100.1"],
                Some("198.51.100.1"),
            ),
            (
                "127.0.0.1",
                &["1.1.1.1", "198.51.100.1"],
                Some("198.51.100.1"),
            ),
            (
                "127.0.0.1",
                &["198.51.100.1, 10.0.0.3"],
                Some("198.51.100.1"),
            ),
            ("127.0.0.1", &["198.51.100.1:1234"], Some("198.51.100.1")),
            ("127.0.0.1", &["2001:db8:1:2:3::4"], Some("2001:db8:1:2::")),
            (
                "127.0.0.1",
                &["[2001:db8:1:2:3::4]:443"],
                Some("2001:db8:1:2::"),
            ),
            ("127.0.0.1", &["[2001:db8::4]"], Some("2001:db8::")),
            ("a Unix socket", &["198.51.100.1"], Some("198.51.100.1")),
            ("a Unix socket", &[], None),
            ("127.0.0.1", &[], None),
            ("127.0.0.1", &["10.0.0.3"], None),
            ("127.0.0.1", &["198.51.100.1, unknown"], None),
        ] {
            assert_eq!(
                asker(peer, forwarded).as_deref(),
                expected,
                "{peer} {forwarded:?}"
            );
        }
    }
}
