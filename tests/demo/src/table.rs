//! The live table: a row for each message, a column for each status, filled in as the statuses come.

use crate::{
    screen::{Ink, Screen},
    wait::PATIENCE,
};
use anyhow::{Context as _, bail};
use sealpost_node::{
    api::model::{Delivery, EventTopic},
    cli::events::Events,
};
use sealpost_proto::{DeliveryStatus, Timestamp};
use sealpost_service::{Clock as _, SystemClock};
use serde::Deserialize as _;
use tokio::time::timeout;

/// The columns: what a message that arrives goes through, and no more.
const COLUMNS: [DeliveryStatus; 5] = [
    DeliveryStatus::Pending,
    DeliveryStatus::Sent,
    DeliveryStatus::Retrying,
    DeliveryStatus::Delivered,
    DeliveryStatus::Read,
];
const TITLE_COLUMNS: usize = 25;
const CELL_COLUMNS: usize = 10;

/// The messages of the story.
#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
    drawn_lines: usize,
}

struct Row {
    message: String,
    title: String,
    /// Each status that was seen, in the order in which it came, and when.
    seen: Vec<(DeliveryStatus, Timestamp)>,
    detail: String,
}

impl Table {
    /// A table whose first line is drawn below everything that was printed so far.
    pub(crate) fn begin(&mut self, message: &str, title: &str) {
        let row = Row {
            message: message.to_owned(),
            title: title.to_owned(),
            seen: Vec::new(),
            detail: String::new(),
        };
        self.rows.push(row);
    }

    /// Other text comes now: what was drawn stays.
    pub(crate) fn leave(&mut self) {
        self.drawn_lines = 0;
        self.rows.clear();
    }

    /// Shows what the sender's node says about a message until it has a status; returns what was seen so far.
    ///
    /// # Errors
    /// When it fails, or does not come to that status.
    pub(crate) async fn follow(
        &mut self,
        screen: &mut Screen,
        events: &mut Events,
        message: &str,
        goal: DeliveryStatus,
    ) -> anyhow::Result<Vec<DeliveryStatus>> {
        loop {
            let next = timeout(PATIENCE, events.next()).await;
            let event = next
                .with_context(|| format!("{message} does not become {goal}"))?
                .context("the events ended")?;
            if event.topic != EventTopic::Delivery {
                continue;
            }
            let delivery = Delivery::deserialize(event.data)?;
            let Some(row) = self
                .rows
                .iter_mut()
                .find(|row| row.message == message && message == delivery.message)
            else {
                continue;
            };
            row.take(&delivery);
            let line = row.line(screen);
            let seen = row.seen.iter().map(|(status, _)| *status).collect();
            if screen.is_terminal() {
                self.draw(screen)?
            } else {
                screen.line(&line)?
            }
            if delivery.status == goal {
                return Ok(seen);
            }
            if delivery.status.is_final() {
                bail!(
                    "{message} became {} on the way to {goal}: {}",
                    delivery.status,
                    delivery.reason.unwrap_or_default()
                );
            }
        }
    }

    fn draw(&mut self, screen: &mut Screen) -> anyhow::Result<()> {
        screen.wipe(self.drawn_lines)?;
        let words = COLUMNS.map(|status| format!("{:<CELL_COLUMNS$}", status.as_str()));
        let header = format!("  {:<TITLE_COLUMNS$}{}", "", words.concat());
        let mut lines = vec![screen.paint(Ink::Dim, header.trim_end())];
        for row in &self.rows {
            lines.push(format!(
                "  {:<TITLE_COLUMNS$}{}",
                row.title,
                row.cells(screen)
            ));
            lines.push(screen.paint(Ink::Dim, &format!("    {}", row.detail)));
        }
        for line in &lines {
            screen.line(line)?;
        }
        self.drawn_lines = lines.len();
        Ok(())
    }
}

impl Row {
    fn take(&mut self, delivery: &Delivery) {
        let at = match delivery.status {
            DeliveryStatus::Pending => Some(delivery.pending_at),
            DeliveryStatus::Sent => delivery.sent_at,
            DeliveryStatus::Delivered => delivery.delivered_at,
            DeliveryStatus::Read => delivery.read_at,
            DeliveryStatus::Retrying | DeliveryStatus::Failed => None,
        };
        if self
            .seen
            .last()
            .is_none_or(|(status, _)| *status != delivery.status)
        {
            self.seen.push((
                delivery.status,
                at.map_or_else(|| SystemClock.now(), Timestamp::from),
            ));
        }
        if let (Some(reason), DeliveryStatus::Retrying) = (&delivery.reason, delivery.status) {
            self.detail = format!("attempt {}: {reason}", delivery.attempts);
        }
    }

    /// The present status alone on a line, for what is not a terminal.
    fn line(&self, screen: &Screen) -> String {
        let Some((status, at)) = self.seen.last() else {
            return String::new();
        };
        let word = screen.paint(ink(*status), status.as_str());
        let line = format!(
            "  {:<TITLE_COLUMNS$}{word:<CELL_COLUMNS$}{:>8}  {}",
            self.title,
            self.after(*at),
            self.detail
        );
        line.trim_end().to_owned()
    }

    fn cells(&self, screen: &Screen) -> String {
        let cell = |status: DeliveryStatus| {
            let at = self
                .seen
                .iter()
                .find(|(seen, _)| *seen == status)
                .map(|(_, at)| self.after(*at));
            screen.paint(
                ink(status),
                &format!("{:<CELL_COLUMNS$}", at.unwrap_or_else(|| "·".to_owned())),
            )
        };
        COLUMNS.map(cell).concat()
    }

    /// Since the message was sent.
    fn after(&self, at: Timestamp) -> String {
        let begin = self.seen.first().map_or(at, |(_, begin)| *begin);
        format!("{:.1} s", at.since(begin).as_secs_f64())
    }
}

const fn ink(status: DeliveryStatus) -> Ink {
    match status {
        DeliveryStatus::Pending | DeliveryStatus::Sent => Ink::Dim,
        DeliveryStatus::Retrying => Ink::Yellow,
        DeliveryStatus::Delivered | DeliveryStatus::Read => Ink::Green,
        DeliveryStatus::Failed => Ink::Red,
    }
}
