//! What lies between the processes: it loses, repeats, delays and reorders what they say, and wakes them late.

use crate::{
    agenda::{MINUTE, SECOND},
    fault::Mutant,
    model::{Broken, ensure},
    node::{Purpose, Task},
    relay::{CallUnderWay, spoil_answer},
    wire::Request,
    world::{Happening, World},
};
use sealpost_node::daemon::deliver;
use sealpost_proto::{
    Timestamp,
    limits::LEASE_LIFE,
    wire::{Delivery, DeliveryBatch, DeliveryOutcome, DeliveryResult, DeliveryResults},
};
use sealpost_relay::bare::Call;
use sealpost_relay_core::classify::Class;
use std::mem;

/// How long a node waits for an answer.
const ANSWER_TIMEOUT: u64 = 30 * SECOND;
/// How long the relay waits for a connection, and for an answer.
const CONNECT_TIMEOUT: u64 = 5 * SECOND;
const CALL_TIMEOUT: u64 = 15 * SECOND;

impl World {
    /// Asks the relay; the answer, or that there is none, comes back for `purpose`.
    pub(crate) fn ask(&mut self, node: usize, request: &Request, purpose: Purpose) {
        self.tickets += 1;
        let (ticket, life) = (self.tickets, self.nodes[node].life);
        self.note(&format!("node-{node} asks {ticket}: {request}"));
        self.nodes[node].memory.waits.insert(ticket, purpose);
        self.agenda
            .enter(ANSWER_TIMEOUT, Happening::Timeout { node, life, ticket });
        let request = request.clone();
        self.carry(&format!("request {ticket}"), || Happening::Request {
            node,
            life,
            ticket,
            request: request.clone(),
        });
    }

    /// Carries something over, or does not; false when it was lost.
    fn carry(&mut self, what: &str, make: impl Fn() -> Happening) -> bool {
        if self.chance.happens(self.rates.lost) {
            self.note(&format!("{what} is lost"));
            return false;
        }
        let copies = 1 + u64::from(self.chance.happens(self.rates.repeated));
        for _ in 0..copies {
            let is_late = self.chance.happens(self.rates.late);
            let delay = if is_late {
                self.chance.between(SECOND, 20 * MINUTE)
            } else {
                self.chance.between(5, 300)
            };
            self.agenda.enter(delay, make());
        }
        true
    }

    pub(crate) async fn take_request(
        &mut self,
        node: usize,
        life: u32,
        ticket: u64,
        request: Request,
    ) -> Result<(), Broken> {
        if self.nodes[node].has_left || !self.relay.is_up || self.relay_crashes("before") {
            return Ok(());
        }
        let (now, account) = (self.relay_now(), self.nodes[node].account);
        let (words, changes) = (
            request.to_string(),
            !matches!(request, Request::Pull | Request::Prekeys(_)),
        );
        let poison = self.poison();
        let answer = self
            .relay
            .answer(now, account, request, self.mutant, poison, &mut self.chance)
            .await?;
        self.note(&format!(
            "the relay answers {ticket} of node-{node}, {words}: {answer}"
        ));
        if self.relay_crashes("after") {
            return Ok(());
        }
        for (call, batch) in mem::take(&mut self.relay.begun) {
            self.begin_call(now, call, batch)?;
        }
        if changes {
            self.wake_relay();
        }
        self.carry(&format!("answer {ticket}"), || Happening::Answer {
            node,
            life,
            ticket,
            answer: answer.clone(),
        });
        Ok(())
    }

    /// Something may have come for those who wait at the relay: webhooks are called, long polls answered.
    pub(crate) fn wake_relay(&mut self) {
        self.look_in(1);
        for node in 0..self.nodes.len() {
            if self.nodes[node].is_up
                && !self.nodes[node].has_webhook
                && !self.chance.happens(self.rates.unheard)
            {
                self.wake(node, Task::Pull, 20);
            }
        }
    }

    fn look_in(&mut self, after: u64) {
        let at = self.agenda.now() + after;
        if self.relay.is_up && self.relay.next_look.is_none_or(|planned| at < planned) {
            self.relay.next_look = Some(at);
            self.agenda.enter(
                after,
                Happening::Look {
                    life: self.relay.life,
                },
            );
        }
    }

