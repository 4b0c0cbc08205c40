//! `serve`: the relay as a daemon, with its signals and its supervisor.

use crate::{config::Told, reload::Reloader, serve::start};
use anyhow::Context as _;
use sealpost_service::{Shutdown, SystemClock, logs, supervisor};
use std::{
    io::{Write as _, stdout},
    sync::Arc,
};
use tokio::signal::unix::{SignalKind, signal};

pub(super) async fn run(told: Told) -> anyhow::Result<()> {
    let loaded = told.load()?;
    let logs = logs::init(loaded.config.log.format, &loaded.config.log.filter)?;
    let shutdown = Shutdown::on_signals().context("signals cannot be caught")?;
    let mut hangups = signal(SignalKind::hangup()).context("signals cannot be caught")?;
    let running = start(loaded.config.clone(), Arc::new(SystemClock), shutdown).await?;
    let mut out = stdout();
    writeln!(out, "listening on {}", running.address_url())
        .and_then(|()| out.flush())
        .context("standard output")?;
    let status = format!("serves {}", running.origin);
    supervisor::ready(&status);
    let relay = running.relay();
    let mut reloader = Reloader {
        told,
        loaded,
        logs,
        relay: Arc::clone(&relay),
    };
    let reloads = async {
        while hangups.recv().await.is_some() {
            supervisor::reloading();
            reloader.reload();
            supervisor::ready(&status);
        }
        std::future::pending().await
    };
    let watchdog = supervisor::feed_watchdog(async |patience| relay.moves_within(patience));
    tokio::select! {
        () = running.ended() => Ok(()),
        () = reloads => Ok(()),
        () = watchdog => Ok(()),
    }
}
