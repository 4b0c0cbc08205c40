//! One node: its database, its memory while it runs, and snapshots of its database.

use crate::{random::Random, restore::NodeBackup};
use anyhow::Context as _;
use sealpost_e2ee::{Identity, invite::Invite, vault::DataKey};
use sealpost_node::{
    fault::Fault,
    identity::NodeIdentity,
    store::{
        self, Store, Tx, postings,
        relay_jobs::{JobKind, JobSubject, SessionStart},
    },
};
use sealpost_node_core::model::{
    ChatId, ConnectionId, ConnectionStatus, ConnectionWarning, Direction, HealthState, InviteKind,
    InviteStatus, MessageId,
};
use sealpost_proto::{AccountId, DeliveryStatus, FailureCode, Origin, Timestamp};
use sealpost_sqlite::{Database, RowError, RowExt as _};
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
        kind: JobKind,
        subject: JobSubject,
    },
    StartSession {
        id: i64,
        attempt: u32,
        connection: ConnectionId,
        start: SessionStart,
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
            Self::RelayJob { .. } | Self::StartSession { .. } => Some(Task::RelayJobs),
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
    pub(crate) identity: Arc<NodeIdentity>,
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
    pub(crate) last_seen: Option<postings::Cursor>,
    /// Backups of its database, oldest first.
    pub(crate) backups: Vec<NodeBackup>,
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
            identity: Arc::new(NodeIdentity {
                name,
                keys: identity,
                card,
                relay: origin.clone(),
                downloads: Default::default(),
            }),
            store: Store::with_entropy(database, data_key, entropy),
            account: AccountId::from_bytes(random.bytes()),
            has_webhook: random.happens_per_mille(500),
            skew_ms: 0,
            generation: 0,
            is_up: true,
            is_deleted: false,
            memory: Memory::default(),
            last_seen: None,
            backups: Vec::new(),
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
        *self.identity.keys.fingerprint().as_bytes()
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
    pub(crate) statuses: Vec<(MessageId, DeliveryStatus, Option<FailureCode>)>,
    /// Incoming messages that the user has read.
    pub(crate) read: Vec<MessageId>,
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
    pub(crate) cursor: postings::Cursor,
    pub(crate) id: MessageId,
    pub(crate) connection: ConnectionId,
    pub(crate) is_incoming: bool,
    pub(crate) content: String,
}

/// Connection in a node's database.
#[derive(Debug)]
pub(crate) struct ConnectionSnapshot {
    pub(crate) id: ConnectionId,
    pub(crate) invite: [u8; 16],
    pub(crate) is_inviter: bool,
    pub(crate) peer: [u8; 32],
    pub(crate) status: ConnectionStatus,
    pub(crate) health: HealthState,
    pub(crate) warning: Option<ConnectionWarning>,
}

/// How many of the messages a snapshot covers with their statuses. It always covers new ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    Complete,
    /// Only the latest ones, because there are too many to read all of them after every commit.
    Recent,
}

/// Messages that a recent snapshot covers.
const RECENT_MESSAGES: i64 = 100;

fn read_message_id(row: &rusqlite::Row<'_>) -> Result<MessageId, RowError> {
    Ok(MessageId {
        chat: row.parse("chat", ChatId::parse)?,
        number: row.read("number")?,
    })
}

