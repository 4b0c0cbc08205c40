//! `sealpost invite`

use crate::{
    api::model::{CreateInvite, Invite, InviteKind},
    cli::{args::InviteArgs, client::Client, console::Console, error::CliError, units::moment},
};
use sealpost_proto::time::millis;

/// Makes an invite and prints its URL, alone on its line.
///
/// # Errors
/// What the daemon refuses.
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
        life_ms: args.expires.map(millis),
        auto_accept: args.auto_accept,
    };
    let invite: Invite = client.post(&["v1", "invites"], &request).await?;
    if console.is_json() {
        return console.json(&invite);
    }
    console.hint(
        "Give this to your partner on a road you trust; whoever has it can ask to connect:",
    )?;
    console.line(invite.url.as_deref().unwrap_or_default())?;
    console.hint(life(&invite))
}

fn life(invite: &Invite) -> String {
    let uses = match invite.kind {
        InviteKind::Single => "It works once",
        InviteKind::Contact => "It works any number of times",
    };
    let until = invite
        .expires_at
        .map(|at| format!(", until {}", moment(at)))
        .unwrap_or_default();
    format!(
        "{uses}{until}. Take it back with: sealpost invites revoke {}",
        invite.id
    )
}
