//! What several commands show in the same way.

use super::{
    console::{Console, Grid, Light, cell, coloured, number},
    units,
};
use crate::api::{
    iso::Iso,
    model::{Attachment, AttachmentStatus, Delivery, Message},
};
use comfy_table::Cell;
use sealpost_node_core::{markdown, text::visible_line};
use sealpost_proto::{DeliveryStatus, Timestamp};

/// Longest beginning of a message in a list.
const PREVIEW_CHARACTERS: usize = 100;

/// The beginning of a message on one line.
pub(super) fn preview(message: &Message) -> String {
    let words = match message.content_type.as_str() {
        "text/html" => markdown::html_to_terminal(&message.content).replace('\n', " "),
        _ => markdown::to_words(&message.content),
    };
    match words.char_indices().nth(PREVIEW_CHARACTERS) {
        Some((end, _)) => format!("{}…", &words[..end]),
        None => words,
    }
}

/// `2 files, 20.1 MB`, or nothing.
pub(super) fn files(attachments: &[Attachment]) -> String {
    if attachments.is_empty() {
        return String::new();
    }
    let total = attachments
        .iter()
        .fold(0_u64, |sum, file| sum.saturating_add(file.size));
    format!(
        "{}, {}",
        units::count(attachments.len(), "file"),
        units::size(total)
    )
}

/// The files of a message.
pub(super) fn attachments(attachments: &[Attachment]) -> Grid {
    let mut grid = Grid::new(&["FILE", "NAME", "TYPE", "SIZE", "STATUS"]).keep(&[0]);
    for file in attachments {
        let (status, light) = attachment_status(file);
        grid.row(vec![
            cell(&file.id),
            cell(&file.filename),
            file_type(file),
            number(units::size(file.size)),
            coloured(status, light),
        ]);
    }
    grid
}

/// A file's type, marked when it is dangerous.
pub(super) fn file_type(file: &Attachment) -> Cell {
    match file.dangers.is_empty() {
        true => cell(&file.content_type),
        false => coloured(format!("! {}", file.content_type), Light::Bad),
    }
}

/// A line for each file that is dangerous.
pub(super) fn dangers(files: &[Attachment]) -> Vec<String> {
    let warning = |file: &Attachment| {
        let reasons: Vec<&str> = file
            .dangers
            .iter()
            .map(|danger| danger.reason.as_str())
            .collect();
        format!(
            "Careful with {} ({}): {}.",
            file.filename,
            file.id,
            reasons.join("; ")
        )
    };
    files
        .iter()
        .filter(|file| !file.dangers.is_empty())
        .map(warning)
        .collect()
}

/// A file's status in words, with how far it is.
pub(super) fn attachment_status(file: &Attachment) -> (String, Light) {
    let percent = file
        .transferred
        .saturating_mul(100)
        .checked_div(file.size)
        .unwrap_or(100)
        .min(100);
    let reason = file
        .reason
        .as_ref()
        .map(|reason| format!(": {reason}"))
        .unwrap_or_default();
    match file.status {
        AttachmentStatus::Staged => ("staged".to_owned(), Light::Waiting),
        AttachmentStatus::Uploading => (format!("uploading {percent} %{reason}"), Light::Waiting),
        AttachmentStatus::Uploaded => ("uploaded".to_owned(), Light::Good),
        AttachmentStatus::Released => ("released".to_owned(), Light::Good),
        AttachmentStatus::Cancelled => ("cancelled".to_owned(), Light::Bad),
        AttachmentStatus::Offered => (format!("offered{reason}"), Light::Waiting),
        AttachmentStatus::Waiting => (format!("waiting{reason}"), Light::Waiting),
        AttachmentStatus::Downloading => {
            (format!("downloading {percent} %{reason}"), Light::Waiting)
        }
        AttachmentStatus::Ready => ("ready".to_owned(), Light::Good),
        AttachmentStatus::Failed => (format!("failed{reason}"), Light::Bad),
    }
}

/// Deliveries, one a row; with the message where there are several.
pub(super) fn deliveries(deliveries: &[Delivery], with_message: bool, console: &Console) -> Grid {
    let header = ["MESSAGE", "TO", "STATUS", "SINCE", "DETAIL"];
    let mut grid = match with_message {
        true => Grid::new(&header).keep(&[0, 2, 3]),
        false => Grid::new(&header[1..]).keep(&[1, 2]),
    };
    for delivery in deliveries {
        let mut row = vec![
            cell(&delivery.contact),
            coloured(delivery_word(delivery), delivery.status.into()),
            cell(console.relative(Some(since(delivery)))),
            cell(delivery_detail(delivery, console.now())),
        ];
        if with_message {
            row.insert(0, cell(&delivery.message));
        }
        grid.row(row);
    }
    grid
}

/// The status, and whether the session is being mended.
pub(super) fn delivery_word(delivery: &Delivery) -> String {
    let healing = if delivery.healing { ", healing" } else { "" };
    format!("{}{healing}", delivery.status)
}

/// Why it waits or failed, which attempt it is and when the next one comes, and what to do.
pub(super) fn delivery_detail(delivery: &Delivery, now: Timestamp) -> String {
    let mut parts: Vec<String> = Vec::new();
    parts.extend(delivery.reason.clone().or_else(|| delivery.code.clone()));
    if delivery.status == DeliveryStatus::Retrying {
        parts.push(format!("attempt {}", delivery.attempts));
        parts.extend(
            delivery
                .next_attempt_at
                .map(|at| format!("next {}", units::relative(at, now))),
        );
    }
    if delivery.status == DeliveryStatus::Failed {
        parts.extend(delivery.advice.clone());
    }
    visible_line(&parts.join("; ")).into_owned()
}

/// What has to differ for a change to be worth a line.
pub(super) fn delivery_state(delivery: &Delivery) -> (DeliveryStatus, bool, u32, Option<&str>) {
    (
        delivery.status,
        delivery.healing,
        delivery.attempts,
        delivery.reason.as_deref(),
    )
}

/// When it came to its present status.
fn since(delivery: &Delivery) -> Iso {
    let at = match delivery.status {
        DeliveryStatus::Pending | DeliveryStatus::Retrying => None,
        DeliveryStatus::Sent => delivery.sent_at,
        DeliveryStatus::Delivered => delivery.delivered_at,
        DeliveryStatus::Read => delivery.read_at,
        DeliveryStatus::Failed => delivery.failed_at,
    };
    at.unwrap_or(delivery.pending_at)
}