/// Takes a snapshot inside the transaction whose effects it shows.
pub(crate) fn take_snapshot(
    tx: &Tx<'_>,
    after: Option<postings::Cursor>,
    depth: Depth,
) -> Result<Snapshot, Fault> {
    let filter = postings::Filter {
        after,
        limit: 1_000,
        ..postings::Filter::default()
    };
    let messages = postings::load_page(tx, &filter)?
        .into_iter()
        .map(|posting| MessageSnapshot {
            cursor: postings::Cursor {
                message: posting.message.key,
                chat: posting.id.chat,
            },
            id: posting.id,
            connection: posting.connection,
            is_incoming: posting.direction == Direction::In,
            content: posting.message.content,
        });
    let sql = "SELECT id, invite_key, direction, fingerprint, status, health, warning FROM connections \
               ORDER BY id";
    let connections = tx.query_rows(sql, &[], |row| {
        Ok(ConnectionSnapshot {
            id: row.parse("id", ConnectionId::parse)?,
            invite: row.read("invite_key")?,
            is_inviter: row.parse("direction", Direction::parse)? == Direction::In,
            peer: row.read("fingerprint")?,
            status: row.parse("status", ConnectionStatus::parse)?,
            health: row.parse("health", HealthState::parse)?,
            warning: row.optional_parse("warning", ConnectionWarning::parse)?,
        })
    })?;
    let sql = "SELECT invite_key, kind, status, expires_at FROM invites ORDER BY id";
    let invites = tx.query_rows(sql, &[], |row| {
        Ok(InviteSnapshot {
            id: row.read("invite_key")?,
            is_single: row.parse("kind", InviteKind::parse)? == InviteKind::Single,
            is_open: row.parse("status", InviteStatus::parse)? == InviteStatus::Open,
            expires_at: row.optional_timestamp("expires_at")?,
        })
    })?;
    let above: i64 = match depth {
        Depth::Complete => 0,
        Depth::Recent => tx
            .query_value("SELECT max(id) FROM messages", &[])?
            .map_or(0, |newest: Option<i64>| {
                newest.unwrap_or(0) - RECENT_MESSAGES
            }),
    };
    let count = |sql: &str| Ok::<_, Fault>(tx.query_value(sql, &[])?.unwrap_or(0));
    Ok(Snapshot {
        now: tx.now,
        messages: messages.collect(),
        connections,
        invites,
        statuses: tx.query_rows(
            "SELECT p.chat, p.number, d.status, d.code FROM deliveries d
             JOIN chats c ON c.connection = d.connection AND c.type = 'direct'
             JOIN postings p ON p.chat = c.id AND p.message = d.message
             WHERE d.message > ?1 ORDER BY d.message, p.chat",
            &[&above],
            |row| {
                Ok((
                    read_message_id(row)?,
                    row.parse("status", DeliveryStatus::parse)?,
                    row.optional_parse("code", |code| Some(FailureCode::parse(code)))?,
                ))
            },
        )?,
        read: tx.query_rows(
            "SELECT p.chat, p.number FROM postings p JOIN read_positions r ON r.chat = p.chat
             WHERE p.own = 0 AND p.number <= r.number AND p.message > ?1
             ORDER BY p.message, p.chat",
            &[&above],
            read_message_id,
        )?,
        message_count: count("SELECT count(*) FROM postings")?,
        pending_rows: count(
            "SELECT (SELECT count(*) FROM outbox WHERE state IN ('waiting', 'sealed')
                     OR state = 'accepted' AND kind = 17) -- a connection.accept is repeated
                 + (SELECT count(*) FROM receipts_due) + (SELECT count(*) FROM relay_jobs)",
        )?,
        unconfirmed: count(
            "SELECT count(*) FROM outbox WHERE state = 'accepted' AND message IS NOT NULL",
        )?,
    })
}

/// Describes what still has to be sent, with the seconds until it is due.
pub(crate) fn describe_pending(tx: &Tx<'_>) -> Result<Vec<String>, Fault> {
    tx.query_rows(
        "SELECT format('%s of kind %d in %d s', state, kind, (next_at - ?1) / 1000)
             FROM outbox WHERE state <> 'confirmed'
         UNION ALL SELECT kind || ' receipt' FROM receipts_due
         UNION ALL SELECT format('%s in %d s', kind, (next_at - ?1) / 1000) FROM relay_jobs",
        &[&tx.now.as_millis()],
        |row| Ok(row.get(0)?),
    )
}
