//! `backup`: a copy of everything, from which a relay can be started.

use crate::{backup, config::Told};
use clap::Args;
use std::{
    io::{Write as _, stdout},
    path::PathBuf,
};

#[derive(Debug, Args)]
pub(crate) struct Backup {
    /// Folder to make, which is then a data folder with everything in it
    destination: PathBuf,
    #[command(flatten)]
    told: Told,
}

pub(super) fn run(Backup { destination, told }: &Backup) -> anyhow::Result<()> {
    let made = backup::make(&told.load()?.config.data, destination)?;
    let (path, parts, bytes) = (destination.display(), made.parts, made.bytes);
    writeln!(
        stdout(),
        "the backup is in {path}: the database, the secret and {parts} parts of files ({bytes} bytes)"
    )?;
    Ok(())
}
