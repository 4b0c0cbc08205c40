//! `sealpost mailboxes`

use crate::{
    api::model::{Page, UnknownMailbox},
    cli::{
        args::{CloseMailboxesArgs, MailboxesCommand},
        client::Client,
        confirmation::confirm,
        console::{Console, TextTable, cell},
        error::CliError,
        views,
    },
};

pub async fn run(
    command: Option<MailboxesCommand>,
    client: &Client,
    console: &mut Console,
) -> Result<(), CliError> {
    match command.unwrap_or(MailboxesCommand::List) {
        MailboxesCommand::List => list(client, console).await,
        MailboxesCommand::Close(args) => close(&args, client, console).await,
    }
}

async fn list(client: &Client, console: &mut Console) -> Result<(), CliError> {
    let page: Page<UnknownMailbox> = client.get(&["v1", "mailboxes", "unknown"], &()).await?;
    if console.is_json() {
        return console.print_json(&page);
    }
    if page.items.is_empty() {
        return console.print_line("The relay has no mailbox that this node does not know.");
    }
    let mut table = TextTable::new(&["MAILBOX", "OPENED", "WAITING"]).without_wrapping(&[0]);
    for mailbox in &page.items {
        table.add_row(vec![
            cell(&mailbox.id),
            cell(console.format_relative(Some(mailbox.created_at))),
            cell(mailbox.envelopes.to_string()),
        ]);
    }
    console.print_table(table)?;
    console.print_line("")?;
    console.print_line(
        "They belong to connections and invites that this node does not have: they were created \
         after the backup from which it was restored, or by a second node with this identity. \
         Partners still send to them.",
    )?;
    console.print_hint("Close those that are not needed: sealpost mailboxes close MAILBOX")
}

async fn close(
    args: &CloseMailboxesArgs,
    client: &Client,
    console: &mut Console,
) -> Result<(), CliError> {
    let mailboxes = views::format_mailboxes(args.ids.len() as u64);
    if !args.yes {
        confirm(
            &format!("this closes {mailboxes} permanently; who sends to them sees that it failed"),
            &format!("Close {mailboxes} permanently?"),
        )?;
    }
    for id in &args.ids {
        client.delete(&["v1", "mailboxes", "unknown", id]).await?;
    }
    if console.is_json() {
        return console.print_json(&serde_json::json!({"closed": args.ids}));
    }
    console.print_line(format!("Closed {mailboxes}."))
}
