//! Tables and texts that several commands print.

use super::{
    console::{
        Console, StatusColor, TextTable, cell, number_cell, parse_content_type, status_cell,
    },
    units,
};
use crate::api::{
    iso::Iso,
    model::{Attachment, AttachmentStatus, Delivery, Message},
};
use comfy_table::Cell;
use sealpost_node_core::{content, text::visible_line};
use sealpost_proto::{DeliveryStatus, Timestamp, limits::PAGE_ITEMS_MAX};

/// Maximum length of a message preview, in characters.
const PREVIEW_LENGTH_MAX: usize = 100;

/// Says that a list has more rows than the limit.
pub(super) fn truncation_notice(limit: u32) -> String {
    if limit < PAGE_ITEMS_MAX {
        format!("Only the newest {limit} are shown. Show more with: --limit {PAGE_ITEMS_MAX}")
    } else {
        format!("Only the newest {limit} are shown.")
    }
}

/// Returns the beginning of a message on one line.
pub(super) fn message_preview(message: &Message) -> String {
    let content_type = parse_content_type(&message.content_type);
    content::to_line(&message.content, content_type, PREVIEW_LENGTH_MAX)
}

/// Returns who a received message is from: the contact, or this node itself.
pub(super) fn sender(message: &Message) -> String {
    let contact = &message.sender.contact;
    if message.is_system {
        format!("{} (about {contact})", message.sender.name)
    } else {
        contact.clone()
    }
}

/// Summarises files as `2 files, 20.1 MB`; empty if there are none.
pub(super) fn file_summary(attachments: &[Attachment]) -> String {
    if attachments.is_empty() {
        return String::new();
    }
    let total = attachments
        .iter()
        .fold(0_u64, |sum, file| sum.saturating_add(file.size));
    format!(
        "{}, {}",
        units::format_count(attachments.len(), "file"),
        units::format_size(total)
    )
}

/// Table of the files of a message.
pub(super) fn attachment_table(attachments: &[Attachment]) -> TextTable {
    let mut table =
        TextTable::new(&["FILE", "NAME", "TYPE", "SIZE", "STATUS"]).without_wrapping(&[0]);
    for file in attachments {
        let (status, color) = attachment_status(file);
        table.add_row(vec![
            cell(&file.id),
            cell(&file.filename),
            file_type_cell(file),
            number_cell(units::format_size(file.size)),
            status_cell(status, color),
        ]);
    }
    table
}

/// Cell with the media type of a file, marked if the file is dangerous.
pub(super) fn file_type_cell(file: &Attachment) -> Cell {
    match file.dangers.is_empty() {
        true => cell(&file.content_type),
        false => status_cell(format!("! {}", file.content_type), StatusColor::Red),
    }
}

/// Returns one warning for each dangerous file.
pub(super) fn danger_warnings(files: &[Attachment]) -> Vec<String> {
    let warning = |file: &Attachment| {
        let reasons: Vec<&str> = file
            .dangers
            .iter()
            .map(|danger| danger.reason.as_str())
            .collect();
        format!(
            "Warning: {} ({}): {}.",
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

/// Describes the status of a file, with its progress and the reason for a delay.
pub(super) fn attachment_status(file: &Attachment) -> (String, StatusColor) {
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
        AttachmentStatus::Staged => ("staged".to_owned(), StatusColor::Yellow),
        AttachmentStatus::Uploading => (
            format!("uploading {percent} %{reason}"),
            StatusColor::Yellow,
        ),
        AttachmentStatus::Uploaded => ("uploaded".to_owned(), StatusColor::Green),
        AttachmentStatus::Released => ("no longer needed".to_owned(), StatusColor::Green),
        AttachmentStatus::Cancelled => ("cancelled".to_owned(), StatusColor::Red),
        AttachmentStatus::Offered => (format!("not downloaded{reason}"), StatusColor::Yellow),
        AttachmentStatus::Waiting => (format!("waiting{reason}"), StatusColor::Yellow),
        AttachmentStatus::Downloading => (
            format!("downloading {percent} %{reason}"),
            StatusColor::Yellow,
        ),
        AttachmentStatus::Ready => ("ready".to_owned(), StatusColor::Green),
        AttachmentStatus::Failed => (format!("failed{reason}"), StatusColor::Red),
    }
}

/// Table of deliveries; `with_message` adds a column with the message id.
pub(super) fn delivery_table(
    deliveries: &[Delivery],
    with_message: bool,
    console: &Console,
) -> TextTable {
    let header = ["MESSAGE", "TO", "STATUS", "SINCE", "DETAIL"];
    let mut table = match with_message {
        true => TextTable::new(&header).without_wrapping(&[0, 2, 3]),
        false => TextTable::new(&header[1..]).without_wrapping(&[1, 2]),
    };
    for delivery in deliveries {
        let mut row = vec![
            cell(&delivery.contact),
            status_cell(delivery_status_text(delivery), delivery.status.into()),
            cell(console.format_relative(Some(status_since(delivery)))),
            cell(delivery_detail(delivery, console.now())),
        ];
        if with_message {
            row.insert(0, cell(&delivery.message));
        }
        table.add_row(row);
    }
    table
}

/// Describes the status of a delivery, and whether its session is healing.
pub(super) fn delivery_status_text(delivery: &Delivery) -> String {
    let healing = if delivery.healing { ", healing" } else { "" };
    format!("{}{healing}", delivery.status)
}

/// Describes why a delivery waits or failed, its attempts, and what the user can do.
pub(super) fn delivery_detail(delivery: &Delivery, now: Timestamp) -> String {
    let mut parts: Vec<String> = Vec::new();
    parts.extend(delivery.reason.clone().or_else(|| delivery.code.clone()));
    if delivery.status == DeliveryStatus::Retrying {
        if delivery.attempts > 0 {
            parts.push(format!("attempt {}", delivery.attempts));
        }
        parts.extend(
            delivery
                .next_attempt_at
                .map(|at| format!("next {}", units::format_relative(at, now))),
        );
    }
    if delivery.status == DeliveryStatus::Failed {
        parts.extend(delivery.advice.clone());
    }
    visible_line(&parts.join("; ")).into_owned()
}

/// Returns the properties whose change is worth a line of output.
pub(super) fn delivery_state(delivery: &Delivery) -> (DeliveryStatus, bool, u32, Option<&str>) {
    (
        delivery.status,
        delivery.healing,
        delivery.attempts,
        delivery.reason.as_deref(),
    )
}

/// Returns when a delivery entered its current status.
fn status_since(delivery: &Delivery) -> Iso {
    let at = match delivery.status {
        DeliveryStatus::Pending | DeliveryStatus::Retrying => None,
        DeliveryStatus::Sent => delivery.sent_at,
        DeliveryStatus::Delivered => delivery.delivered_at,
        DeliveryStatus::Read => delivery.read_at,
        DeliveryStatus::Failed => delivery.failed_at,
    };
    at.unwrap_or(delivery.pending_at)
}

/// Formats a number of mailboxes.
pub(super) fn format_mailboxes(count: u64) -> String {
    match count {
        1 => "1 mailbox".to_owned(),
        count => format!("{count} mailboxes"),
    }
}
