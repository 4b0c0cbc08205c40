//! `sealpost-relay tokens`: create, list and revoke registration tokens.

use super::{
    client::Client,
    error::CliError,
    output::{
        Output, StatusColor, TextTable, cell, format_age, format_plural, format_time_until,
        status_cell,
    },
};
use crate::admin::model::{CreatedToken, NewToken, Token, Tokens};
use clap::{Args, Subcommand};
use sealpost_proto::{Timestamp, time::millis};
use sealpost_service::units::{format_duration, parse_duration};
use serde_json::json;
use std::time::Duration;

#[derive(Debug, Subcommand)]
pub(crate) enum TokensCommand {
    /// Create a registration token and print it; it is shown only once
    Create(CreateArgs),
    /// List registration tokens, except those set in the configuration
    List(ListArgs),
    /// Revoke a registration token; accounts registered with it are kept
    Revoke(RevokeArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Name of the token: letters, digits, '-', '_' and '.'
    name: String,
    /// Number of accounts that can be registered with it [default: unlimited]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    uses: Option<u64>,
    /// Lifetime of the token, for example 12h, 30d or 2w [default: unlimited]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    expires: Option<Duration>,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Maximum number of tokens to list
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = 100,
        value_parser = clap::value_parser!(u32).range(1..=500)
    )]
    limit: u32,
    /// Continue after this token, the last one of the previous page
    #[arg(long, value_name = "NAME")]
    after: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RevokeArgs {
    /// Name of the token
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
        lifetime_ms: args.expires.map(millis),
    };
    let created: CreatedToken = client.post("tokens", Some(&new)).await?;
    if output.is_json() {
        return output.print_json(&created);
    }
    output.print_line(&created.token)?;
    let uses = created.details.uses_left.map_or_else(
        || "any number of accounts".to_owned(),
        |uses| format_plural(uses, "account"),
    );
    let lifetime = args.expires.map_or_else(String::new, |lifetime| {
        format!(", for {}", format_duration(lifetime))
    });
    output.print_hint(format!(
        "Valid for {uses}{lifetime}. It is not shown again. Pass it to a node in the variable \
         SEALPOST_REGISTRATION_TOKEN."
    ))
}

async fn list(args: &ListArgs, client: &Client, output: &mut Output) -> Result<(), CliError> {
    let limit = args.limit.to_string();
    let mut query = vec![("limit", limit.as_str())];
    query.extend(args.after.as_deref().map(|after| ("after", after)));
    let page: Tokens = client.get("tokens", &query).await?;
    if output.is_json() {
        return output.print_json(&page);
    }
    if page.tokens.is_empty() {
        return output.print_line("No tokens. Create one: sealpost-relay tokens create NAME");
    }
    let mut table = TextTable::new(&[
        "NAME",
        "STATE",
        "USED",
        "LEFT",
        "EXPIRES",
        "CREATED",
        "LAST USED",
    ])
    .disable_wrapping(&[0])
    .align_right(&[2, 3, 4, 5, 6]);
    for token in &page.tokens {
        let (text, color) = describe_token_state(token, page.relay_time);
        table.add_row(vec![
            cell(&token.name),
            status_cell(text, color),
            cell(token.uses),
            cell(
                token
                    .uses_left
                    .map_or_else(|| "any".to_owned(), |left| left.to_string()),
            ),
            cell(token.expires_at.map_or_else(
                || "never".to_owned(),
                |at| format_time_until(Some(at), page.relay_time),
            )),
            cell(format_age(Some(token.created_at), page.relay_time)),
            cell(format_age(token.last_used_at, page.relay_time)),
        ]);
    }
    output.print_table(table)?;
    output.print_next_page(page.next.map(|next| format!("tokens list --after {next}")))
}

fn describe_token_state(token: &Token, now: Timestamp) -> (&'static str, StatusColor) {
    if token.uses_left == Some(0) {
        ("used up", StatusColor::Bad)
    } else if token.expires_at.is_some_and(|at| at <= now) {
        ("expired", StatusColor::Bad)
    } else {
        ("valid", StatusColor::Good)
    }
}

async fn revoke(name: &str, client: &Client, output: &mut Output) -> Result<(), CliError> {
    client.delete(&format!("tokens/{name}")).await?;
    if output.is_json() {
        output.print_json(&json!({ "revoked": name }))
    } else {
        output.print_line(format!("Revoked {name}."))
    }
}
