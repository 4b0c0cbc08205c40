//! The receiving half of a session: its chains, the keys of skipped messages, and tombstones of
//! evicted keys.

use super::message::{Header, Message};
use super::{OpenError, derive_chain_keys};
use crate::handshake::AD_BYTES;
use crate::primitive::Key;
use sealpost_proto::limits::{
    OLD_HEADER_KEYS_MAX, SKIPPED_KEYS_PER_MESSAGE_MAX, SKIPPED_KEYS_STORED_MAX, TOMBSTONES_MAX,
};
use std::collections::BTreeMap;

/// Receiving chains in the order they started. Only the last one may still grow.
#[derive(Clone, Default)]
pub(crate) struct Receiver {
    pub(super) chains: Vec<Chain>,
    pub(super) tombstones: Vec<Tombstone>,
}

/// One receiving chain.
#[derive(Clone)]
pub(super) struct Chain {
    /// HKr, or the header key of an older chain.
    pub(super) header: Key,
    /// The peer's ratchet key for this chain.
    pub(super) dh: [u8; 32],
    /// CKr and Nr, present while the chain may grow.
    pub(super) head: Option<ChainHead>,
    /// Keys of skipped messages, by message number.
    pub(super) skipped: BTreeMap<u32, Key>,
}

#[derive(Clone)]
pub(super) struct ChainHead {
    pub(super) chain: Key,
    pub(super) next: u32,
}

/// Range of evicted skipped keys: message numbers `from` to `to` of one chain.
#[derive(Clone)]
pub(super) struct Tombstone {
    pub(super) header: Key,
    pub(super) from: u32,
    pub(super) to: u32,
}

/// The header key that opened a header.
pub(super) enum HeaderMatch {
    /// The key of an existing chain.
    Chain { index: usize, header: Header },
    /// NHKr: the message starts a DH step.
    Next { header: Header },
}

impl Chain {
    pub(super) const fn new(header: Key, dh: [u8; 32], chain: Key) -> Self {
        Self {
            header,
            dh,
            head: Some(ChainHead { chain, next: 0 }),
            skipped: BTreeMap::new(),
        }
    }

    /// Derives and stores the keys of all messages before `until`.
    fn skip_to(&mut self, until: u32) -> Result<(), OpenError> {
        let Some(head) = &mut self.head else {
            return Ok(());
        };
        if until.saturating_sub(head.next) > SKIPPED_KEYS_PER_MESSAGE_MAX {
            return Err(OpenError::GapTooLarge);
        }
        while head.next < until {
            let (message_key, chain) = derive_chain_keys(&head.chain);
            self.skipped.insert(head.next, message_key);
            (head.chain, head.next) = (chain, head.next + 1);
        }
        Ok(())
    }

    /// Derives the key of message `n`, or returns `None` if the chain has passed it.
    fn advance(&mut self, n: u32) -> Result<Option<Key>, OpenError> {
        if self.head.as_ref().is_none_or(|head| n < head.next) {
            return Ok(None);
        }
        let following = n.checked_add(1).ok_or(OpenError::HeaderRefused)?;
        self.skip_to(n)?;
        Ok(self.head.as_mut().map(|head| {
            let (message_key, chain) = derive_chain_keys(&head.chain);
            (head.chain, head.next) = (chain, following);
            message_key
        }))
    }

    const fn is_growing(&self) -> bool {
        self.head.is_some()
    }
}

impl Tombstone {
    fn covers(&self, header: &Key, n: u32) -> bool {
        (self.from..=self.to).contains(&n) && self.header.constant_time_eq(header)
    }
}

impl Receiver {
    /// Tries the header keys in this order: HKr, NHKr, then those of older chains, newest first.
    pub(super) fn match_header(
        &self,
        message: &Message<'_>,
        next: Option<&Key>,
    ) -> Result<HeaderMatch, OpenError> {
        let growing = self.chains.iter().rposition(Chain::is_growing);
        if let Some(fit) = growing.and_then(|index| self.match_chain(message, index)) {
            return Ok(fit);
        }
        if let Some(header) = next.and_then(|key| message.open_header(key)) {
            return Ok(HeaderMatch::Next { header });
        }
        let old = (0..self.chains.len())
            .rev()
            .filter(|index| Some(*index) != growing);
        old.into_iter()
            .find_map(|index| self.match_chain(message, index))
            .ok_or(OpenError::NoHeaderKey)
    }

