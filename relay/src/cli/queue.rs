//! `sealpost-relay queue`: list and inspect queues, retry them, drop envelopes.

use super::{
    client::Client,
    error::CliError,
    output::{
        Output, StatusColor, TextTable, cell, format_age, format_plural, format_time_until,
        status_cell,
    },
};
use crate::admin::model::{
    Account, AccountNames, DropResult, Item, ItemKind, Items, Lane, LaneState, Queue, QueueState,
    Queues, RetryResult,
};
use clap::{Args, Subcommand};
use sealpost_proto::{AccountId, EnvelopeId, EnvelopeState, Timestamp};
use sealpost_service::units::{format_size, shell_quote};

/// Characters of an account id that tables show. Commands accept any unambiguous prefix.
const ID_PREFIX_CHARS: usize = 8;

#[derive(Debug, Subcommand)]
pub(crate) enum QueueCommand {
    /// List non-empty queues, oldest first
    List(ListArgs),
    /// Show the queue of an account
    Show(ShowArgs),
    /// Retry delivery now, including envelopes that are set aside
    Retry(RetryArgs),
    /// Drop one envelope, or all envelopes queued for an account, and notify their senders
    Drop(DropArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// List only queues whose webhook is failing or off
    #[arg(long)]
    failing: bool,
    /// Maximum number of queues to list
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = 100,
        value_parser = clap::value_parser!(u32).range(1..=500)
    )]
    limit: u32,
    /// Continue after this cursor, which the previous page printed
    #[arg(long, value_name = "CURSOR")]
    after: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// Account id, or an unambiguous prefix of it
    #[arg(allow_hyphen_values = true)]
    pub(super) account: String,
    /// Maximum number of items to show
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = 100,
        value_parser = clap::value_parser!(u32).range(1..=500)
    )]
    limit: u32,
    /// Continue after this item, as printed by the previous page
    #[arg(long, value_name = "ITEM")]
    after: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct RetryArgs {
    /// Account id, or an unambiguous prefix of it
    #[arg(
        allow_hyphen_values = true,
        required_unless_present = "all",
        conflicts_with = "all"
    )]
    account: Option<String>,
    /// Retry every queue
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DropArgs {
    /// Account id or an unambiguous prefix of it, or the full id of an envelope
    #[arg(value_name = "ACCOUNT|ENVELOPE", allow_hyphen_values = true)]
    pub(super) target: String,
    /// Do not ask for confirmation
    #[arg(long)]
    pub(super) yes: bool,
}

impl QueueCommand {
    pub(super) async fn run(self, client: &Client, output: &mut Output) -> Result<(), CliError> {
        match self {
            Self::List(args) => list(&args, client, output).await,
            Self::Show(args) => show(&args, client, output).await,
            Self::Retry(args) => retry(&args, client, output).await,
            Self::Drop(args) => drop_target(&args, client, output).await,
        }
    }
}

/// Returns the prefix of an account id that tables show.
pub(super) fn format_id_prefix(account: AccountId) -> String {
    account.to_string().chars().take(ID_PREFIX_CHARS).collect()
}

/// Returns a label or the name of a token, or a dash.
pub(super) fn format_name(name: Option<&str>) -> &str {
    name.unwrap_or("-")
}

/// Prints the names that an account has, one a line, with their values at column `width`.
pub(super) fn print_names(
    names: &AccountNames,
    width: usize,
    output: &mut Output,
) -> Result<(), CliError> {
    for (title, name) in [("label", &names.label), ("token", &names.token_name)] {
        if let Some(name) = name {
            output.print_line(format!("{title:<width$}{name}"))?;
        }
    }
    Ok(())
}

/// Returns the display text and colour of a lane state.
pub(super) const fn describe_lane_state(state: LaneState) -> (&'static str, StatusColor) {
    match state {
        LaneState::Ready => ("ready", StatusColor::Good),
        LaneState::Leased => ("sending", StatusColor::Good),
        LaneState::BackingOff => ("backing off", StatusColor::Warning),
        LaneState::AskedToWait => ("waiting (Retry-After)", StatusColor::Warning),
        LaneState::Pull => ("pull", StatusColor::Neutral),
        LaneState::Unverified => ("unverified", StatusColor::Warning),
        LaneState::Off => ("webhook off", StatusColor::Bad),
        LaneState::Suspended => ("suspended", StatusColor::Bad),
    }
}

