//! Processes under attack: the relay, the node that the attackers know, and its honest partner.

use crate::{honest::HonestClient, resolver::SilentResolver};
use anyhow::{Context as _, ensure};
use rusqlite::{Connection, OpenFlags};
use sealpost_demo::{
    environment::{Environment, pair},
    node::{DeliveryMode, Node},
    process::{Process, Program},
};
use sealpost_proto::Origin;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Arguments of the relay. Only one loopback address counts as a proxy: all others are clients
/// with an address of their own. Names of webhooks may resolve to either loopback address.
const RELAY_ARGS: [&str; 4] = [
    "--rates-trusted-proxies",
    "127.0.0.1/32",
    "--egress-allow",
    "::1/128",
];

/// Peak memory of the processes in MiB.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct PeakMemory {
    /// The relay.
    pub(crate) relay: f64,
    /// The larger of both nodes.
    pub(crate) node: f64,
}

/// Processes under attack and their honest client.
pub(crate) struct Testbed {
    /// Environment with the relay.
    pub(crate) env: Environment,
    /// Node that the attackers know; it has a webhook.
    pub(crate) victim: Node,
    /// Partner of the victim.
    pub(crate) partner: Node,
    /// Honest client of the relay and of both nodes.
    pub(crate) honest: Arc<HonestClient>,
    /// Origin of the relay.
    pub(crate) relay: Origin,
    /// Resolver that never responds, unless this machine does not permit one.
    pub(crate) resolver: Option<SilentResolver>,
}

/// Returns the binaries in a directory, and sets the directory for temporary files beside them: a
/// temporary directory in memory would make fsync free.
pub(crate) fn installed_programs(programs: &Path) -> anyhow::Result<tempfile::TempDir> {
    for name in ["sealpost", "sealpost-relay"] {
        let path = programs.join(name);
        ensure!(
            path.is_file(),
            "there is no {}: run ./tests/run hostile, which builds it",
            path.display()
        );
    }
    let directory = tempfile::Builder::new()
        .prefix("hostile-")
        .tempdir_in(programs)?;
    tempfile::env::override_temp_dir(directory.path())
        .map_err(|_| anyhow::anyhow!("the temporary directory was already set"))?;
    Ok(directory)
}

impl Testbed {
    /// Starts the relay and both nodes from the binaries in `programs`.
    pub(crate) async fn start(programs: &Path, directory: &Path) -> anyhow::Result<Self> {
        let resolver = SilentResolver::start(programs, directory).await?;
        let program = match &resolver {
            Some(resolver) => Program::installed(resolver.programs()),
            None => Program::installed(programs),
        };
        let mut env = Environment::new(program)?;
        env.relay.set_extra_args(&RELAY_ARGS);
        env.relay.start().await?;
        let relay = Origin::parse(&env.relay.origin())?;
        let victim = env.start_node("Victim", DeliveryMode::Webhook).await?;
        let partner = env.start_node("Partner", DeliveryMode::Pull).await?;
        let connection = pair(&victim, &partner).await?.invitee.id;
        let honest = HonestClient::new(&relay, &partner, &victim, connection).await?;
        Ok(Self {
            env,
            victim,
            partner,
            honest: Arc::new(honest),
            relay,
            resolver,
        })
    }

    /// Returns the peak memory since the start or the last reset, and resets it.
    pub(crate) fn reset_peak_memory(&self) -> anyhow::Result<PeakMemory> {
        let relay = reset_peak(self.env.relay.process()?)?;
        let victim = reset_peak(self.victim.process()?)?;
        let partner = reset_peak(self.partner.process()?)?;
        Ok(PeakMemory {
            relay,
            node: victim.max(partner),
        })
    }

    /// Returns the path of the relay's database.
    pub(crate) fn relay_database(&self) -> PathBuf {
        self.env.relay.directory().join("relay.db")
    }

    /// Returns the path of the victim's database.
    pub(crate) fn victim_database(&self) -> PathBuf {
        self.victim.home().directory().join("node.db")
    }

    /// Returns the address of the victim's webhook.
    pub(crate) async fn webhook_authority(&self) -> anyhow::Result<String> {
        let node = self.victim.api()?.fetch_node().await?;
        let url: http::Uri = node
            .webhook_url
            .context("the node has a webhook")?
            .parse()?;
        Ok(url.authority().context("a URL with a host")?.to_string())
    }

    /// Stops all processes gracefully.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        self.victim.stop().await?;
        self.partner.stop().await?;
        self.env.finish().await
    }
}

/// Returns the bytes of the pages that a database uses, including those in its write-ahead log.
pub(crate) fn used_bytes(database: &Path) -> anyhow::Result<u64> {
    let database = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let pragma = |name: &str| database.pragma_query_value(None, name, |row| row.get::<_, u64>(0));
    Ok((pragma("page_count")? - pragma("freelist_count")?) * pragma("page_size")?)
}

/// Returns the peak memory of a process in MiB and resets it.
fn reset_peak(process: &Process) -> anyhow::Result<f64> {
    let peak = process.peak_memory_bytes()? as f64 / f64::from(1 << 20);
    // Described in proc_pid_clear_refs(5).
    fs::write(format!("/proc/{}/clear_refs", process.pid()?), "5")?;
    Ok(peak)
}
