//! The local API of a node as scenarios use it, over the client of its CLI.

use crate::wait::wait_for;
use anyhow::{Context as _, ensure};
use sealpost_node::{
    api::model::{
        Attachment, AttachmentStatus, Connect, Connection, ConnectionStatus, CreateInvite,
        Delivery, Direction, HealthState, Invite, InviteKind, Message, MessagesQuery, Node, Page,
        PageQuery, SafetyNumber, SendMessage, StageQuery, Verify,
    },
    cli::{client::Client, error::CliError, events::EventStream},
};
use sealpost_proto::DeliveryStatus;
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;

/// Local API of a node.
pub struct Api(Client);

type ApiResult<T> = Result<T, CliError>;

/// Empty request body.
#[derive(Serialize)]
struct Empty {}

impl Api {
    /// Creates an API over this client.
    #[must_use]
    pub const fn new(client: Client) -> Self {
        Self(client)
    }

    /// Returns the node's identity and the state of its relay connection.
    pub async fn fetch_node(&self) -> ApiResult<Node> {
        self.0.get(&["v1", "node"], &()).await
    }

    /// Creates a single-use invite; returns it with its URL.
    pub async fn create_invite(&self, auto_accept: bool) -> anyhow::Result<(Invite, String)> {
        self.create_invite_with(&CreateInvite {
            kind: InviteKind::Single,
            lifetime_ms: None,
            auto_accept,
        })
        .await
    }

    /// Creates an invite; returns it with its URL.
    pub async fn create_invite_with(
        &self,
        request: &CreateInvite,
    ) -> anyhow::Result<(Invite, String)> {
        let invite: Invite = self.0.post(&["v1", "invites"], request).await?;
        let url = invite.url.clone().context("a new invite without a URL")?;
        Ok((invite, url))
    }

    /// Revokes an invite.
    pub async fn revoke_invite(&self, invite: &str) -> ApiResult<()> {
        self.0.delete(&["v1", "invites", invite]).await
    }

    /// Requests a connection.
    pub async fn connect(&self, invite: &str, note: &str) -> ApiResult<Connection> {
        let request = Connect {
            invite: invite.to_owned(),
            note: Some(note.to_owned()),
        };
        self.0.post(&["v1", "connections"], &request).await
    }

    /// Lists all connections.
    pub async fn list_connections(&self) -> ApiResult<Vec<Connection>> {
        self.fetch_all(&["v1", "connections"], |after| PageQuery {
            limit: None,
            after,
        })
        .await
    }

    /// Accepts a connection request.
    pub async fn accept(&self, connection: &str) -> ApiResult<Connection> {
        self.0
            .post(&["v1", "connections", connection, "accept"], &Empty {})
            .await
    }

    /// Returns the safety number that both sides compare.
    pub async fn fetch_safety_number(&self, connection: &str) -> ApiResult<SafetyNumber> {
        self.0
            .get(&["v1", "connections", connection, "safety-number"], &())
            .await
    }

    /// Compares the safety number with the one that the peer reads out.
    pub async fn verify(&self, connection: &str, number: &str) -> ApiResult<Connection> {
        let request = Verify {
            number: Some(number.to_owned()),
        };
        self.0
            .post(&["v1", "connections", connection, "verify"], &request)
            .await
    }

    /// Stages a file.
    pub async fn stage(&self, filename: &str, content: Vec<u8>) -> ApiResult<Attachment> {
        let query = StageQuery {
            filename: filename.to_owned(),
        };
        let length = content.len() as u64;
        self.0
            .upload(&["v1", "attachments"], &query, length, content.into())
            .await
    }

    /// Sends a message; returns one for each recipient.
    pub async fn send(&self, request: &SendMessage) -> ApiResult<Vec<Message>> {
        Ok(self
            .0
            .post::<Page<Message>>(&["v1", "messages"], request)
            .await?
            .items)
    }

    /// Lists all messages in one direction, oldest first.
    pub async fn list_messages(&self, direction: Direction) -> ApiResult<Vec<Message>> {
        let query = |after| MessagesQuery {
            direction: Some(direction),
            after,
            ..MessagesQuery::default()
        };
        self.fetch_all(&["v1", "messages"], query).await
    }

    /// Returns one message.
    pub async fn fetch_message(&self, id: &str) -> ApiResult<Message> {
        self.0.get(&["v1", "messages", id], &()).await
    }

