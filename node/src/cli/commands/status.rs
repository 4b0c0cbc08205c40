//! `sealpost status`

use crate::{
    api::model::{
        Delivery, DeliveryMode, Direction, Message, MessagesQuery, Node, Order, Page, RelayState,
        Restoration, RestorationState, ScheduledBackups,
    },
    cli::{
        args::StatusArgs,
        client::Client,
        console::{Console, StatusColor, TextTable, cell, status_cell},
        error::CliError,
        units::{self, format_timestamp},
        views,
    },
};
use comfy_table::Cell;
use sealpost_proto::{DeliveryStatus, limits::PAGE_ITEMS_MAX, wire::WebhookState};
use serde::Serialize;
use std::time::Duration;

/// Upper bound on the messages that are searched for pending deliveries.
const MESSAGES_SEARCHED_MAX: usize = 5_000;
/// Smallest clock offset that is reported.
const CLOCK_OFFSET_SHOWN: Duration = Duration::from_secs(30);

#[derive(Serialize)]
struct Overview {
    node: Node,
    pending: Vec<Delivery>,
}

/// Shows the node and its pending deliveries, or the status of one message.
pub async fn run(
    args: &StatusArgs,
    client: &Client,
    console: &mut Console,
) -> Result<(), CliError> {
    match &args.id {
        Some(id) => show_message(id, client, console).await,
        None if args.acknowledge => {
            let node: Node = client
                .post(&["v1", "node", "acknowledge"], &serde_json::json!({}))
                .await?;
            show_overview(node, client, console).await
        }
        None => {
            let node: Node = client.get(&["v1", "node"], &()).await?;
            show_overview(node, client, console).await
        }
    }
}

async fn show_message(id: &str, client: &Client, console: &mut Console) -> Result<(), CliError> {
    let message: Message = client.get(&["v1", "messages", id], &()).await?;
    if console.is_json() {
        return console.print_json(&Page {
            items: message.deliveries,
            next: None,
        });
    }
    if message.direction == Direction::In {
        let read = if message.is_read { "read" } else { "unread" };
        return console.print_line(format!(
            "{} was received from {}: {read}.",
            message.id, message.sender.contact
        ));
    }
    let table = views::delivery_table(&message.deliveries, false, console);
    console.print_table(table)?;
    if message.attachments.is_empty() {
        return Ok(());
    }
    console.print_line("")?;
    console.print_table(views::attachment_table(&message.attachments))
}

async fn show_overview(node: Node, client: &Client, console: &mut Console) -> Result<(), CliError> {
    let pending = pending_deliveries(node.pending_count, client).await?;
    if console.is_json() {
        return console.print_json(&Overview { node, pending });
    }
    show_node(&node, console)?;
    if pending.is_empty() {
        return Ok(());
    }
    console.print_line("")?;
    let table = views::delivery_table(&pending, true, console);
    console.print_table(table)
}

fn show_node(node: &Node, console: &mut Console) -> Result<(), CliError> {
    let (relay, color) = describe_relay(node, console);
    let mut table = TextTable::new(&["NODE", &node.name]);
    table.add_row(vec![cell("relay"), status_cell(relay, color)]);
    if let Some(account) = node.relay.account_id {
        table.add_row(vec![cell("account"), cell(account.to_string())]);
    }
    table.add_row(vec![cell("receives by"), describe_delivery_mode(node)]);
    table.add_row(vec![cell("unread"), cell(node.unread_count.to_string())]);
    table.add_row(vec![cell("pending"), cell(node.pending_count.to_string())]);
    if node.healing_count > 0 {
        let connections = usize::try_from(node.healing_count).unwrap_or(usize::MAX);
        let text = format!(
            "{} waiting for a new session: sealpost connections",
            units::format_count(connections, "connection")
        );
        table.add_row(vec![
            cell("healing"),
            status_cell(text, StatusColor::Yellow),
        ]);
    }
    if node.unknown_mailboxes > 0 {
        let text = format!(
            "{} at the relay that this node does not know: sealpost mailboxes",
            views::format_mailboxes(node.unknown_mailboxes)
        );
        table.add_row(vec![
            cell("mailboxes"),
            status_cell(text, StatusColor::Yellow),
        ]);
    }
    table.add_row(vec![cell("fingerprint"), cell(&node.fingerprint)]);
    table.add_row(vec![cell("data directory"), cell(&node.data_directory)]);
    table.add_row(vec![
        cell("local API"),
        cell(format!("http://{}", node.address)),
    ]);
    table.add_row(vec![cell("version"), cell(&node.version)]);
    if let Some(restoration) = &node.restoration
        && restoration.state != RestorationState::Done
    {
        let text = describe_restoration(restoration);
        table.add_row(vec![
            cell("restored"),
            status_cell(text, StatusColor::Yellow),
        ]);
    }
    if let Some(backup) = &node.backup {
        let (text, color) = describe_backup(backup, console);
        table.add_row(vec![cell("backup"), status_cell(text, color)]);
    }
    if let Some(damage) = &node.damage {
        let damage = format!("{damage}; restore the data directory from a backup");
        table.add_row(vec![cell("damage"), status_cell(damage, StatusColor::Red)]);
    }
    console.print_table(table)?;
    show_warnings(node, console)?;
    warn_about_clock(node, console)
}

