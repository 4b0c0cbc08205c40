//! `sealpost inbox`

use crate::{
    api::model::{Direction, Message, MessagesQuery, Order, Page},
    cli::{
        args::InboxArgs,
        client::Client,
        console::{Console, TextTable, cell, number_cell},
        error::CliError,
        views,
    },
};

/// Lists received messages, newest first.
pub async fn run(args: &InboxArgs, client: &Client, console: &mut Console) -> Result<(), CliError> {
    let query = |limit, after| MessagesQuery {
        chat: None,
        direction: Some(Direction::In),
        unread: (!args.all).then_some(true),
        order: Some(Order::Desc),
        limit: Some(limit),
        after,
    };
    let path = ["v1", "messages"];
    let page: Page<Message> = client.list_up_to(&path, args.limit, query).await?;
    if console.is_json() {
        return console.print_json(&page);
    }
    if page.items.is_empty() {
        return console.print_line(if args.all {
            "No messages."
        } else {
            "No unread messages. Show all with: sealpost inbox --all"
        });
    }
    let table = table(&page.items, args.all, console);
    console.print_table(table)?;
    if page.next.is_some() {
        console.print_line(views::truncation_notice(args.limit))?;
    }
    console.print_hint("Show a message with: sealpost show MESSAGE")
}

fn table(messages: &[Message], with_read: bool, console: &Console) -> TextTable {
    let header = ["MESSAGE", "FROM", "RECEIVED", "TEXT", "FILES", "READ"];
    let mut table = TextTable::new(if with_read { &header } else { &header[..5] })
        .without_wrapping(&[0, 2, 4])
        .with_single_line_rows(1);
    for message in messages {
        let files = if message.attachments.is_empty() {
            String::new()
        } else {
            message.attachments.len().to_string()
        };
        let mut markers = String::new();
        if message.is_late {
            markers.push_str("[late] ");
        }
        if message.action_required {
            markers.push_str("[action required] ");
        }
        let mut row = vec![
            cell(&message.id),
            cell(views::sender(message)),
            cell(console.format_relative(message.received_at.or(Some(message.sent_at)))),
            cell(format!("{markers}{}", views::message_preview(message))),
            number_cell(files),
        ];
        if with_read {
            row.push(cell(if message.is_read { "yes" } else { "no" }));
        }
        table.add_row(row);
    }
    table
}
