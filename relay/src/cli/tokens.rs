//! `sealpost-relay tokens`

use super::{
    client::Client,
    error::CliError,
    output::{Grid, Light, Output, ago, cell, coloured, until},
};
use crate::admin::model::{CreatedToken, NewToken, Token, Tokens};
use clap::{Args, Subcommand};
use sealpost_proto::{Timestamp, time::millis};
use sealpost_service::units::{length, parse_life};
use serde_json::json;
use std::time::Duration;

#[derive(Debug, Subcommand)]
pub(crate) enum TokensCommand {
    /// Make a registration token and show it, this once
    Create(CreateArgs),
    /// List registration tokens; those of the configuration are not among them
    List(ListArgs),
    /// Revoke a registration token; accounts that used it stay
    Revoke(RevokeArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// What to call it: letters, digits, '-', '_' and '.'
    name: String,
    /// For how many accounts it is good; any number if left out
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    uses: Option<u64>,
    /// How long it is good, for example 12h, 30d or 2w; without end if left out
    #[arg(long, value_name = "LENGTH", value_parser = parse_life)]
    expires: Option<Duration>,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Tokens to show at most
    #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=500))]
    limit: u32,
    /// Where the page before ended
    #[arg(long, value_name = "NAME")]
    after: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RevokeArgs {
    /// What it is called
    name: String,
}

impl TokensCommand {
    pub(super) async fn run(self, client: &Client, output: &mut Output) -> Result<(), CliError> {
        match self {
            Self::Create(args) => create(args, client, output).await,
            Self::List(args) => list(&args, client, output).await,
            Self::Revoke(args) => revoke(&args.name, client, output).await,
        }
    }
}

async fn create(args: CreateArgs, client: &Client, output: &mut Output) -> Result<(), CliError> {
    let new = NewToken {
        name: args.name,
        uses: args.uses,
        life_ms: args.expires.map(millis),
    };
    let created: CreatedToken = client.post("tokens", Some(&new)).await?;
    if output.is_json() {
        return output.json(&created);
    }
    output.line(&created.token)?;
    let uses = created.kept.uses_left.map_or_else(
        || "any number of accounts".to_owned(),
        |uses| match uses {
            1 => "one account".to_owned(),
            uses => format!("{uses} accounts"),
        },
    );
    let end = args
        .expires
        .map_or_else(String::new, |life| format!(", for {}", length(life)));
    output.hint(format!(
        "Good for {uses}{end}. It is not shown again; a node takes it as --registration-token."
    ))
}

async fn list(args: &ListArgs, client: &Client, output: &mut Output) -> Result<(), CliError> {
    let limit = args.limit.to_string();
    let mut query = vec![("limit", limit.as_str())];
    query.extend(args.after.as_deref().map(|after| ("after", after)));
    let page: Tokens = client.get("tokens", &query).await?;
    if output.is_json() {
        return output.json(&page);
    }
    if page.tokens.is_empty() {
        return output.line("No tokens. Make one: sealpost-relay tokens create NAME");
    }
    let mut grid = Grid::new(&["NAME", "STATE", "USES", "LEFT", "ENDS", "MADE", "LAST USED"])
        .keep(&[0])
        .right(&[2, 3, 4, 5, 6]);
    for token in &page.tokens {
        let (words, light) = state(token, page.relay_time);
        grid.row(vec![
            cell(&token.name),
            coloured(words, light),
            cell(token.uses),
            cell(
                token
                    .uses_left
                    .map_or_else(|| "any".to_owned(), |left| left.to_string()),
            ),
            cell(
                token
                    .expires_at
                    .map_or_else(|| "never".to_owned(), |at| until(Some(at), page.relay_time)),
            ),
            cell(ago(Some(token.created_at), page.relay_time)),
            cell(ago(token.last_used_at, page.relay_time)),
        ]);
    }
    output.grid(grid)?;
    match page.next {
        Some(next) => output.line(format!("More: sealpost-relay tokens list --after {next}")),
        None => Ok(()),
    }
}

fn state(token: &Token, now: Timestamp) -> (&'static str, Light) {
    if token.uses_left == Some(0) {
        ("used up", Light::Bad)
    } else if token.expires_at.is_some_and(|at| at <= now) {
        ("ended", Light::Bad)
    } else {
        ("good", Light::Good)
    }
}

async fn revoke(name: &str, client: &Client, output: &mut Output) -> Result<(), CliError> {
    client.delete(&format!("tokens/{name}")).await?;
    if output.is_json() {
        output.json(&json!({ "revoked": name }))
    } else {
        output.line(format!("Revoked {name}."))
    }
}
