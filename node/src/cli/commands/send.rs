//! `sealpost send`

use crate::{
    api::{
        model::{ContentType, Message, Node, Page, RelayState, SendMessage},
        problem::ProblemCode,
    },
    cli::{
        args::SendArgs, client::Client, console::Console, error::CliError,
        progress_bars::ProgressBars, upload::LocalFile, views,
    },
};
use sealpost_node_core::text::{MessageText, TextRefusal, visible_line};
use sealpost_proto::limits::{MESSAGE_TEXT_BYTES_MAX, RECIPIENTS_PER_MESSAGE_MAX};
use std::{
    fs::File,
    io::{self, IsTerminal as _, Read},
    path::Path,
    time::Duration,
};

mod wait;

/// Upper bound on the text that is read. It exceeds the limit for a message, so that the error can
/// state the actual length.
const TEXT_BYTES_READ_MAX: u64 = 16 * 1024 * 1024;

/// Time limit for cleaning up, for example after Ctrl-C.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(2);

/// Sends a message.
///
/// All input is checked before the first upload. If the command fails or is interrupted before the
/// daemon has the message, the staged files are deleted.
pub async fn run(args: SendArgs, client: &Client, console: &mut Console) -> Result<(), CliError> {
    let files = LocalFile::check_all(&args.attach)?;
    let mut request = build_request(&args, !files.is_empty())?;
    let waiter = match args.wait {
        // Subscribe before sending, so that no event is missed.
        Some(target) => Some(wait::DeliveryWaiter::subscribe(target, client).await?),
        None => None,
    };
    let mut staged = Vec::new();
    let sent = tokio::select! {
        sent = stage_and_send(&files, &mut staged, &mut request, client, console) => sent,
        _ = tokio::signal::ctrl_c() => Err(CliError::interrupted()),
    };
    let page = match sent {
        Ok(page) => page,
        Err(error) => {
            discard_staged(&staged, client).await;
            return Err(error);
        }
    };
    if request.client_id.is_some() {
        discard_repeated(staged, &page, client).await;
    }
    let next = describe_acceptance(&page);
    let finish = async {
        let Some(waiter) = waiter else {
            return print_result(&page, client, console).await;
        };
        if !console.is_json() {
            print_result(&page, client, console).await?;
        }
        waiter.run(page, args.timeout, client, console).await
    };
    tokio::select! {
        outcome = finish => outcome.map_err(|error| match error {
            CliError::Unreachable { message, .. } => CliError::Unreachable { message, next },
            error => error,
        }),
        _ = tokio::signal::ctrl_c() => Err(CliError::Interrupted { next: next.into() }),
    }
}

/// Says that a message must not be sent again although the command did not finish.
fn describe_acceptance(page: &Page<Message>) -> String {
    let id = page.items.first().map_or("", |message| message.id.as_str());
    format!(
        "the node has accepted the message and will deliver it: do not send it again; follow it \
         with: sealpost status {id}"
    )
}

/// Builds the request without its attachments.
fn build_request(args: &SendArgs, has_files: bool) -> Result<SendMessage, CliError> {
    if args.to.len() > RECIPIENTS_PER_MESSAGE_MAX {
        let detail = format!(
            "{} recipients; the limit is {RECIPIENTS_PER_MESSAGE_MAX}",
            args.to.len()
        );
        return Err(CliError::problem(ProblemCode::TooManyRecipients, detail));
    }
    let text =
        MessageText::parse(read_message_text(args, has_files)?, has_files).map_err(|refusal| {
            let code = match refusal {
                TextRefusal::Empty => ProblemCode::TextEmpty,
                TextRefusal::TooLong { .. } => ProblemCode::TextTooLong,
            };
            CliError::problem(code, refusal.to_string())
        })?;
    Ok(SendMessage {
        to: args.to.clone(),
        content: text.into_string(),
        content_type: args.plain.then_some(ContentType::Plain),
        attachments: Vec::new(),
        reply_to: args.reply_to.clone(),
        action_required: args.action_required,
        deliver_by: args.deliver_by.clone(),
        read_by: args.read_by.clone(),
        client_id: args.client_id.clone(),
    })
}

