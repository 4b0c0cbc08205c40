//! Progress bars for file transfers, shown below the output on a terminal only.

use super::{client::Client, console::Console, events::Event, units};
use crate::api::model::{Attachment, Direction, EventTopic, Transfer, TransferState};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use sealpost_node_core::text::visible_line;
use std::collections::HashMap;

/// Template for a transfer by this process, which measures the rate itself.
const LOCAL_TEMPLATE: &str =
    "{msg:.bold} {bar:24} {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec}";
/// Template for a transfer by the daemon, which reports the rate.
const DAEMON_TEMPLATE: &str = "{msg:.bold} {bar:24} {decimal_bytes}/{decimal_total_bytes} {prefix}";
/// Maximum length of the file name before a bar, in characters.
const NAME_LENGTH_MAX: usize = 24;

/// Progress bars of one command.
pub(super) struct ProgressBars {
    all: MultiProgress,
    /// Bars of the daemon's transfers, by attachment id.
    bars: HashMap<String, ProgressBar>,
    /// File names, by attachment id.
    names: HashMap<String, String>,
    /// Ignores files that are not in `names`.
    only_named: bool,
}

impl ProgressBars {
    /// Shows transfers of any file.
    pub(super) fn new(console: &Console) -> Self {
        let target = if console.is_json() {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr()
        };
        let all = MultiProgress::with_draw_target(target);
        Self {
            all,
            bars: HashMap::new(),
            names: HashMap::new(),
            only_named: false,
        }
    }

    /// Shows transfers of these files only.
    pub(super) fn for_files(files: &[Attachment], console: &Console) -> Self {
        let names = files
            .iter()
            .map(|file| (file.id.clone(), file.filename.clone()))
            .collect();
        Self {
            names,
            only_named: true,
            ..Self::new(console)
        }
    }

    /// Adds a bar that the caller updates.
    pub(super) fn add_local(&self, name: &str, total: u64) -> ProgressBar {
        self.add(LOCAL_TEMPLATE, name, total)
    }

    fn add(&self, template: &str, name: &str, total: u64) -> ProgressBar {
        let bar = self.all.add(ProgressBar::new(total));
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("━╸─"));
        }
        bar.with_message(shorten_name(name))
    }

    /// Updates the bars from a transfer event. Ignores all other events.
    pub(super) async fn apply_event(&mut self, event: &Event, client: &Client) {
        if event.topic != EventTopic::Transfer || self.all.is_hidden() {
            return;
        }
        let Ok(transfer) = serde_json::from_value::<Transfer>(event.data.clone()) else {
            return;
        };
        if !self.names.contains_key(&transfer.attachment) {
            if self.only_named {
                return;
            }
            // If the name cannot be loaded, the id serves as the name.
            let file = client
                .get::<Attachment>(&["v1", "attachments", &transfer.attachment], &())
                .await;
            let name = file.map_or_else(|_| transfer.attachment.clone(), |file| file.filename);
            self.names.insert(transfer.attachment.clone(), name);
        }
        self.update(&transfer);
    }

    fn update(&mut self, transfer: &Transfer) {
        if transfer.state != TransferState::Moving {
            if let Some(bar) = self.bars.remove(&transfer.attachment) {
                bar.finish_and_clear();
            }
            return;
        }
        if !self.bars.contains_key(&transfer.attachment) {
            let name = self
                .names
                .get(&transfer.attachment)
                .map_or("", String::as_str);
            let arrow = if transfer.direction == Direction::Out {
                "↑"
            } else {
                "↓"
            };
            let bar = self.add(DAEMON_TEMPLATE, &format!("{arrow} {name}"), transfer.total);
            self.bars.insert(transfer.attachment.clone(), bar);
        }
        if let Some(bar) = self.bars.get(&transfer.attachment) {
            bar.set_prefix(format_rate(transfer));
            bar.set_position(transfer.bytes);
        }
    }

    /// Removes the bars of the daemon's transfers, for example when its event stream ends.
    pub(super) fn clear(&mut self) {
        for (_, bar) in self.bars.drain() {
            bar.finish_and_clear();
        }
    }

    /// Hides the bars while `print` runs, so that its lines appear above them.
    pub(super) fn print_above<T>(&self, print: impl FnOnce() -> T) -> T {
        self.all.suspend(print)
    }
}

/// Formats the rate as `12.3 MB/s, 8 s left`.
fn format_rate(transfer: &Transfer) -> String {
    let left = transfer
        .total
        .saturating_sub(transfer.bytes)
        .checked_div(transfer.bytes_per_second);
    let left = left
        .map(|seconds| format!(", {seconds} s left"))
        .unwrap_or_default();
    format!("{}/s{left}", units::format_size(transfer.bytes_per_second))
}

fn shorten_name(name: &str) -> String {
    let name = visible_line(name);
    match name.char_indices().nth(NAME_LENGTH_MAX) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.into_owned(),
    }
}
