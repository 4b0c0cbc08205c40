//! One node: its database, its memory while it runs, and snapshots of its database.

use crate::random::Random;
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

/// Task of a node, as in the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    /// Seals and submits envelopes.
    Submit,
    /// Runs the relay jobs that are due.
    RelayJobs,
    /// Pulls deliveries.
    Pull,
    /// Expires invites and renews prekeys.
    Maintenance,
}

impl Task {
    pub(crate) const ALL: [Self; 4] =
        [Self::Submit, Self::RelayJobs, Self::Pull, Self::Maintenance];
}

/// Purpose of a request whose response is pending.
pub(crate) enum Purpose {
    Submit,
    Pull,
    Acknowledge,
    RelayJob {
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
    /// Returns the task that waits for the response; a user's request blocks none.
    pub(crate) const fn task(&self) -> Option<Task> {
        match self {
            Self::Submit => Some(Task::Submit),
            Self::Pull | Self::Acknowledge => Some(Task::Pull),
            Self::RelayJob { .. } | Self::Rotate { .. } => Some(Task::RelayJobs),
            Self::Connect { .. } => None,
        }
    }
}

/// State that a process loses when it stops.
#[derive(Default)]
pub(crate) struct Memory {
    pub(crate) pending: BTreeMap<u64, Purpose>,
    pub(crate) unanswered_submits: u32,
    pub(crate) pull_failures: u32,
    pub(crate) empty_pulls: u32,
    pub(crate) is_relay_unreachable: bool,
    /// Next run of each task; scheduled runs at any other time are void.
    pub(crate) wake_times: [Option<u64>; 4],
}

impl Memory {
    pub(crate) fn is_busy(&self, task: Task) -> bool {
        self.pending
            .values()
            .any(|purpose| purpose.task() == Some(task))
    }
}

/// Simulated node.
pub(crate) struct Node {
    pub(crate) identity: Arc<Me>,
    pub(crate) store: Store,
    pub(crate) account: AccountId,
    pub(crate) has_webhook: bool,
    /// How far its clock is ahead; negative when it is behind.
    pub(crate) skew_ms: i64,
    /// Number of the current run of the process.
    pub(crate) generation: u32,
    pub(crate) is_up: bool,
    /// Its account was deleted; it does not start again.
    pub(crate) is_deleted: bool,
    pub(crate) memory: Memory,
    pub(crate) seen_position: i64,
    /// Rows that still have to be sent.
    pub(crate) pending_rows: u64,
    /// Messages that the relay accepted and no receipt has confirmed.
    pub(crate) unconfirmed: u64,
}

impl Node {
    pub(crate) fn new(
        number: usize,
        origin: &Origin,
        start: Timestamp,
        random: &mut Random,
    ) -> anyhow::Result<Self> {
        let entropy = random.entropy();
        let identity = Identity::generate(&mut *entropy());
        let name = format!("node-{number}");
        let card = identity.sign_card(&name, start)?;
        let database = Database::open_in_memory(store::MIGRATIONS, store::OPTIONS)
            .context("a node's database")?;
        let data_key = Arc::new(DataKey::generate(&mut *entropy()));
        Ok(Self {
            identity: Arc::new(Me {
                name,
                identity,
                card,
                relay: origin.clone(),
                downloads: Default::default(),
            }),
            store: Store::with_entropy(database, data_key, entropy),
            account: AccountId::from_bytes(random.bytes()),
            has_webhook: random.happens(500),
            skew_ms: 0,
            generation: 0,
            is_up: true,
            is_deleted: false,
            memory: Memory::default(),
            seen_position: 0,
            pending_rows: 0,
            unconfirmed: 0,
        })
    }

    /// Stops the process; it loses its memory.
    pub(crate) fn stop(&mut self) {
        self.generation += 1;
        self.is_up = false;
        self.memory = Memory::default();
    }

    /// Stops the process for good.
    pub(crate) fn delete(&mut self) {
        self.stop();
        self.is_deleted = true;
        (self.pending_rows, self.unconfirmed) = (0, 0);
    }

    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        *self.identity.identity.fingerprint().as_bytes()
    }
}

/// Contents of a node's database after a commit.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// Time of the commit by the node's clock.
    pub(crate) now: Timestamp,
    /// New messages, in the order of their arrival.
    pub(crate) messages: Vec<MessageSnapshot>,
    /// All connections.
    pub(crate) connections: Vec<ConnectionSnapshot>,
    /// All invites of the node.
    pub(crate) invites: Vec<InviteSnapshot>,
    /// Outgoing messages with their statuses and failure codes.
    pub(crate) statuses: Vec<(String, String, Option<String>)>,
    /// Incoming messages that the user has read.
    pub(crate) read: Vec<String>,
    /// Number of all messages.
    pub(crate) message_count: u64,
    /// Number of outbox rows still to be sent, due receipts and relay jobs.
    pub(crate) pending_rows: u64,
    /// Number of messages that are at the relay as far as the node knows.
    pub(crate) unconfirmed: u64,
}

/// Invite in the inviter's database.
#[derive(Debug)]
pub(crate) struct InviteSnapshot {
    pub(crate) id: [u8; 16],
    pub(crate) is_single: bool,
    pub(crate) is_open: bool,
    pub(crate) expires_at: Option<Timestamp>,
}

/// Message in a node's database.
#[derive(Debug)]
pub(crate) struct MessageSnapshot {
    pub(crate) position: i64,
    pub(crate) name: String,
    pub(crate) connection: String,
    pub(crate) is_incoming: bool,
    pub(crate) content: String,
}

/// Connection in a node's database.
#[derive(Debug)]
pub(crate) struct ConnectionSnapshot {
    pub(crate) name: String,
    pub(crate) invite: [u8; 16],
    pub(crate) is_inviter: bool,
    pub(crate) peer: [u8; 32],
    pub(crate) status: String,
    pub(crate) health: String,
}

/// Takes a snapshot inside the transaction whose effects it shows.
pub(crate) fn take_snapshot(tx: &Tx<'_>, after: i64) -> Result<Snapshot, Fault> {
    let filter = messages::Filter {
        after: Some(after),
        limit: 1_000,
        ..messages::Filter::default()
    };
    let messages = messages::page(tx, &filter)?
        .into_iter()
        .map(|message| MessageSnapshot {
            position: message.position,
            name: message.name,
            connection: message.connection,
            is_incoming: message.direction == Direction::In,
            content: message.content,
        });
    let sql = "SELECT ref, invite_id, direction, fingerprint, status, health FROM connections ORDER BY ref";
    let connections = tx.rows(sql, &[], |row| {
        Ok(ConnectionSnapshot {
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
        Ok(InviteSnapshot {
            id: row.get(0)?,
            is_single: row.get::<_, String>(1)? == "single",
            is_open: row.get::<_, String>(2)? == "open",
            expires_at: row.get::<_, Option<i64>>(3)?.map(store::timestamp),
        })
    })?;
    let count = |sql: &str| Ok::<_, Fault>(store::count(tx.value(sql, &[])?.unwrap_or(0)));
    Ok(Snapshot {
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
        pending_rows: count(
            "SELECT (SELECT count(*) FROM outbox WHERE state <> 'accepted' OR next_at < 9223372036854775807)
                 + (SELECT count(*) FROM receipts_due) + (SELECT count(*) FROM chores)",
        )?,
        unconfirmed: count("SELECT count(*) FROM outbox WHERE state = 'accepted' AND message IS NOT NULL")?,
    })
}
