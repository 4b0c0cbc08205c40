//! `sealpost connect`

use crate::{
    api::model::{Connect, Connection, ConnectionStatus},
    cli::{args::ConnectArgs, client::Client, console::Console, error::CliError},
};

/// Requests a connection with an invite.
pub async fn run(
    args: ConnectArgs,
    client: &Client,
    console: &mut Console,
) -> Result<(), CliError> {
    let request = Connect {
        invite: args.invite,
        note: args.note,
    };
    let connection: Connection = client.post(&["v1", "connections"], &request).await?;
    if console.is_json() {
        return console.print_json(&connection);
    }
    let (contact, id) = (&connection.contact, &connection.id);
    if connection.status == ConnectionStatus::Accepted {
        return console.print_line(format!("Connected to {contact} ({id})."));
    }
    console.print_line(format!("Requested a connection with {contact} ({id})."))?;
    console.print_hint(
        "You can send messages once your partner has accepted. Check with: sealpost connections",
    )
}
