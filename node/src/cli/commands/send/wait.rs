//! `sealpost send --wait`

use crate::{
    api::model::{Delivery, EventTopic, Message, Page},
    cli::{
        args::WaitFor,
        client::Client,
        console::Console,
        error::CliError,
        events::{Event, EventStream},
        progress_bars::ProgressBars,
        views,
    },
};
use sealpost_proto::DeliveryStatus;
use std::time::Duration;

/// Waits until all deliveries of a message have reached a status or failed.
pub(super) struct DeliveryWaiter {
    target: DeliveryStatus,
    events: EventStream,
}

impl DeliveryWaiter {
    /// Opens the event stream.
    pub(super) async fn subscribe(target: WaitFor, client: &Client) -> Result<Self, CliError> {
        let target = match target {
            WaitFor::Delivered => DeliveryStatus::Delivered,
            WaitFor::Read => DeliveryStatus::Read,
        };
        Ok(Self {
            target,
            events: client.events(None).await?,
        })
    }

    /// Prints each change or, with `--json`, the final state of the messages.
    pub(super) async fn run(
        self,
        mut page: Page<Message>,
        timeout: Option<Duration>,
        client: &Client,
        console: &mut Console,
    ) -> Result<(), CliError> {
        let target = self.target;
        let outcome = match timeout {
            Some(timeout) => {
                tokio::time::timeout(timeout, self.follow(&mut page, client, console)).await
            }
            None => Ok(self.follow(&mut page, client, console).await),
        };
        if console.is_json() {
            console.print_json(&page)?;
        }
        outcome.unwrap_or_else(|_| Err(timeout_error(&page, target)))
    }

    async fn follow(
        mut self,
        page: &mut Page<Message>,
        client: &Client,
        console: &mut Console,
    ) -> Result<(), CliError> {
        let files = page
            .items
            .first()
            .map(|message| message.attachments.as_slice())
            .unwrap_or_default();
        let mut bars = ProgressBars::for_files(files, console);
        while deliveries(page).any(|delivery| is_below(delivery, self.target)) {
            match self.events.next().await {
                Some(event) => {
                    bars.apply_event(&event, client).await;
                    apply_event(event, page, &bars, console)?;
                }
                None => {
                    bars.clear();
                    self.events = client.events(None).await?;
                }
            }
        }
        bars.clear();
        let failed = deliveries(page)
            .filter(|delivery| delivery.status == DeliveryStatus::Failed)
            .count();
        if failed == 0 {
            return Ok(());
        }
        Err(CliError::failed(
            format!("{failed} of {} deliveries failed", deliveries(page).count()),
            "show the reason with: sealpost status MESSAGE",
        ))
    }
}

/// Returns one delivery for each recipient. Every message of the page lists the deliveries to all
/// recipients; only one of them is its own.
pub(super) fn deliveries(page: &Page<Message>) -> impl Iterator<Item = &Delivery> {
    page.items.iter().flat_map(|message| {
        message
            .deliveries
            .iter()
            .filter(|delivery| delivery.message == message.id)
    })
}

const fn is_below(delivery: &Delivery, target: DeliveryStatus) -> bool {
    !matches!(delivery.status, DeliveryStatus::Failed)
        && delivery.status.progress_rank() < target.progress_rank()
}

/// Updates the delivery that an event is about, and prints the change.
fn apply_event(
    event: Event,
    page: &mut Page<Message>,
    bars: &ProgressBars,
    console: &mut Console,
) -> Result<(), CliError> {
    if event.topic != EventTopic::Delivery {
        return Ok(());
    }
    let Ok(changed) = serde_json::from_value::<Delivery>(event.data) else {
        return Ok(());
    };
    let Some(known) = deliveries(page).find(|delivery| delivery.message == changed.message) else {
        return Ok(());
    };
    let is_changed = views::delivery_state(known) != views::delivery_state(&changed);
    for delivery in page
        .items
        .iter_mut()
        .flat_map(|message| &mut message.deliveries)
    {
        if delivery.message == changed.message {
            delivery.clone_from(&changed);
        }
    }
    if console.is_json() || !is_changed {
        return Ok(());
    }
    let detail = views::delivery_detail(&changed, console.now());
    let detail = if detail.is_empty() {
        detail
    } else {
        format!(" ({detail})")
    };
    let line = format!(
        "{} to {}: {}{detail}",
        changed.message,
        changed.contact,
        views::delivery_status_text(&changed)
    );
    bars.print_above(|| console.print_line(line))
}

fn timeout_error(page: &Page<Message>, target: DeliveryStatus) -> CliError {
    let missing: Vec<&str> = deliveries(page)
        .filter(|delivery| is_below(delivery, target))
        .map(|delivery| delivery.contact.as_str())
        .collect();
    CliError::failed(
        format!("not {target} yet: {}", missing.join(", ")),
        "the node continues to deliver the message; check it with: sealpost status",
    )
}
