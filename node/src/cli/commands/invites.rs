//! `sealpost invites`

use crate::{
    api::model::{Invite, InviteKind, InviteStatus, Page},
    cli::{
        args::InvitesCommand,
        client::Client,
        console::{Console, Grid, Light, cell, coloured},
        error::CliError,
    },
};

/// Lists invites, or revokes one.
///
/// # Errors
/// What the daemon refuses.
pub async fn run(
    command: Option<InvitesCommand>,
    client: &Client,
    console: &mut Console,
) -> Result<(), CliError> {
    match command.unwrap_or(InvitesCommand::List) {
        InvitesCommand::List => list(client, console).await,
        InvitesCommand::Revoke { id } => {
            client.delete(&["v1", "invites", &id]).await?;
            if console.is_json() {
                return console
                    .json(&serde_json::json!({"id": id, "status": InviteStatus::Revoked}));
            }
            console.line(format!(
                "Revoked {id}: nobody can connect with it any more."
            ))
        }
    }
}

async fn list(client: &Client, console: &mut Console) -> Result<(), CliError> {
    let page: Page<Invite> = client.list(&["v1", "invites"]).await?;
    if console.is_json() {
        return console.json(&page);
    }
    if page.items.is_empty() {
        return console.line("No invites. Make one with: sealpost invite");
    }
    let mut grid = Grid::new(&["ID", "KIND", "STATUS", "ACCEPTS", "MADE", "EXPIRES"]).keep(&[0]);
    for invite in &page.items {
        let (status, light) = status(invite.status);
        grid.row(vec![
            cell(&invite.id),
            cell(match invite.kind {
                InviteKind::Single => "single",
                InviteKind::Contact => "contact",
            }),
            coloured(status, light),
            cell(if invite.auto_accept {
                "by itself"
            } else {
                "when asked"
            }),
            cell(console.relative(Some(invite.created_at))),
            cell(console.relative(invite.expires_at)),
        ]);
    }
    console.grid(grid)
}

const fn status(status: InviteStatus) -> (&'static str, Light) {
    match status {
        InviteStatus::Open => ("open", Light::Good),
        InviteStatus::Used => ("used", Light::Waiting),
        InviteStatus::Expired => ("expired", Light::Bad),
        InviteStatus::Revoked => ("revoked", Light::Bad),
    }
}
