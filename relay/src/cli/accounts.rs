//! `sealpost-relay accounts`: list, inspect, label, suspend and delete accounts, and set their
//! quotas.

use super::{
    client::Client,
    error::CliError,
    output::{
        Output, TextTable, cell, format_age, format_mailbox_count, format_plural, status_cell,
    },
    queue::{
        describe_lane_state, format_endpoint, format_id_prefix, format_name, format_reason_suffix,
        print_names,
    },
};
use crate::admin::model::{Account, AccountQuotas, Accounts, NewLabel, QuotaSettings};
use clap::{Args, Subcommand};
use sealpost_proto::Timestamp;
use sealpost_service::{config::ByteSize, units::format_size};
use serde_json::json;

#[derive(Debug, Subcommand)]
pub(crate) enum AccountsCommand {
    /// List accounts
    List(ListArgs),
    /// Show one account
    Show(AccountArg),
    /// Set or remove the label of an account, which only the operator sees
    Label(LabelArgs),
    /// Suspend an account: its requests and envelopes sent to it are refused, and its queue is kept
    Suspend(AccountArg),
    /// Resume a suspended account
    Resume(AccountArg),
    /// Delete an account with its files, and notify the senders of queued envelopes
    Delete(DeleteArgs),
    /// Show or set the quotas and rate limits of an account
    Quota(QuotaArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Maximum number of accounts to list
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = 100,
        value_parser = clap::value_parser!(u32).range(1..=500)
    )]
    limit: u32,
    /// Continue after this cursor, which the previous page printed
    #[arg(long, value_name = "CURSOR", allow_hyphen_values = true)]
    after: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct AccountArg {
    /// Account id, or an unambiguous prefix of it
    #[arg(allow_hyphen_values = true)]
    pub(super) account: String,
}

#[derive(Debug, Args)]
pub(crate) struct LabelArgs {
    #[command(flatten)]
    account: AccountArg,
    /// Label, for example the name of the business; an empty text removes the label
    #[arg(allow_hyphen_values = true)]
    text: String,
}

#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    #[command(flatten)]
    account: AccountArg,
    /// Do not ask for confirmation
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct QuotaArgs {
    #[command(flatten)]
    account: AccountArg,
    /// Overrides to set for this account, for example `account_blob_bytes=50GB`; `default` removes
    /// an override
    #[arg(value_name = "NAME=LIMIT|NAME=default", value_parser = parse_assignment)]
    assignments: Vec<(String, Option<u64>)>,
}

fn parse_assignment(text: &str) -> Result<(String, Option<u64>), String> {
    match text.split_once('=') {
        Some((name, "default")) => Ok((name.to_owned(), None)),
        Some((name, limit)) if is_size(name) => match limit.parse::<ByteSize>() {
            Ok(size) => Ok((name.to_owned(), Some(size.bytes()))),
            Err(error) => Err(error.to_string()),
        },
        Some((name, limit)) => match limit.parse() {
            Ok(count) => Ok((name.to_owned(), Some(count))),
            Err(_) => Err(format!("{limit} is not a number")),
        },
        None => Err("expected NAME=LIMIT or NAME=default".to_owned()),
    }
}

/// Returns whether a quota is a size, which is written with its unit.
fn is_size(name: &str) -> bool {
    name.contains("bytes")
}

fn format_limit(name: &str, limit: u64) -> String {
    if is_size(name) {
        ByteSize::from_bytes(limit).to_string()
    } else {
        limit.to_string()
    }
}

impl AccountsCommand {
    pub(super) async fn run(self, client: &Client, output: &mut Output) -> Result<(), CliError> {
        match self {
            Self::List(args) => list(&args, client, output).await,
            Self::Show(arg) => {
                let (account, now) = client.find_account(&arg.account).await?;
                show(&account, now, output)
            }
            Self::Label(args) => set_label(args, client, output).await,
            Self::Suspend(arg) => change_state(&arg, "suspend", client, output).await,
            Self::Resume(arg) => change_state(&arg, "resume", client, output).await,
            Self::Delete(args) => delete(&args, client, output).await,
            Self::Quota(args) => show_or_set_quotas(args, client, output).await,
        }
    }
}

async fn list(args: &ListArgs, client: &Client, output: &mut Output) -> Result<(), CliError> {
    let limit = args.limit.to_string();
    let mut query = vec![("limit", limit.as_str())];
    query.extend(args.after.as_deref().map(|after| ("after", after)));
    let page: Accounts = client.get("accounts", &query).await?;
    if output.is_json() {
        return output.print_json(&page);
    }
    if page.accounts.is_empty() {
        return output
            .print_line("No accounts. Set registration.policy to allow nodes to register.");
    }
    let header = [
        "ACCOUNT",
        "LABEL",
        "TOKEN",
        "STATE",
        "WAITING",
        "OLDEST",
        "MAILBOXES",
        "FILES",
        "REGISTERED",
        "ENDPOINT",
    ];
    let mut table = TextTable::new(&header)
        .disable_wrapping(&[0, 3])
        .align_right(&[4, 5, 6, 7, 8]);
    for account in &page.accounts {
        let (text, color) = describe_lane_state(account.lane.state);
        table.add_row(vec![
            cell(format_id_prefix(account.account_id)),
            cell(format_name(account.names.label.as_deref())),
            cell(format_name(account.names.token_name.as_deref())),
            status_cell(text, color),
            cell(account.lane.waiting),
            cell(format_age(account.lane.oldest_at, page.relay_time)),
            cell(account.mailboxes),
            cell(format_size(account.blob_bytes)),
            cell(format_age(Some(account.created_at), page.relay_time)),
            cell(format_endpoint(&account.lane)),
        ]);
    }
    output.print_table(table)?;
    output.print_next_page(
        page.next
            .map(|next| format!("accounts list --after {next}")),
    )
}

