//! `sealpost connections`

use crate::{
    api::model::{Connection, ConnectionStatus, Direction, HealthState, Page, Safety, Verify},
    cli::{
        args::{ConnectionsCommand, VerifyArgs},
        client::Client,
        console::{Console, Grid, Light, cell, coloured},
        error::CliError,
        units,
    },
};

const GROUPS_PER_LINE: usize = 4;

/// Lists connections, or does something with one.
///
/// # Errors
/// What the daemon refuses.
pub async fn run(
    command: Option<ConnectionsCommand>,
    client: &Client,
    console: &mut Console,
) -> Result<(), CliError> {
    match command.unwrap_or(ConnectionsCommand::List) {
        ConnectionsCommand::List => list(client, console).await,
        ConnectionsCommand::Accept(args) => answer(&args.id, "accept", client, console).await,
        ConnectionsCommand::Reject(args) => answer(&args.id, "reject", client, console).await,
        ConnectionsCommand::Block(args) => answer(&args.id, "block", client, console).await,
        ConnectionsCommand::Verify(args) if args.same || args.number.is_some() => {
            remember_verified(&args, client, console).await
        }
        ConnectionsCommand::Verify(args) => show_safety_number(&args.id, client, console).await,
    }
}

async fn list(client: &Client, console: &mut Console) -> Result<(), CliError> {
    let page: Page<Connection> = client.list(&["v1", "connections"]).await?;
    if console.is_json() {
        return console.json(&page);
    }
    if page.items.is_empty() {
        return console
            .line("No connections. Make an invite (sealpost invite), or take one up (sealpost connect URL).");
    }
    let mut grid = Grid::new(&[
        "ID",
        "CONTACT",
        "STATUS",
        "VERIFIED",
        "HEALTH",
        "LAST CONTACT",
    ])
    .keep(&[0]);
    for connection in &page.items {
        let (status, light) = status(connection);
        let (health, health_light) = health(connection);
        grid.row(vec![
            cell(&connection.id),
            cell(&connection.contact),
            coloured(status, light),
            cell(if connection.verified { "yes" } else { "no" }),
            coloured(health, health_light),
            cell(console.relative(connection.health.last_contact_at)),
        ]);
    }
    console.grid(grid)?;
    for request in page.items.iter().filter(|connection| asks_us(connection)) {
        show_request(request, console)?;
    }
    for refused in page
        .items
        .iter()
        .filter(|connection| refused_us(connection))
    {
        let line = format!("{} said no: {}", refused.contact, refused.note);
        console.line("")?;
        console.line(sealpost_node_core::text::visible_line(&line))?;
    }
    Ok(())
}

fn refused_us(connection: &Connection) -> bool {
    let refused =
        (connection.status, connection.direction) == (ConnectionStatus::Rejected, Direction::Out);
    refused && !connection.note.is_empty()
}

fn asks_us(connection: &Connection) -> bool {
    (connection.status, connection.direction) == (ConnectionStatus::Pending, Direction::In)
}

fn show_request(request: &Connection, console: &mut Console) -> Result<(), CliError> {
    console.line("")?;
    let note = if request.note.is_empty() {
        String::new()
    } else {
        format!(", and says: {}", request.note)
    };
    // A note of several lines could pretend to be output of ours.
    let line = format!("{} asks for a connection{note}", request.contact);
    console.line(sealpost_node_core::text::visible_line(&line))?;
    console.line(format!(
        "  sealpost connections accept {0}   or   sealpost connections reject {0}",
        request.id
    ))
}

fn status(connection: &Connection) -> (&'static str, Light) {
    match (connection.status, connection.direction) {
        (ConnectionStatus::Pending, Direction::In) => ("asks you", Light::Waiting),
        (ConnectionStatus::Pending, Direction::Out) => ("asked", Light::Waiting),
        (ConnectionStatus::Accepted, _) => ("accepted", Light::Good),
        (ConnectionStatus::Rejected, _) => ("rejected", Light::Bad),
        (ConnectionStatus::Blocked, _) => ("blocked", Light::Bad),
        (ConnectionStatus::Suspended, _) => ("suspended", Light::Waiting),
    }
}

fn health(connection: &Connection) -> (String, Light) {
    let (word, light) = match connection.health.state {
        HealthState::Ok => ("ok", Light::Good),
        HealthState::Waiting => ("waiting", Light::Waiting),
        HealthState::Broken => ("broken", Light::Bad),
    };
    let reason = connection
        .health
        .reason
        .as_ref()
        .map(|reason| format!(": {reason}"))
        .unwrap_or_default();
    (format!("{word}{reason}"), light)
}

async fn answer(
    id: &str,
    verb: &str,
    client: &Client,
    console: &mut Console,
) -> Result<(), CliError> {
    let path = ["v1", "connections", id, verb];
    let connection: Connection = client.post(&path, &serde_json::json!({})).await?;
    if console.is_json() {
        return console.json(&connection);
    }
    let (status, _) = status(&connection);
    console.line(format!(
        "{} ({}): {status}",
        connection.contact, connection.id
    ))?;
    if connection.status != ConnectionStatus::Accepted {
        return Ok(());
    }
    console.hint(format!(
        "Compare the safety number when you talk: sealpost connections verify {}",
        connection.id
    ))
}

async fn show_safety_number(
    id: &str,
    client: &Client,
    console: &mut Console,
) -> Result<(), CliError> {
    let safety: Safety = client
        .get(&["v1", "connections", id, "safety-number"], &())
        .await?;
    if console.is_json() {
        return console.json(&safety);
    }
    let groups: Vec<&str> = safety.number.split_whitespace().collect();
    for line in groups.chunks(GROUPS_PER_LINE) {
        console.line(format!("    {}", line.join("  ")))?;
    }
    if safety.verified {
        return console.line("You compared this number before.");
    }
    console.line("The other side must see the same number. Compare it on another road, as by telephone; then:")?;
    let command = format!("sealpost connections verify {}", units::quoted(id));
    console.line(format!(
        "  {command} --same   or   {command} --number \"DIGITS YOU WERE TOLD\""
    ))
}

async fn remember_verified(
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
        return console.json(&connection);
    }
    console.line(format!(
        "Verified {} ({}): nobody stands in between.",
        connection.contact, connection.id
    ))
}
