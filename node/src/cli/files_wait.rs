//! Waiting for files that are on their way.

use super::{
    bars::Bars,
    client::Client,
    console::Console,
    error::CliError,
    events::{Event, Events},
    views,
};
use crate::api::model::{Attachment, AttachmentStatus, EventTopic};
use sealpost_node_core::text::visible_line;
use std::time::Duration;

/// How often it looks whether a daemon that went away is back.
pub(super) const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Whether a file comes by itself.
pub(super) const fn is_coming(file: &Attachment) -> bool {
    matches!(
        file.status,
        AttachmentStatus::Waiting | AttachmentStatus::Downloading
    )
}

/// Waits until none of the files is on its way any more, and shows how far they are; returns them as they are then.
///
/// # Errors
/// When the daemon refuses, or does not answer.
pub(super) async fn until_here(
    mut files: Vec<Attachment>,
    client: &Client,
    console: &mut Console,
) -> Result<Vec<Attachment>, CliError> {
    if !files.iter().any(is_coming) {
        return Ok(files);
    }
    let mut bars = Bars::of(&files, console);
    let mut events = follow(&mut files, client).await?;
    while files.iter().any(is_coming) {
        match events.next().await {
            Some(event) => {
                bars.take(&event, client).await;
                take(&event, &mut files, &bars, console)?;
            }
            None => {
                bars.clear();
                tokio::time::sleep(RETRY_INTERVAL).await;
                events = follow(&mut files, client).await?;
            }
        }
    }
    bars.clear();
    Ok(files)
}

/// Listens first and looks then, so that nothing is missed in between.
async fn follow(files: &mut [Attachment], client: &Client) -> Result<Events, CliError> {
    let events = client.events(None).await?;
    for file in files {
        *file = client.get(&["v1", "attachments", &file.id], &()).await?;
    }
    Ok(events)
}

fn take(
    event: &Event,
    files: &mut [Attachment],
    bars: &Bars,
    console: &mut Console,
) -> Result<(), CliError> {
    if event.topic != EventTopic::Attachment {
        return Ok(());
    }
    let Ok(changed) = serde_json::from_value::<Attachment>(event.data.clone()) else {
        return Ok(());
    };
    let Some(file) = files.iter_mut().find(|file| file.id == changed.id) else {
        return Ok(());
    };
    let is_news = changed.reason.is_some() && changed.reason != file.reason && !console.is_json();
    *file = changed;
    if !is_news {
        return Ok(());
    }
    let (status, _) = views::attachment_status(file);
    let line = format!("{} ({}): {status}", file.filename, file.id);
    bars.above(|| console.line(visible_line(&line)))
}
