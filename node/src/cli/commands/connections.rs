//! `sealpost connections`

use crate::{
    api::model::{
        Connection, ConnectionStatus, Direction, HealthState, Page, SafetyNumber, Verify,
    },
    cli::{
        args::{ConnectionsCommand, VerifyArgs},
        client::Client,
        console::{Console, StatusColor, TextTable, cell, status_cell},
        error::CliError,
        units,
    },
};
use sealpost_node_core::model::ConnectionWarning;

/// Digit groups of the safety number on one line.
const GROUPS_PER_LINE: usize = 4;

pub async fn run(
    command: Option<ConnectionsCommand>,
    client: &Client,
    console: &mut Console,
) -> Result<(), CliError> {
    match command.unwrap_or(ConnectionsCommand::List) {
        ConnectionsCommand::List => list(client, console).await,
        ConnectionsCommand::Accept(args) => change(&args.id, "accept", client, console).await,
        ConnectionsCommand::Reject(args) => change(&args.id, "reject", client, console).await,
        ConnectionsCommand::Block(args) => change(&args.id, "block", client, console).await,
        ConnectionsCommand::Acknowledge(args) => {
            change(&args.id, "acknowledge", client, console).await
        }
        ConnectionsCommand::Verify(args) if args.same || args.number.is_some() => {
            record_verification(&args, client, console).await
        }
        ConnectionsCommand::Verify(args) => show_safety_number(&args.id, client, console).await,
    }
}

async fn list(client: &Client, console: &mut Console) -> Result<(), CliError> {
    let page: Page<Connection> = client.list(&["v1", "connections"]).await?;
    if console.is_json() {
        return console.print_json(&page);
    }
    if page.items.is_empty() {
        return console.print_line(
            "No connections. Create an invite (sealpost invite) or use one (sealpost connect URL).",
        );
    }
    let mut table = TextTable::new(&[
        "ID",
        "CONTACT",
        "STATUS",
        "VERIFIED",
        "HEALTH",
        "LAST CONTACT",
    ])
    .without_wrapping(&[0]);
    for connection in &page.items {
        let (status, color) = status(connection);
        let (health, health_color) = health(connection);
        table.add_row(vec![
            cell(&connection.id),
            cell(&connection.contact),
            status_cell(status, color),
            cell(if connection.verified { "yes" } else { "no" }),
            status_cell(health, health_color),
            cell(console.format_relative(connection.health.last_contact_at)),
        ]);
    }
    console.print_table(table)?;
    for connection in &page.items {
        show_warning(connection, console)?;
        match (connection.status, connection.direction) {
            (ConnectionStatus::Pending, Direction::In) => show_request(connection, console)?,
            (ConnectionStatus::Rejected, Direction::Out) if !connection.note.is_empty() => {
                let line = format!(
                    "{} rejected your request: {}",
                    connection.contact, connection.note
                );
                console.print_line("")?;
                console.print_line(line)?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn show_warning(connection: &Connection, console: &mut Console) -> Result<(), CliError> {
    let Some(warning) = &connection.warning else {
        return Ok(());
    };
    console.print_line("")?;
    console.print_line(format!("{}: {}", connection.contact, warning.text))?;
    let [first, second] = match warning.code {
        ConnectionWarning::OtherIdentity => ["acknowledge", "block"],
        _ => ["verify", "acknowledge"],
    };
    console.print_line(format!(
        "  sealpost connections {first} {0}   or   sealpost connections {second} {0}",
        connection.id
    ))
}

fn show_request(request: &Connection, console: &mut Console) -> Result<(), CliError> {
    console.print_line("")?;
    let note = if request.note.is_empty() {
        String::new()
    } else {
        format!(": {}", request.note)
    };
    console.print_line(format!("{} requests a connection{note}", request.contact))?;
    console.print_line(format!(
        "  sealpost connections accept {0}   or   sealpost connections reject {0}",
        request.id
    ))
}

fn status(connection: &Connection) -> (&'static str, StatusColor) {
    match (connection.status, connection.direction) {
        (ConnectionStatus::Pending, Direction::In) => ("incoming", StatusColor::Yellow),
        (ConnectionStatus::Pending, Direction::Out) => ("requested", StatusColor::Yellow),
        (ConnectionStatus::Accepted, _) => ("accepted", StatusColor::Green),
        (ConnectionStatus::Rejected, _) => ("rejected", StatusColor::Red),
        (ConnectionStatus::Blocked, _) => ("blocked", StatusColor::Red),
        (ConnectionStatus::Suspended, _) => ("suspended", StatusColor::Yellow),
    }
}

fn health(connection: &Connection) -> (String, StatusColor) {
    let (word, color) = match connection.health.state {
        HealthState::Ok => ("ok", StatusColor::Green),
        HealthState::Waiting => ("waiting", StatusColor::Yellow),
        HealthState::Healing => ("healing", StatusColor::Yellow),
        HealthState::Broken => ("broken", StatusColor::Red),
    };
    let reason = connection
        .health
        .reason
        .as_ref()
        .map(|reason| format!(": {reason}"))
        .unwrap_or_default();
    (format!("{word}{reason}"), color)
}

/// Accepts, rejects or blocks a connection.
async fn change(
    id: &str,
    action: &str,
    client: &Client,
    console: &mut Console,
) -> Result<(), CliError> {
    let path = ["v1", "connections", id, action];
    let connection: Connection = client.post(&path, &serde_json::json!({})).await?;
    if console.is_json() {
        return console.print_json(&connection);
    }
    let (status, _) = status(&connection);
    console.print_line(format!(
        "{} ({}): {status}",
        connection.contact, connection.id
    ))?;
    if connection.status != ConnectionStatus::Accepted || connection.verified {
        return Ok(());
    }
    console.print_hint(format!(
        "Compare the safety number the next time you talk: sealpost connections verify {}",
        connection.id
    ))
}

async fn show_safety_number(
    id: &str,
    client: &Client,
    console: &mut Console,
) -> Result<(), CliError> {
    let safety: SafetyNumber = client
        .get(&["v1", "connections", id, "safety-number"], &())
        .await?;
    if console.is_json() {
        return console.print_json(&safety);
    }
    let groups: Vec<&str> = safety.number.split_whitespace().collect();
    for line in groups.chunks(GROUPS_PER_LINE) {
        console.print_line(format!("    {}", line.join("  ")))?;
    }
    if safety.verified {
        return console.print_line("This number is already verified.");
    }
    console.print_line(
        "Your partner must see the same number. Compare it over another channel, for example by \
         telephone, then run:",
    )?;
    let command = format!("sealpost connections verify {}", units::shell_quote(id));
    console.print_line(format!(
        "  {command} --same   or   {command} --number \"DIGITS FROM YOUR PARTNER\""
    ))
}

async fn record_verification(
    args: &VerifyArgs,
    client: &Client,
    console: &mut Console,
) -> Result<(), CliError> {
    let request = Verify {
        number: args.number.clone(),
    };
    let connection: Connection = client
        .post(&["v1", "connections", &args.id, "verify"], &request)
        .await?;
    if console.is_json() {
        return console.print_json(&connection);
    }
    console.print_line(format!(
        "Verified {} ({}): the safety numbers match.",
        connection.contact, connection.id
    ))
}
