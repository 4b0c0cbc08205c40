//! `migrate`: brings the database of a stopped relay up to date, as its next start would.

use crate::{
    config::Told,
    health::Health,
    serve::DATABASE,
    store::{Looked, Store},
};
use anyhow::bail;
use clap::Args;
use sealpost_service::DataFolder;
use sealpost_sqlite::Schema;
use std::{
    io::{Write as _, stdout},
    sync::Arc,
};

#[derive(Debug, Args)]
pub(crate) struct Migrate {
    /// Only say what would be done; fails when there is something to do
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    told: Told,
}

pub(super) async fn run(Migrate { check, told }: &Migrate) -> anyhow::Result<()> {
    let data = told.load()?.config.data;
    if !data.join(DATABASE).exists() {
        bail!(
            "there is no relay in {}: name its data folder with --data or --config",
            data.display()
        );
    }
    let folder = DataFolder::open(&data)?;
    let path = folder.join(DATABASE);
    let Schema { found, supported } = Looked::open(&path)?.schema;
    if found == supported {
        writeln!(stdout(), "the database is up to date: schema {found}")?;
        return Ok(());
    }
    if *check {
        bail!(
            "the database has schema {found}, this version uses {supported}: run sealpost-relay migrate"
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
