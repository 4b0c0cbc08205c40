//! The questions that stories ask a node, over the client of its own command line.

use crate::wait::until;
use anyhow::{Context as _, ensure};
use sealpost_node::{
    api::model::{
        Attachment, AttachmentStatus, Connect, Connection, ConnectionStatus, CreateInvite,
        Delivery, Direction, HealthState, Invite, InviteKind, Message, MessagesQuery, Node, Page,
        PageQuery, Safety, SendMessage, StageQuery, Verify,
    },
    cli::{client::Client, error::CliError, events::Events},
};
use sealpost_proto::DeliveryStatus;
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;

/// A node's local API.
pub struct Api(Client);

type Answer<T> = Result<T, CliError>;

/// The body of a request that says everything in its path.
#[derive(Serialize)]
struct Empty {}

impl Api {
    /// Over this client.
    #[must_use]
    pub const fn new(client: Client) -> Self {
        Self(client)
    }

    /// Who it is and how it stands with its relay.
    ///
    /// # Errors
    /// [`CliError`]
    pub async fn node(&self) -> Answer<Node> {
        self.0.get(&["v1", "node"], &()).await
    }

    /// Makes a single-use invite, and its URL.
    ///
    /// # Errors
    /// [`CliError`]
    pub async fn invite(&self, auto_accept: bool) -> anyhow::Result<(Invite, String)> {
        self.invite_with(&CreateInvite {
            kind: InviteKind::Single,
            life_ms: None,
            auto_accept,
        })
        .await
    }

    /// Makes an invite, and its URL.
    ///
    /// # Errors
    /// [`CliError`]
    pub async fn invite_with(&self, request: &CreateInvite) -> anyhow::Result<(Invite, String)> {
        let invite: Invite = self.0.post(&["v1", "invites"], request).await?;
        let url = invite.url.clone().context("a new invite without a URL")?;
        Ok((invite, url))
    }

    /// Takes an invite back.
    ///
    /// # Errors
    /// [`CliError`]
    pub async fn revoke(&self, invite: &str) -> Answer<()> {
        self.0.delete(&["v1", "invites", invite]).await
    }

    /// Asks for a connection.
    ///
    /// # Errors
    /// [`CliError`]
    pub async fn connect(&self, invite: &str, note: &str) -> Answer<Connection> {
        let request = Connect {
            invite: invite.to_owned(),
            note: Some(note.to_owned()),
        };
        self.0.post(&["v1", "connections"], &request).await
    }

    /// All connections.
    ///
    /// # Errors
    /// [`CliError`]
    pub async fn connections(&self) -> Answer<Vec<Connection>> {
        self.all(&["v1", "connections"], |after| PageQuery {
            limit: None,
            after,
        })
        .await
    }

    /// Says yes to a request.
    ///
    /// # Errors
    /// [`CliError`]
    pub async fn accept(&self, connection: &str) -> Answer<Connection> {
        self.0
            .post(&["v1", "connections", connection, "accept"], &Empty {})
            .await
    }

    /// What both sides compare.
    ///
    /// # Errors
    /// [`CliError`]
    pub async fn safety_number(&self, connection: &str) -> Answer<Safety> {
        self.0
            .get(&["v1", "connections", connection, "safety-number"], &())
            .await
    }

    /// Compares it with what the other side reads out.
    ///
    /// # Errors
    /// [`CliError`]
    pub async fn verify(&self, connection: &str, number: &str) -> Answer<Connection> {
        let request = Verify {
            number: Some(number.to_owned()),
        };
        self.0
            .post(&["v1", "connections", connection, "verify"], &request)
            .await
    }

    /// Hands a file to the node.
    ///
    /// # Errors
    /// [`CliError`]
    pub async fn stage(&self, filename: &str, content: Vec<u8>) -> Answer<Attachment> {
        let query = StageQuery {
            filename: filename.to_owned(),
        };
        let length = content.len() as u64;
        self.0
            .upload(&["v1", "attachments"], &query, length, content.into())
            .await
    }

    /// Sends; one message for each recipient.
    ///
    /// # Errors
    /// [`CliError`]
    pub async fn send(&self, request: &SendMessage) -> Answer<Vec<Message>> {
        Ok(self
            .0
            .post::<Page<Message>>(&["v1", "messages"], request)
            .await?
            .items)
    }

