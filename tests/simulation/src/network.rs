//! The network between the processes: it loses, duplicates, delays and reorders requests, responses
//! and webhook calls.

use crate::{
    fault::Mutant,
    model::{Violation, ensure},
    node::{Purpose, Task},
    relay::{ActiveCall, complete_partial_results},
    schedule::{MINUTE, SECOND},
    simulation::{Event, Simulation},
    wire::Request,
};
use sealpost_node::daemon::ingest;
use sealpost_proto::{
    Timestamp,
    limits::LEASE_DURATION,
    wire::{DeliveredEnvelope, DeliveryBatch, DeliveryOutcome, DeliveryResult, DeliveryResults},
};
use sealpost_relay::simulated::Call;
use sealpost_relay_core::classify::Class;
use std::mem;

/// How long a node waits for a response.
const RESPONSE_TIMEOUT: u64 = 30 * SECOND;
/// How long the relay waits for a connection.
const CONNECT_TIMEOUT: u64 = 5 * SECOND;
/// How long the relay waits for the response to a call.
const CALL_TIMEOUT: u64 = 15 * SECOND;

impl Simulation {
    /// Sends a request to the relay; its response or its timeout is handled by `purpose`.
    pub(crate) fn send_request(&mut self, node: usize, request: &Request, purpose: Purpose) {
        self.last_id += 1;
        let (request_id, generation) = (self.last_id, self.nodes[node].generation);
        self.log(&format!(
            "node-{node} sends request {request_id}: {request}"
        ));
        self.nodes[node].memory.pending.insert(request_id, purpose);
        self.schedule.add(
            RESPONSE_TIMEOUT,
            Event::Timeout {
                node,
                generation,
                request_id,
            },
        );
        let request = request.clone();
        self.transmit(&format!("request {request_id}"), || Event::Request {
            node,
            generation,
            request_id,
            request: request.clone(),
        });
    }

    /// Transmits an event across the network; returns false if it was lost.
    fn transmit(&mut self, what: &str, make_event: impl Fn() -> Event) -> bool {
        if self.random.happens_per_mille(self.rates.lost) {
            self.log(&format!("{what} is lost"));
            return false;
        }
        let copies = 1 + u64::from(self.random.happens_per_mille(self.rates.duplicated));
        for _ in 0..copies {
            let is_late = self.random.happens_per_mille(self.rates.delayed);
            let delay = if is_late {
                self.random.between(SECOND, 20 * MINUTE)
            } else {
                self.random.between(5, 300)
            };
            self.schedule.add(delay, make_event());
        }
        true
    }

    pub(crate) async fn receive_request(
        &mut self,
        node: usize,
        generation: u32,
        request_id: u64,
        request: Request,
    ) -> Result<(), Violation> {
        if self.nodes[node].is_deleted || !self.relay.is_up || self.maybe_crash_relay("before") {
            return Ok(());
        }
        let (now, account) = (self.relay_now(), self.nodes[node].account);
        let (description, changes) = (
            request.to_string(),
            !matches!(request, Request::Pull | Request::Prekeys(_)),
        );
        let poison = self.poison_rate();
        let at = self.schedule.now();
        self.relay.refuses_until = self.relay.refuses_until.filter(|until| at < *until);
        let response = self
            .relay
            .handle(now, account, request, self.mutant, poison, &mut self.random)
            .await?;
        self.log(&format!(
            "the relay responds to request {request_id} of node-{node}, {description}: {response}"
        ));
        if self.maybe_crash_relay("after") {
            return Ok(());
        }
        for (call, batch) in mem::take(&mut self.relay.started_calls) {
            self.start_call(now, call, batch)?;
        }
        if changes {
            self.wake_relay();
        }
        self.transmit(&format!("response {request_id}"), || Event::Response {
            node,
            generation,
            request_id,
            response: response.clone(),
        });
        Ok(())
    }

    /// Wakes the webhook scheduler and the long polls after something may have arrived.
    pub(crate) fn wake_relay(&mut self) {
        self.schedule_webhooks(1);
        for node in 0..self.nodes.len() {
            if self.nodes[node].is_up
                && !self.nodes[node].has_webhook
                && !self.random.happens_per_mille(self.rates.lost_wakes)
            {
                self.wake(node, Task::Pull, 20);
            }
        }
    }

    fn schedule_webhooks(&mut self, after: u64) {
        let at = self.schedule.now() + after;
        if self.relay.is_up
            && self
                .relay
                .next_webhook_check
                .is_none_or(|planned| at < planned)
        {
            self.relay.next_webhook_check = Some(at);
            self.schedule.add(
                after,
                Event::WebhooksDue {
                    generation: self.relay.generation,
                },
            );
        }
    }