/// Returns the host of the webhook, or a dash.
pub(super) fn format_endpoint(lane: &Lane) -> &str {
    lane.webhook_host.as_deref().unwrap_or("-")
}

/// Returns the reason of a failure as a suffix, empty if there is none.
pub(super) fn format_reason_suffix(lane: &Lane) -> String {
    lane.reason
        .as_ref()
        .map(|reason| format!(": {reason}"))
        .unwrap_or_default()
}

async fn list(args: &ListArgs, client: &Client, output: &mut Output) -> Result<(), CliError> {
    let limit = args.limit.to_string();
    let mut query = vec![("limit", limit.as_str())];
    query.extend(args.failing.then_some(("failing", "true")));
    query.extend(args.after.as_deref().map(|after| ("after", after)));
    let page: Queues = client.get("queues", &query).await?;
    if output.is_json() {
        return output.print_json(&page);
    }
    if page.queues.is_empty() {
        return output.print_line(if args.failing {
            "No endpoint is failing."
        } else {
            "All queues are empty."
        });
    }
    let header = [
        "ACCOUNT",
        "LABEL",
        "TOKEN",
        "WAITING",
        "OLDEST",
        "STATE",
        "NEXT ATTEMPT",
        "ENDPOINT",
        "LAST REASON",
    ];
    let mut table = TextTable::new(&header)
        .disable_wrapping(&[0, 5])
        .align_right(&[3, 4, 6]);
    for Queue {
        account_id,
        names,
        lane,
    } in &page.queues
    {
        let (text, color) = describe_lane_state(lane.state);
        table.add_row(vec![
            cell(format_id_prefix(*account_id)),
            cell(format_name(names.label.as_deref())),
            cell(format_name(names.token_name.as_deref())),
            cell(lane.waiting),
            cell(format_age(lane.oldest_at, page.relay_time)),
            status_cell(
                if lane.failures == 0 {
                    text.to_owned()
                } else {
                    format!("{text} ({})", lane.failures)
                },
                color,
            ),
            cell(format_time_until(lane.next_attempt_at, page.relay_time)),
            cell(format_endpoint(lane)),
            cell(lane.reason.as_deref().unwrap_or("-")),
        ]);
    }
    output.print_table(table)?;
    let failing = if args.failing { " --failing" } else { "" };
    output.print_next_page(
        page.next
            .map(|next| format!("queue list{failing} --after {next}")),
    )
}

async fn show(args: &ShowArgs, client: &Client, output: &mut Output) -> Result<(), CliError> {
    let (limit, after) = (
        args.limit.to_string(),
        args.after.map(|after| after.to_string()),
    );
    let mut query = vec![("limit", limit.as_str())];
    query.extend(after.as_deref().map(|after| ("after", after)));
    let id = client.find_account(&args.account).await?.0.account_id;
    let page: Items = client.get(&format!("queues/{id}"), &query).await?;
    if output.is_json() {
        return output.print_json(&page);
    }
    let lane = &page.queue.lane;
    let (text, _) = describe_lane_state(lane.state);
    output.print_line(format!("account  {id}"))?;
    print_names(&page.queue.names, 9, output)?;
    output.print_line(format!("state    {text}{}", format_reason_suffix(lane)))?;
    if lane.next_attempt_at.is_some() {
        output.print_line(format!(
            "next     {}, after {}",
            format_time_until(lane.next_attempt_at, page.relay_time),
            format_plural(lane.failures.into(), "failure")
        ))?;
    }
    output.print_line(format!("waiting  {}", lane.waiting))?;
    if !page.items.is_empty() {
        output.print_line("")?;
        output.print_table(build_item_table(&page))?;
    }
    let account = shell_quote(&args.account);
    output.print_next_page(
        page.next
            .map(|next| format!("queue show {account} --after {next}")),
    )
}

fn describe_queue_state(item: &Item, now: Timestamp) -> String {
    match item.queue_state {
        QueueState::InOrder => "-".to_owned(),
        QueueState::SetAside => format!(
            "set aside, next {}",
            format_time_until(item.set_aside_until, now)
        ),
        QueueState::Held => "held behind a set-aside envelope".to_owned(),
    }
}

