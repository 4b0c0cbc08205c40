//! `sealpost-relay serve`: runs the relay as a daemon, with signal handling and supervision.

use crate::{config::Overrides, reload::Reloader, serve::start};
use anyhow::Context as _;
use sealpost_service::{Shutdown, SystemClock, logs, supervisor};
use std::{
    io::{Write as _, stdout},
    sync::Arc,
};
use tokio::signal::unix::{SignalKind, signal};

pub(super) async fn run(overrides: Overrides) -> anyhow::Result<()> {
    let loaded = overrides.load()?;
    let logs = logs::init(loaded.config.log.format, &loaded.config.log.filter)?;
    let shutdown = Shutdown::on_signals().context("cannot install signal handlers")?;
    let mut hangups = signal(SignalKind::hangup()).context("cannot install signal handlers")?;
    let running = start(loaded.config.clone(), Arc::new(SystemClock), shutdown).await?;
    let mut out = stdout();
    writeln!(out, "listening on {}", running.address_url())
        .and_then(|()| out.flush())
        .context("cannot write to standard output")?;
    let status = format!("serving {}", running.origin);
    supervisor::notify_ready(&status);
    let mut reloader = Reloader {
        overrides,
        loaded,
        logs,
        settings: running.settings(),
        certificates: running.certificates(),
    };
    let reloads = async {
        while hangups.recv().await.is_some() {
            supervisor::notify_reloading();
            reloader.reload();
            supervisor::notify_ready(&status);
        }
        std::future::pending().await
    };
    let liveness = running.liveness();
    let watchdog = supervisor::run_watchdog(async |timeout| liveness.is_alive(timeout));
    tokio::select! {
        () = running.ended() => Ok(()),
        () = reloads => Ok(()),
        () = watchdog => Ok(()),
    }
}
