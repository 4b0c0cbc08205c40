//! Waiting for downloads to finish.

use super::{
    client::Client,
    console::Console,
    error::CliError,
    events::{Event, EventStream},
    progress_bars::ProgressBars,
    views,
};
use crate::api::model::{Attachment, AttachmentStatus, EventTopic};
use sealpost_node_core::text::visible_line;
use std::time::Duration;

/// Interval between attempts to reconnect to a daemon that stopped.
pub(super) const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Returns whether a file is being downloaded or will be.
pub(super) const fn is_in_transit(file: &Attachment) -> bool {
    matches!(
        file.status,
        AttachmentStatus::Waiting | AttachmentStatus::Downloading
    )
}

/// Shows progress until none of the files is in transit, and returns their final state.
pub(super) async fn wait_until_transferred(
    mut files: Vec<Attachment>,
    client: &Client,
    console: &mut Console,
) -> Result<Vec<Attachment>, CliError> {
    if !files.iter().any(is_in_transit) {
        return Ok(files);
    }
    let mut bars = ProgressBars::for_files(&files, console);
    let mut events = subscribe(&mut files, client).await?;
    while files.iter().any(is_in_transit) {
        match events.next().await {
            Some(event) => {
                bars.apply_event(&event, client).await;
                apply_event(&event, &mut files, &bars, console)?;
            }
            None => {
                bars.clear();
                tokio::time::sleep(RETRY_INTERVAL).await;
                events = subscribe(&mut files, client).await?;
            }
        }
    }
    bars.clear();
    Ok(files)
}

/// Opens the event stream and then reloads the files, so that no change in between is missed.
async fn subscribe(files: &mut [Attachment], client: &Client) -> Result<EventStream, CliError> {
    let events = client.events(None).await?;
    for file in files {
        *file = client.get(&["v1", "attachments", &file.id], &()).await?;
    }
    Ok(events)
}

/// Updates the file that an event is about, and prints a new reason for a delay.
fn apply_event(
    event: &Event,
    files: &mut [Attachment],
    bars: &ProgressBars,
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
    let has_new_reason = changed.reason.is_some() && changed.reason != file.reason;
    *file = changed;
    if !has_new_reason || console.is_json() {
        return Ok(());
    }
    let (status, _) = views::attachment_status(file);
    let line = format!("{} ({}): {status}", file.filename, file.id);
    bars.print_above(|| console.print_line(visible_line(&line)))
}
