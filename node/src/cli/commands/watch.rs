//! `sealpost watch`

use crate::{
    api::{
        iso::Iso,
        model::{
            Attachment, Connection, ConnectionStatus, Delivery, Direction, EventTopic, Message,
            Node, RelayState,
        },
    },
    cli::{
        args::WatchArgs,
        bars::Bars,
        client::Client,
        console::Console,
        error::CliError,
        events::{Event, Events},
        files_wait::RETRY_INTERVAL,
        units, views,
    },
};
use sealpost_node_core::text::visible_line;
use sealpost_proto::Timestamp;
use std::path::Path;

/// Prints everything that happens, and stays when the daemon is started again.
///
/// # Errors
/// When the daemon cannot be reached at the beginning, or the output is closed.
pub async fn run(args: &WatchArgs, data: &Path, console: &mut Console) -> Result<(), CliError> {
    let mut client = Client::open(data)?;
    let mut events = client.events(args.after).await?;
    let mut last = args.after;
    let mut bars = Bars::new(console);
    console.hint("Everything that happens, until Ctrl-C. Times are UTC.")?;
    loop {
        while let Some(event) = events.next().await {
            last = event.id.or(last);
            bars.take(&event, &client).await;
            bars.above(|| show(&event, console))?;
        }
        bars.clear();
        console.hint("The daemon went away; waiting for it.")?;
        (client, events) = reconnect(data, last).await?;
        console.hint("The daemon is back.")?;
    }
}

/// The address and the token may be new ones.
async fn reconnect(data: &Path, last: Option<u64>) -> Result<(Client, Events), CliError> {
    loop {
        tokio::time::sleep(RETRY_INTERVAL).await;
        let client = Client::open(data)?;
        match client.events(last).await {
            Err(CliError::Unreachable { .. }) => {}
            outcome => return outcome.map(|events| (client, events)),
        }
    }
}

fn show(event: &Event, console: &mut Console) -> Result<(), CliError> {
    if console.is_json() {
        return console.json_line(event);
    }
    let now = console.now();
    match words(event, now) {
        Some(words) => console.line(visible_line(&format!(
            "{}  {words}",
            units::clock(Iso(now))
        ))),
        None => Ok(()),
    }
}

/// The event in words; nothing when it is of a later version, or passes too quickly for a line.
fn words(event: &Event, now: Timestamp) -> Option<String> {
    let data = event.data.clone();
    Some(match event.topic {
        EventTopic::Message => message(&serde_json::from_value(data).ok()?),
        EventTopic::Delivery => delivery(&serde_json::from_value(data).ok()?, now),
        EventTopic::Connection => connection(&serde_json::from_value(data).ok()?),
        EventTopic::Attachment => attachment(&serde_json::from_value(data).ok()?),
        EventTopic::Transfer => return None,
        EventTopic::Node => node(&serde_json::from_value(data).ok()?),
    })
}

fn message(message: &Message) -> String {
    let files = views::files(&message.attachments);
    let files = if files.is_empty() {
        files
    } else {
        format!("  [{files}]")
    };
    let (preview, id) = (views::preview(message), &message.id);
    match message.direction {
        Direction::In => format!(
            "message     {id} from {}: {preview}{files}",
            message.sender.contact
        ),
        Direction::Out => {
            let to: Vec<&str> = message
                .delivery
                .iter()
                .map(|delivery| delivery.contact.as_str())
                .collect();
            format!("message     {id} to {}: {preview}{files}", to.join(", "))
        }
    }
}

fn delivery(delivery: &Delivery, now: Timestamp) -> String {
    let detail = views::delivery_detail(delivery, now);
    let detail = if detail.is_empty() {
        detail
    } else {
        format!(" ({detail})")
    };
    format!(
        "delivery    {} to {}: {}{detail}",
        delivery.message,
        delivery.contact,
        views::delivery_word(delivery)
    )
}

fn connection(connection: &Connection) -> String {
    let status = match (connection.status, connection.direction) {
        (ConnectionStatus::Pending, Direction::In) => "asks for a connection",
        (ConnectionStatus::Pending, Direction::Out) => "was asked for a connection",
        (ConnectionStatus::Accepted, _) => "connected",
        (ConnectionStatus::Rejected, _) => "rejected",
        (ConnectionStatus::Blocked, _) => "blocked",
        (ConnectionStatus::Suspended, _) => "suspended",
    };
    let reason = connection
        .health
        .reason
        .as_ref()
        .map(|reason| format!(" ({reason})"))
        .unwrap_or_default();
    format!(
        "connection  {} {}: {status}{reason}",
        connection.id, connection.contact
    )
}

fn attachment(file: &Attachment) -> String {
    let (status, _) = views::attachment_status(file);
    format!(
        "file        {} {}, {}: {status}",
        file.id,
        file.filename,
        units::size(file.size)
    )
}

fn node(node: &Node) -> String {
    let reason = node
        .relay
        .reason
        .as_ref()
        .map(|reason| format!(" ({reason})"))
        .unwrap_or_default();
    let state = match node.relay.state {
        RelayState::Starting => "not reached yet",
        RelayState::Connected => "connected",
        RelayState::Unreachable => "unreachable",
    };
    format!("relay       {}: {state}{reason}", node.relay.origin)
}
