//! `sealpost files`

use crate::{
    api::{
        model::{
            Attachment, AttachmentStatus, AttachmentsQuery, Direction, ListedAttachment, Message,
            Order, Page,
        },
        problem::ProblemCode,
    },
    cli::{
        args::{FetchArgs, FileArgs, FilesArgs, FilesCommand, LISTED_DEFAULT, SaveArgs},
        bars::Bars,
        client::Client,
        console::{Console, Grid, cell, coloured, number},
        error::CliError,
        files_wait::{is_coming, until_here},
        units, views,
    },
};
use sealpost_node_core::{filename::safe_name, text::visible_line};
use serde::Serialize;
use std::{
    collections::HashSet,
    fs::File,
    io::{self, Write as _},
    path::{Path, PathBuf},
};
use tempfile::NamedTempFile;

/// The beginning of an attachment's id.
const ATTACHMENT_PREFIX: &str = "ATC-";

#[derive(Serialize)]
struct Saved {
    attachment: Attachment,
    path: PathBuf,
}

#[derive(Serialize)]
struct Items<T> {
    items: Vec<T>,
}

/// Lists, fetches, saves or stops files.
///
/// # Errors
/// What the daemon refuses, what is there already, or what the disk does not take.
pub async fn run(
    command: Option<FilesCommand>,
    client: &Client,
    console: &mut Console,
) -> Result<(), CliError> {
    match command {
        None => {
            list(
                &FilesArgs {
                    limit: LISTED_DEFAULT,
                },
                client,
                console,
            )
            .await
        }
        Some(FilesCommand::List(args)) => list(&args, client, console).await,
        Some(FilesCommand::Fetch(args)) => fetch(&args, client, console).await,
        Some(FilesCommand::Save(args)) => save(&args, client, console).await,
        Some(FilesCommand::Cancel(args)) => cancel(&args, client, console).await,
    }
}

async fn list(args: &FilesArgs, client: &Client, console: &mut Console) -> Result<(), CliError> {
    let query = AttachmentsQuery {
        order: Some(Order::Desc),
        limit: Some(args.limit),
        ..AttachmentsQuery::default()
    };
    let page: Page<ListedAttachment> = client.get(&["v1", "attachments"], &query).await?;
    if console.is_json() {
        return console.json(&page);
    }
    if page.items.is_empty() {
        return console.line("No files.");
    }
    let mut grid = Grid::new(&["FILE", "WITH", "NAME", "TYPE", "SIZE", "STATUS"])
        .keep(&[0, 4])
        .cut(3);
    for listed in &page.items {
        let file = &listed.attachment;
        let (status, light) = views::attachment_status(file);
        grid.row(vec![
            cell(&file.id),
            cell(with(listed)),
            cell(&file.filename),
            views::file_type(file),
            number(units::size(file.size)),
            coloured(status, light),
        ]);
    }
    console.grid(grid)?;
    if page.next.is_some() {
        console.line(format!(
            "There are more than {}. See them with: --limit 500",
            args.limit
        ))?;
    }
    Ok(())
}

/// `to Bolt and 3 more`
fn with(listed: &ListedAttachment) -> String {
    let Some(first) = listed.contacts.first() else {
        return "-".to_owned();
    };
    let way = if listed.attachment.direction == Direction::Out {
        "to"
    } else {
        "from"
    };
    match listed.message_count {
        0 | 1 => format!("{way} {first}"),
        count => format!("{way} {first} and {} more", count - 1),
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
        return console.json(&file);
    }
    let (status, _) = views::attachment_status(&file);
    console.line(visible_line(&format!(
        "{} ({}): {status}",
        file.filename, file.id
    )))
}

/// Asks for what did not come by itself, and waits for what is on its way.
async fn fetch(args: &FetchArgs, client: &Client, console: &mut Console) -> Result<(), CliError> {
    let mut files = attachments(&args.id, client).await?;
    for file in files
        .iter_mut()
        .filter(|file| file.status != AttachmentStatus::Ready)
    {
        ask_for(file, client).await?;
    }
    if !args.no_wait {
        files = until_here(files, client, console).await?;
    }
    if console.is_json() {
        console.json(&Items {
            items: files.clone(),
        })?;
    } else {
        for file in &files {
            let (status, _) = views::attachment_status(file);
            console.line(visible_line(&format!(
                "{} ({}): {status}",
                file.filename, file.id
            )))?;
        }
        console.hint(format!("Save with: sealpost files save {}", args.id))?;
    }
    let is_left = |file: &&Attachment| !args.no_wait && file.status != AttachmentStatus::Ready;
    files.iter().find(is_left).map_or(Ok(()), check_ready)
}

