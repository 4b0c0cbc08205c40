//! `sealpost-relay backup`: a copy of all data, from which a relay can be started.

use crate::{backup, config::Overrides};
use clap::Args;
use std::{
    io::{Write as _, stdout},
    path::PathBuf,
};

#[derive(Debug, Args)]
pub(crate) struct Backup {
    /// Directory to create; it can be used as a data directory
    destination: PathBuf,
    #[command(flatten)]
    overrides: Overrides,
}

pub(super) fn run(
    Backup {
        destination,
        overrides,
    }: &Backup,
) -> anyhow::Result<()> {
    let summary = backup::create(&overrides.load()?.config.data, destination)?;
    let (path, parts, bytes) = (destination.display(), summary.parts, summary.bytes);
    writeln!(
        stdout(),
        "the backup is in {path}: database, secret and {parts} file parts ({bytes} bytes)"
    )?;
    Ok(())
}