    /// Calls the webhooks that are due.
    pub(crate) async fn call_webhooks(&mut self, life: u32) -> Result<(), Broken> {
        if life != self.relay.life || self.relay.next_look != Some(self.agenda.now()) {
            return Ok(());
        }
        self.relay.next_look = None;
        let now = self.relay_now();
        let (due, next_at) = self.relay.bare.due(now, self.nodes.len()).await?;
        for account in due {
            if self.relay_crashes("before") {
                return Ok(());
            }
            let Some((call, batch)) = self.relay.bare.begin_call(now, account).await? else {
                continue;
            };
            self.begin_call(now, call, batch)?;
        }
        let next = next_at.map_or(MINUTE, |at| until(now, at));
        self.look_in(next.max(1));
        Ok(())
    }

    fn begin_call(
        &mut self,
        now: Timestamp,
        call: Call,
        mut batch: DeliveryBatch,
    ) -> Result<(), Broken> {
        let Some(node) = self
            .nodes
            .iter()
            .position(|node| node.account == call.account())
        else {
            return Ok(());
        };
        self.ensure_only_call(node)?;
        self.relay.ensure_alive(now, &batch)?;
        if self.mutant == Some(Mutant::RelaySkipsTrouble) {
            batch
                .deliveries
                .retain(|delivery| !self.relay.poisoned.contains(&delivery.envelope));
        }
        self.tickets += 1;
        let (began, is_poisoned) = (self.agenda.now(), self.relay.is_poisoned(&batch));
        self.relay.calls.insert(
            self.tickets,
            CallUnderWay {
                call,
                node,
                began,
                is_poisoned,
            },
        );
        self.call(node, &batch);
        Ok(())
    }

    /// While a call is under way and its lease stands no other one goes to the same node.
    fn ensure_only_call(&self, node: usize) -> Result<(), Broken> {
        let lease = sealpost_proto::time::millis(LEASE_LIFE);
        let mut others = self.relay.calls.values().filter(|call| call.node == node);
        let is_busy = others.any(|call| {
            call.began + lease > self.agenda.now() && !self.relay.has_jumped(call.began)
        });
        ensure(!is_busy, || {
            format!("the relay calls node-{node} twice at a time")
        })
    }

    fn call(&mut self, node: usize, batch: &DeliveryBatch) {
        let (number, life) = (self.tickets, self.relay.life);
        self.note(&format!(
            "the relay calls node-{node}, call {number}: {} envelopes",
            batch.deliveries.len()
        ));
        let is_carried = self.carry(&format!("call {number}"), || Happening::Call {
            node,
            life,
            number,
            batch: batch.clone(),
        });
        let after = if is_carried {
            CALL_TIMEOUT
        } else {
            CONNECT_TIMEOUT
        };
        let (class, results) = (Class::Unreachable, DeliveryResults::default());
        self.agenda.enter(
            after,
            Happening::CallEnds {
                life,
                number,
                class,
                results,
            },
        );
    }

    pub(crate) async fn take_call(
        &mut self,
        node: usize,
        life: u32,
        number: u64,
        batch: DeliveryBatch,
    ) -> Result<(), Broken> {
        if !self.nodes[node].is_up {
            let results = DeliveryResults::default();
            self.agenda.enter(
                5,
                Happening::CallEnds {
                    life,
                    number,
                    class: Class::Unreachable,
                    results,
                },
            );
            return Ok(());
        }
        self.note(&format!("call {number} reaches node-{node}"));
        self.reached(node).await?;
        let stumbles = self.chance.happens(self.rates.stumbles);
        let is_poisoned = self
            .relay
            .calls
            .get(&number)
            .is_some_and(|call| call.is_poisoned);
        // One that stumbles may have stored everything before it does.
        if is_poisoned || stumbles && self.chance.happens(500) {
            self.answer_call(life, number, Class::Broke, DeliveryResults::default());
            return Ok(());
        }
        let has_several = batch.deliveries.len() > 1;
        let Some(results) = self.take_in(node, batch).await? else {
            return Ok(());
        };
        self.several += usize::from(has_several);
        self.mixed += usize::from(is_mixed(&results));
        let class = if stumbles {
            Class::Broke
        } else {
            Class::Answered
        };
        self.answer_call(life, number, class, results);
        Ok(())
    }

