//! `sealpost files save`

use super::{Items, check_ready, load_attachments, request_download};
use crate::{
    api::{
        model::{Attachment, AttachmentStatus},
        problem::ProblemCode,
    },
    cli::{
        args::SaveArgs,
        client::Client,
        console::Console,
        error::CliError,
        progress_bars::ProgressBars,
        transfer_wait::{is_in_transit, wait_until_transferred},
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

#[derive(Serialize)]
struct SavedFile {
    attachment: Attachment,
    path: PathBuf,
}

/// Checks all files and all target paths first, so that it saves either all files or none.
pub(super) async fn run(
    args: &SaveArgs,
    client: &Client,
    console: &mut Console,
) -> Result<(), CliError> {
    let mut attachments = load_attachments(&args.id, client).await?;
    let targets = target_paths(&attachments, &args.to);
    check_targets(&targets, args)?;
    for file in attachments
        .iter_mut()
        .filter(|file| !args.no_wait && file.status == AttachmentStatus::Offered)
    {
        request_download(file, client).await?;
    }
    attachments
        .iter()
        .filter(|file| args.no_wait || !is_in_transit(file))
        .try_for_each(check_ready)?;
    attachments = wait_until_transferred(attachments, client, console).await?;
    attachments.iter().try_for_each(check_ready)?;
    if !console.is_json() {
        views::danger_warnings(&attachments)
            .into_iter()
            .try_for_each(|line| console.print_line(visible_line(&line)))?;
    }
    let mut items = Vec::new();
    for (attachment, path) in attachments.into_iter().zip(targets) {
        save_file(&attachment, &path, args.force, client, console).await?;
        if !console.is_json() {
            console.print_line(format!(
                "Saved {} ({}).",
                path.display(),
                units::format_size(attachment.size)
            ))?;
        }
        items.push(SavedFile { attachment, path });
    }
    if console.is_json() {
        return console.print_json(&Items { items });
    }
    Ok(())
}

/// Returns a distinct path for each file, based on its safe name.
fn target_paths(attachments: &[Attachment], directory: &Path) -> Vec<PathBuf> {
    let mut taken = HashSet::new();
    let mut targets = Vec::new();
    for attachment in attachments {
        // The daemon has already made the name safe. The second pass protects this disk even from a
        // faulty daemon.
        let name = safe_name(&attachment.safe_name);
        let mut candidates = std::iter::once(name.clone())
            .chain((2..).map(|number| safe_name(&format!("{number} {name}"))));
        targets.extend(
            candidates
                .find(|candidate| taken.insert(candidate.to_lowercase()))
                .map(|name| directory.join(name)),
        );
    }
    targets
}

fn check_targets(targets: &[PathBuf], args: &SaveArgs) -> Result<(), CliError> {
    if !args.to.is_dir() {
        return Err(CliError::failed(
            format!("{} is not a directory", args.to.display()),
            format!(
                "create it first: mkdir -p {}",
                units::shell_quote(&args.to.to_string_lossy())
            ),
        ));
    }
    match targets
        .iter()
        .find(|path| path.symlink_metadata().is_ok() && !args.force)
    {
        Some(path) => Err(already_exists(path)),
        None => Ok(()),
    }
}

fn already_exists(path: &Path) -> CliError {
    CliError::failed(
        format!("{} already exists", path.display()),
        "choose another directory with --to, or replace the file with --force",
    )
}

/// Downloads a file to a temporary file next to the target, syncs it and renames it.
///
/// The temporary file is removed when the function ends early. Only the user can read the file, and
/// it is not executable.
async fn save_file(
    attachment: &Attachment,
    path: &Path,
    is_forced: bool,
    client: &Client,
    console: &Console,
) -> Result<(), CliError> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let failed = |error: &io::Error| cannot_write(path, error);
    let mut file = NamedTempFile::new_in(directory).map_err(|error| failed(&error))?;
    let mut response = client
        .content(&["v1", "attachments", &attachment.id, "content"])
        .await?;
    let bars = ProgressBars::new(console);
    let bar = bars.add_local(&attachment.filename, attachment.size);
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
    check_length(attachment, bytes)?;
    file.as_file().sync_all().map_err(|error| failed(&error))?;
    let renamed = if is_forced {
        file.persist(path)
    } else {
        file.persist_noclobber(path)
    };
    renamed.map_err(|error| match error.error.kind() {
        io::ErrorKind::AlreadyExists => already_exists(path),
        _ => failed(&error.error),
    })?;
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| failed(&error))
}

/// Checks the length of a download. The daemon verified the file when it arrived, and ends its
/// response early if it can no longer decrypt a part of it.
fn check_length(attachment: &Attachment, bytes: u64) -> Result<(), CliError> {
    if bytes == attachment.size {
        return Ok(());
    }
    Err(CliError::failed(
        format!(
            "the daemon could not read all of {}; nothing was saved",
            attachment.filename
        ),
        "try again; if the error persists, check the disk",
    ))
}

fn cannot_write(path: &Path, error: &io::Error) -> CliError {
    if error.kind() == io::ErrorKind::StorageFull {
        return CliError::problem(
            ProblemCode::DiskFull,
            format!("{} does not fit on the disk", path.display()),
        );
    }
    CliError::failed(
        format!("cannot write {}: {error}", path.display()),
        "check the directory and its permissions",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::model::Direction;

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
    fn target_paths_are_distinct_and_inside_the_directory() {
        let names = ["a.pdf", "A.pdf", "../../etc/passwd", "a.pdf"].map(attachment);
        let targets = target_paths(&names, Path::new("/srv"));
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
    fn wrong_length_is_not_saved() {
        let file = attachment("a");
        assert!(check_length(&file, 1).is_ok());
        assert!(check_length(&file, 0).is_err() && check_length(&file, 2).is_err());
    }
}
