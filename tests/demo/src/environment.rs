//! The environment of a scenario: a temporary directory, a relay and nodes.

use crate::{
    api::Api,
    files::Sample,
    node::{DeliveryMode, Node},
    process::{Program, log_tail},
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

/// Environment of a scenario. If it is dropped without [`Environment::finish`], it prints the logs.
#[derive(Debug)]
pub struct Environment {
    program: Program,
    /// The relay.
    pub relay: Relay,
    is_finished: bool,
    directory: TempDir,
}

impl Environment {
    /// Creates an environment in which nothing runs yet.
    pub fn new(program: Program) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("sealpost-")
            .tempdir()
            .context("a temporary directory cannot be created")?;
        let relay = Relay::new(&program, directory.path())?;
        Ok(Self {
            program,
            relay,
            is_finished: false,
            directory,
        })
    }

    /// Creates an environment with a running relay.
    pub async fn with_relay(program: Program) -> anyhow::Result<Self> {
        let mut env = Self::new(program)?;
        env.relay.start().await?;
        Ok(env)
    }

    /// Returns the program that runs the roles.
    #[must_use]
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Returns the directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Creates a node, starts it and waits until it has connected to the relay.
    pub async fn start_node(&self, name: &str, delivery: DeliveryMode) -> anyhow::Result<Node> {
        let mut node = Node::init(
            &self.program,
            self.directory(),
            name,
            &self.relay.origin(),
            delivery,
        )
        .await?;
        node.start().await?;
        node.wait_until_connected().await?;
        Ok(node)
    }

    /// Stops the relay without printing the logs.
    pub async fn finish(mut self) -> anyhow::Result<()> {
        self.relay.stop().await?;
        self.is_finished = true;
        Ok(())
    }

    fn find_logs(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.directory())
            .into_iter()
            .flatten()
            .flatten();
        entries
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|end| end == "log"))
            .collect()
    }
}

impl Drop for Environment {
    fn drop(&mut self) {
        if self.is_finished {
            return;
        }
        for log in self.find_logs() {
            // If standard error is closed, the logs cannot be shown anywhere.
            let _ = writeln!(stderr(), "{}", log_tail(&log));
        }
    }
}

/// Connection between two nodes, as each of them sees it.
#[derive(Debug, Clone)]
pub struct Pair {
    /// The connection at the inviter.
    pub inviter: Connection,
    /// The connection at the node that used the invite.
    pub invitee: Connection,
}

/// Connects two nodes with an invite that accepts automatically.
pub async fn pair(inviter: &Node, invitee: &Node) -> anyhow::Result<Pair> {
    let note = format!(
        "{} requests {}",
        invitee.home().name(),
        inviter.home().name()
    );
    pair_with_note(inviter, invitee, &note).await
}

/// Connects two nodes with this note, which must be unique if they connect more than once.
pub async fn pair_with_note(inviter: &Node, invitee: &Node, note: &str) -> anyhow::Result<Pair> {
    let (_, url) = inviter.api()?.create_invite(true).await?;
    let requested = invitee.api()?.connect(&url, note).await?;
    let request = inviter.api()?.wait_for_request(note).await?;
    Ok(Pair {
        inviter: inviter.api()?.wait_for_accepted(&request.id).await?,
        invitee: invitee.api()?.wait_for_accepted(&requested.id).await?,
    })
}

/// Stages files and sends them with a text to one recipient.
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
        .context("the response contains no message")
}