    fn answer_call(&mut self, life: u32, number: u64, class: Class, results: DeliveryResults) {
        let results = if class == Class::Answered {
            results
        } else {
            DeliveryResults::default()
        };
        self.carry(&format!("answer of call {number}"), || {
            Happening::CallEnds {
                life,
                number,
                class,
                results: results.clone(),
            }
        });
    }

    /// Takes a batch in, in one commit; none when the process ended over it.
    pub(crate) async fn take_in(
        &mut self,
        node: usize,
        batch: DeliveryBatch,
    ) -> Result<Option<DeliveryResults>, Broken> {
        if self.mutant == Some(Mutant::NodeAnswersFirst) && self.chance.happens(200) {
            return Ok(Some(all_stored(&batch)));
        }
        let (me, lease) = (self.me(node), batch.lease);
        let (batch, later) = self.put_off(batch);
        let Some(mut results) = self
            .commit(node, move |tx| deliver::take_in_all(tx, &me, &batch))
            .await?
        else {
            return Ok(None);
        };
        self.wake_all(node);
        let put_off = results
            .iter()
            .find(|result| matches!(result.outcome, DeliveryOutcome::Later { .. }));
        if let Some(result) = put_off {
            return Err(Broken(format!(
                "node-{node} cannot take in delivery {}",
                result.id
            )));
        }
        // What has no outcome counts as put off, too.
        if self.chance.happens(700) {
            results.extend(later);
            results.sort_by_key(|result| result.id);
        }
        Ok(Some(DeliveryResults { lease, results }))
    }

    /// Takes out of a batch what a node cannot store now: of one mailbox everything from one envelope on.
    fn put_off(&mut self, mut batch: DeliveryBatch) -> (DeliveryBatch, Vec<DeliveryResult>) {
        let mut later = Vec::new();
        if batch.deliveries.len() > 1 && self.chance.happens(self.rates.put_off) {
            let first = &batch.deliveries[self.chance.index(batch.deliveries.len())];
            let (mailbox, from) = (first.mailbox, first.id);
            let outcome = DeliveryOutcome::Later {
                retry_after_ms: None,
            };
            let is_put_off = |item: &Delivery| item.mailbox == mailbox && item.id >= from;
            let (put_off, taken): (Vec<_>, _) = batch.deliveries.into_iter().partition(is_put_off);
            later.extend(put_off.iter().map(|item| DeliveryResult {
                id: item.id,
                outcome: outcome.clone(),
            }));
            batch.deliveries = taken;
            self.note(&format!(
                "of what is handed over {} are put off, {} taken",
                later.len(),
                batch.deliveries.len()
            ));
        }
        (batch, later)
    }

    pub(crate) async fn end_call(
        &mut self,
        life: u32,
        number: u64,
        class: Class,
        results: DeliveryResults,
    ) -> Result<(), Broken> {
        if life != self.relay.life || !self.relay.is_up || !self.relay.calls.contains_key(&number) {
            return Ok(());
        }
        if self.relay_crashes("before") {
            return Ok(());
        }
        let Some(CallUnderWay { call, .. }) = self.relay.calls.remove(&number) else {
            return Ok(());
        };
        self.note(&format!(
            "call {number} ends: {class:?}, {} results",
            results.results.len()
        ));
        let mut results = if self.mutant == Some(Mutant::RelayIgnoresAnswers) {
            Vec::new()
        } else {
            results.results
        };
        spoil_answer(self.mutant, &mut results);
        let random = self.chance.number();
        self.relay
            .bare
            .end_call(self.relay_now(), call, class, results, random)
            .await?;
        if class == Class::Broke {
            self.set_aside = self.set_aside.max(self.relay.bare.set_aside().await?);
        }
        if !self.relay_crashes("after") {
            self.wake_relay();
        }
        Ok(())
    }
}

/// Whether some of a batch is stored and some put off.
fn is_mixed(results: &DeliveryResults) -> bool {
    let is_stored = |result: &DeliveryResult| result.outcome == DeliveryOutcome::Stored;
    results.results.iter().any(is_stored) && !results.results.iter().all(is_stored)
}

/// The answer of a node that has not looked.
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
        lease: batch.lease,
        results,
    }
}

/// How long it is from one time to a later one, in virtual time's unit.
pub(crate) fn until(now: Timestamp, at: Timestamp) -> u64 {
    sealpost_proto::time::millis(at.since(now))
}