fn show_warnings(node: &Node, console: &mut Console) -> Result<(), CliError> {
    for warning in &node.warnings {
        let at = console.format_relative(Some(warning.at));
        console.print_line("")?;
        console.print_line(format!("Warning ({at}): {}", warning.text))?;
    }
    if node.warnings.is_empty() {
        return Ok(());
    }
    console.print_line("  sealpost status --acknowledge clears the warnings.")
}

fn describe_delivery_mode(node: &Node) -> Cell {
    let url = node.webhook_url.as_deref().unwrap_or("the node");
    let problem = match (node.delivery_mode, node.webhook_state) {
        (DeliveryMode::Pull, _) => return cell("the node polls the relay"),
        (DeliveryMode::Webhook, None | Some(WebhookState::Active)) => {
            return cell(format!("the relay calls {url}"));
        }
        (DeliveryMode::Webhook, Some(WebhookState::Unverified)) => "has not reached",
        (DeliveryMode::Webhook, Some(WebhookState::Off)) => "no longer calls",
        (DeliveryMode::Webhook, Some(WebhookState::None)) => "does not know",
    };
    let reason = node
        .webhook_reason
        .as_ref()
        .map(|reason| format!(" ({reason})"))
        .unwrap_or_default();
    let text = format!(
        "the relay {problem} {url}{reason}; the node polls the relay and requests tests of the \
         webhook until one succeeds"
    );
    status_cell(text, StatusColor::Yellow)
}

fn describe_relay(node: &Node, console: &Console) -> (String, StatusColor) {
    let origin = &node.relay.origin;
    let reason = node
        .relay
        .reason
        .as_ref()
        .map(|reason| format!(": {reason}"))
        .unwrap_or_default();
    match node.relay.state {
        RelayState::Starting => (
            format!("{origin}, not reached yet{reason}"),
            StatusColor::Yellow,
        ),
        RelayState::Connected => (format!("{origin}, connected"), StatusColor::Green),
        RelayState::Refused => (
            format!("{origin}, refuses this node's requests{reason}"),
            StatusColor::Red,
        ),
        RelayState::Unreachable => {
            let last = console.format_relative(node.relay.last_contact_at);
            (
                format!("{origin}, unreachable{reason}; last contact: {last}"),
                StatusColor::Red,
            )
        }
    }
}

fn describe_backup(backup: &ScheduledBackups, console: &Console) -> (String, StatusColor) {
    let last = console.format_relative(backup.last_at);
    match (&backup.failure, backup.next_at) {
        (Some(failure), _) => (format!("failed: {failure}; last: {last}"), StatusColor::Red),
        (None, Some(next)) => {
            let next = console.format_relative(Some(next));
            (format!("last: {last}, next: {next}"), StatusColor::Green)
        }
        (None, None) => (
            "the first one is being made".to_owned(),
            StatusColor::Yellow,
        ),
    }
}

fn describe_restoration(restoration: &Restoration) -> String {
    let progress = match restoration.state {
        RestorationState::Waiting => {
            "waits for the relay; then it starts new sessions with all partners".to_owned()
        }
        RestorationState::Healing | RestorationState::Done => format!(
            "{} of {} partners have answered in a new session",
            restoration.connections.saturating_sub(restoration.healing),
            restoration.connections
        ),
    };
    let at = format_timestamp(restoration.backed_up_at);
    format!("from a backup of {at}; {progress}")
}

fn warn_about_clock(node: &Node, console: &mut Console) -> Result<(), CliError> {
    let offset = Duration::from_millis(node.relay.clock_offset_ms.unsigned_abs());
    if offset < CLOCK_OFFSET_SHOWN {
        return Ok(());
    }
    let side = if node.relay.clock_offset_ms > 0 {
        "behind"
    } else {
        "ahead of"
    };
    console.print_line("")?;
    console.print_line(format!(
        "This machine's clock is {} s {side} the relay's. The node compensates for it; set the \
         clock.",
        offset.as_secs()
    ))
}

/// Returns the deliveries of the last [`MESSAGES_SEARCHED_MAX`] messages that are neither delivered
/// nor failed.
async fn pending_deliveries(expected: u64, client: &Client) -> Result<Vec<Delivery>, CliError> {
    let mut pending = Vec::new();
    let mut query = MessagesQuery {
        direction: Some(Direction::Out),
        order: Some(Order::Desc),
        limit: Some(PAGE_ITEMS_MAX),
        ..MessagesQuery::default()
    };
    let mut searched = 0;
    while (pending.len() as u64) < expected && searched < MESSAGES_SEARCHED_MAX {
        let page: Page<Message> = client.get(&["v1", "messages"], &query).await?;
        searched += page.items.len();
        pending.extend(
            page.items
                .into_iter()
                .flat_map(|message| message.deliveries)
                .filter(is_open),
        );
        query.after = page.next;
        if query.after.is_none() {
            break;
        }
    }
    Ok(pending)
}

fn is_open(delivery: &Delivery) -> bool {
    matches!(
        delivery.status,
        DeliveryStatus::Pending | DeliveryStatus::Sent | DeliveryStatus::Retrying
    )
}
