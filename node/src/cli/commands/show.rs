//! `sealpost show`

use crate::{
    api::model::{Direction, Message},
    cli::{
        args::MessageArgs, client::Client, console::Console, error::CliError,
        units::format_timestamp, views,
    },
};
use sealpost_node_core::text::visible_line;

/// Shows a message with its files and, for a sent message, its deliveries.
pub async fn run(
    args: &MessageArgs,
    client: &Client,
    console: &mut Console,
) -> Result<(), CliError> {
    let message: Message = client.get(&["v1", "messages", &args.id], &()).await?;
    if console.is_json() {
        return console.print_json(&message);
    }
    for line in format_header(&message, console) {
        console.print_line(visible_line(&line))?;
    }
    if !message.content.is_empty() {
        console.print_line("")?;
        console.print_message(&message.content, &message.content_type)?;
    }
    if !message.attachments.is_empty() {
        console.print_line("")?;
        console.print_table(views::attachment_table(&message.attachments))?;
        views::danger_warnings(&message.attachments)
            .into_iter()
            .try_for_each(|line| console.print_line(visible_line(&line)))?;
    }
    match message.direction {
        Direction::Out => {
            console.print_line("")?;
            let table = views::delivery_table(&message.deliveries, false, console);
            console.print_table(table)
        }
        Direction::In => print_next_steps(&message, console),
    }
}

fn format_header(message: &Message, console: &Console) -> Vec<String> {
    let mut lines = vec![format!("Message  {}", message.id)];
    match message.direction {
        Direction::In => lines.push(format!("From     {}", author(message))),
        Direction::Out => {
            let recipients: Vec<&str> = message
                .deliveries
                .iter()
                .map(|delivery| delivery.contact.as_str())
                .collect();
            lines.push(format!("To       {}", recipients.join(", ")));
        }
    }
    lines.push(format!(
        "Sent     {} ({})",
        format_timestamp(message.sent_at),
        console.format_relative(Some(message.sent_at))
    ));
    lines.extend(message.reply_to.as_ref().map(|id| format!("Reply to {id}")));
    if message.action_required {
        lines.push("Action   required".to_owned());
    }
    let deadline = |label: &str, at| format!("{label} {}", format_timestamp(at));
    lines.extend(message.deliver_by.map(|at| deadline("Deliver by", at)));
    lines.extend(message.read_by.map(|at| deadline("Read by ", at)));
    lines
}

fn author(message: &Message) -> String {
    if message.is_system {
        return views::sender(message);
    }
    let (name, contact) = (&message.sender.name, &message.sender.contact);
    if name.is_empty() || name == contact {
        contact.clone()
    } else {
        format!("{name} at {contact}")
    }
}

fn print_next_steps(message: &Message, console: &mut Console) -> Result<(), CliError> {
    if !(message.attachments.is_empty() && message.is_read) {
        console.print_hint("")?;
    }
    if !message.attachments.is_empty() {
        console.print_hint(format!(
            "Save the files with: sealpost files save {}",
            message.id
        ))?;
    }
    if !message.is_read {
        console.print_hint(format!(
            "Mark it as read{} with: sealpost read {}",
            if message.is_system {
                ""
            } else {
                " and notify the sender"
            },
            message.id
        ))?;
    }
    Ok(())
}
