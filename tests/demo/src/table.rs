//! Live table of deliveries: a row for each message and a column for each status.

use crate::{
    screen::{Screen, Style},
    wait::WAIT_TIMEOUT,
};
use anyhow::{Context as _, bail};
use sealpost_node::{
    api::model::{Delivery, EventTopic},
    cli::events::EventStream,
};
use sealpost_proto::{DeliveryStatus, Timestamp};
use sealpost_service::{Clock as _, SystemClock};
use serde::Deserialize as _;
use tokio::time::timeout;

/// The statuses of a message that is delivered.
const COLUMNS: [DeliveryStatus; 5] = [
    DeliveryStatus::Pending,
    DeliveryStatus::Sent,
    DeliveryStatus::Retrying,
    DeliveryStatus::Delivered,
    DeliveryStatus::Read,
];
const TITLE_COLUMNS: usize = 25;
const CELL_COLUMNS: usize = 10;

/// Table of deliveries.
#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
    drawn_lines: usize,
}

struct Row {
    message: String,
    title: String,
    /// The statuses so far in order, each with its time.
    statuses: Vec<(DeliveryStatus, Timestamp)>,
    detail: String,
}

impl Table {
    /// Adds a row for a message.
    pub(crate) fn add_row(&mut self, message: &str, title: &str) {
        self.rows.push(Row::new(message, title));
    }

    /// Removes all rows; the drawn lines stay on the screen.
    pub(crate) fn reset(&mut self) {
        self.drawn_lines = 0;
        self.rows.clear();
    }

    /// Shows the statuses that the sender's node reports until the message has the status `goal`;
    /// returns all statuses so far.
    pub(crate) async fn follow(
        &mut self,
        screen: &mut Screen,
        events: &mut EventStream,
        message: &str,
        goal: DeliveryStatus,
    ) -> anyhow::Result<Vec<DeliveryStatus>> {
        loop {
            let next = timeout(WAIT_TIMEOUT, events.next()).await;
            let event = next
                .with_context(|| format!("{message} does not become {goal}"))?
                .context("the event stream ended")?;
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
            let added = row.update(&delivery);
            let lines = row.format_lines(screen, added);
            let statuses = row.statuses.iter().map(|(status, _)| *status).collect();
            if screen.can_redraw() {
                self.render(screen)?
            } else {
                lines.iter().try_for_each(|line| screen.print_line(line))?
            }
            if delivery.status == goal {
                return Ok(statuses);
            }
            if delivery.status.is_settled() {
                bail!(
                    "{message} became {} instead of {goal}: {}",
                    delivery.status,
                    delivery.reason.unwrap_or_default()
                );
            }
        }
    }

    fn render(&mut self, screen: &mut Screen) -> anyhow::Result<()> {
        screen.clear_lines(self.drawn_lines)?;
        let names = COLUMNS.map(|status| format!("{:<CELL_COLUMNS$}", status.as_str()));
        let header = format!("  {:<TITLE_COLUMNS$}{}", "", names.concat());
        let mut lines = vec![screen.paint(Style::Secondary, header.trim_end())];
        for row in &self.rows {
            lines.push(format!(
                "  {:<TITLE_COLUMNS$}{}",
                row.title,
                row.format_cells(screen)
            ));
            lines.push(screen.paint(Style::Secondary, &format!("    {}", row.detail)));
        }
        for line in &lines {
            screen.print_line(line)?;
        }
        self.drawn_lines = lines.len();
        Ok(())
    }
}

impl Row {
    fn new(message: &str, title: &str) -> Self {
        Self {
            message: message.to_owned(),
            title: title.to_owned(),
            statuses: Vec::new(),
            detail: String::new(),
        }
    }

