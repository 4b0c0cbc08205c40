//! `sealpost-relay accounts`

use super::{
    client::Client,
    error::CliError,
    output::{Grid, Output, ago, cell, coloured},
    queue::{endpoint, reason, short, state},
};
use crate::admin::model::{Account, AccountQuotas, Accounts, OwnQuotas};
use clap::{Args, Subcommand};
use sealpost_proto::Timestamp;
use sealpost_service::units::size;
use serde_json::json;

#[derive(Debug, Subcommand)]
pub(crate) enum AccountsCommand {
    /// List accounts
    List(ListArgs),
    /// Show one account
    Show(Which),
    /// Suspend an account: its requests and what is sent to it are refused for the time being, and nothing is lost
    Suspend(Which),
    /// Let a suspended account go on
    Resume(Which),
    /// Delete an account: senders of what waits are told that it failed, its files go
    Delete(DeleteArgs),
    /// Show what an account may hold and how often it may ask, or set it
    Quota(QuotaArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Accounts to show at most
    #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=500))]
    limit: u32,
    /// Where the page before ended
    #[arg(long, value_name = "CURSOR", allow_hyphen_values = true)]
    after: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Which {
    /// Id of the account, or as much of its beginning as no other has
    #[arg(allow_hyphen_values = true)]
    pub(super) account: String,
}

#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    #[command(flatten)]
    which: Which,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct QuotaArgs {
    #[command(flatten)]
    which: Which,
    /// What is different for this account; `default` is as for all
    #[arg(value_name = "NAME=NUMBER|NAME=default", value_parser = assignment)]
    set: Vec<(String, Option<u64>)>,
}

fn assignment(text: &str) -> Result<(String, Option<u64>), String> {
    match text.split_once('=') {
        Some((name, "default")) => Ok((name.to_owned(), None)),
        Some((name, number)) => match number.parse() {
            Ok(number) => Ok((name.to_owned(), Some(number))),
            Err(_) => Err(format!("{number} is no number")),
        },
        None => Err("say NAME=NUMBER or NAME=default".to_owned()),
    }
}

impl AccountsCommand {
    pub(super) async fn run(self, client: &Client, output: &mut Output) -> Result<(), CliError> {
        match self {
            Self::List(args) => list(&args, client, output).await,
            Self::Show(which) => {
                let (account, now) = client.account(&which.account).await?;
                show(&account, now, output)
            }
            Self::Suspend(which) => change(&which, "suspend", client, output).await,
            Self::Resume(which) => change(&which, "resume", client, output).await,
            Self::Delete(args) => delete(&args, client, output).await,
            Self::Quota(args) => quota(args, client, output).await,
        }
    }
}

async fn list(args: &ListArgs, client: &Client, output: &mut Output) -> Result<(), CliError> {
    let limit = args.limit.to_string();
    let mut query = vec![("limit", limit.as_str())];
    query.extend(args.after.as_deref().map(|after| ("after", after)));
    let page: Accounts = client.get("accounts", &query).await?;
    if output.is_json() {
        return output.json(&page);
    }
    if page.accounts.is_empty() {
        return output
            .line("No accounts. Who may register is said by the setting registration.policy.");
    }
    let header = [
        "ACCOUNT",
        "STATE",
        "WAITING",
        "OLDEST",
        "MAILBOXES",
        "FILES",
        "REGISTERED",
        "ENDPOINT",
    ];
    let mut grid = Grid::new(&header).keep(&[0, 1]).right(&[2, 3, 4, 5, 6]);
    for account in &page.accounts {
        let (words, light) = state(account.lane.state);
        grid.row(vec![
            cell(short(account.account_id)),
            coloured(words, light),
            cell(account.lane.waiting),
            cell(ago(account.lane.oldest_at, page.relay_time)),
            cell(account.mailboxes),
            cell(size(account.blob_bytes)),
            cell(ago(Some(account.created_at), page.relay_time)),
            cell(endpoint(&account.lane)),
        ]);
    }
    output.grid(grid)?;
    match page.next {
        Some(next) => output.line(format!("More: sealpost-relay accounts list --after {next}")),
        None => Ok(()),
    }
}

fn show(account: &Account, now: Timestamp, output: &mut Output) -> Result<(), CliError> {
    if output.is_json() {
        return output.json(account);
    }
    let (words, _) = state(account.lane.state);
    output.line(format!("account     {}", account.account_id))?;
    output.line(format!(
        "registered  {} ago",
        ago(Some(account.created_at), now)
    ))?;
    output.line(format!("state       {words}{}", reason(&account.lane)))?;
    output.line(format!("endpoint    {}", endpoint(&account.lane)))?;
    output.line(format!("mailboxes   {}", account.mailboxes))?;
    output.line(format!("files       {}", size(account.blob_bytes)))?;
    let since = account.lane.oldest_at.map_or_else(String::new, |at| {
        format!(", the oldest since {}", ago(Some(at), now))
    });
    output.line(format!("waiting     {}{since}", account.lane.waiting))
}

async fn change(
    which: &Which,
    verb: &str,
    client: &Client,
    output: &mut Output,
) -> Result<(), CliError> {
    let (account, _) = client.account(&which.account).await?;
    let path = format!("accounts/{}/{verb}", account.account_id);
    let account: Account = client.post(&path, None::<&()>).await?;
    if output.is_json() {
        return output.json(&account);
    }
    let id = account.account_id;
    if account.suspended {
        output.line(format!(
            "Suspended {id}. What waits for it stays: {}.",
            account.lane.waiting
        ))
    } else {
        output.line(format!("Resumed {id}."))
    }
}

async fn delete(args: &DeleteArgs, client: &Client, output: &mut Output) -> Result<(), CliError> {
    let (account, _) = client.account(&args.which.account).await?;
    let id = account.account_id;
    let (mailboxes, waiting) = (account.mailboxes, account.lane.waiting);
    let question = format!(
        "Delete account {id} with {mailboxes} mailboxes, {} of files and {waiting} waiting?",
        size(account.blob_bytes)
    );
    output.confirm(&question, args.yes)?;
    client.delete(&format!("accounts/{id}")).await?;
    if output.is_json() {
        output.json(&json!({ "deleted": id }))
    } else {
        output.line(format!("Deleted {id}."))
    }
}

async fn quota(args: QuotaArgs, client: &Client, output: &mut Output) -> Result<(), CliError> {
    let (account, _) = client.account(&args.which.account).await?;
    let path = format!("accounts/{}/quotas", account.account_id);
    let mut quotas: AccountQuotas = client.get(&path, &[]).await?;
    if !args.set.is_empty() {
        let own = quotas
            .quotas
            .iter()
            .filter_map(|quota| Some((quota.name.clone(), quota.own?)));
        let mut own: OwnQuotas = own.collect();
        for (name, number) in args.set {
            if !quotas.quotas.iter().any(|quota| quota.name == name) {
                return Err(CliError::usage(
                    format!("there is no quota {name}"),
                    "take a name from the list without NAME=",
                ));
            }
            match number {
                Some(number) => own.insert(name, number),
                None => own.remove(&name),
            };
        }
        quotas = client.put(&path, &own).await?;
    }
    if output.is_json() {
        return output.json(&quotas);
    }
    let mut grid = Grid::new(&["QUOTA", "LIMIT", "FOR ALL", "HELD"])
        .keep(&[0])
        .right(&[1, 2, 3]);
    for quota in &quotas.quotas {
        grid.row(vec![
            cell(&quota.name),
            cell(quota.limit),
            cell(if quota.own.is_none() {
                "same".to_owned()
            } else {
                quota.for_all.to_string()
            }),
            cell(
                quota
                    .held
                    .map_or_else(|| "-".to_owned(), |held| held.to_string()),
            ),
        ]);
    }
    output.grid(grid)
}