fn show(account: &Account, now: Timestamp, output: &mut Output) -> Result<(), CliError> {
    if output.is_json() {
        return output.print_json(account);
    }
    let (text, _) = describe_lane_state(account.lane.state);
    output.print_line(format!("account     {}", account.account_id))?;
    print_names(&account.names, 12, output)?;
    output.print_line(format!(
        "registered  {} ago",
        format_age(Some(account.created_at), now)
    ))?;
    let reason = format_reason_suffix(&account.lane);
    output.print_line(format!("state       {text}{reason}"))?;
    output.print_line(format!("endpoint    {}", format_endpoint(&account.lane)))?;
    output.print_line(format!("mailboxes   {}", account.mailboxes))?;
    output.print_line(format!("files       {}", format_size(account.blob_bytes)))?;
    let oldest = account.lane.oldest_at.map_or_else(String::new, |at| {
        format!(", the oldest for {}", format_age(Some(at), now))
    });
    output.print_line(format!("waiting     {}{oldest}", account.lane.waiting))
}

async fn set_label(args: LabelArgs, client: &Client, output: &mut Output) -> Result<(), CliError> {
    let (account, _) = client.find_account(&args.account.account).await?;
    let path = format!("accounts/{}/label", account.account_id);
    let account: Account = client.put(&path, &NewLabel { label: args.text }).await?;
    if output.is_json() {
        return output.print_json(&account);
    }
    let id = account.account_id;
    match account.names.label {
        Some(label) => output.print_line(format!("Labelled {id} as {label}.")),
        None => output.print_line(format!("Removed the label of {id}.")),
    }
}

async fn change_state(
    arg: &AccountArg,
    action: &str,
    client: &Client,
    output: &mut Output,
) -> Result<(), CliError> {
    let (account, _) = client.find_account(&arg.account).await?;
    let path = format!("accounts/{}/{action}", account.account_id);
    let account: Account = client.post(&path, None::<&()>).await?;
    if output.is_json() {
        return output.print_json(&account);
    }
    let id = account.account_id;
    if account.suspended {
        output.print_line(format!(
            "Suspended {id}. Its queue is kept ({} waiting).",
            account.lane.waiting
        ))
    } else {
        output.print_line(format!("Resumed {id}."))
    }
}

async fn delete(args: &DeleteArgs, client: &Client, output: &mut Output) -> Result<(), CliError> {
    let (account, _) = client.find_account(&args.account.account).await?;
    let id = account.account_id;
    let question = format!(
        "Delete account {id} with {}, {} of files and {}?",
        format_mailbox_count(account.mailboxes),
        format_size(account.blob_bytes),
        format_plural(account.lane.waiting, "queued item"),
    );
    output.confirm(&question, args.yes)?;
    client.delete(&format!("accounts/{id}")).await?;
    if output.is_json() {
        output.print_json(&json!({ "deleted": id }))
    } else {
        output.print_line(format!("Deleted {id}."))
    }
}

async fn show_or_set_quotas(
    args: QuotaArgs,
    client: &Client,
    output: &mut Output,
) -> Result<(), CliError> {
    let (account, _) = client.find_account(&args.account.account).await?;
    let path = format!("accounts/{}/quotas", account.account_id);
    let mut quotas: AccountQuotas = client.get(&path, &[]).await?;
    if !args.assignments.is_empty() {
        let overrides = quotas
            .quotas
            .iter()
            .filter_map(|quota| Some((quota.name.clone(), quota.override_limit?)));
        let mut overrides: QuotaSettings = overrides.collect();
        for (name, limit) in args.assignments {
            if !quotas.quotas.iter().any(|quota| quota.name == name) {
                return Err(CliError::usage(
                    format!("there is no quota named {name}"),
                    format!(
                        "list the names: sealpost-relay accounts quota {}",
                        account.account_id
                    ),
                ));
            }
            match limit {
                Some(limit) => overrides.insert(name, limit),
                None => overrides.remove(&name),
            };
        }
        quotas = client.put(&path, &overrides).await?;
    }
    if output.is_json() {
        return output.print_json(&quotas);
    }
    output.print_line(format!("account  {}", quotas.account_id))?;
    print_names(&quotas.names, 9, output)?;
    output.print_line("")?;
    let mut table = TextTable::new(&["QUOTA", "LIMIT", "DEFAULT", "USED"])
        .disable_wrapping(&[0])
        .align_right(&[1, 2, 3]);
    for quota in &quotas.quotas {
        table.add_row(vec![
            cell(&quota.name),
            cell(format_limit(&quota.name, quota.limit)),
            cell(format_limit(&quota.name, quota.default_limit)),
            cell(
                quota
                    .used
                    .map_or_else(|| "-".to_owned(), |used| format_limit(&quota.name, used)),
            ),
        ]);
    }
    output.print_table(table)
}