async fn ask_for(file: &mut Attachment, client: &Client) -> Result<(), CliError> {
    *file = client
        .post(
            &["v1", "attachments", &file.id, "download"],
            &serde_json::json!({}),
        )
        .await?;
    Ok(())
}

/// Looks at all files and all targets first, so that it saves all of them or says why not.
async fn save(args: &SaveArgs, client: &Client, console: &mut Console) -> Result<(), CliError> {
    let mut attachments = attachments(&args.id, client).await?;
    let targets = targets(&attachments, &args.to);
    check_targets(&targets, args)?;
    for file in attachments
        .iter_mut()
        .filter(|file| !args.no_wait && file.status == AttachmentStatus::Offered)
    {
        ask_for(file, client).await?;
    }
    attachments
        .iter()
        .filter(|file| args.no_wait || !is_coming(file))
        .try_for_each(check_ready)?;
    attachments = until_here(attachments, client, console).await?;
    attachments.iter().try_for_each(check_ready)?;
    if !console.is_json() {
        views::dangers(&attachments)
            .into_iter()
            .try_for_each(|line| console.line(visible_line(&line)))?;
    }
    let mut items = Vec::new();
    for (attachment, path) in attachments.into_iter().zip(targets) {
        download(&attachment, &path, args.force, client, console).await?;
        if !console.is_json() {
            console.line(format!(
                "Saved {} ({}).",
                path.display(),
                units::size(attachment.size)
            ))?;
        }
        items.push(Saved { attachment, path });
    }
    if console.is_json() {
        return console.json(&Items { items });
    }
    Ok(())
}

async fn attachments(id: &str, client: &Client) -> Result<Vec<Attachment>, CliError> {
    if id.to_uppercase().starts_with(ATTACHMENT_PREFIX) {
        return Ok(vec![client.get(&["v1", "attachments", id], &()).await?]);
    }
    let message: Message = client.get(&["v1", "messages", id], &()).await?;
    if message.attachments.is_empty() {
        return Err(CliError::refused(
            format!("{id} has no files"),
            "see what came with files: sealpost inbox --all",
        ));
    }
    Ok(message.attachments)
}

fn check_ready(attachment: &Attachment) -> Result<(), CliError> {
    let next = match attachment.status {
        AttachmentStatus::Ready => return Ok(()),
        AttachmentStatus::Waiting | AttachmentStatus::Downloading => {
            "leave out --no-wait, or wait until it is ready (sealpost watch)"
        }
        AttachmentStatus::Offered => {
            "leave out --no-wait, or fetch it first: sealpost files fetch FILE"
        }
        AttachmentStatus::Failed => "ask the sender to send it again",
        AttachmentStatus::Staged
        | AttachmentStatus::Uploading
        | AttachmentStatus::Uploaded
        | AttachmentStatus::Released
        | AttachmentStatus::Cancelled => {
            "take the file that you sent: only received files are kept here"
        }
    };
    let (status, _) = views::attachment_status(attachment);
    Err(CliError::refused(
        format!(
            "{} ({}) is not ready: {status}",
            attachment.filename, attachment.id
        ),
        next,
    ))
}

/// A path of its own for each file, under its safe name.
fn targets(attachments: &[Attachment], folder: &Path) -> Vec<PathBuf> {
    let mut taken = HashSet::new();
    let mut targets = Vec::new();
    for attachment in attachments {
        // Once more here: this is where the name meets the disk.
        let name = safe_name(&attachment.safe_name);
        let mut candidates = std::iter::once(name.clone())
            .chain((2..).map(|number| safe_name(&format!("{number} {name}"))));
        targets.extend(
            candidates
                .find(|candidate| taken.insert(candidate.to_lowercase()))
                .map(|name| folder.join(name)),
        );
    }
    targets
}