/// Reads the text from `-m`, `-t` or standard input. A message with files needs no text, so
/// standard input is not read in that case.
fn read_message_text(args: &SendArgs, has_files: bool) -> Result<String, CliError> {
    match (&args.message, &args.text_file) {
        (Some(text), _) => Ok(text.clone()),
        (None, Some(path)) if path == Path::new("-") => read_text(io::stdin().lock(), path),
        (None, Some(path)) => {
            let file = File::open(path).map_err(|error| read_error(path, &error))?;
            read_text(file, path)
        }
        (None, None) if has_files => Ok(String::new()),
        (None, None) if io::stdin().is_terminal() => Err(CliError::usage(
            "the message is empty",
            "add -m TEXT, -t FILE or -a FILE, or pipe the text to standard input",
        )),
        (None, None) => read_text(io::stdin().lock(), Path::new("-")),
    }
}

fn read_text(source: impl Read, path: &Path) -> Result<String, CliError> {
    let mut bytes = Vec::with_capacity(MESSAGE_TEXT_BYTES_MAX);
    source
        .take(TEXT_BYTES_READ_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| read_error(path, &error))?;
    if bytes.len() as u64 > TEXT_BYTES_READ_MAX {
        let detail = format!(
            "the text has more than {TEXT_BYTES_READ_MAX} bytes, the limit is \
             {MESSAGE_TEXT_BYTES_MAX}"
        );
        return Err(CliError::problem(ProblemCode::TextTooLong, detail));
    }
    String::from_utf8(bytes).map_err(|_| {
        CliError::failed(
            format!("{} is not UTF-8 text", path.display()),
            "send it as a file with -a",
        )
    })
}

fn read_error(path: &Path, error: &io::Error) -> CliError {
    CliError::failed(
        format!("cannot read {}: {error}", path.display()),
        "check the path and its permissions",
    )
}

async fn stage_and_send(
    files: &[LocalFile],
    staged: &mut Vec<String>,
    request: &mut SendMessage,
    client: &Client,
    console: &Console,
) -> Result<Page<Message>, CliError> {
    let bars = ProgressBars::new(console);
    for file in files {
        staged.push(file.stage(client, &bars).await?.id);
    }
    request.attachments.clone_from(staged);
    client.post(&["v1", "messages"], request).await
}

/// Discards the files that were staged for a message that had been sent before.
async fn discard_repeated(mut staged: Vec<String>, page: &Page<Message>, client: &Client) {
    let messages = page.items.iter();
    let used: Vec<_> = messages.flat_map(|message| &message.attachments).collect();
    staged.retain(|id| used.iter().all(|attachment| attachment.id != *id));
    discard_staged(&staged, client).await;
}

/// Tries to delete the staged files within [`DISCARD_TIMEOUT`].
///
/// The daemon refuses to delete a file that a message uses, so this is safe even if the response to
/// the send was lost. The daemon eventually deletes staged files that were not discarded.
async fn discard_staged(staged: &[String], client: &Client) {
    let work = async {
        for id in staged {
            let _ = client.delete(&["v1", "attachments", id]).await;
        }
    };
    let _ = tokio::time::timeout(DISCARD_TIMEOUT, work).await;
}

async fn print_result(
    page: &Page<Message>,
    client: &Client,
    console: &mut Console,
) -> Result<(), CliError> {
    if console.is_json() {
        return console.print_json(page);
    }
    let files = page
        .items
        .first()
        .map(|message| views::file_summary(&message.attachments))
        .unwrap_or_default();
    let suffix = if files.is_empty() {
        files
    } else {
        format!(" ({files})")
    };
    for delivery in wait::deliveries(page) {
        console.print_line(format!(
            "{} to {}{suffix}: {}",
            delivery.message, delivery.contact, delivery.status
        ))?;
    }
    if let Some(first) = page.items.first() {
        console.print_hint(format!(
            "The message is stored and will be sent automatically. Check its status with: sealpost status \
             {}",
            first.id
        ))?;
    }
    // The message is accepted; an unknown state of the relay is not an error.
    let node = client.get::<Node>(&["v1", "node"], &()).await;
    let Some(node) = node
        .ok()
        .filter(|node| node.relay.state == RelayState::Unreachable)
    else {
        return Ok(());
    };
    let reason = node
        .relay
        .reason
        .map(|reason| format!(" ({reason})"))
        .unwrap_or_default();
    console.print_line(visible_line(&format!(
        "{} does not respond{reason}; the message will be sent once it does.",
        node.relay.origin
    )))
}
