//! One node: its database, what it holds in memory while it runs, and what a look at its database shows.

use crate::chance::Chance;
use anyhow::Context as _;
use sealpost_e2ee::{Identity, invite::Invite, vault::DataKey};
use sealpost_node::{
    api::model::Direction,
    fault::Fault,
    me::Me,
    store::{self, Store, Tx, messages},
};
use sealpost_proto::{AccountId, Origin, Timestamp};
use sealpost_sqlite::Database;
use std::{collections::BTreeMap, sync::Arc};

/// A task of a node, as the daemon has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    /// Seals and submits.
    Post,
    /// Carries out chores.
    Errands,
    /// Pulls.
    Pull,
    /// Looks after expiries and prekeys.
    Tend,
}

impl Task {
    pub(crate) const ALL: [Self; 4] = [Self::Post, Self::Errands, Self::Pull, Self::Tend];
}

/// What an answer is waited for.
pub(crate) enum Purpose {
    Post,
    Pull,
    Acknowledge,
    Errand {
        id: i64,
        attempt: u32,
    },
    Rotate {
        id: i64,
        attempt: u32,
        connection: String,
    },
    Connect {
        pairing: usize,
        invite: Box<Invite>,
    },
}

impl Purpose {
    /// The task that waits meanwhile; a person's wish is none.
    pub(crate) const fn task(&self) -> Option<Task> {
        match self {
            Self::Post => Some(Task::Post),
            Self::Pull | Self::Acknowledge => Some(Task::Pull),
            Self::Errand { .. } | Self::Rotate { .. } => Some(Task::Errands),
            Self::Connect { .. } => None,
        }
    }
}

/// What a process forgets when it ends.
#[derive(Default)]
pub(crate) struct Memory {
    pub(crate) waits: BTreeMap<u64, Purpose>,
    pub(crate) silences: u32,
    pub(crate) pull_failures: u32,
    pub(crate) empty_pulls: u32,
    pub(crate) relay_lost: bool,
    /// When each task looks next; entries for another time are void.
    pub(crate) wakes: [Option<u64>; 4],
}

impl Memory {
    pub(crate) fn is_busy(&self, task: Task) -> bool {
        self.waits
            .values()
            .any(|purpose| purpose.task() == Some(task))
    }
}

/// A node.
pub(crate) struct Node {
    pub(crate) me: Arc<Me>,
    pub(crate) store: Store,
    pub(crate) account: AccountId,
    pub(crate) has_webhook: bool,
    /// Its clock is ahead by so much, or behind.
    pub(crate) skew_ms: i64,
    /// Which run of the process this is.
    pub(crate) life: u32,
    pub(crate) is_up: bool,
    /// Its account was deleted, and it does not start again.
    pub(crate) has_left: bool,
    pub(crate) memory: Memory,
    pub(crate) seen_position: i64,
    /// The rows that are still to go somewhere.
    pub(crate) open_rows: u64,
    /// Messages that the relay has or had, and that no receipt confirmed.
    pub(crate) unconfirmed: u64,
}

impl Node {
    pub(crate) fn new(
        number: usize,
        origin: &Origin,
        start: Timestamp,
        chance: &mut Chance,
    ) -> anyhow::Result<Self> {
        let entropy = chance.entropy();
        let identity = Identity::generate(&mut *entropy());
        let name = format!("node-{number}");
        let card = identity.sign_card(&name, start)?;
        let database = Database::open_in_memory(store::MIGRATIONS, store::OPTIONS)
            .context("a node's database")?;
        let data_key = Arc::new(DataKey::generate(&mut *entropy()));
        Ok(Self {
            me: Arc::new(Me {
                name,
                identity,
                card,
                relay: origin.clone(),
                downloads: Default::default(),
            }),
            store: Store::with_entropy(database, data_key, entropy),
            account: AccountId::from_bytes(chance.bytes()),
            has_webhook: chance.happens(500),
            skew_ms: 0,
            life: 0,
            is_up: true,
            has_left: false,
            memory: Memory::default(),
            seen_position: 0,
            open_rows: 0,
            unconfirmed: 0,
        })
    }

    /// The process ends: what it holds in memory is forgotten.
    pub(crate) fn end(&mut self) {
        self.life += 1;
        self.is_up = false;
        self.memory = Memory::default();
    }

