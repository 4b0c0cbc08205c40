//! `sealpost-relay migrate`: migrates the database of a stopped relay, as its next start would.

use crate::{
    config::Overrides,
    data_layout::DATABASE_FILE,
    health::Health,
    store::{Inspection, Store},
};
use anyhow::bail;
use clap::Args;
use sealpost_service::DataDir;
use sealpost_sqlite::Schema;
use std::{
    io::{Write as _, stdout},
    sync::Arc,
};

#[derive(Debug, Args)]
pub(crate) struct Migrate {
    /// Only report whether a migration is needed, and fail if so
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    overrides: Overrides,
}

pub(super) async fn run(Migrate { check, overrides }: &Migrate) -> anyhow::Result<()> {
    let data = overrides.load()?.config.data;
    if !data.join(DATABASE_FILE).exists() {
        bail!(
            "{} is not the data directory of a relay: set it with --data or --config",
            data.display()
        );
    }
    let directory = DataDir::open(&data)?;
    let path = directory.join(DATABASE_FILE);
    let Schema { found, supported } = Inspection::open(&path)?.schema;
    if found == supported {
        writeln!(stdout(), "the database is up to date: schema {found}")?;
        return Ok(());
    }
    if *check {
        bail!(
            "the database has schema {found}, but this version uses {supported}: run \
             sealpost-relay migrate"
        );
    }
    Store::open(&path, Arc::new(Health::default()))?
        .close()
        .await;
    writeln!(
        stdout(),
        "the database was migrated from schema {found} to {supported}"
    )?;
    Ok(())
}
