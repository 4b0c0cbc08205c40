//! `sealpost-relay queue`

use super::{
    client::Client,
    error::CliError,
    output::{Grid, Light, Output, ago, cell, coloured, until},
};
use crate::admin::model::{
    Account, Dropped, Item, ItemKind, Items, Lane, LaneState, Place, Queue, Queues, Retried,
};
use clap::{Args, Subcommand};
use sealpost_proto::{AccountId, EnvelopeId, EnvelopeState, Timestamp};
use sealpost_service::units::{count, quoted, size};

/// As much of an account's id as is shown in tables; commands take it in place of the whole.
const SHORT_CHARS: usize = 8;

#[derive(Debug, Subcommand)]
pub(crate) enum QueueCommand {
    /// List queues in which something waits, the oldest first
    List(ListArgs),
    /// Show what waits for one account
    Show(ShowArgs),
    /// Try again now, also what was set aside
    Retry(RetryArgs),
    /// Drop what waits for an account, or one envelope: senders are told that it failed
    Drop(DropArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only those whose webhook fails or is off
    #[arg(long)]
    failing: bool,
    /// Queues to show at most
    #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=500))]
    limit: u32,
    /// Where the page before ended
    #[arg(long, value_name = "CURSOR")]
    after: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// Id of the account, or as much of its beginning as no other has
    #[arg(allow_hyphen_values = true)]
    pub(super) account: String,
    /// Items to show at most
    #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=500))]
    limit: u32,
    /// Where the page before ended
    #[arg(long, value_name = "ITEM")]
    after: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct RetryArgs {
    /// Id of the account, or as much of its beginning as no other has
    #[arg(
        allow_hyphen_values = true,
        required_unless_present = "all",
        conflicts_with = "all"
    )]
    account: Option<String>,
    /// Every queue
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DropArgs {
    /// Id of an account, or as much of its beginning as no other has; or the whole id of an envelope
    #[arg(value_name = "ACCOUNT|ENVELOPE", allow_hyphen_values = true)]
    pub(super) what: String,
    /// Do not ask
    #[arg(long)]
    pub(super) yes: bool,
}

impl QueueCommand {
    pub(super) async fn run(self, client: &Client, output: &mut Output) -> Result<(), CliError> {
        match self {
            Self::List(args) => list(&args, client, output).await,
            Self::Show(args) => show(&args, client, output).await,
            Self::Retry(args) => retry(&args, client, output).await,
            Self::Drop(args) => drop(&args, client, output).await,
        }
    }
}

/// The beginning of an id, for tables.
pub(super) fn short(account: AccountId) -> String {
    account.to_string().chars().take(SHORT_CHARS).collect()
}

/// What a lane does, in words.
pub(super) const fn state(state: LaneState) -> (&'static str, Light) {
    match state {
        LaneState::Ready => ("ready", Light::Good),
        LaneState::Leased => ("going out", Light::Good),
        LaneState::BackingOff => ("backing off", Light::Waiting),
        LaneState::AskedToWait => ("asked to wait", Light::Waiting),
        LaneState::Pull => ("pulls", Light::None),
        LaneState::Unverified => ("unverified", Light::Waiting),
        LaneState::Off => ("webhook off", Light::Bad),
        LaneState::Suspended => ("suspended", Light::Bad),
    }
}

/// The host of the webhook, or a dash.
pub(super) fn endpoint(lane: &Lane) -> &str {
    lane.webhook_host.as_deref().unwrap_or("-")
}

/// Why, when there is a reason.
pub(super) fn reason(lane: &Lane) -> String {
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
        return output.json(&page);
    }
    if page.queues.is_empty() {
        return output.line(if args.failing {
            "No endpoint fails."
        } else {
            "Nothing waits."
        });
    }
    let header = [
        "ACCOUNT",
        "WAITING",
        "OLDEST",
        "STATE",
        "NEXT TRY",
        "ENDPOINT",
        "LAST REASON",
    ];
    let mut grid = Grid::new(&header).keep(&[0, 3]).right(&[1, 2, 4]);
    for Queue { account_id, lane } in &page.queues {
        let (words, light) = state(lane.state);
        grid.row(vec![
            cell(short(*account_id)),
            cell(lane.waiting),
            cell(ago(lane.oldest_at, page.relay_time)),
            coloured(
                if lane.failures == 0 {
                    words.to_owned()
                } else {
                    format!("{words} ({})", lane.failures)
                },
                light,
            ),
            cell(until(lane.next_attempt_at, page.relay_time)),
            cell(endpoint(lane)),
            cell(lane.reason.as_deref().unwrap_or("-")),
        ]);
    }
    output.grid(grid)?;
    let failing = if args.failing { " --failing" } else { "" };
    match page.next {
        Some(next) => output.line(format!(
            "More: sealpost-relay queue list{failing} --after {next}"
        )),
        None => Ok(()),
    }
}

