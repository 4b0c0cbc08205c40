//! `sealpost status`

use crate::{
    api::model::{
        Delivery, DeliveryMode, Direction, Message, MessagesQuery, Node, Order, Page, RelayState,
    },
    cli::{
        args::StatusArgs,
        client::Client,
        console::{Console, Grid, Light, cell, coloured},
        error::CliError,
        views,
    },
};
use sealpost_proto::{DeliveryStatus, limits::PAGE_ITEMS_MAX};
use serde::Serialize;
use std::time::Duration;

/// How far back it looks for what is on its way: in pages of [`PAGE_ITEMS_MAX`].
const PAGES_MAX: usize = 10;
/// A clock that is this far off is worth a word.
const CLOCK_OFFSET_SHOWN: Duration = Duration::from_secs(30);

#[derive(Serialize)]
struct Overview {
    node: Node,
    pending: Vec<Delivery>,
}

/// Shows the node and what is on its way, or how far one message is.
///
/// # Errors
/// What the daemon refuses.
pub async fn run(
    args: &StatusArgs,
    client: &Client,
    console: &mut Console,
) -> Result<(), CliError> {
    match &args.id {
        Some(id) => message(id, client, console).await,
        None => overview(client, console).await,
    }
}

async fn message(id: &str, client: &Client, console: &mut Console) -> Result<(), CliError> {
    let message: Message = client.get(&["v1", "messages", id], &()).await?;
    if console.is_json() {
        return console.json(&Page {
            items: message.delivery,
            next: None,
        });
    }
    if message.direction == Direction::In {
        let read = if message.is_read { "read" } else { "unread" };
        return console.line(format!(
            "{} came from {}: {read}.",
            message.id, message.sender.contact
        ));
    }
    let grid = views::deliveries(&message.delivery, false, console);
    console.grid(grid)?;
    if message.attachments.is_empty() {
        return Ok(());
    }
    console.line("")?;
    console.grid(views::attachments(&message.attachments))
}

async fn overview(client: &Client, console: &mut Console) -> Result<(), CliError> {
    let node: Node = client.get(&["v1", "node"], &()).await?;
    let pending = pending(node.pending_count, client).await?;
    if console.is_json() {
        return console.json(&Overview { node, pending });
    }
    show_node(&node, console)?;
    if pending.is_empty() {
        return Ok(());
    }
    console.line("")?;
    let grid = views::deliveries(&pending, true, console);
    console.grid(grid)
}

fn show_node(node: &Node, console: &mut Console) -> Result<(), CliError> {
    let (relay, light) = relay(node, console);
    let delivery = match (node.delivery, &node.webhook_url) {
        (DeliveryMode::Webhook, Some(url)) => format!("the relay calls {url}"),
        (DeliveryMode::Webhook, None) => "the relay calls".to_owned(),
        (DeliveryMode::Pull, _) => "the node asks the relay".to_owned(),
    };
    let mut grid = Grid::new(&["NODE", &node.name]);
    grid.row(vec![cell("relay"), coloured(relay, light)]);
    grid.row(vec![cell("delivery"), cell(delivery)]);
    grid.row(vec![cell("unread"), cell(node.unread_count.to_string())]);
    grid.row(vec![
        cell("on its way"),
        cell(node.pending_count.to_string()),
    ]);
    grid.row(vec![cell("fingerprint"), cell(&node.fingerprint)]);
    grid.row(vec![cell("data folder"), cell(&node.data_folder)]);
    grid.row(vec![
        cell("local API"),
        cell(format!("http://{}", node.address)),
    ]);
    grid.row(vec![cell("version"), cell(&node.version)]);
    console.grid(grid)?;
    show_clock(node, console)
}

fn relay(node: &Node, console: &Console) -> (String, Light) {
    let origin = &node.relay.origin;
    let reason = node
        .relay
        .reason
        .as_ref()
        .map(|reason| format!(": {reason}"))
        .unwrap_or_default();
    match node.relay.state {
        RelayState::Starting => (format!("{origin}, not reached yet{reason}"), Light::Waiting),
        RelayState::Connected => (format!("{origin}, connected"), Light::Good),
        RelayState::Unreachable => {
            let last = console.relative(node.relay.last_contact_at);
            (
                format!("{origin}, unreachable{reason}; last contact: {last}"),
                Light::Bad,
            )
        }
    }
}

fn show_clock(node: &Node, console: &mut Console) -> Result<(), CliError> {
    let offset = Duration::from_millis(node.relay.clock_offset_ms.unsigned_abs());
    if offset < CLOCK_OFFSET_SHOWN {
        return Ok(());
    }
    let side = if node.relay.clock_offset_ms > 0 {
        "behind"
    } else {
        "ahead of"
    };
    console.line("")?;
    console.line(format!(
        "This machine's clock is {} s {side} the relay's. The node corrects it for itself; set the clock.",
        offset.as_secs()
    ))
}

/// The deliveries that are neither delivered nor failed, as far back as [`PAGES_MAX`] pages.
async fn pending(expected: u64, client: &Client) -> Result<Vec<Delivery>, CliError> {
    let mut pending = Vec::new();
    let mut query = MessagesQuery {
        direction: Some(Direction::Out),
        order: Some(Order::Desc),
        limit: Some(PAGE_ITEMS_MAX),
        ..MessagesQuery::default()
    };
    for _ in 0..PAGES_MAX {
        if pending.len() as u64 >= expected {
            break;
        }
        let page: Page<Message> = client.get(&["v1", "messages"], &query).await?;
        pending.extend(
            page.items
                .into_iter()
                .flat_map(|message| message.delivery)
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