    /// Calls the webhooks that are due.
    pub(crate) async fn call_webhooks(&mut self, generation: u32) -> Result<(), Violation> {
        if generation != self.relay.generation
            || self.relay.next_webhook_check != Some(self.schedule.now())
        {
            return Ok(());
        }
        self.relay.next_webhook_check = None;
        let now = self.relay_now();
        let (due, next_at) = self
            .relay
            .inner
            .find_due_lanes(now, self.nodes.len())
            .await?;
        for account in due {
            if self.maybe_crash_relay("before") {
                return Ok(());
            }
            let Some((call, batch)) = self.relay.inner.start_call(now, account).await? else {
                continue;
            };
            self.start_call(now, call, batch)?;
        }
        let next = next_at.map_or(self.pace.webhook_check_interval, |at| millis_until(now, at));
        self.schedule_webhooks(next.max(1));
        Ok(())
    }

    fn start_call(
        &mut self,
        now: Timestamp,
        call: Call,
        mut batch: DeliveryBatch,
    ) -> Result<(), Violation> {
        let Some(node) = self
            .nodes
            .iter()
            .position(|node| node.account == call.account())
        else {
            return Ok(());
        };
        self.ensure_no_concurrent_call(node)?;
        self.relay.ensure_not_expired(now, &batch)?;
        if self.mutant == Some(Mutant::RelaySkipsPoison) {
            batch
                .deliveries
                .retain(|delivery| !self.relay.poisoned.contains(&delivery.envelope));
        }
        self.last_id += 1;
        let (started, is_poisoned) = (self.schedule.now(), self.relay.is_poisoned(&batch));
        self.relay.calls.insert(
            self.last_id,
            ActiveCall {
                call,
                node,
                started,
                is_poisoned,
            },
        );
        self.transmit_call(node, &batch);
        Ok(())
    }

    /// Checks that no other call to the same node is active under a valid lease.
    fn ensure_no_concurrent_call(&self, node: usize) -> Result<(), Violation> {
        let lease = sealpost_proto::time::millis(LEASE_DURATION);
        let mut others = self.relay.calls.values().filter(|call| call.node == node);
        let is_busy = others.any(|call| {
            call.started + lease > self.schedule.now() && !self.relay.has_jumped(call.started)
        });
        ensure(!is_busy, || {
            format!("the relay calls node-{node} twice at once")
        })
    }

    fn transmit_call(&mut self, node: usize, batch: &DeliveryBatch) {
        let (number, generation) = (self.last_id, self.relay.generation);
        self.log(&format!(
            "the relay calls node-{node}, call {number}: {} envelopes",
            batch.deliveries.len()
        ));
        let is_transmitted = self.transmit(&format!("call {number}"), || Event::Call {
            node,
            generation,
            number,
            batch: batch.clone(),
        });
        let after = if is_transmitted {
            CALL_TIMEOUT
        } else {
            CONNECT_TIMEOUT
        };
        let (class, results) = (Class::Unreachable, DeliveryResults::default());
        self.schedule.add(
            after,
            Event::CallFinished {
                generation,
                number,
                class,
                results,
            },
        );
    }

    pub(crate) async fn receive_call(
        &mut self,
        node: usize,
        generation: u32,
        number: u64,
        batch: DeliveryBatch,
    ) -> Result<(), Violation> {
        if !self.nodes[node].is_up {
            let results = DeliveryResults::default();
            self.schedule.add(
                5,
                Event::CallFinished {
                    generation,
                    number,
                    class: Class::Unreachable,
                    results,
                },
            );
            return Ok(());
        }
        self.log(&format!("call {number} reaches node-{node}"));
        self.record_relay_contact(node).await?;
        let has_error = self.random.happens_per_mille(self.rates.webhook_errors);
        let is_poisoned = self
            .relay
            .calls
            .get(&number)
            .is_some_and(|call| call.is_poisoned);
        let has_several = batch.deliveries.len() > 1;
        if has_error && has_several && !is_poisoned && self.random.happens_per_mille(300) {
            let nothing = DeliveryResults::default();
            self.respond_to_call(generation, number, Class::TooLarge, nothing);
            return Ok(());
        }
        // A webhook that returns an error may have stored everything before.
        if is_poisoned || has_error && self.random.happens_per_mille(500) {
            self.respond_to_call(
                generation,
                number,
                Class::EndpointError,
                DeliveryResults::default(),
            );
            return Ok(());
        }
        let Some(results) = self.ingest(node, batch).await? else {
            return Ok(());
        };
        self.multi_envelope_calls += usize::from(has_several);
        self.partially_stored_calls += usize::from(is_partially_stored(&results));
        let class = if has_error {
            Class::EndpointError
        } else {
            Class::Succeeded
        };
        self.respond_to_call(generation, number, class, results);
        Ok(())
    }

    fn respond_to_call(
        &mut self,
        generation: u32,
        number: u64,
        class: Class,
        results: DeliveryResults,
    ) {
        let results = if class == Class::Succeeded {
            results
        } else {
            DeliveryResults::default()
        };
        self.transmit(&format!("response to call {number}"), || {
            Event::CallFinished {
                generation,
                number,
                class,
                results: results.clone(),
            }
        });
    }

