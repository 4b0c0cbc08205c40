use super::parties::{Party, START, body, paired};
use crate::keys::ConnId;
use crate::sessions::{OpenOutcome, RejectReason, Remedy, SealError, Sessions};
use proptest::prelude::*;
use std::collections::HashMap;

/// One random event between the two parties.
#[derive(Debug, Clone)]
enum Event {
    Seal {
        is_by_invitee: bool,
    },
    /// Delivers an envelope in flight, and leaves it in flight if `again`.
    Deliver {
        pick: usize,
        is_repeated: bool,
    },
    Lose {
        pick: usize,
    },
    /// Encodes and parses both states.
    Restart,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => any::<bool>().prop_map(|is_by_invitee| Event::Seal { is_by_invitee }),
        4 => (any::<usize>(), any::<bool>()).prop_map(|(pick, is_repeated)| Event::Deliver {
            pick,
            is_repeated
        }),
        1 => any::<usize>().prop_map(|pick| Event::Lose { pick }),
        1 => Just(Event::Restart),
    ]
}

/// An envelope in flight, and the body it must open to.
struct InFlightEnvelope {
    is_to_invitee: bool,
    body: Vec<u8>,
    inner: Vec<u8>,
}

struct Scenario {
    invitee: Party,
    inviter: Party,
    conn_id: ConnId,
    in_flight: Vec<InFlightEnvelope>,
    delivered: HashMap<(bool, Vec<u8>), [u8; 32]>,
    sealed: u32,
}

impl Scenario {
    fn new(seed: u64) -> Self {
        let (invitee, inviter, conn_id) = paired(seed);
        Self {
            invitee,
            inviter,
            conn_id,
            in_flight: Vec::new(),
            delivered: HashMap::new(),
            sealed: 0,
        }
    }

    fn step(&mut self, event: &Event) {
        match event {
            Event::Seal {
                is_by_invitee: by_invitee,
            } => self.seal(*by_invitee),
            Event::Deliver {
                pick,
                is_repeated: again,
            } if !self.in_flight.is_empty() => self.deliver(*pick, *again),
            Event::Lose { pick } if !self.in_flight.is_empty() => {
                self.in_flight.swap_remove(pick % self.in_flight.len());
            }
            Event::Restart => {
                for party in [&mut self.invitee, &mut self.inviter] {
                    party.sessions = Sessions::parse(&party.sessions.encode()).unwrap();
                }
            }
            Event::Deliver { .. } | Event::Lose { .. } => {}
        }
    }

    fn seal(&mut self, by_invitee: bool) {
        self.sealed += 1;
        let body = self.sealed.to_be_bytes().to_vec();
        let sender = if by_invitee {
            &mut self.invitee
        } else {
            &mut self.inviter
        };
        let inner = sender.seal(&body);
        self.in_flight.push(InFlightEnvelope {
            is_to_invitee: !by_invitee,
            body,
            inner,
        });
    }

    fn deliver(&mut self, pick: usize, again: bool) {
        let envelope = self.in_flight.swap_remove(pick % self.in_flight.len());
        let (to, from) = if envelope.is_to_invitee {
            (&mut self.invitee, &self.inviter)
        } else {
            (&mut self.inviter, &self.invitee)
        };
        let key = (envelope.is_to_invitee, envelope.body.clone());
        match self.delivered.get(&key) {
            None => {
                let opened = to.open_and_commit(from, self.conn_id, &envelope.inner);
                assert_eq!(body(&opened), envelope.body);
                self.delivered.insert(key, opened.msg_hash);
            }
            Some(msg_hash) => {
                let refused = to.reject_and_commit(from, self.conn_id, &envelope.inner);
                assert_eq!(
                    refused.reason,
                    RejectReason::Consumed {
                        msg_hash: *msg_hash
                    }
                );
                assert!(refused.sessions.is_none());
            }
        }
        if again {
            self.in_flight.push(envelope);
        }
    }
}

