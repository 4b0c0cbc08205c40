//! Storage encoding of a ratchet (docs/e2ee.md#session-serialisation).

use super::receiver::{Chain, ChainHead, Receiver, Tombstone};
use super::{Ratchet, SendingChain};
use crate::primitive::Key;
use crate::record::{ParseRecordError, Reader, Writer};
use sealpost_proto::limits::{OLD_HEADER_KEYS_MAX, SKIPPED_KEYS_STORED_MAX, TOMBSTONES_MAX};
use std::collections::BTreeMap;
use x25519_dalek::StaticSecret;
use zeroize::Zeroizing;

/// Upper bound on chains: those with skipped keys, those without, and the growing one.
const CHAINS_MAX: usize = SKIPPED_KEYS_STORED_MAX + OLD_HEADER_KEYS_MAX + 1;

pub(crate) fn read_key(reader: &mut Reader<'_>) -> Result<Key, ParseRecordError> {
    reader.array().map(Key)
}

impl Ratchet {
    pub(crate) fn write(&self, writer: &mut Writer) {
        writer
            .bytes(&self.root.0)
            .bytes(self.own.as_bytes())
            .flag(self.remote.is_some());
        if let Some(remote) = &self.remote {
            writer.bytes(remote);
        }
        writer.flag(self.sending.is_some());
        if let Some(sending) = &self.sending {
            writer
                .bytes(&sending.dh)
                .bytes(&sending.header.0)
                .bytes(&sending.chain.0)
                .u32(sending.next);
        }
        writer
            .bytes(&self.next_sending.0)
            .u32(self.previous_len)
            .bytes(&self.next_receiving.0);
        self.receiver.write(writer);
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, ParseRecordError> {
        let root = read_key(reader)?;
        let own = StaticSecret::from(*Zeroizing::new(reader.array::<32>()?));
        let remote = if reader.flag()? {
            Some(reader.array()?)
        } else {
            None
        };
        let sending = if reader.flag()? {
            Some(SendingChain::read(reader)?)
        } else {
            None
        };
        Ok(Self {
            root,
            own,
            remote,
            sending,
            next_sending: read_key(reader)?,
            previous_len: reader.u32()?,
            next_receiving: read_key(reader)?,
            receiver: Receiver::read(reader)?,
        })
    }
}

impl SendingChain {
    fn read(reader: &mut Reader<'_>) -> Result<Self, ParseRecordError> {
        Ok(Self {
            dh: reader.array()?,
            header: read_key(reader)?,
            chain: read_key(reader)?,
            next: reader.u32()?,
        })
    }
}

impl Receiver {
    pub(crate) fn write(&self, writer: &mut Writer) {
        writer.count(self.chains.len());
        for chain in &self.chains {
            chain.write(writer);
        }
        writer.count(self.tombstones.len());
        for tombstone in &self.tombstones {
            writer
                .bytes(&tombstone.header.0)
                .u32(tombstone.from)
                .u32(tombstone.to);
        }
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, ParseRecordError> {
        let chains = (0..reader.count(CHAINS_MAX)?)
            .map(|_| Chain::read(reader))
            .collect::<Result<_, _>>()?;
        let count = reader.count(TOMBSTONES_MAX)?;
        let tombstones = (0..count)
            .map(|_| Tombstone::read(reader))
            .collect::<Result<_, _>>()?;
        Ok(Self { chains, tombstones })
    }
}

impl Chain {
    fn write(&self, writer: &mut Writer) {
        writer
            .bytes(&self.header.0)
            .bytes(&self.dh)
            .flag(self.head.is_some());
        if let Some(head) = &self.head {
            writer.bytes(&head.chain.0).u32(head.next);
        }
        writer.count(self.skipped.len());
        for (n, key) in &self.skipped {
            writer.u32(*n).bytes(&key.0);
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, ParseRecordError> {
        let (header, dh) = (read_key(reader)?, reader.array()?);
        let head = if reader.flag()? {
            Some(ChainHead {
                chain: read_key(reader)?,
                next: reader.u32()?,
            })
        } else {
            None
        };
        let mut skipped = BTreeMap::new();
        for _ in 0..reader.count(SKIPPED_KEYS_STORED_MAX)? {
            let number = reader.u32()?;
            if skipped
                .last_key_value()
                .is_some_and(|(last, _)| number <= *last)
            {
                return Err(ParseRecordError);
            }
            skipped.insert(number, read_key(reader)?);
        }
        Ok(Self {
            header,
            dh,
            head,
            skipped,
        })
    }
}

impl Tombstone {
    fn read(reader: &mut Reader<'_>) -> Result<Self, ParseRecordError> {
        Ok(Self {
            header: read_key(reader)?,
            from: reader.u32()?,
            to: reader.u32()?,
        })
    }
}
