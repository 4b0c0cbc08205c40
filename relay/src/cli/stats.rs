//! `sealpost-relay stats`: a summary of the relay.

use super::{
    client::Client,
    error::CliError,
    output::{Output, format_age, format_mailbox_count, format_plural, format_time_until},
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
        (true, true) => output.print_json(&serde_json::json!({ "page": client.page_url()? })),
        (true, false) => output.print_line(client.page_url()?),
        (false, true) => output.print_json(&stats),
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
    output.print_line(format!(
        "relay      {}, {}, version {}, running for {uptime}",
        stats.origin, stats.readiness, stats.version
    ))?;
    match stats.oldest_at {
        Some(at) => output.print_line(format!(
            "waiting    {} for {}, the oldest for {}",
            format_plural(stats.queued, "item"),
            format_plural(stats.queues, "account"),
            format_age(Some(at), stats.relay_time)
        )),
        None => output.print_line("waiting    0 items"),
    }?;
    output.print_line(format!(
        "failing    {}",
        format_plural(stats.failing, "endpoint")
    ))?;
    let suspended = match stats.suspended {
        0 => String::new(),
        suspended => format!(", {suspended} suspended"),
    };
    output.print_line(format!(
        "accounts   {}{suspended}, {}",
        stats.accounts,
        format_mailbox_count(stats.mailboxes)
    ))?;
    let certificate = match stats.certificate_not_after {
        Some(_) => format!(
            ", the certificate expires {}",
            format_time_until(stats.certificate_not_after, stats.relay_time)
        ),
        None => String::new(),
    };
    output.print_line(format!(
        "connected  {}{certificate}",
        format_plural(stats.connections, "connection")
    ))?;
    output.print_line(format!(
        "last hour  {} accepted, {} delivered, {} refused, {}",
        hour.accepted,
        hour.delivered,
        hour.refused,
        format_plural(hour.failed_calls, "failed call"),
    ))?;
    let free = storage
        .free_bytes
        .map_or_else(String::new, |free| format!(", {} free", format_size(free)));
    let (database, files) = (
        format_size(storage.database_bytes),
        format_size(storage.blob_bytes),
    );
    output.print_line(format!(
        "disk       {database} database, {files} files{free}"
    ))
}