    /// Ingests a batch in one commit; returns `None` if the process crashed.
    pub(crate) async fn ingest(
        &mut self,
        node: usize,
        batch: DeliveryBatch,
    ) -> Result<Option<DeliveryResults>, Violation> {
        if self.mutant == Some(Mutant::NodeAcknowledgesEarly) && self.random.happens_per_mille(200)
        {
            return Ok(Some(all_stored(&batch)));
        }
        let (identity, fence) = (self.identity(node), batch.fence);
        let (batch, deferred) = self.defer_some(batch);
        let Some(mut results) = self
            .commit(node, move |tx| ingest::ingest_all(tx, &identity, &batch))
            .await?
        else {
            return Ok(None);
        };
        self.wake_all(node);
        let deferred_by_node = results
            .iter()
            .find(|result| matches!(result.outcome, DeliveryOutcome::Deferred { .. }));
        if let Some(result) = deferred_by_node {
            return Err(Violation(format!(
                "node-{node} cannot ingest delivery {}",
                result.id
            )));
        }
        // A delivery without a result counts as deferred, too.
        if self.random.happens_per_mille(700) {
            results.extend(deferred);
            results.sort_by_key(|result| result.id);
        }
        Ok(Some(DeliveryResults { fence, results }))
    }

    /// Defers a part of a batch with the configured probability: the deliveries of one mailbox from
    /// one envelope on.
    fn defer_some(&mut self, mut batch: DeliveryBatch) -> (DeliveryBatch, Vec<DeliveryResult>) {
        let mut deferred = Vec::new();
        if batch.deliveries.len() > 1 && self.random.happens_per_mille(self.rates.deferred) {
            let first = &batch.deliveries[self.random.index(batch.deliveries.len())];
            let (mailbox, from) = (first.mailbox, first.id);
            let outcome = DeliveryOutcome::Deferred {
                retry_after_ms: None,
            };
            let is_deferred = |item: &DeliveredEnvelope| item.mailbox == mailbox && item.id >= from;
            let (deferred_items, remaining): (Vec<_>, _) =
                batch.deliveries.into_iter().partition(is_deferred);
            deferred.extend(deferred_items.iter().map(|item| DeliveryResult {
                id: item.id,
                outcome: outcome.clone(),
            }));
            batch.deliveries = remaining;
            self.log(&format!(
                "{} deliveries are deferred, {} ingested",
                deferred.len(),
                batch.deliveries.len()
            ));
        }
        (batch, deferred)
    }

    pub(crate) async fn finish_call(
        &mut self,
        generation: u32,
        number: u64,
        class: Class,
        results: DeliveryResults,
    ) -> Result<(), Violation> {
        if generation != self.relay.generation
            || !self.relay.is_up
            || !self.relay.calls.contains_key(&number)
        {
            return Ok(());
        }
        if self.maybe_crash_relay("before") {
            return Ok(());
        }
        let Some(ActiveCall { call, .. }) = self.relay.calls.remove(&number) else {
            return Ok(());
        };
        self.log(&format!(
            "call {number} ends: {class:?}, {} results",
            results.results.len()
        ));
        let mut results = if self.mutant == Some(Mutant::RelayIgnoresAcknowledgements) {
            Vec::new()
        } else {
            results.results
        };
        complete_partial_results(self.mutant, &mut results);
        let random = self.random.next_u64();
        self.relay
            .inner
            .finish_call(self.relay_now(), call, class, results, random)
            .await?;
        if class == Class::EndpointError {
            self.set_aside = self
                .set_aside
                .max(self.relay.inner.count_set_aside().await?);
        }
        if !self.maybe_crash_relay("after") {
            self.wake_relay();
        }
        Ok(())
    }
}

/// Returns whether a part of a batch is stored and a part deferred.
fn is_partially_stored(results: &DeliveryResults) -> bool {
    let is_stored = |result: &DeliveryResult| result.outcome == DeliveryOutcome::Stored;
    results.results.iter().any(is_stored) && !results.results.iter().all(is_stored)
}

/// Returns the results of a node that reports everything as stored without storing it.
fn all_stored(batch: &DeliveryBatch) -> DeliveryResults {
    let ids = batch
        .deliveries
        .iter()
        .map(|delivery| delivery.id)
        .chain(batch.events.iter().map(|event| event.id));
    let results = ids
        .map(|id| DeliveryResult {
            id,
            outcome: DeliveryOutcome::Stored,
        })
        .collect();
    DeliveryResults {
        fence: batch.fence,
        results,
    }
}

/// Returns the milliseconds between two times.
pub(crate) fn millis_until(now: Timestamp, at: Timestamp) -> u64 {
    sealpost_proto::time::millis(at.since(now))
}
