//! What a story takes place in: a temporary folder, a relay and the nodes that join.

use crate::{
    api::Api,
    files::Sample,
    node::{Delivery, Node},
    process::{Program, tail},
    relay::Relay,
};
use anyhow::Context as _;
use sealpost_node::api::model::{Connection, Message, SendMessage};
use std::{
    fs,
    io::{Write as _, stderr},
    path::{Path, PathBuf},
};
use tempfile::TempDir;

/// A world. Unless it is [finished](World::finish), its logs are shown at its end.
#[derive(Debug)]
pub struct World {
    program: Program,
    /// The relay, not started yet.
    pub relay: Relay,
    is_finished: bool,
    folder: TempDir,
}

impl World {
    /// A world in which nothing runs yet.
    ///
    /// # Errors
    /// When there is no room for it.
    pub fn begin(program: Program) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("sealpost-")
            .tempdir()
            .context("a temporary folder")?;
        let relay = Relay::new(&program, folder.path())?;
        Ok(Self {
            program,
            relay,
            is_finished: false,
            folder,
        })
    }

    /// A world in which the relay runs.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn with_relay(program: Program) -> anyhow::Result<Self> {
        let mut world = Self::begin(program)?;
        world.relay.start().await?;
        Ok(world)
    }

    /// The program that plays the roles.
    #[must_use]
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Makes a node at the relay and starts it.
    ///
    /// # Errors
    /// When it does not start or does not reach the relay.
    pub async fn node(&self, name: &str, delivery: Delivery) -> anyhow::Result<Node> {
        let mut node = Node::init(
            &self.program,
            self.folder(),
            name,
            &self.relay.origin(),
            delivery,
        )
        .await?;
        node.start().await?;
        node.connected().await?;
        Ok(node)
    }

    /// The good end: stops the relay and shows nothing.
    ///
    /// # Errors
    /// When the relay does not stop.
    pub async fn finish(mut self) -> anyhow::Result<()> {
        self.relay.stop().await?;
        self.is_finished = true;
        Ok(())
    }

    fn logs(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.folder()).into_iter().flatten().flatten();
        entries
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|end| end == "log"))
            .collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if self.is_finished {
            return;
        }
        for log in self.logs() {
            // When standard error is closed there is nobody to tell.
            let _ = writeln!(stderr(), "{}", tail(&log));
        }
    }
}

/// Two nodes that are connected: what each calls the connection.
#[derive(Debug, Clone)]
pub struct Pair {
    /// At the side that made the invite.
    pub inviter: Connection,
    /// At the side that took it up.
    pub acceptor: Connection,
}

/// Connects two nodes by an invite that accepts by itself.
///
/// # Errors
/// When they do not come together.
pub async fn pair(inviter: &Node, acceptor: &Node) -> anyhow::Result<Pair> {
    let note = format!("{} asks {}", acceptor.home().name(), inviter.home().name());
    pair_with_note(inviter, acceptor, &note).await
}

/// The same, for nodes that are connected more than once: each request has a note of its own.
///
/// # Errors
/// When they do not come together.
pub async fn pair_with_note(inviter: &Node, acceptor: &Node, note: &str) -> anyhow::Result<Pair> {
    let (_, url) = inviter.api()?.invite(true).await?;
    let asked = acceptor.api()?.connect(&url, note).await?;
    let request = inviter.api()?.request(note).await?;
    Ok(Pair {
        inviter: inviter.api()?.accepted(&request.id).await?,
        acceptor: acceptor.api()?.accepted(&asked.id).await?,
    })
}

/// Stages files and sends them with a text to one recipient.
///
/// # Errors
/// What the node refuses.
pub async fn send(api: &Api, to: &str, text: &str, files: &[Sample]) -> anyhow::Result<Message> {
    let mut attachments = Vec::new();
    for file in files {
        attachments.push(api.stage(&file.name, file.content.clone()).await?.id);
    }
    let request = SendMessage {
        to: vec![to.to_owned()],
        content: text.to_owned(),
        attachments,
        ..SendMessage::default()
    };
    api.send(&request)
        .await?
        .into_iter()
        .next()
        .context("a send without a message")
}
