//! Address of the client that sent a request. Behind a proxy it is taken from `X-Forwarded-For`,
//! from right to left up to the first address that is not a trusted proxy: whatever is to the left
//! of it may be forged.

use crate::settings::TrustedProxies;
use axum::extract::ConnectInfo;
use http::{Extensions, HeaderMap};
use std::net::{IpAddr, SocketAddr};

const FORWARDED_FOR: &str = "x-forwarded-for";

/// Returns the address of the client. It is unknown if a trusted proxy, such as a program on this
/// machine, does not report it.
pub(super) fn client_address(
    extensions: &Extensions,
    headers: &HeaderMap,
    proxies: &TrustedProxies,
) -> Option<IpAddr> {
    // A connection without an address came through a Unix socket, which only a trusted proxy may
    // open.
    let peer = extensions
        .get::<ConnectInfo<SocketAddr>>()
        .map(|ConnectInfo(peer)| peer.ip());
    if let Some(client) = peer.filter(|peer| !proxies.contains(*peer)) {
        return Some(client);
    }
    let values = headers
        .get_all(FORWARDED_FOR)
        .into_iter()
        .rev()
        .filter_map(|value| value.to_str().ok());
    let mut hops = values
        .flat_map(|value| value.rsplit(','))
        .map(|hop| parse_address(hop.trim()));
    hops.find(|hop| hop.is_none_or(|address| !proxies.contains(address)))
        .flatten()
}

/// Parses an address. Some proxies add the port.
fn parse_address(hop: &str) -> Option<IpAddr> {
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

    fn client(peer: &str, forwarded: &[&str]) -> Option<String> {
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
        client_address(&extensions, &headers, &proxies).map(|address| address.to_string())
    }

    #[test]
    fn only_trusted_proxies_report_client_addresses() {
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
            (
                "127.0.0.1",
                &["2001:db8:1:2:3::4"],
                Some("2001:db8:1:2:3::4"),
            ),
            (
                "127.0.0.1",
                &["[2001:db8:1:2:3::4]:443"],
                Some("2001:db8:1:2:3::4"),
            ),
            ("127.0.0.1", &["[2001:db8::4]"], Some("2001:db8::4")),
            ("a Unix socket", &["198.51.100.1"], Some("198.51.100.1")),
            ("a Unix socket", &[], None),
            ("127.0.0.1", &[], None),
            ("127.0.0.1", &["10.0.0.3"], None),
            ("127.0.0.1", &["198.51.100.1, unknown"], None),
        ] {
            assert_eq!(
                client(peer, forwarded).as_deref(),
                expected,
                "{peer} {forwarded:?}"
            );
        }
    }
}