    /// Marks a message as read.
    pub async fn mark_read(&self, id: &str) -> ApiResult<Message> {
        self.0
            .post(&["v1", "messages", id, "read"], &Empty {})
            .await
    }

    /// Returns one attachment.
    pub async fn fetch_attachment(&self, id: &str) -> ApiResult<Attachment> {
        self.0.get(&["v1", "attachments", id], &()).await
    }

    /// Downloads a file; returns its SHA-256 in hexadecimal.
    pub async fn download_digest(&self, id: &str) -> anyhow::Result<String> {
        let mut response = self
            .0
            .content(&["v1", "attachments", id, "content"])
            .await?;
        let mut hash = Sha256::new();
        while let Some(chunk) = response.chunk().await? {
            hash.update(&chunk);
        }
        Ok(hex(&hash.finalize()))
    }

    /// Downloads the preview of a file.
    pub async fn download_preview(&self, id: &str) -> anyhow::Result<Vec<u8>> {
        let response = self
            .0
            .content(&["v1", "attachments", id, "preview"])
            .await?;
        Ok(response.bytes().await?.into())
    }

    /// Subscribes to events that happen from now on.
    pub async fn subscribe_to_events(&self) -> ApiResult<EventStream> {
        self.0.events(None).await
    }

    async fn fetch_all<T: DeserializeOwned, Q: Serialize>(
        &self,
        path: &[&str],
        query: impl Fn(Option<String>) -> Q,
    ) -> ApiResult<Vec<T>> {
        let (mut items, mut after) = (Vec::new(), None);
        loop {
            let page: Page<T> = self.0.get(path, &query(after)).await?;
            items.extend(page.items);
            after = page.next;
            if after.is_none() {
                return Ok(items);
            }
        }
    }
}

/// Waits for states.
impl Api {
    /// Waits for the incoming request with this note.
    pub async fn wait_for_request(&self, note: &str) -> anyhow::Result<Connection> {
        let matches = |connection: &Connection| {
            connection.note == note && connection.direction == Direction::In
        };
        wait_for("the request arrives", async || {
            Ok(self.list_connections().await?.into_iter().find(matches))
        })
        .await
    }

    /// Waits until both sides have accepted the connection and messages can flow.
    pub async fn wait_for_accepted(&self, connection: &str) -> anyhow::Result<Connection> {
        let matches = |one: &Connection| {
            one.id == connection
                && one.status == ConnectionStatus::Accepted
                && one.health.state == HealthState::Ok
        };
        wait_for("the connection is accepted", async || {
            Ok(self.list_connections().await?.into_iter().find(matches))
        })
        .await
    }

    /// Waits for the incoming message with this uuid and for all its files.
    pub async fn wait_for_message(&self, uuid: &str) -> anyhow::Result<Message> {
        wait_for("the message arrives with its files", async || {
            let Some(message) = self
                .list_messages(Direction::In)
                .await?
                .into_iter()
                .find(|one| one.uuid == uuid)
            else {
                return Ok(None);
            };
            for file in &message.attachments {
                let (name, reason) = (&file.filename, file.reason.as_deref().unwrap_or_default());
                ensure!(
                    file.status != AttachmentStatus::Failed,
                    "{name} failed: {reason}"
                );
            }
            let is_complete = message
                .attachments
                .iter()
                .all(|file| file.status == AttachmentStatus::Ready);
            Ok(is_complete.then_some(message))
        })
        .await
    }

    /// Waits until the delivery of a message to its one recipient has at least this status.
    pub async fn wait_for_status(
        &self,
        message: &str,
        status: DeliveryStatus,
    ) -> anyhow::Result<Delivery> {
        wait_for(&format!("{message} is {status}"), async || {
            let delivery = self
                .fetch_message(message)
                .await?
                .deliveries
                .into_iter()
                .next()
                .context("no delivery")?;
            let (now, reason) = (
                delivery.status,
                delivery.reason.as_deref().unwrap_or_default(),
            );
            ensure!(now != DeliveryStatus::Failed, "{message} failed: {reason}");
            Ok((now.progress_rank() >= status.progress_rank()).then_some(delivery))
        })
        .await
    }
}

/// Encodes bytes as lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Returns the SHA-256 of these bytes in hexadecimal.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}
