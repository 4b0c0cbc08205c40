//! `sealpost invite`

use crate::{
    api::model::{CreateInvite, Invite, InviteKind},
    cli::{
        args::InviteArgs, client::Client, console::Console, error::CliError,
        units::format_timestamp,
    },
};
use sealpost_proto::time::millis;

/// Creates an invite and prints its URL alone on a line.
pub async fn run(
    args: &InviteArgs,
    client: &Client,
    console: &mut Console,
) -> Result<(), CliError> {
    let request = CreateInvite {
        kind: if args.contact {
            InviteKind::Contact
        } else {
            InviteKind::Single
        },
        lifetime_ms: args.expires.map(millis),
        auto_accept: args.auto_accept,
    };
    let invite: Invite = client.post(&["v1", "invites"], &request).await?;
    if console.is_json() {
        return console.print_json(&invite);
    }
    console.print_hint(
        "Send this to your partner over a channel you trust; anyone who has it can request a \
         connection:",
    )?;
    console.print_line(invite.url.as_deref().unwrap_or_default())?;
    console.print_hint(describe_validity(&invite))
}

fn describe_validity(invite: &Invite) -> String {
    let uses = match invite.kind {
        InviteKind::Single => "It can be used once",
        InviteKind::Contact => "It can be used any number of times",
    };
    let until = invite
        .expires_at
        .map(|at| format!(", until {}", format_timestamp(at)))
        .unwrap_or_default();
    format!(
        "{uses}{until}. Revoke it with: sealpost invites revoke {}",
        invite.id
    )
}