    /// Adds the statuses that are new, in order, and returns how many there are. An event carries
    /// the state at the time it is read, so a brief status may appear only as a timestamp.
    fn update(&mut self, delivery: &Delivery) -> usize {
        let now = SystemClock.now();
        let is_current = |status| (delivery.status == status).then_some(now);
        let times = [
            (DeliveryStatus::Pending, Some(delivery.pending_at.into())),
            (DeliveryStatus::Sent, delivery.sent_at.map(Timestamp::from)),
            (
                DeliveryStatus::Retrying,
                is_current(DeliveryStatus::Retrying),
            ),
            (
                DeliveryStatus::Delivered,
                delivery.delivered_at.map(Timestamp::from),
            ),
            (DeliveryStatus::Read, delivery.read_at.map(Timestamp::from)),
            (DeliveryStatus::Failed, is_current(DeliveryStatus::Failed)),
        ];
        let before = self.statuses.len();
        for (status, at) in times {
            if let Some(at) = at
                && self.statuses.iter().all(|(seen, _)| *seen != status)
            {
                self.statuses.push((status, at));
            }
        }
        self.update_detail(
            delivery.status,
            delivery.attempts,
            delivery.reason.as_deref(),
        );
        self.statuses.len() - before
    }

    /// Sets the detail line. A reason belongs to its status: once the status changes, the reason
    /// is out of date.
    fn update_detail(&mut self, status: DeliveryStatus, attempts: u32, reason: Option<&str>) {
        self.detail = match (status, reason) {
            (DeliveryStatus::Retrying | DeliveryStatus::Failed, Some(reason)) => {
                format!("attempt {attempts}: {reason}")
            }
            _ => String::new(),
        };
    }

    /// Formats the last statuses as lines, for output that is not a terminal.
    fn format_lines(&self, screen: &Screen, last: usize) -> Vec<String> {
        let format_line = |(index, (status, at)): (usize, &(DeliveryStatus, Timestamp))| {
            let is_current = index + 1 == self.statuses.len();
            let detail = if is_current { &*self.detail } else { "" };
            let name = screen.paint(status_style(*status), status.as_str());
            let elapsed = self.format_elapsed(*at);
            let line = format!(
                "  {:<TITLE_COLUMNS$}{name:<CELL_COLUMNS$}{elapsed:>8}  {detail}",
                self.title
            );
            line.trim_end().to_owned()
        };
        let statuses = self.statuses.iter().enumerate();
        statuses
            .skip(self.statuses.len() - last)
            .map(format_line)
            .collect()
    }

    fn format_cells(&self, screen: &Screen) -> String {
        let cell = |status: DeliveryStatus| {
            let at = self
                .statuses
                .iter()
                .find(|(seen, _)| *seen == status)
                .map(|(_, at)| self.format_elapsed(*at));
            screen.paint(
                status_style(status),
                &format!("{:<CELL_COLUMNS$}", at.unwrap_or_else(|| "·".to_owned())),
            )
        };
        COLUMNS.map(cell).concat()
    }

    /// Formats the time since the first status.
    fn format_elapsed(&self, at: Timestamp) -> String {
        let start = self.statuses.first().map_or(at, |(_, start)| *start);
        format!("{:.1} s", at.since(start).as_secs_f64())
    }
}

const fn status_style(status: DeliveryStatus) -> Style {
    match status {
        DeliveryStatus::Pending | DeliveryStatus::Sent => Style::Secondary,
        DeliveryStatus::Retrying => Style::Waiting,
        DeliveryStatus::Delivered | DeliveryStatus::Read => Style::Success,
        DeliveryStatus::Failed => Style::Failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detail_is_cleared_when_the_status_changes() {
        let reason = Some("the endpoint accepts no connection");
        let mut row = Row::new("CMG-1", "Acme to Bolt");
        row.update_detail(DeliveryStatus::Retrying, 1, reason);
        assert_eq!(row.detail, "attempt 1: the endpoint accepts no connection");
        for status in [
            DeliveryStatus::Sent,
            DeliveryStatus::Delivered,
            DeliveryStatus::Read,
        ] {
            row.update_detail(DeliveryStatus::Retrying, 1, reason);
            row.update_detail(status, 1, reason);
            assert_eq!(row.detail, "", "{status}");
        }
        row.update_detail(DeliveryStatus::Failed, 3, Some("expired"));
        assert_eq!(row.detail, "attempt 3: expired");
    }
}
