//! `sealpost read`

use crate::{
    api::model::{Page, ReadMessage},
    cli::{args::ReadArgs, client::Client, console::Console, error::CliError},
};

/// Marks messages as read, each with those that its chat shows above it. If an id is wrong, the
/// messages before it stay marked.
pub async fn run(args: &ReadArgs, client: &Client, console: &mut Console) -> Result<(), CliError> {
    let mut items = Vec::new();
    for id in &args.ids {
        let read: ReadMessage = client
            .post(&["v1", "messages", id, "read"], &serde_json::json!({}))
            .await?;
        if !console.is_json() {
            console.print_line(describe(&read))?;
        }
        items.push(read);
    }
    if console.is_json() {
        return console.print_json(&Page { items, next: None });
    }
    Ok(())
}

fn describe(read: &ReadMessage) -> String {
    let (id, contact) = (&read.message.id, &read.message.sender.contact);
    match read.read_count {
        0 if !read.message.is_read => format!(
            "{id} arrived late. It becomes read with the next message of its chat that you read."
        ),
        0 => format!("{id} is already marked as read."),
        1 => format!("Marked {id} as read; {contact} is notified."),
        count => format!(
            "Marked {count} messages of the chat up to {id} as read; {contact} is notified."
        ),
    }
}
