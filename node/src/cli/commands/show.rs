//! `sealpost show`

use crate::{
    api::model::{Direction, Message},
    cli::{
        args::MessageArgs, client::Client, console::Console, error::CliError, units::moment, views,
    },
};
use sealpost_node_core::text::visible_line;

/// Shows a message with its files and, if it went out, its deliveries.
///
/// # Errors
/// What the daemon refuses.
pub async fn run(
    args: &MessageArgs,
    client: &Client,
    console: &mut Console,
) -> Result<(), CliError> {
    let message: Message = client.get(&["v1", "messages", &args.id], &()).await?;
    if console.is_json() {
        return console.json(&message);
    }
    for line in head(&message, console) {
        console.line(visible_line(&line))?;
    }
    if !message.content.is_empty() {
        console.line("")?;
        console.content(&message.content, &message.content_type)?;
    }
    if !message.attachments.is_empty() {
        console.line("")?;
        console.grid(views::attachments(&message.attachments))?;
        views::dangers(&message.attachments)
            .into_iter()
            .try_for_each(|line| console.line(visible_line(&line)))?;
    }
    match message.direction {
        Direction::Out => {
            console.line("")?;
            let grid = views::deliveries(&message.delivery, false, console);
            console.grid(grid)
        }
        Direction::In => show_next(&message, console),
    }
}

fn head(message: &Message, console: &Console) -> Vec<String> {
    let mut lines = vec![format!("Message  {}", message.id)];
    match message.direction {
        Direction::In => lines.push(format!("From     {}", author(message))),
        Direction::Out => {
            let recipients: Vec<&str> = message
                .delivery
                .iter()
                .map(|delivery| delivery.contact.as_str())
                .collect();
            lines.push(format!("To       {}", recipients.join(", ")));
        }
    }
    lines.push(format!(
        "Sent     {} ({})",
        moment(message.sent_at),
        console.relative(Some(message.sent_at))
    ));
    lines.extend(message.reply_to.as_ref().map(|id| format!("Answers  {id}")));
    if message.action_required {
        let by = message
            .read_by
            .or(message.deliver_by)
            .map(|at| format!(" by {}", moment(at)))
            .unwrap_or_default();
        lines.push(format!("To do    an action is asked for{by}"));
    }
    lines
}

fn author(message: &Message) -> String {
    let (name, contact) = (&message.sender.name, &message.sender.contact);
    if name.is_empty() || name == contact {
        contact.clone()
    } else {
        format!("{name} at {contact}")
    }
}

fn show_next(message: &Message, console: &mut Console) -> Result<(), CliError> {
    if !(message.attachments.is_empty() && message.is_read) {
        console.hint("")?;
    }
    if !message.attachments.is_empty() {
        console.hint(format!(
            "Save the files with: sealpost files save {}",
            message.id
        ))?;
    }
    if !message.is_read {
        console.hint(format!(
            "Mark it as read, and tell the sender, with: sealpost read {}",
            message.id
        ))?;
    }
    Ok(())
}