fn build_item_table(page: &Items) -> TextTable {
    let mut table = TextTable::new(&[
        "ITEM",
        "ENVELOPE",
        "SIZE",
        "AGE",
        "STATE",
        "ATTEMPTS",
        "QUEUE STATE",
        "REASON",
    ])
    .disable_wrapping(&[0, 1])
    .align_right(&[0, 2, 3, 5]);
    for item in &page.items {
        let prefix = match item.kind {
            ItemKind::Envelope => "",
            ItemKind::Event => "event: ",
        };
        let (text, color) = match item.state {
            EnvelopeState::Queued => ("queued", StatusColor::Neutral),
            EnvelopeState::Retrying => ("retrying", StatusColor::Warning),
            EnvelopeState::Stored => ("stored", StatusColor::Good),
            EnvelopeState::Recalled => ("recalled", StatusColor::Neutral),
            EnvelopeState::Expired => ("expired", StatusColor::Bad),
            EnvelopeState::Failed => ("failed", StatusColor::Bad),
        };
        table.add_row(vec![
            cell(item.id),
            cell(item.envelope_id.to_string()),
            cell(item.size_bytes.map_or_else(|| "-".to_owned(), format_size)),
            cell(format_age(Some(item.waiting_since), page.relay_time)),
            status_cell(format!("{prefix}{text}"), color),
            cell(item.attempts),
            cell(describe_queue_state(item, page.relay_time)),
            cell(item.reason.as_deref().unwrap_or("-")),
        ]);
    }
    table
}

async fn retry(args: &RetryArgs, client: &Client, output: &mut Output) -> Result<(), CliError> {
    let path = match &args.account {
        Some(account) => format!(
            "queues/{}/retry",
            client.find_account(account).await?.0.account_id
        ),
        None => "queues/retry".to_owned(),
    };
    let retried: RetryResult = client.post(&path, None::<&()>).await?;
    if output.is_json() {
        return output.print_json(&retried);
    }
    let queues = format_plural(retried.queues, "queue");
    let set_aside = match retried.set_aside {
        0 => String::new(),
        envelopes => format!(
            ", including {}",
            format_plural(envelopes, "set-aside envelope")
        ),
    };
    output.print_line(format!("Retrying {queues} now{set_aside}."))?;
    output.print_hint(
        "Endpoints that asked the relay to wait are not called before the requested time.",
    )
}

async fn drop_target(
    args: &DropArgs,
    client: &Client,
    output: &mut Output,
) -> Result<(), CliError> {
    let dropped = match (
        client.find_account(&args.target).await,
        args.target.parse::<EnvelopeId>(),
    ) {
        (Ok((account, _)), _) => drop_queue(&account, args.yes, client, output).await?,
        (Err(CliError::Refused(_)), Ok(envelope)) => {
            output.confirm(
                &format!("Drop envelope {envelope}? Its sender is notified that it failed."),
                args.yes,
            )?;
            client
                .delete_with_result::<DropResult>(&format!("envelopes/{envelope}"), &[])
                .await?
                .dropped
        }
        (Err(error), _) => return Err(error),
    };
    if output.is_json() {
        return output.print_json(&DropResult {
            dropped,
            up_to: None,
        });
    }
    let envelopes = format_plural(dropped, "envelope");
    output.print_line(format!("Dropped {envelopes}; their senders are notified."))
}

async fn drop_queue(
    account: &Account,
    is_confirmed: bool,
    client: &Client,
    output: &mut Output,
) -> Result<u64, CliError> {
    let (id, waiting) = (account.account_id, account.lane.waiting);
    let path = format!("queues/{id}");
    let question = format!(
        "Drop the queue of account {id} ({waiting} waiting)? Senders are notified that their \
         envelopes failed."
    );
    output.confirm(&question, is_confirmed)?;
    let mut result: DropResult = client.delete_with_result(&path, &[]).await?;
    let mut dropped = result.dropped;
    while let Some(up_to) = result.up_to {
        let query = [("up_to", &*up_to.to_string())];
        result = client.delete_with_result(&path, &query).await?;
        dropped += result.dropped;
    }
    Ok(dropped)
}
