//! `sealpost invites`

use crate::{
    api::model::{Invite, InviteKind, InviteStatus, Page},
    cli::{
        args::InvitesCommand,
        client::Client,
        console::{Console, StatusColor, TextTable, cell, status_cell},
        error::CliError,
    },
};

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
                    .print_json(&serde_json::json!({"id": id, "status": InviteStatus::Revoked}));
            }
            console.print_line(format!(
                "Revoked {id}: it can no longer be used to connect."
            ))
        }
    }
}

async fn list(client: &Client, console: &mut Console) -> Result<(), CliError> {
    let page: Page<Invite> = client.list(&["v1", "invites"]).await?;
    if console.is_json() {
        return console.print_json(&page);
    }
    if page.items.is_empty() {
        return console.print_line("No invites. Create one with: sealpost invite");
    }
    let mut table = TextTable::new(&["ID", "KIND", "STATUS", "ACCEPTANCE", "CREATED", "EXPIRES"])
        .without_wrapping(&[0]);
    for invite in &page.items {
        let (status, color) = status(invite.status);
        table.add_row(vec![
            cell(&invite.id),
            cell(match invite.kind {
                InviteKind::Single => "single",
                InviteKind::Contact => "contact",
            }),
            status_cell(status, color),
            cell(if invite.auto_accept {
                "automatic"
            } else {
                "manual"
            }),
            cell(console.format_relative(Some(invite.created_at))),
            cell(console.format_relative(invite.expires_at)),
        ]);
    }
    console.print_table(table)
}

const fn status(status: InviteStatus) -> (&'static str, StatusColor) {
    match status {
        InviteStatus::Open => ("open", StatusColor::Green),
        InviteStatus::Used => ("used", StatusColor::Yellow),
        InviteStatus::Expired => ("expired", StatusColor::Red),
        InviteStatus::Revoked => ("revoked", StatusColor::Red),
    }
}
