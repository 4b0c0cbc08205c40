//! In-memory nodes for unit tests. A test transfers envelopes between nodes by function calls and
//! plays the role of the relay.

use crate::{
    fault::Fault,
    files::DiskFileId,
    healing,
    identity::NodeIdentity,
    inbox,
    outbox::{self, OutgoingMessage},
    pairing::{self, InviteOptions},
    store::{
        DamageReport, MIGRATIONS, Tx, attachments, connections, deliveries,
        files::{self, StoredFile},
        postings::{self, Posting},
        relay_jobs::{self, JobKind, JobSubject, SessionStart},
    },
};
use rand_chacha::{
    ChaCha20Rng,
    rand_core::{Rng as _, SeedableRng as _},
};
use rusqlite::Connection;
use sealpost_e2ee::{
    Identity,
    attachment::{Descriptor, FileKey, Sealed, blob_len},
    invite::Invite,
    vault::DataKey,
};
use sealpost_node_core::{
    model::{
        ConnectionId, ContentType, Direction, FileId, FileStatus, InviteId, InviteKind, MessageId,
        MessageUuid,
    },
    transfer::DownloadPolicy,
};
use sealpost_proto::{
    BlobId, BlobRef, DeliveryId, ErrorCode, FetchToken, MailboxId, Origin, Timestamp, limits,
    wire::{
        DeliveredEnvelope, DeliveryBatch, DeliveryOutcome, SubmitOutcome, SubmitResult,
        SubmittedEnvelope,
    },
};
use std::{collections::BTreeMap, time::Duration};

/// Initial time of every node.
pub(crate) const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);

/// In-memory node with a clock that the test controls.
pub(crate) struct TestNode {
    pub(crate) identity: NodeIdentity,
    pub(crate) now: Timestamp,
    /// How far the relay's clock is ahead of ours.
    pub(crate) relay_ahead: Duration,
    sql: Connection,
    data_key: DataKey,
    rng: ChaCha20Rng,
    damage: DamageReport,
    /// Latest prekeys that the node has published in each of its mailboxes.
    published: BTreeMap<MailboxId, Vec<u8>>,
}

