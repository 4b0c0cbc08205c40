//! `sealpost send --wait`

use crate::{
    api::model::{Delivery, EventTopic, Message, Page},
    cli::{
        args::WaitFor,
        bars::Bars,
        client::Client,
        console::Console,
        error::CliError,
        events::{Event, Events},
        views,
    },
};
use sealpost_proto::DeliveryStatus;
use std::time::Duration;

/// Follows the deliveries of a message until all have come far enough, or failed.
pub(super) struct Waiter {
    target: DeliveryStatus,
    events: Events,
}

impl Waiter {
    /// Listens from now on.
    pub(super) async fn begin(target: WaitFor, client: &Client) -> Result<Self, CliError> {
        let target = match target {
            WaitFor::Delivered => DeliveryStatus::Delivered,
            WaitFor::Read => DeliveryStatus::Read,
        };
        Ok(Self {
            target,
            events: client.events(None).await?,
        })
    }

    /// Prints each change; at the end, for programs, the messages as they are then.
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
            console.json(&page)?;
        }
        outcome.unwrap_or_else(|_| Err(late(&page, target)))
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
        let mut bars = Bars::of(files, console);
        while deliveries(page).any(|delivery| is_waited_for(delivery, self.target)) {
            match self.events.next().await {
                Some(event) => {
                    bars.take(&event, client).await;
                    take(event, page, &bars, console)?;
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
        let what = format!("{failed} of {} deliveries failed", deliveries(page).count());
        Err(CliError::refused(
            what,
            "see why with: sealpost status MESSAGE",
        ))
    }
}

/// One for each recipient: every message of the page names all recipients, and only one of its deliveries is its own.
pub(super) fn deliveries(page: &Page<Message>) -> impl Iterator<Item = &Delivery> {
    page.items.iter().flat_map(|message| {
        message
            .delivery
            .iter()
            .filter(|delivery| delivery.message == message.id)
    })
}

const fn is_waited_for(delivery: &Delivery, target: DeliveryStatus) -> bool {
    !matches!(delivery.status, DeliveryStatus::Failed) && delivery.status.rank() < target.rank()
}

/// Takes up a change of a delivery of ours.
fn take(
    event: Event,
    page: &mut Page<Message>,
    bars: &Bars,
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
    let is_news = views::delivery_state(known) != views::delivery_state(&changed);
    for delivery in page
        .items
        .iter_mut()
        .flat_map(|message| &mut message.delivery)
    {
        if delivery.message == changed.message {
            delivery.clone_from(&changed);
        }
    }
    if console.is_json() || !is_news {
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
        views::delivery_word(&changed)
    );
    bars.above(|| console.line(line))
}

fn late(page: &Page<Message>, target: DeliveryStatus) -> CliError {
    let late: Vec<&str> = deliveries(page)
        .filter(|delivery| is_waited_for(delivery, target))
        .map(|delivery| delivery.contact.as_str())
        .collect();
    let what = format!("not {target} yet: {}", late.join(", "));
    CliError::refused(
        what,
        "nothing is lost, it goes on by itself; see: sealpost status",
    )
}
