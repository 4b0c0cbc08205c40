//! `sealpost-relay stats`

use super::{
    client::Client,
    error::CliError,
    output::{Output, ago, until},
};
use crate::admin::model::Stats;
use clap::Args;
use sealpost_service::units::{count, length, size};

#[derive(Debug, Args)]
pub(crate) struct StatsArgs {
    /// Print a link to the status page that signs in by itself; whoever has it is the operator
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
    let runs = length(stats.relay_time.since(stats.started_at));
    let several = |number: u64, noun| count(usize::try_from(number).unwrap_or(usize::MAX), noun);
    output.line(format!(
        "relay      {}, {}, version {}, running for {runs}",
        stats.origin, stats.readiness, stats.version
    ))?;
    let accounts = several(stats.queues, "account");
    match stats.oldest_at {
        Some(at) => output.line(format!(
            "waiting    {} for {accounts}, the oldest since {}",
            stats.queued,
            ago(Some(at), stats.relay_time)
        )),
        None => output.line("waiting    nothing"),
    }?;
    output.line(format!("failing    {}", several(stats.failing, "endpoint")))?;
    let suspended = if stats.suspended == 0 {
        String::new()
    } else {
        format!(", {} suspended", stats.suspended)
    };
    let mailboxes = if stats.mailboxes == 1 {
        "1 mailbox".to_owned()
    } else {
        format!("{} mailboxes", stats.mailboxes)
    };
    output.line(format!(
        "accounts   {}{suspended}, {mailboxes}",
        stats.accounts
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
        several(stats.connections, "connection")
    ))?;
    output.line(format!(
        "last hour  {} accepted, {} delivered, {} refused, {}",
        hour.accepted,
        hour.delivered,
        hour.refused,
        several(hour.failed_calls, "failed call"),
    ))?;
    let free = storage
        .free_bytes
        .map_or_else(String::new, |free| format!(", {} free", size(free)));
    let (database, files) = (size(storage.database_bytes), size(storage.blob_bytes));
    output.line(format!(
        "disk       {database} database, {files} files{free}"
    ))
}