fn check_targets(targets: &[PathBuf], args: &SaveArgs) -> Result<(), CliError> {
    if !args.to.is_dir() {
        let what = format!("{} is not a folder", args.to.display());
        return Err(CliError::refused(
            what,
            format!(
                "make it first: mkdir -p {}",
                units::quoted(&args.to.to_string_lossy())
            ),
        ));
    }
    match targets
        .iter()
        .find(|path| path.symlink_metadata().is_ok() && !args.force)
    {
        Some(path) => Err(is_there(path)),
        None => Ok(()),
    }
}

fn is_there(path: &Path) -> CliError {
    CliError::refused(
        format!("{} is there already", path.display()),
        "choose another folder with --to, or replace it with --force",
    )
}

/// Writes beside the target under a passing name, makes it durable, checks it, and only then gives it its name. The
/// passing file goes away by itself whenever this ends early. Nobody but the user may read it, and nobody run it.
async fn download(
    attachment: &Attachment,
    path: &Path,
    is_forced: bool,
    client: &Client,
    console: &Console,
) -> Result<(), CliError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let failed = |error: &io::Error| unwritable(path, error);
    let mut file = NamedTempFile::new_in(folder).map_err(|error| failed(&error))?;
    let mut response = client
        .content(&["v1", "attachments", &attachment.id, "content"])
        .await?;
    let bars = Bars::new(console);
    let bar = bars.own(&attachment.filename, attachment.size);
    let mut bytes = 0_u64;
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| client.unreachable(&error))?
    {
        file.write_all(&chunk).map_err(|error| failed(&error))?;
        bytes += chunk.len() as u64;
        bar.set_position(bytes);
    }
    bar.finish_and_clear();
    check_content(attachment, bytes)?;
    file.as_file().sync_all().map_err(|error| failed(&error))?;
    let kept = if is_forced {
        file.persist(path)
    } else {
        file.persist_noclobber(path)
    };
    kept.map_err(|error| match error.error.kind() {
        io::ErrorKind::AlreadyExists => is_there(path),
        _ => failed(&error.error),
    })?;
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| failed(&error))
}

/// The daemon ends its answer early when a part of the file does not open; everything else it has checked before.
fn check_content(attachment: &Attachment, bytes: u64) -> Result<(), CliError> {
    if bytes == attachment.size {
        return Ok(());
    }
    let what = format!(
        "{} did not come out of the daemon as it went in; nothing was saved",
        attachment.filename
    );
    Err(CliError::refused(
        what,
        "try again; if it stays so, check the disk",
    ))
}

fn unwritable(path: &Path, error: &io::Error) -> CliError {
    if error.kind() == io::ErrorKind::StorageFull {
        return CliError::problem(
            ProblemCode::DiskFull,
            format!("{} does not fit on the disk", path.display()),
        );
    }
    CliError::refused(
        format!("{} cannot be written: {error}", path.display()),
        "check the folder and its permissions",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attachment(safe_name: &str) -> Attachment {
        Attachment {
            id: "ATC-1".into(),
            direction: Direction::In,
            filename: safe_name.into(),
            safe_name: safe_name.into(),
            content_type: "text/plain".into(),
            claimed_type: None,
            dangers: Vec::new(),
            has_preview: false,
            size: 1,
            status: AttachmentStatus::Ready,
            transferred: 1,
            reason: None,
        }
    }

    #[test]
    fn every_file_has_a_path_of_its_own_inside_the_folder() {
        let names = ["a.pdf", "A.pdf", "../../etc/passwd", "a.pdf"].map(attachment);
        let targets = targets(&names, Path::new("/srv"));
        assert_eq!(
            targets,
            [
                "/srv/a.pdf",
                "/srv/2 A.pdf",
                "/srv/_.._etc_passwd",
                "/srv/3 a.pdf"
            ]
            .map(PathBuf::from)
        );
    }

    #[test]
    fn wrong_content_is_not_saved() {
        let file = attachment("a");
        assert!(check_content(&file, 1).is_ok());
        assert!(check_content(&file, 0).is_err() && check_content(&file, 2).is_err());
    }
}
