//! `sealpost read`

use crate::{
    api::model::{Message, Page},
    cli::{args::ReadArgs, client::Client, console::Console, error::CliError},
};

/// Marks messages as read. If an id is wrong, the messages before it stay marked.
pub async fn run(args: &ReadArgs, client: &Client, console: &mut Console) -> Result<(), CliError> {
    let mut items = Vec::new();
    for id in &args.ids {
        let message: Message = client
            .post(&["v1", "messages", id, "read"], &serde_json::json!({}))
            .await?;
        if !console.is_json() {
            console.print_line(format!(
                "Marked {} as read; {} is notified.",
                message.id, message.sender.contact
            ))?;
        }
        items.push(message);
    }
    if console.is_json() {
        return console.print_json(&Page { items, next: None });
    }
    Ok(())
}
