//! `sealpost inbox`

use crate::{
    api::model::{Direction, Message, MessagesQuery, Order, Page},
    cli::{
        args::InboxArgs,
        client::Client,
        console::{Console, Grid, cell, number},
        error::CliError,
        views,
    },
};

/// Lists what came in, the newest first.
///
/// # Errors
/// What the daemon refuses.
pub async fn run(args: &InboxArgs, client: &Client, console: &mut Console) -> Result<(), CliError> {
    let query = MessagesQuery {
        direction: Some(Direction::In),
        unread: (!args.all).then_some(true),
        order: Some(Order::Desc),
        limit: Some(args.limit),
        ..MessagesQuery::default()
    };
    let page: Page<Message> = client.get(&["v1", "messages"], &query).await?;
    if console.is_json() {
        return console.json(&page);
    }
    if page.items.is_empty() {
        return console.line(if args.all {
            "No messages."
        } else {
            "No unread messages. All: sealpost inbox --all"
        });
    }
    let grid = table(&page.items, args.all, console);
    console.grid(grid)?;
    if page.next.is_some() {
        console.line(format!(
            "There are more than {}. See them with: --limit 500",
            args.limit
        ))?;
    }
    console.hint("See one with: sealpost show MESSAGE")
}

fn table(messages: &[Message], with_read: bool, console: &Console) -> Grid {
    let header = ["MESSAGE", "FROM", "CAME", "TEXT", "FILES", "READ"];
    let mut grid = Grid::new(if with_read { &header } else { &header[..5] })
        .keep(&[0, 2, 4])
        .cut(1);
    for message in messages {
        let files = if message.attachments.is_empty() {
            String::new()
        } else {
            message.attachments.len().to_string()
        };
        let ask = if message.action_required {
            "[to do] "
        } else {
            ""
        };
        let mut row = vec![
            cell(&message.id),
            cell(&message.sender.contact),
            cell(console.relative(message.received_at.or(Some(message.sent_at)))),
            cell(format!("{ask}{}", views::preview(message))),
            number(files),
        ];
        if with_read {
            row.push(cell(if message.is_read { "yes" } else { "no" }));
        }
        grid.row(row);
    }
    grid
}
