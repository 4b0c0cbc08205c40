//! `sealpost files`

use crate::{
    api::{
        model::{Attachment, AttachmentStatus, Message},
        problem::ProblemCode,
    },
    cli::{
        args::{FilesCommand, SaveArgs},
        client::Client,
        console::Console,
        error::CliError,
        units, views,
    },
};
use indicatif::ProgressBar;
use sealpost_node_core::filename::safe_name;
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
struct SavedFiles {
    items: Vec<Saved>,
}

/// Saves files.
///
/// # Errors
/// What the daemon refuses, what is there already, or what the disk does not take.
pub async fn run(command: FilesCommand, client: &Client, console: &mut Console) -> Result<(), CliError> {
    match command {
        FilesCommand::Save(args) => save(&args, client, console).await,
    }
}

/// Looks at all files and all targets first, so that it saves all of them or says why not.
async fn save(args: &SaveArgs, client: &Client, console: &mut Console) -> Result<(), CliError> {
    let attachments = attachments(&args.id, client).await?;
    attachments.iter().try_for_each(check_ready)?;
    let targets = targets(&attachments, &args.to);
    check_targets(&targets, args)?;
    let mut items = Vec::new();
    for (attachment, path) in attachments.into_iter().zip(targets) {
        download(&attachment, &path, args.force, client, console).await?;
        if !console.is_json() {
            console.line(format!("Saved {} ({}).", path.display(), units::size(attachment.size)))?;
        }
        items.push(Saved { attachment, path });
    }
    if console.is_json() {
        return console.json(&SavedFiles { items });
    }
    Ok(())
}

async fn attachments(id: &str, client: &Client) -> Result<Vec<Attachment>, CliError> {
    if id.starts_with(ATTACHMENT_PREFIX) {
        return Ok(vec![client.get(&["v1", "attachments", id], &()).await?]);
    }
    let message: Message = client.get(&["v1", "messages", id], &()).await?;
    if message.attachments.is_empty() {
        return Err(CliError::refused(format!("{id} has no files"), "see what came with files: sealpost inbox --all"));
    }
    Ok(message.attachments)
}

fn check_ready(attachment: &Attachment) -> Result<(), CliError> {
    let next = match attachment.status {
        AttachmentStatus::Ready => return Ok(()),
        AttachmentStatus::Waiting | AttachmentStatus::Downloading => {
            "wait until it is ready (sealpost watch), then run it again"
        }
        AttachmentStatus::Offered => "let the node fetch it first (POST /v1/attachments/ID/download)",
        AttachmentStatus::Failed => "ask the sender to send it again",
        AttachmentStatus::Staged
        | AttachmentStatus::Uploading
        | AttachmentStatus::Uploaded
        | AttachmentStatus::Released
        | AttachmentStatus::Cancelled => "take the file that you sent: only received files are kept here",
    };
    let (status, _) = views::attachment_status(attachment);
    Err(CliError::refused(format!("{} ({}) is not ready: {status}", attachment.filename, attachment.id), next))
}

/// A path of its own for each file, under its safe name.
fn targets(attachments: &[Attachment], folder: &Path) -> Vec<PathBuf> {
    let mut taken = HashSet::new();
    let mut targets = Vec::new();
    for attachment in attachments {
        // Once more here: this is where the name meets the disk.
        let name = safe_name(&attachment.safe_name);
        let mut candidates =
            std::iter::once(name.clone()).chain((2..).map(|number| safe_name(&format!("{number} {name}"))));
        targets
            .extend(candidates.find(|candidate| taken.insert(candidate.to_lowercase())).map(|name| folder.join(name)));
    }
    targets
}

fn check_targets(targets: &[PathBuf], args: &SaveArgs) -> Result<(), CliError> {
    if !args.to.is_dir() {
        let what = format!("{} is not a folder", args.to.display());
        return Err(CliError::refused(
            what,
            format!("make it first: mkdir -p {}", units::quoted(&args.to.to_string_lossy())),
        ));
    }
    match targets.iter().find(|path| path.symlink_metadata().is_ok() && !args.force) {
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
/// passing file goes away by itself whenever this ends early.
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
    let mut response = client.content(&["v1", "attachments", &attachment.id, "content"]).await?;
    let bar = if console.is_terminal() { ProgressBar::new(attachment.size) } else { ProgressBar::hidden() };
    let mut bytes = 0_u64;
    while let Some(chunk) = response.chunk().await.map_err(|error| client.unreachable(&error))? {
        file.write_all(&chunk).map_err(|error| failed(&error))?;
        bytes += chunk.len() as u64;
        bar.set_position(bytes);
    }
    bar.finish_and_clear();
    check_content(attachment, bytes)?;
    file.as_file().sync_all().map_err(|error| failed(&error))?;
    let kept = if is_forced { file.persist(path) } else { file.persist_noclobber(path) };
    kept.map_err(|error| match error.error.kind() {
        io::ErrorKind::AlreadyExists => is_there(path),
        _ => failed(&error.error),
    })?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| failed(&error))
}

/// The daemon ends its answer early when a part of the file does not open; everything else it has checked before.
fn check_content(attachment: &Attachment, bytes: u64) -> Result<(), CliError> {
    if bytes == attachment.size {
        return Ok(());
    }
    let what = format!("{} did not come out of the daemon as it went in; nothing was saved", attachment.filename);
    Err(CliError::refused(what, "try again; if it stays so, check the disk"))
}

fn unwritable(path: &Path, error: &io::Error) -> CliError {
    if error.kind() == io::ErrorKind::StorageFull {
        return CliError::problem(ProblemCode::DiskFull, format!("{} does not fit on the disk", path.display()));
    }
    CliError::refused(format!("{} cannot be written: {error}", path.display()), "check the folder and its permissions")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attachment(safe_name: &str) -> Attachment {
        Attachment {
            id: "ATC-1".into(),
            filename: safe_name.into(),
            safe_name: safe_name.into(),
            content_type: "text/plain".into(),
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
        assert_eq!(targets, ["/srv/a.pdf", "/srv/2 A.pdf", "/srv/_.._etc_passwd", "/srv/3 a.pdf"].map(PathBuf::from));
    }

    #[test]
    fn wrong_content_is_not_saved() {
        let file = attachment("a");
        assert!(check_content(&file, 1).is_ok());
        assert!(check_content(&file, 0).is_err() && check_content(&file, 2).is_err());
    }
}
