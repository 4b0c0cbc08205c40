//! `sealpost-relay stats`: a summary of the relay.

use super::{
    client::Client,
    error::CliError,
    output::{Output, ago, mailbox_count, plural, until},
};
use crate::admin::model::Stats;
use clap::Args;
use sealpost_service::units::{format_duration, format_size};

#[derive(Debug, Args)]
pub(crate) struct StatsArgs {
    /// Print a link to the status page; it contains the admin token, so keep it secret
    #[arg(long)]
    page: bool,
}

pub(super) async fn run(
    args: &StatsArgs,
    client: &Client,
    output: &mut Output,
) -> Result<(), CliError> {
    let stats: Stats = client.get("stats", &[]).await?;
    match (args.page, output.is_json()) {
        (true, true) => output.json(&serde_json::json!({ "page": client.page_url()? })),
        (true, false) => output.line(client.page_url()?),
        (false, true) => output.json(&stats),
        (false, false) => show(&stats, output),
    }
}

fn show(stats: &Stats, output: &mut Output) -> Result<(), CliError> {
    let Stats {
        last_hour: hour,
        storage,
        ..
    } = stats;
    let uptime = format_duration(stats.relay_time.since(stats.started_at));
    output.line(format!(
        "relay      {}, {}, version {}, running for {uptime}",
        stats.origin, stats.readiness, stats.version
    ))?;
    match stats.oldest_at {
        Some(at) => output.line(format!(
            "waiting    {} for {}, the oldest for {}",
            plural(stats.queued, "item"),
            plural(stats.queues, "account"),
            ago(Some(at), stats.relay_time)
        )),
        None => output.line("waiting    0 items"),
    }?;
    output.line(format!("failing    {}", plural(stats.failing, "endpoint")))?;
    let suspended = match stats.suspended {
        0 => String::new(),
        suspended => format!(", {suspended} suspended"),
    };
    output.line(format!(
        "accounts   {}{suspended}, {}",
        stats.accounts,
        mailbox_count(stats.mailboxes)
    ))?;
    let certificate = match stats.certificate_not_after {
        Some(_) => format!(
            ", the certificate expires {}",
            until(stats.certificate_not_after, stats.relay_time)
        ),
        None => String::new(),
    };
    output.line(format!(
        "connected  {}{certificate}",
        plural(stats.connections, "connection")
    ))?;
    output.line(format!(
        "last hour  {} accepted, {} delivered, {} refused, {}",
        hour.accepted,
        hour.delivered,
        hour.refused,
        plural(hour.failed_calls, "failed call"),
    ))?;
    let free = storage
        .free_bytes
        .map_or_else(String::new, |free| format!(", {} free", format_size(free)));
    let (database, files) = (
        format_size(storage.database_bytes),
        format_size(storage.blob_bytes),
    );
    output.line(format!(
        "disk       {database} database, {files} files{free}"
    ))
}
