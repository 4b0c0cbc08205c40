use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// A range of addresses in CIDR notation, `10.0.0.0/8` or `fd00::/8`; an address alone is a range of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IpRange {
    first: IpAddr,
    prefix: u32,
}

/// Text that is not a range of addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{text}\" is not a range of addresses: write for example 10.0.0.0/8, with zeros after the prefix"
)]
pub struct NotARange {
    text: String,
}

impl IpRange {
    pub(crate) const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u32) -> Self {
        Self {
            first: IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
            prefix,
        }
    }

    pub(crate) const fn v6(first: [u16; 8], prefix: u32) -> Self {
        let [a, b, c, d, e, f, g, h] = first;
        Self {
            first: IpAddr::V6(Ipv6Addr::new(a, b, c, d, e, f, g, h)),
            prefix,
        }
    }

    /// Whether the address lies in the range. An IPv4 address is never in an IPv6 range, nor the other way round.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.first, address) {
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                shifted(first.to_bits().into(), 32 - self.prefix)
                    == shifted(address.to_bits().into(), 32 - self.prefix)
            }
            (IpAddr::V6(first), IpAddr::V6(address)) => {
                shifted(first.to_bits(), 128 - self.prefix)
                    == shifted(address.to_bits(), 128 - self.prefix)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text
            .split_once('/')
            .map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let first: IpAddr = address.parse().ok()?;
        let (bits, width) = match first {
            IpAddr::V4(first) => (u128::from(first.to_bits()), 32),
            IpAddr::V6(first) => (first.to_bits(), 128),
        };
        let prefix = prefix
            .map_or(Some(width), |prefix| prefix.parse().ok())
            .filter(|prefix| *prefix <= width)?;
        let host_bits = width - prefix;
        // 10.0.0.1/8 may mean one address or sixteen million: whoever writes it has to decide.
        (bits.trailing_zeros() >= host_bits).then_some(Self { first, prefix })
    }
}

/// A shift by the whole width is all zeros.
const fn shifted(bits: u128, by: u32) -> u128 {
    match bits.checked_shr(by) {
        Some(bits) => bits,
        None => 0,
    }
}

impl FromStr for IpRange {
    type Err = NotARange;
    fn from_str(text: &str) -> Result<Self, NotARange> {
        Self::parse(text).ok_or_else(|| NotARange {
            text: text.to_owned(),
        })
    }
}

impl fmt::Display for IpRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

impl Serialize for IpRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for IpRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_read_and_contain() {
        for (range, inside, outside) in [
            ("127.0.0.0/8", "127.255.0.1", "128.0.0.0"),
            ("10.1.2.3", "10.1.2.3", "10.1.2.2"),
            ("0.0.0.0/0", "255.255.255.255", "::"),
            ("::/0", "ffff::", "1.2.3.4"),
            ("fd00::/8", "fdff::1", "fe00::"),
            ("::1/128", "::1", "::2"),
        ] {
            let range: IpRange = range.parse().unwrap();
            assert!(range.contains(inside.parse().unwrap()), "{range} {inside}");
            assert!(
                !range.contains(outside.parse().unwrap()),
                "{range} {outside}"
            );
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for bad in [
            "",
            "10.0.0.1/8",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/",
            "10.0.0/8",
            "x",
            "10.0.0.0/-1",
            "fd00::1/8",
        ] {
            assert!(bad.parse::<IpRange>().is_err(), "{bad}");
        }
    }
}
