//! Bars of files on the move, below the lines of a terminal. Where nobody sits before it, and for programs, there are none.

use super::{client::Client, console::Console, events::Event, units};
use crate::api::model::{Attachment, Direction, EventTopic, Transfer, TransferState};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use sealpost_node_core::text::visible_line;
use std::collections::HashMap;

/// Of what this command moves itself.
const OWN: &str =
    "{msg:.bold} {bar:24} {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec}";
/// Of what the daemon tells of, with its rate.
const TOLD: &str = "{msg:.bold} {bar:24} {decimal_bytes}/{decimal_total_bytes} {prefix}";
/// Characters of a name before its bar; the rest of the line is for the bar and the numbers.
const NAME_CHARACTERS: usize = 24;

/// The bars of one command.
pub(super) struct Bars {
    all: MultiProgress,
    moving: HashMap<String, ProgressBar>,
    names: HashMap<String, String>,
    /// Only files that were named are shown.
    is_choosy: bool,
}

impl Bars {
    /// For all files; none is drawn yet.
    pub(super) fn new(console: &Console) -> Self {
        let target = if console.is_json() {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr()
        };
        let all = MultiProgress::with_draw_target(target);
        Self {
            all,
            moving: HashMap::new(),
            names: HashMap::new(),
            is_choosy: false,
        }
    }

    /// For these files only.
    pub(super) fn of(files: &[Attachment], console: &Console) -> Self {
        let names = files
            .iter()
            .map(|file| (file.id.clone(), file.filename.clone()))
            .collect();
        Self {
            names,
            is_choosy: true,
            ..Self::new(console)
        }
    }

    /// One of what its owner moves.
    pub(super) fn own(&self, name: &str, total: u64) -> ProgressBar {
        self.add(OWN, name, total)
    }

    fn add(&self, template: &str, name: &str, total: u64) -> ProgressBar {
        let bar = self.all.add(ProgressBar::new(total));
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("━╸─"));
        }
        bar.with_message(short(name))
    }

    /// Takes up an event about a file on the move; all others are nothing to it.
    pub(super) async fn take(&mut self, event: &Event, client: &Client) {
        if event.topic != EventTopic::Transfer || self.all.is_hidden() {
            return;
        }
        let Ok(transfer) = serde_json::from_value::<Transfer>(event.data.clone()) else {
            return;
        };
        if !self.names.contains_key(&transfer.attachment) {
            if self.is_choosy {
                return;
            }
            // One without a name is shown by its id.
            let file = client
                .get::<Attachment>(&["v1", "attachments", &transfer.attachment], &())
                .await;
            let name = file.map_or_else(|_| transfer.attachment.clone(), |file| file.filename);
            self.names.insert(transfer.attachment.clone(), name);
        }
        self.show(&transfer);
    }

    fn show(&mut self, transfer: &Transfer) {
        if transfer.state != TransferState::Moving {
            if let Some(bar) = self.moving.remove(&transfer.attachment) {
                bar.finish_and_clear();
            }
            return;
        }
        if !self.moving.contains_key(&transfer.attachment) {
            let name = self
                .names
                .get(&transfer.attachment)
                .map_or("", String::as_str);
            let arrow = if transfer.direction == Direction::Out {
                "↑"
            } else {
                "↓"
            };
            self.moving.insert(
                transfer.attachment.clone(),
                self.add(TOLD, &format!("{arrow} {name}"), transfer.total),
            );
        }
        if let Some(bar) = self.moving.get(&transfer.attachment) {
            bar.set_prefix(rate(transfer));
            bar.set_position(transfer.bytes);
        }
    }

    /// Forgets what moved: nobody tells of it any more.
    pub(super) fn clear(&mut self) {
        for (_, bar) in self.moving.drain() {
            bar.finish_and_clear();
        }
    }

    /// Prints lines above the bars.
    pub(super) fn above<T>(&self, print: impl FnOnce() -> T) -> T {
        self.all.suspend(print)
    }
}

/// `12.3 MB/s, 8 s left`
fn rate(transfer: &Transfer) -> String {
    let left = transfer
        .total
        .saturating_sub(transfer.bytes)
        .checked_div(transfer.bytes_per_second);
    let left = left
        .map(|seconds| format!(", {seconds} s left"))
        .unwrap_or_default();
    format!("{}/s{left}", units::size(transfer.bytes_per_second))
}

fn short(name: &str) -> String {
    let name = visible_line(name);
    match name.char_indices().nth(NAME_CHARACTERS) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.into_owned(),
    }
}