proptest! {
    #![proptest_config(
        ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() }
    )]

    #[test]
    fn messages_survive_an_unreliable_network(
        seed in 0_u64..1_000,
        events in prop::collection::vec(event(), 1..120),
    ) {
        let mut scenario = Scenario::new(seed);
        for event in &events {
            scenario.step(event);
        }
        scenario.seal(true);
        scenario.seal(false);
        while !scenario.in_flight.is_empty() {
            scenario.deliver(0, false);
        }
    }
}

#[test]
fn altered_message_does_not_open() {
    let (mut invitee, inviter, conn_id) = paired(20);
    let inner = invitee.seal(b"fifteen euros");
    let before = inviter.sessions.encode();
    for bit in 0..inner.len() * 8 {
        let mut changed = inner.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let OpenOutcome::Rejected(refused) = inviter.outcome(&invitee, conn_id, &changed) else {
            panic!("bit {bit}")
        };
        assert!(refused.sessions.is_none(), "bit {bit}");
    }
    assert_eq!(inviter.sessions.encode(), before);
    assert!(matches!(
        inviter.outcome(&invitee, conn_id, &inner),
        OpenOutcome::Opened(_)
    ));
}

#[test]
fn gap_over_1_000_is_refused() {
    let (mut invitee, mut inviter, conn_id) = paired(21);
    let mut sealed: Vec<_> = (0..1_002_u32)
        .map(|n| invitee.seal(&n.to_be_bytes()))
        .collect();
    let last = sealed.pop().unwrap();
    let refused = inviter.reject_and_commit(&invitee, conn_id, &last);
    assert_eq!(
        (refused.reason, refused.remedy),
        (RejectReason::GapTooLarge, Remedy::InitDesync)
    );
    assert!(refused.sessions.is_none());
    let thousandth = sealed.pop().unwrap();
    inviter.open_and_commit(&invitee, conn_id, &thousandth);
    inviter.open_and_commit(&invitee, conn_id, &last);
    for (n, inner) in (0_u32..).zip(&sealed) {
        assert_eq!(
            body(&inviter.open_and_commit(&invitee, conn_id, inner)),
            n.to_be_bytes()
        );
    }
}

#[test]
fn gap_in_previous_chain_is_refused() {
    for (missing, fits) in [(1_000, true), (1_001, false)] {
        let (mut invitee, mut inviter, conn_id) = paired(22);
        for _ in 0..missing {
            invitee.seal(b"lost");
        }
        let reply = inviter.seal(b"reply");
        invitee.open_and_commit(&inviter, conn_id, &reply);
        let next_chain = invitee.seal(b"next chain");
        if fits {
            inviter.open_and_commit(&invitee, conn_id, &next_chain);
        } else {
            assert_eq!(
                inviter
                    .reject_and_commit(&invitee, conn_id, &next_chain)
                    .reason,
                RejectReason::GapTooLarge
            );
        }
    }
}

#[test]
fn evicted_key_leaves_a_tombstone() {
    let (mut invitee, mut inviter, conn_id) = paired(23);
    let mut oldest = Vec::new();
    for _ in 0..3 {
        let skipped: Vec<_> = (0..900_u32)
            .map(|n| invitee.seal(&n.to_be_bytes()))
            .collect();
        oldest.push(skipped);
        let arrives = invitee.seal(b"arrives");
        inviter.open_and_commit(&invitee, conn_id, &arrives);
        let reply = inviter.seal(b"reply");
        invitee.open_and_commit(&inviter, conn_id, &reply);
    }
    let refused = inviter.reject_and_commit(&invitee, conn_id, &oldest[0][0]);
    assert_eq!(
        (refused.reason, refused.remedy),
        (RejectReason::KeyEvicted, Remedy::ResumeDue)
    );
    inviter.sessions = Sessions::parse(&inviter.sessions.encode()).unwrap();
    assert_eq!(
        inviter
            .reject_and_commit(&invitee, conn_id, &oldest[0][699])
            .reason,
        RejectReason::KeyEvicted
    );
    inviter.open_and_commit(&invitee, conn_id, &oldest[0][700]);
    let again = inviter.reject_and_commit(&invitee, conn_id, &oldest[0][700]);
    assert!(matches!(again.reason, RejectReason::Consumed { .. }));
}

