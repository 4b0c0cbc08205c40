//! A name server that never responds, and a relay that asks no other: it runs in a mount namespace
//! with its own `/etc/resolv.conf`.

use anyhow::Context as _;
use sealpost_bench_support::report_progress;
use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    net::Ipv4Addr,
    os::unix::fs::{OpenOptionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Stdio,
};
use tokio::{net::UdpSocket, process::Command};

/// Address of the name server; the port of name servers cannot be configured.
const ADDRESS: (Ipv4Addr, u16) = (Ipv4Addr::new(127, 66, 0, 53), 53);

/// Running name server that ignores every query.
pub(crate) struct SilentResolver {
    programs: PathBuf,
    /// Its receive buffer fills, and further queries are lost.
    _socket: UdpSocket,
}

impl SilentResolver {
    /// Starts the name server, and writes a script in place of the relay that uses it. Returns
    /// `None`, and says so, if this machine permits no mount namespace or no name server.
    pub(crate) async fn start(programs: &Path, directory: &Path) -> anyhow::Result<Option<Self>> {
        let programs = fs::canonicalize(programs)?;
        let configuration = directory.join("resolv.conf");
        fs::write(&configuration, format!("nameserver {}\n", ADDRESS.0))?;
        let socket = match UdpSocket::bind(ADDRESS).await {
            Ok(socket) if can_bind_mounts(&configuration).await => socket,
            Ok(_) => return Ok(report_missing("it permits no mount namespace")),
            Err(error) => return Ok(report_missing(&format!("port 53: {error}"))),
        };
        let wrapped = directory.join("programs");
        fs::create_dir(&wrapped)?;
        symlink(programs.join("sealpost"), wrapped.join("sealpost"))?;
        let command = format!(
            "#!/bin/sh\nexec unshare --map-root-user --mount sh -c '{} && exec \"$@\"' relay '{}' \
             \"$@\"\n",
            mount_command(&configuration),
            programs.join("sealpost-relay").display()
        );
        let mut script = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o755)
            .open(wrapped.join("sealpost-relay"))?;
        script.write_all(command.as_bytes())?;
        Ok(Some(Self {
            programs: wrapped,
            _socket: socket,
        }))
    }

    /// Returns the directory with the node and the script that starts the relay.
    pub(crate) fn programs(&self) -> &Path {
        &self.programs
    }
}

fn mount_command(configuration: &Path) -> String {
    format!(
        "mount --bind \"{}\" /etc/resolv.conf",
        configuration.display()
    )
}

async fn can_bind_mounts(configuration: &Path) -> bool {
    let status = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c"])
        .arg(mount_command(configuration))
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .await
        .context("unshare");
    status.is_ok_and(|status| status.success())
}

fn report_missing(reason: &str) -> Option<SilentResolver> {
    report_progress(&format!(
        "NOT RUN: unresolvable names, because this machine cannot have a silent name server: \
         {reason}"
    ));
    None
}