    /// It ends for good.
    pub(crate) fn leave(&mut self) {
        self.end();
        self.has_left = true;
        (self.open_rows, self.unconfirmed) = (0, 0);
    }

    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        *self.me.identity.fingerprint().as_bytes()
    }
}

/// What a node's database shows after a commit.
#[derive(Debug)]
pub(crate) struct Sight {
    /// The time of the commit, by the node's clock.
    pub(crate) now: Timestamp,
    /// Messages that were not there before, in the order of their arrival.
    pub(crate) messages: Vec<SeenMessage>,
    /// The connections.
    pub(crate) connections: Vec<SeenConnection>,
    /// The invites that it made.
    pub(crate) invites: Vec<SeenInvite>,
    /// Outgoing messages, their statuses and why they failed.
    pub(crate) statuses: Vec<(String, String, Option<String>)>,
    /// Incoming messages that were read.
    pub(crate) read: Vec<String>,
    /// All messages there are.
    pub(crate) message_count: u64,
    /// Rows of the outbox that are to be sent again unless something comes, receipts that are due, and chores.
    pub(crate) open_rows: u64,
    /// Messages that are at the relay as far as the node knows.
    pub(crate) unconfirmed: u64,
}

/// An invite in its maker's database.
#[derive(Debug)]
pub(crate) struct SeenInvite {
    pub(crate) id: [u8; 16],
    pub(crate) is_single: bool,
    pub(crate) is_open: bool,
    pub(crate) expires_at: Option<Timestamp>,
}

/// A message in a node's database.
#[derive(Debug)]
pub(crate) struct SeenMessage {
    pub(crate) position: i64,
    pub(crate) name: String,
    pub(crate) connection: String,
    pub(crate) is_incoming: bool,
    pub(crate) content: String,
}

/// A connection in a node's database.
#[derive(Debug)]
pub(crate) struct SeenConnection {
    pub(crate) name: String,
    pub(crate) invite: [u8; 16],
    pub(crate) is_inviter: bool,
    pub(crate) peer: [u8; 32],
    pub(crate) status: String,
    pub(crate) health: String,
}

/// Looks at the database, from inside the transaction whose effects are to be seen.
pub(crate) fn look(tx: &Tx<'_>, after: i64) -> Result<Sight, Fault> {
    let filter = messages::Filter {
        after: Some(after),
        limit: 1_000,
        ..messages::Filter::default()
    };
    let messages = messages::page(tx, &filter)?
        .into_iter()
        .map(|message| SeenMessage {
            position: message.position,
            name: message.name,
            connection: message.connection,
            is_incoming: message.direction == Direction::In,
            content: message.content,
        });
    let sql = "SELECT ref, invite_id, direction, fingerprint, status, health FROM connections ORDER BY ref";
    let connections = tx.rows(sql, &[], |row| {
        Ok(SeenConnection {
            name: row.get(0)?,
            invite: row.get(1)?,
            is_inviter: row.get::<_, String>(2)? == "in",
            peer: row.get(3)?,
            status: row.get(4)?,
            health: row.get(5)?,
        })
    })?;
    let sql = "SELECT invite_id, kind, status, expires_at FROM invites ORDER BY ref";
    let invites = tx.rows(sql, &[], |row| {
        Ok(SeenInvite {
            id: row.get(0)?,
            is_single: row.get::<_, String>(1)? == "single",
            is_open: row.get::<_, String>(2)? == "open",
            expires_at: row.get::<_, Option<i64>>(3)?.map(store::timestamp),
        })
    })?;
    let count = |sql: &str| Ok::<_, Fault>(store::count(tx.value(sql, &[])?.unwrap_or(0)));
    Ok(Sight {
        now: tx.now,
        messages: messages.collect(),
        connections,
        invites,
        statuses: tx.rows("SELECT message, status, code FROM deliveries ORDER BY message", &[], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })?,
        read: tx.rows(
            "SELECT ref FROM messages WHERE direction = 'in' AND read_at IS NOT NULL ORDER BY position",
            &[],
            |row| row.get(0),
        )?,
        message_count: count("SELECT count(*) FROM messages")?,
        open_rows: count(
            "SELECT (SELECT count(*) FROM outbox WHERE state <> 'accepted' OR next_at < 9223372036854775807)
                 + (SELECT count(*) FROM receipts_due) + (SELECT count(*) FROM chores)",
        )?,
        unconfirmed: count("SELECT count(*) FROM outbox WHERE state = 'accepted' AND message IS NOT NULL")?,
    })
}