#[test]
fn forked_state_is_detected() {
    let (mut invitee, mut inviter, conn_id) = paired(24);
    let backup = invitee.sessions.clone();
    let first = invitee.seal(b"first life");
    inviter.open_and_commit(&invitee, conn_id, &first);
    invitee.sessions = backup;
    let second = invitee.seal(b"second life");
    let refused = inviter.reject_and_commit(&invitee, conn_id, &second);
    assert!(matches!(refused.reason, RejectReason::Consumed { .. }));
    assert_eq!(refused.remedy, Remedy::AlertAndInit);
}

#[test]
fn restored_state_uses_new_nonces() {
    let (mut invitee, _, _) = paired(25);
    let backup = invitee.sessions.clone();
    let first = invitee.seal(b"same");
    invitee.sessions = backup;
    let second = invitee.seal(b"same");
    assert_ne!(first[10..34], second[10..34]);
}

#[test]
fn unknown_record_version_still_advances_the_ratchet() {
    let (mut invitee, mut inviter, conn_id) = paired(26);
    let current = invitee.sessions.current.as_mut().unwrap();
    let msg = current
        .ratchet
        .seal(&current.ad, &[2, 0, 0], &mut invitee.rng)
        .unwrap();
    let inner = [&current.id.truncated()[..], &msg].concat();
    let opened = inviter.open_and_commit(&invitee, conn_id, &inner);
    assert_eq!(opened.content, crate::sessions::Content::Unparseable);
    assert!(matches!(
        inviter.reject_and_commit(&invitee, conn_id, &inner).reason,
        RejectReason::Consumed { .. }
    ));
}

#[test]
fn foreign_messages_give_distinct_reasons() {
    let (invitee, mut inviter, conn_id) = paired(27);
    for (inner, reason, remedy) in [
        (&b""[..], RejectReason::Malformed, Remedy::Discard),
        (&[0; 8][..], RejectReason::Malformed, Remedy::Discard),
        (
            &[7; 120][..],
            RejectReason::UnknownSession,
            Remedy::InitDesync,
        ),
    ] {
        let refused = inviter.reject_and_commit(&invitee, conn_id, inner);
        assert_eq!((refused.reason, refused.remedy), (reason, remedy));
    }
}

#[test]
fn unknown_header_key_requires_a_new_session() {
    let (mut invitee, mut inviter, conn_id) = paired(28);
    let mut inner = invitee.seal(b"x");
    inner[40] ^= 1;
    let refused = inviter.reject_and_commit(&invitee, conn_id, &inner);
    assert_eq!(
        (refused.reason, refused.remedy),
        (RejectReason::NoHeaderKey, Remedy::InitDesync)
    );
    inner[40] ^= 1;
    let end = inner.len() - 1;
    inner[end] ^= 1;
    let refused = inviter.reject_and_commit(&invitee, conn_id, &inner);
    assert_eq!(
        (refused.reason, refused.remedy),
        (RejectReason::BodyInvalid, Remedy::AlertAndInit)
    );
}

#[test]
fn failed_seal_leaves_state_unchanged() {
    let (mut invitee, _, _) = paired(29);
    let before = invitee.sessions.encode();
    let plaintext = invitee.plaintext(&vec![0; 240 * 1024 + 1]);
    let sealed = invitee.sessions.seal(&plaintext, START, &mut invitee.rng);
    assert!(matches!(sealed, Err(SealError::BodyTooLarge(_))));
    assert_eq!(invitee.sessions.encode(), before);
}

#[test]
fn malformed_stored_sessions_are_refused() {
    let (invitee, _, _) = paired(30);
    let bytes = invitee.sessions.encode();
    assert!(Sessions::parse(&bytes).is_ok());
    assert!(Sessions::parse(&[&bytes[..], &[0]].concat()).is_err());
    assert!(
        Sessions::parse(&[&bytes[..], &[0; 4]].concat()).is_err(),
        "an empty list of replaced sessions is absent"
    );
    for len in (0..bytes.len()).step_by(11) {
        assert!(Sessions::parse(&bytes[..len]).is_err());
    }
    let mut other = bytes.to_vec();
    other[0] = 2;
    assert!(Sessions::parse(&other).is_err());
}