async fn show(args: &ShowArgs, client: &Client, output: &mut Output) -> Result<(), CliError> {
    let (limit, after) = (
        args.limit.to_string(),
        args.after.map(|after| after.to_string()),
    );
    let mut query = vec![("limit", limit.as_str())];
    query.extend(after.as_deref().map(|after| ("after", after)));
    let id = client.account(&args.account).await?.0.account_id;
    let page: Items = client.get(&format!("queues/{id}"), &query).await?;
    if output.is_json() {
        return output.json(&page);
    }
    let lane = &page.queue.lane;
    let (words, _) = state(lane.state);
    output.line(format!("account  {id}"))?;
    output.line(format!("state    {words}{}", reason(lane)))?;
    if lane.next_attempt_at.is_some() {
        output.line(format!(
            "next     {}, after {}",
            until(lane.next_attempt_at, page.relay_time),
            failures(lane.failures)
        ))?;
    }
    output.line(format!("waiting  {}", lane.waiting))?;
    if !page.items.is_empty() {
        output.line("")?;
        output.grid(items(&page))?;
    }
    match page.next {
        Some(next) => output.line(format!(
            "More: sealpost-relay queue show {} --after {next}",
            quoted(&args.account)
        )),
        None => Ok(()),
    }
}

fn failures(number: u32) -> String {
    count(usize::try_from(number).unwrap_or(usize::MAX), "failure")
}

fn place(item: &Item, now: Timestamp) -> String {
    match item.place {
        Place::InOrder => "-".to_owned(),
        Place::SetAside => format!("set aside, next {}", until(item.set_aside_until, now)),
        Place::Behind => "behind that".to_owned(),
    }
}

fn items(page: &Items) -> Grid {
    let mut grid = Grid::new(&[
        "ITEM", "ENVELOPE", "SIZE", "WAITS", "STATE", "TRIES", "PLACE", "REASON",
    ])
    .keep(&[0, 1])
    .right(&[0, 2, 3, 5]);
    for item in &page.items {
        let news = match item.kind {
            ItemKind::Envelope => "",
            ItemKind::Event => "news: ",
        };
        let (words, light) = match item.state {
            EnvelopeState::Queued => ("queued", Light::None),
            EnvelopeState::Retrying => ("retrying", Light::Waiting),
            EnvelopeState::Stored => ("stored", Light::Good),
            EnvelopeState::Recalled => ("recalled", Light::None),
            EnvelopeState::Expired => ("expired", Light::Bad),
            EnvelopeState::Failed => ("failed", Light::Bad),
        };
        grid.row(vec![
            cell(item.id),
            cell(item.envelope.to_string()),
            cell(item.size_bytes.map_or_else(|| "-".to_owned(), size)),
            cell(ago(Some(item.waits_since), page.relay_time)),
            coloured(format!("{news}{words}"), light),
            cell(item.attempts),
            cell(place(item, page.relay_time)),
            cell(item.reason.as_deref().unwrap_or("-")),
        ]);
    }
    grid
}

async fn retry(args: &RetryArgs, client: &Client, output: &mut Output) -> Result<(), CliError> {
    let path = match &args.account {
        Some(account) => format!(
            "queues/{}/retry",
            client.account(account).await?.0.account_id
        ),
        None => "queues/retry".to_owned(),
    };
    let retried: Retried = client.post(&path, None::<&()>).await?;
    if output.is_json() {
        return output.json(&retried);
    }
    let queues = count(
        usize::try_from(retried.queues).unwrap_or(usize::MAX),
        "queue",
    );
    let aside = if retried.set_aside == 0 {
        String::new()
    } else {
        format!(", with {} that had been set aside", retried.set_aside)
    };
    output.line(format!("Trying {queues} again now{aside}."))?;
    output.hint("An endpoint that asked for patience is still left alone until then.")
}

async fn drop(args: &DropArgs, client: &Client, output: &mut Output) -> Result<(), CliError> {
    let dropped = match (
        client.account(&args.what).await,
        args.what.parse::<EnvelopeId>(),
    ) {
        (Ok((account, _)), _) => drop_queue(&account, args.yes, client, output).await?,
        (Err(CliError::Refused(_)), Ok(envelope)) => {
            output.confirm(
                &format!("Drop envelope {envelope}? Its sender is told that it failed."),
                args.yes,
            )?;
            client
                .drop::<Dropped>(&format!("envelopes/{envelope}"), &[])
                .await?
                .dropped
        }
        (Err(error), _) => return Err(error),
    };
    if output.is_json() {
        return output.json(&Dropped {
            dropped,
            up_to: None,
        });
    }
    let envelopes = count(usize::try_from(dropped).unwrap_or(usize::MAX), "envelope");
    output.line(format!("Dropped {envelopes}; senders are told."))
}

async fn drop_queue(
    account: &Account,
    yes: bool,
    client: &Client,
    output: &mut Output,
) -> Result<u64, CliError> {
    let (id, waiting) = (account.account_id, account.lane.waiting);
    let path = format!("queues/{id}");
    let question =
        format!("Drop what waits for account {id} ({waiting})? Senders are told that it failed.");
    output.confirm(&question, yes)?;
    let mut done: Dropped = client.drop(&path, &[]).await?;
    let mut dropped = done.dropped;
    while let Some(up_to) = done.up_to {
        done = client.drop(&path, &[("up_to", &up_to.to_string())]).await?;
        dropped += done.dropped;
    }
    Ok(dropped)
}