impl TestNode {
    pub(crate) fn new(name: &str, seed: u64) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let keys = Identity::generate(&mut rng);
        let card = keys.sign_card(name, START).unwrap();
        let sql = Connection::open_in_memory().unwrap();
        sql.pragma_update(None, "foreign_keys", true).unwrap();
        MIGRATIONS
            .iter()
            .for_each(|migration| sql.execute_batch(migration.sql).unwrap());
        let relay = Origin::parse("https://relay.example").unwrap();
        let identity = NodeIdentity {
            name: name.to_owned(),
            keys,
            card,
            relay,
            downloads: DownloadPolicy::Always,
        };
        Self {
            identity,
            now: START,
            relay_ahead: Duration::ZERO,
            sql,
            data_key: DataKey::generate(&mut rng),
            rng,
            damage: DamageReport::default(),
            published: BTreeMap::new(),
        }
    }

    /// Runs a job in one transaction, which is rolled back if the job fails.
    pub(crate) fn commit<T>(
        &mut self,
        job: impl FnOnce(&mut Tx<'_>, &NodeIdentity) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let savepoint = self.sql.savepoint().unwrap();
        let mut tx = Tx::from_parts(
            &savepoint,
            &self.data_key,
            self.now,
            &mut self.rng,
            &self.damage,
        );
        tx.relay_now = self.now.plus(self.relay_ahead);
        let done = job(&mut tx, &self.identity)?;
        savepoint.commit().unwrap();
        Ok(done)
    }

    /// Runs a job in one transaction, and panics if the job fails.
    pub(crate) fn step<T>(
        &mut self,
        job: impl FnOnce(&mut Tx<'_>, &NodeIdentity) -> Result<T, Fault>,
    ) -> T {
        self.commit(job).unwrap()
    }

    /// Advances the random generator, so that a copy of the node makes other choices from now on.
    pub(crate) fn random_step(&mut self) {
        self.rng.next_u64();
    }

    pub(crate) fn advance(&mut self, time: Duration) {
        self.now = self.now.plus(time);
    }

    /// Runs raw SQL, for example to inject a fault.
    pub(crate) fn sql(&mut self, sql: &str) {
        self.sql.execute_batch(sql).unwrap();
    }

    pub(crate) fn query_number(&self, sql: &str) -> i64 {
        self.sql.query_row(sql, [], |row| row.get(0)).unwrap()
    }

    /// Completes all relay jobs except those that need prekeys of a peer. Returns the prekeys that
    /// were published last.
    pub(crate) fn run_relay_jobs(&mut self) -> Vec<u8> {
        let mut published = Vec::new();
        loop {
            let mut due = self.step(|tx, _| relay_jobs::load_due(tx, 100));
            due.retain(|job| job.kind != JobKind::StartSession);
            if due.is_empty() {
                return published;
            }
            for job in due {
                if job.kind == JobKind::PublishPrekeys {
                    published = job.payload.to_vec();
                    self.published.insert(job.mailbox, published.clone());
                }
                self.step(|tx, _| relay_jobs::remove(tx, job.id));
            }
        }
    }

    /// Returns the latest prekeys that the node has published in a mailbox.
    pub(crate) fn published(&self, mailbox: &MailboxId) -> Vec<u8> {
        self.published[mailbox].clone()
    }

    /// Starts the sessions that are due, with the prekeys that the peer has published. Returns
    /// their number.
    pub(crate) fn start_sessions(&mut self, peer: &mut Self) -> usize {
        self.run_relay_jobs();
        peer.run_relay_jobs();
        let mut due = self.step(|tx, _| relay_jobs::load_due(tx, 100));
        due.retain(|job| job.kind == JobKind::StartSession);
        for job in &due {
            let JobSubject::Connection(connection) = job.subject else {
                panic!("an invite has no session")
            };
            let prekeys = &peer.published[&job.mailbox];
            let start = SessionStart::parse(&job.payload).unwrap();
            self.step(|tx, identity| {
                healing::start_session(tx, identity, connection, start, prekeys)?;
                relay_jobs::remove(tx, job.id)
            });
        }
        due.len()
    }

    /// Creates an invite. Returns its id, the invite and its published prekeys.
    pub(crate) fn invite(&mut self, auto_accept: bool) -> (InviteId, Invite, Vec<u8>) {
        let options = InviteOptions {
            kind: InviteKind::Single,
            lifetime: limits::INVITE_LIFETIME_DEFAULT,
            auto_accept,
        };
        let name = self.step(|tx, identity| pairing::create_invite(tx, identity, options));
        let prekeys = self.run_relay_jobs();
        let invite = self
            .step(|tx, _| pairing::load_invite(tx, name))
            .issued
            .invite;
        (name, Invite::parse(&invite.encode_link()).unwrap(), prekeys)
    }

    /// Requests a connection with an invite. Returns the connection's id.
    pub(crate) fn connect(&mut self, invite: &Invite, prekeys: &[u8]) -> ConnectionId {
        let name = self
            .step(|tx, identity| pairing::connect(tx, identity, invite, prekeys, Some("hello")));
        self.run_relay_jobs();
        name
    }

    /// Returns the envelopes to submit now.
    pub(crate) fn seal(&mut self) -> Vec<SubmittedEnvelope> {
        let bytes_max = limits::DELIVERY_BATCH_BYTES_MAX;
        self.step(|tx, identity| outbox::seal_batch(tx, identity, bytes_max))
    }

    /// Records the same outcome for each submitted envelope.
    pub(crate) fn record_outcome(
        &mut self,
        envelopes: &[SubmittedEnvelope],
        outcome: &SubmitOutcome,
    ) {
        let result = |envelope: &SubmittedEnvelope| SubmitResult {
            id: envelope.id,
            outcome: outcome.clone(),
        };
        let results: Vec<_> = envelopes.iter().map(result).collect();
        self.step(|tx, _| outbox::record_results(tx, &results));
    }

    /// Records that the relay does not know the mailbox, until that is final.
    pub(crate) fn record_unknown_mailbox(&mut self, envelopes: &[SubmittedEnvelope]) {
        let unknown = SubmitOutcome::Refused {
            code: ErrorCode::MailboxUnknown,
            retry_after_ms: None,
        };
        self.record_outcome(envelopes, &unknown);
        self.advance(limits::MAILBOX_UNKNOWN_RETRY_TIME);
        self.record_outcome(envelopes, &unknown);
    }

    /// Records that the relay has accepted the envelopes.
    pub(crate) fn record_accepted(&mut self, envelopes: &[SubmittedEnvelope]) {
        let expires_at = self.now.plus(limits::ENVELOPE_LIFETIME_DEFAULT);
        self.record_outcome(envelopes, &SubmitOutcome::Accepted { expires_at });
    }

    pub(crate) fn receive(&mut self, envelope: &SubmittedEnvelope) -> DeliveryOutcome {
        self.step(|tx, identity| inbox::receive(tx, identity, &to_delivery(envelope)))
    }

    pub(crate) fn send(&mut self, connection: ConnectionId, text: &str) -> MessageId {
        self.send_files(connection, text, &[])
    }

    pub(crate) fn send_files(
        &mut self,
        connection: ConnectionId,
        text: &str,
        files: &[FileId],
    ) -> MessageId {
        let outgoing = OutgoingMessage {
            attachments: files
                .iter()
                .map(|file| self.file(*file).attachment)
                .collect(),
            ..outgoing_message(connection, text)
        };
        let mut names = self.step(|tx, identity| {
            outbox::send(tx, identity, &outgoing, limits::MESSAGE_FILES_BYTES_MAX)
        });
        names.pop().unwrap()
    }

    /// Stages a file of `pt_len` bytes, whose blob does not exist.
    pub(crate) fn stage(&mut self, pt_len: u64) -> FileId {
        self.stage_with(pt_len, "Angebot.pdf", "application/pdf", None)
    }

    /// Stages a file with a given name, claimed type and preview.
    pub(crate) fn stage_with(
        &mut self,
        pt_len: u64,
        name: &str,
        mime: &str,
        preview: Option<&[u8]>,
    ) -> FileId {
        let mut id = [0; 16];
        self.rng.fill_bytes(&mut id);
        let descriptor = Descriptor {
            blob: BlobRef {
                relay: self.identity.relay.clone(),
                id: BlobId::from_bytes(id),
            },
            fetch_token: FetchToken::from_bytes([1; 32]),
            file_key: FileKey::generate(&mut self.rng),
            sealed: Sealed {
                ct_len: blob_len(pt_len),
                ct_hash: [2; 32],
                pt_len,
            },
            name: name.to_owned(),
            mime: mime.to_owned(),
            preview: preview.map(<[u8]>::to_vec),
        };
        let new = files::NewFile {
            direction: Direction::Out,
            status: FileStatus::Staged,
            descriptor: &descriptor,
            file_type: None,
            disk_file: DiskFileId::from_bytes(id),
            part_digests: &[[3; 32]],
            // Test files of the same length have the same content.
            content_digest: Some(&[pt_len.to_le_bytes()[0]; 32]),
        };
        self.step(|tx, _| {
            let file = files::insert(tx, &new)?;
            attachments::insert_staged(tx, file)?;
            Ok(file)
        })
    }

    /// Records that a file is completely uploaded.
    pub(crate) fn record_uploaded(&mut self, file: FileId) {
        let until = self
            .now
            .plus(limits::ENVELOPE_LIFETIME_DEFAULT + limits::BLOB_LIFETIME_AFTER_MESSAGE);
        assert!(self.step(|tx, _| files::set_uploaded(tx, file, until)));
    }

    pub(crate) fn file(&mut self, id: FileId) -> StoredFile {
        self.step(|tx, _| files::load(tx, id)).unwrap()
    }

    /// Returns the files of the last received message.
    pub(crate) fn received_files(&mut self) -> Vec<StoredFile> {
        let key = self.received().pop().unwrap().message.key;
        let attachments = self.step(|tx, _| attachments::load_for_message(tx, key));
        attachments
            .into_iter()
            .map(|attachment| attachment.file)
            .collect()
    }

    pub(crate) fn delivery(&mut self, message: &MessageId) -> deliveries::Delivery {
        self.step(|tx, _| deliveries::load_by_posting(tx, *message))
            .unwrap()
    }

    pub(crate) fn uuid(&mut self, message: &MessageId) -> MessageUuid {
        self.step(|tx, _| postings::load(tx, *message))
            .unwrap()
            .message
            .uuid
    }

    pub(crate) fn connection(&mut self, id: ConnectionId) -> connections::ConnectionRow {
        self.step(|tx, _| connections::load(tx, id))
    }

    /// Returns the received messages in the order of arrival.
    pub(crate) fn received(&mut self) -> Vec<Posting> {
        let filter = postings::Filter {
            direction: Some(Direction::In),
            limit: 1_000,
            ..postings::Filter::default()
        };
        self.step(|tx, _| postings::load_page(tx, &filter))
    }

    pub(crate) fn received_texts(&mut self) -> Vec<String> {
        self.received()
            .into_iter()
            .map(|posting| posting.message.content)
            .collect()
    }
}

/// Creates a message to one connection.
pub(crate) fn outgoing_message(connection: ConnectionId, text: &str) -> OutgoingMessage {
    OutgoingMessage {
        to: vec![connection],
        content: text.to_owned(),
        content_type: ContentType::Markdown,
        attachments: Vec::new(),
        reply_to: None,
        action_required: false,
        deliver_by: None,
        read_by: None,
    }
}

/// Converts an envelope to the relay's delivery of it.
pub(crate) fn to_delivery(envelope: &SubmittedEnvelope) -> DeliveredEnvelope {
    DeliveredEnvelope {
        id: DeliveryId(1),
        mailbox: envelope.mailbox.id,
        envelope: envelope.id,
        accepted_at: START,
        bytes: envelope.bytes.clone(),
    }
}

/// Converts envelopes to one batch of deliveries.
pub(crate) fn to_batch(envelopes: &[SubmittedEnvelope]) -> DeliveryBatch {
    let deliveries = envelopes
        .iter()
        .zip(1..)
        .map(|(envelope, id)| DeliveredEnvelope {
            id: DeliveryId(id),
            ..to_delivery(envelope)
        });
    DeliveryBatch {
        deliveries: deliveries.collect(),
        events: Vec::new(),
        backlog: 0,
        fence: 1,
        webhook: None,
    }
}

/// Transfers all envelopes that `from` can send to `to`. Returns their number.
pub(crate) fn carry(from: &mut TestNode, to: &mut TestNode) -> usize {
    from.run_relay_jobs();
    from.start_sessions(to);
    let envelopes = from.seal();
    from.record_accepted(&envelopes);
    for envelope in &envelopes {
        assert_eq!(to.receive(envelope), DeliveryOutcome::Stored);
    }
    envelopes.len()
}

/// Transfers envelopes in both directions until no node has any left.
pub(crate) fn settle(one: &mut TestNode, other: &mut TestNode) {
    while carry(one, other) + carry(other, one) > 0 {}
}

/// Connects two nodes with a new invite. Returns the id of the connection at each node.
pub(crate) fn connect_nodes(
    inviter: &mut TestNode,
    invitee: &mut TestNode,
) -> (ConnectionId, ConnectionId) {
    let (name, invite, prekeys) = inviter.invite(true);
    let at_invitee = invitee.connect(&invite, &prekeys);
    settle(invitee, inviter);
    let at_inviter = inviter
        .step(|tx, _| connections::find_by_invite(tx, &invite.id()))
        .remove(0);
    assert_eq!(inviter.connection(at_inviter).invite, Some(name));
    (at_inviter, at_invitee)
}

/// Two connected nodes without envelopes in flight.
pub(crate) struct Pair {
    pub(crate) acme: TestNode,
    pub(crate) bolt: TestNode,
    /// Acme's connection with Bolt.
    pub(crate) to_bolt: ConnectionId,
    /// Bolt's connection with Acme.
    pub(crate) to_acme: ConnectionId,
}

pub(crate) fn connected_pair(seed: u64) -> Pair {
    let (mut acme, mut bolt) = (TestNode::new("Acme", seed), TestNode::new("Bolt", seed + 1));
    let (to_bolt, to_acme) = connect_nodes(&mut acme, &mut bolt);
    Pair {
        acme,
        bolt,
        to_bolt,
        to_acme,
    }
}
