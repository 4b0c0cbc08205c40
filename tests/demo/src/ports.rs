//! Ports on loopback for servers that come back at the same address after a restart.

use std::{
    net::{Ipv4Addr, TcpListener},
    sync::atomic::{AtomicU32, Ordering},
};

/// Below the ports that the system gives to outgoing connections, which would take one while its server is down.
const FIRST: u32 = 12_000;
const COUNT: u32 = 18_000;
/// Processes that start one after the other begin their search this far apart.
const STRIDE: u32 = 37;

static TAKEN: AtomicU32 = AtomicU32::new(0);

/// A port on which nobody listens, and which this process was not given before.
///
/// # Errors
/// When all are taken.
pub fn free_port() -> anyhow::Result<u16> {
    let begin = std::process::id().wrapping_mul(STRIDE);
    (0..COUNT)
        .map(|_| FIRST + begin.wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed)) % COUNT)
        .filter_map(|port| u16::try_from(port).ok())
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .ok_or_else(|| anyhow::anyhow!("no free port on 127.0.0.1 between {FIRST} and {}", FIRST + COUNT))
}