    /// All messages of one way, oldest first.
    ///
    /// # Errors
    /// [`CliError`]
    pub async fn messages(&self, direction: Direction) -> Answer<Vec<Message>> {
        let query = |after| MessagesQuery {
            direction: Some(direction),
            after,
            ..MessagesQuery::default()
        };
        self.all(&["v1", "messages"], query).await
    }

    /// One message.
    ///
    /// # Errors
    /// [`CliError`]
    pub async fn message(&self, id: &str) -> Answer<Message> {
        self.0.get(&["v1", "messages", id], &()).await
    }

    /// Marks a message as read.
    ///
    /// # Errors
    /// [`CliError`]
    pub async fn read(&self, id: &str) -> Answer<Message> {
        self.0
            .post(&["v1", "messages", id, "read"], &Empty {})
            .await
    }

    /// One file.
    ///
    /// # Errors
    /// [`CliError`]
    pub async fn attachment(&self, id: &str) -> Answer<Attachment> {
        self.0.get(&["v1", "attachments", id], &()).await
    }

    /// Downloads a file and gives the hex of its SHA-256.
    ///
    /// # Errors
    /// When the node refuses or the connection breaks.
    pub async fn content_digest(&self, id: &str) -> anyhow::Result<String> {
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

    /// The small picture of a file.
    ///
    /// # Errors
    /// When it has none, the node refuses or the connection breaks.
    pub async fn preview(&self, id: &str) -> anyhow::Result<Vec<u8>> {
        let response = self
            .0
            .content(&["v1", "attachments", id, "preview"])
            .await?;
        Ok(response.bytes().await?.into())
    }

    /// What happens from now on.
    ///
    /// # Errors
    /// [`CliError`]
    pub async fn events(&self) -> Answer<Events> {
        self.0.events(None).await
    }

    async fn all<T: DeserializeOwned, Q: Serialize>(
        &self,
        path: &[&str],
        query: impl Fn(Option<String>) -> Q,
    ) -> Answer<Vec<T>> {
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

/// What stories wait for.
impl Api {
    /// The request that came in with this note.
    ///
    /// # Errors
    /// When it does not come.
    pub async fn request(&self, note: &str) -> anyhow::Result<Connection> {
        let is_it = |connection: &Connection| {
            connection.note == note && connection.direction == Direction::In
        };
        until("the request comes in", async || {
            Ok(self.connections().await?.into_iter().find(is_it))
        })
        .await
    }

    /// The connection, once both sides agree and know that they do, so that messages flow.
    ///
    /// # Errors
    /// When they do not.
    pub async fn accepted(&self, connection: &str) -> anyhow::Result<Connection> {
        let is_it = |one: &Connection| {
            one.id == connection
                && one.status == ConnectionStatus::Accepted
                && one.health.state == HealthState::Ok
        };
        until("the connection is accepted", async || {
            Ok(self.connections().await?.into_iter().find(is_it))
        })
        .await
    }

    /// The incoming message with this uuid, once all its files are here.
    ///
    /// # Errors
    /// When it does not come, or a file failed.
    pub async fn received(&self, uuid: &str) -> anyhow::Result<Message> {
        until("the message comes in with its files", async || {
            let Some(message) = self
                .messages(Direction::In)
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
            let is_here = message
                .attachments
                .iter()
                .all(|file| file.status == AttachmentStatus::Ready);
            Ok(is_here.then_some(message))
        })
        .await
    }

    /// The delivery of a message to its one recipient, once it is at least that far.
    ///
    /// # Errors
    /// When it does not get there, or fails.
    pub async fn reached(&self, message: &str, status: DeliveryStatus) -> anyhow::Result<Delivery> {
        until(&format!("{message} is {status}"), async || {
            let delivery = self
                .message(message)
                .await?
                .delivery
                .into_iter()
                .next()
                .context("no delivery")?;
            let (now, reason) = (
                delivery.status,
                delivery.reason.as_deref().unwrap_or_default(),
            );
            ensure!(now != DeliveryStatus::Failed, "{message} failed: {reason}");
            Ok((now.rank() >= status.rank()).then_some(delivery))
        })
        .await
    }
}

/// Lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The hex of the SHA-256 of these bytes.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}
