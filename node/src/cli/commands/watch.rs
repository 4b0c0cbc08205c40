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
        client::Client,
        console::Console,
        error::CliError,
        events::{Event, EventStream},
        progress_bars::ProgressBars,
        transfer_wait::RETRY_INTERVAL,
        units, views,
    },
};
use sealpost_node_core::text::visible_line;
use sealpost_proto::Timestamp;
use std::path::Path;

/// Prints all events, and reconnects when the daemon restarts.
pub async fn run(args: &WatchArgs, data: &Path, console: &mut Console) -> Result<(), CliError> {
    let mut client = Client::open(data)?;
    let mut events = client.events(args.after).await?;
    let mut last_id = args.after;
    let mut bars = ProgressBars::new(console);
    console.print_hint("Showing all events until Ctrl-C. Times are in UTC.")?;
    loop {
        while let Some(event) = events.next().await {
            last_id = event.id.or(last_id);
            bars.apply_event(&event, &client).await;
            bars.print_above(|| show(&event, console))?;
        }
        bars.clear();
        console.print_hint("The connection to the daemon was lost; reconnecting.")?;
        (client, events) = reconnect(data, last_id).await?;
        console.print_hint("Reconnected to the daemon.")?;
    }
}

/// Reads the address and the token again, because a restarted daemon may have new ones.
async fn reconnect(data: &Path, last_id: Option<u64>) -> Result<(Client, EventStream), CliError> {
    loop {
        tokio::time::sleep(RETRY_INTERVAL).await;
        let client = Client::open(data)?;
        match client.events(last_id).await {
            Err(CliError::Unreachable { .. }) => {}
            outcome => return outcome.map(|events| (client, events)),
        }
    }
}

fn show(event: &Event, console: &mut Console) -> Result<(), CliError> {
    if console.is_json() {
        return console.print_json_line(event);
    }
    let now = console.now();
    match describe(event, now) {
        Some(text) => console.print_line(visible_line(&format!(
            "{}  {text}",
            units::format_clock(Iso(now))
        ))),
        None => Ok(()),
    }
}

/// Describes an event. Returns `None` for an unknown form, which a later version may send, and for
/// transfer events, which the progress bars show.
fn describe(event: &Event, now: Timestamp) -> Option<String> {
    let data = event.data.clone();
    Some(match event.topic {
        EventTopic::Message => describe_message(&serde_json::from_value(data).ok()?),
        EventTopic::Delivery => describe_delivery(&serde_json::from_value(data).ok()?, now),
        EventTopic::Connection => describe_connection(&serde_json::from_value(data).ok()?),
        EventTopic::Attachment => describe_attachment(&serde_json::from_value(data).ok()?),
        EventTopic::Transfer => return None,
        EventTopic::Node => describe_node(&serde_json::from_value(data).ok()?),
    })
}

fn describe_message(message: &Message) -> String {
    let files = views::file_summary(&message.attachments);
    let files = if files.is_empty() {
        files
    } else {
        format!("  [{files}]")
    };
    let (preview, id) = (views::message_preview(message), &message.id);
    match message.direction {
        Direction::In => format!(
            "message     {id} from {}: {preview}{files}",
            message.sender.contact
        ),
        Direction::Out => {
            let to: Vec<&str> = message
                .deliveries
                .iter()
                .map(|delivery| delivery.contact.as_str())
                .collect();
            format!("message     {id} to {}: {preview}{files}", to.join(", "))
        }
    }
}

fn describe_delivery(delivery: &Delivery, now: Timestamp) -> String {
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
        views::delivery_status_text(delivery)
    )
}

fn describe_connection(connection: &Connection) -> String {
    let status = match (connection.status, connection.direction) {
        (ConnectionStatus::Pending, Direction::In) => "requests a connection",
        (ConnectionStatus::Pending, Direction::Out) => "connection requested",
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

fn describe_attachment(file: &Attachment) -> String {
    let (status, _) = views::attachment_status(file);
    format!(
        "file        {} {}, {}: {status}",
        file.id,
        file.filename,
        units::format_size(file.size)
    )
}

fn describe_node(node: &Node) -> String {
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
        RelayState::Refused => "refuses requests",
    };
    format!("relay       {}: {state}{reason}", node.relay.origin)
}
