//! `sealpost files`

use crate::{
    api::model::{
        Attachment, AttachmentListItem, AttachmentStatus, AttachmentsQuery, Direction, Message,
        Order, Page,
    },
    cli::{
        args::{FetchArgs, FileArgs, FilesArgs, FilesCommand, LIST_LIMIT_DEFAULT},
        client::Client,
        console::{Console, TextTable, cell, number_cell, status_cell},
        error::CliError,
        transfer_wait::wait_until_transferred,
        units, views,
    },
};
use sealpost_node_core::text::visible_line;
use serde::Serialize;

mod save;

/// Prefix of attachment ids.
const ATTACHMENT_PREFIX: &str = "ATC-";

#[derive(Serialize)]
struct Items<T> {
    items: Vec<T>,
}

pub async fn run(
    command: Option<FilesCommand>,
    client: &Client,
    console: &mut Console,
) -> Result<(), CliError> {
    match command {
        None => {
            list(
                &FilesArgs {
                    limit: LIST_LIMIT_DEFAULT,
                },
                client,
                console,
            )
            .await
        }
        Some(FilesCommand::List(args)) => list(&args, client, console).await,
        Some(FilesCommand::Fetch(args)) => fetch(&args, client, console).await,
        Some(FilesCommand::Save(args)) => save::run(&args, client, console).await,
        Some(FilesCommand::Cancel(args)) => cancel(&args, client, console).await,
    }
}

async fn list(args: &FilesArgs, client: &Client, console: &mut Console) -> Result<(), CliError> {
    let query = |limit, after| AttachmentsQuery {
        direction: None,
        order: Some(Order::Desc),
        limit: Some(limit),
        after,
    };
    let path = ["v1", "attachments"];
    let page: Page<AttachmentListItem> = client.list_up_to(&path, args.limit, query).await?;
    if console.is_json() {
        return console.print_json(&page);
    }
    if page.items.is_empty() {
        return console.print_line("No files.");
    }
    let mut table = TextTable::new(&["FILE", "WITH", "NAME", "TYPE", "SIZE", "STATUS"])
        .without_wrapping(&[0, 4])
        .with_single_line_rows(3);
    for listed in &page.items {
        let file = &listed.attachment;
        let (status, color) = views::attachment_status(file);
        table.add_row(vec![
            cell(&file.id),
            cell(describe_contacts(listed)),
            cell(&file.filename),
            views::file_type_cell(file),
            number_cell(units::format_size(file.size)),
            status_cell(status, color),
        ]);
    }
    console.print_table(table)?;
    if page.next.is_some() {
        console.print_line(views::truncation_notice(args.limit))?;
    }
    Ok(())
}

/// Describes the messages of a file as `to Bolt and 3 more`: one for each recipient, so a contact
/// that received the file in two messages counts twice.
fn describe_contacts(listed: &AttachmentListItem) -> String {
    let Some(first) = listed.contacts.first() else {
        return "-".to_owned();
    };
    let preposition = if listed.attachment.direction == Direction::Out {
        "to"
    } else {
        "from"
    };
    match listed.message_count {
        0 | 1 => format!("{preposition} {first}"),
        count => format!("{preposition} {first} and {} more", count - 1),
    }
}

async fn cancel(args: &FileArgs, client: &Client, console: &mut Console) -> Result<(), CliError> {
    let file: Attachment = client
        .post(
            &["v1", "attachments", &args.id, "cancel"],
            &serde_json::json!({}),
        )
        .await?;
    if console.is_json() {
        return console.print_json(&file);
    }
    print_status(&file, console)
}

fn print_status(file: &Attachment, console: &mut Console) -> Result<(), CliError> {
    let (status, _) = views::attachment_status(file);
    console.print_line(visible_line(&format!(
        "{} ({}): {status}",
        file.filename, file.id
    )))
}

/// Starts the download of files that were not downloaded automatically, and waits for it.
async fn fetch(args: &FetchArgs, client: &Client, console: &mut Console) -> Result<(), CliError> {
    let mut files = load_attachments(&args.id, client).await?;
    for file in files
        .iter_mut()
        .filter(|file| file.status != AttachmentStatus::Ready)
    {
        request_download(file, client).await?;
    }
    if !args.no_wait {
        files = wait_until_transferred(files, client, console).await?;
    }
    if console.is_json() {
        console.print_json(&Items {
            items: files.clone(),
        })?;
    } else {
        for file in &files {
            print_status(file, console)?;
        }
        console.print_hint(format!("Save with: sealpost files save {}", args.id))?;
    }
    if args.no_wait {
        return Ok(());
    }
    files.iter().try_for_each(check_ready)
}

async fn request_download(file: &mut Attachment, client: &Client) -> Result<(), CliError> {
    *file = client
        .post(
            &["v1", "attachments", &file.id, "download"],
            &serde_json::json!({}),
        )
        .await?;
    Ok(())
}

/// Loads one file by its id, or all files of a message.
async fn load_attachments(id: &str, client: &Client) -> Result<Vec<Attachment>, CliError> {
    if id.to_uppercase().starts_with(ATTACHMENT_PREFIX) {
        return Ok(vec![client.get(&["v1", "attachments", id], &()).await?]);
    }
    let message: Message = client.get(&["v1", "messages", id], &()).await?;
    if message.attachments.is_empty() {
        return Err(CliError::failed(
            format!("{id} has no files"),
            "list messages with files: sealpost inbox --all",
        ));
    }
    Ok(message.attachments)
}

fn check_ready(attachment: &Attachment) -> Result<(), CliError> {
    let next = match attachment.status {
        AttachmentStatus::Ready => return Ok(()),
        AttachmentStatus::Waiting | AttachmentStatus::Downloading => {
            "omit --no-wait, or wait until the file is ready (sealpost watch)"
        }
        AttachmentStatus::Offered => {
            "omit --no-wait, or download the file first: sealpost files fetch FILE"
        }
        AttachmentStatus::Failed => {
            "download it again: sealpost files fetch FILE. If that fails, ask the sender to send \
             the file again"
        }
        AttachmentStatus::Staged
        | AttachmentStatus::Uploading
        | AttachmentStatus::Uploaded
        | AttachmentStatus::Released
        | AttachmentStatus::Cancelled => {
            "use your original file: files that you sent cannot be saved from the node"
        }
    };
    let (status, _) = views::attachment_status(attachment);
    Err(CliError::failed(
        format!(
            "{} ({}) is not ready: {status}",
            attachment.filename, attachment.id
        ),
        next,
    ))
}