    fn match_chain(&self, message: &Message<'_>, index: usize) -> Option<HeaderMatch> {
        let header = message.open_header(&self.chains.get(index)?.header)?;
        Some(HeaderMatch::Chain { index, header })
    }

    /// Removes and returns the message key, and stores the keys of messages skipped before it.
    pub(super) fn consume_message_key(
        &mut self,
        index: usize,
        header: &Header,
        message: &Message<'_>,
    ) -> Result<Key, OpenError> {
        let chain = self.chains.get_mut(index).ok_or(OpenError::NoHeaderKey)?;
        if chain.dh != header.dh {
            return Err(OpenError::HeaderRefused);
        }
        let key = match chain.skipped.remove(&header.n) {
            Some(key) => key,
            None => match chain.advance(header.n)? {
                Some(key) => key,
                None => return Err(self.explain_missing_key(index, header.n, message)),
            },
        };
        self.evict();
        Ok(key)
    }

    /// Distinguishes an evicted key from a used one, for a message whose header opened.
    fn explain_missing_key(&self, index: usize, n: u32, message: &Message<'_>) -> OpenError {
        let evicted = |chain: &Chain| {
            self.tombstones
                .iter()
                .any(|tombstone| tombstone.covers(&chain.header, n))
        };
        if self.chains.get(index).is_some_and(evicted) {
            OpenError::KeyEvicted
        } else {
            OpenError::Consumed {
                msg_hash: message.hash(),
            }
        }
    }

    /// Ends the growing chain at `len`, the length that the peer reports for it.
    pub(super) fn close_chain(&mut self, len: u32) -> Result<(), OpenError> {
        if let Some(chain) = self.chains.last_mut() {
            chain.skip_to(len)?;
            chain.head = None;
        }
        Ok(())
    }

    /// Adds a growing chain and returns its index.
    pub(super) fn push_chain(&mut self, chain: Chain) -> usize {
        self.chains.push(chain);
        self.chains.len() - 1
    }

    /// Opens a message of a replaced session, without DH steps. Returns the receiver after it;
    /// `self` is unchanged.
    pub(crate) fn open(
        &self,
        ad: &[u8; AD_BYTES],
        msg: &[u8],
    ) -> Result<(Self, super::OpenedRecord), OpenError> {
        let message = Message::parse(msg)?;
        let mut next = self.clone();
        let HeaderMatch::Chain { index, header } = self.match_header(&message, None)? else {
            return Err(OpenError::NoHeaderKey);
        };
        let key = next.consume_message_key(index, &header, &message)?;
        let opened = message.open(&key, ad)?;
        Ok((next, opened))
    }

    /// Whether there is no chain, so that no message can open.
    pub(crate) const fn is_empty(&self) -> bool {
        self.chains.is_empty()
    }

    /// Enforces the limits on keys, chains and tombstones. The oldest are deleted first.
    fn evict(&mut self) {
        let mut stored: usize = self.chains.iter().map(|chain| chain.skipped.len()).sum();
        while stored > SKIPPED_KEYS_STORED_MAX {
            self.evict_oldest_key();
            stored -= 1;
        }
        let is_spent = |chain: &Chain| !chain.is_growing() && chain.skipped.is_empty();
        while self.chains.iter().filter(|chain| is_spent(chain)).count() > OLD_HEADER_KEYS_MAX {
            let Some(oldest) = self.chains.iter().position(is_spent) else {
                break;
            };
            self.chains.remove(oldest);
        }
        while self.tombstones.len() > TOMBSTONES_MAX {
            self.tombstones.remove(0);
        }
    }

    fn evict_oldest_key(&mut self) {
        let Some(chain) = self
            .chains
            .iter_mut()
            .find(|chain| !chain.skipped.is_empty())
        else {
            return;
        };
        let Some((n, _)) = chain.skipped.pop_first() else {
            return;
        };
        let adjoining = |last: &&mut Tombstone| {
            last.to.checked_add(1) == Some(n) && last.header.constant_time_eq(&chain.header)
        };
        match self.tombstones.last_mut().filter(adjoining) {
            Some(last) => last.to = n,
            None => self.tombstones.push(Tombstone {
                header: chain.header.clone(),
                from: n,
                to: n,
            }),
        }
    }
}
