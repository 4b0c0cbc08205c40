//! `sealpost connect`

use crate::{
    api::model::{Connect, Connection, ConnectionStatus},
    cli::{args::ConnectArgs, client::Client, console::Console, error::CliError},
};

/// Takes up an invite.
///
/// # Errors
/// What the daemon refuses: the invite may be wrong, used, expired or untrusted.
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
        return console.json(&connection);
    }
    let (contact, id) = (&connection.contact, &connection.id);
    if connection.status == ConnectionStatus::Accepted {
        return console.line(format!("Connected to {contact} ({id})."));
    }
    console.line(format!("Asked {contact} for a connection ({id})."))?;
    console.hint("Messages can go as soon as the other side accepts; see: sealpost connections")
}
