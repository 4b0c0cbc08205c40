//! A peer that speaks the protocol correctly and sends what no node of ours would send: many
//! requests under different identities of one account, and any text.

use crate::account::{Account, pull, submit};
use anyhow::{Context as _, bail, ensure};
use sealpost_e2ee::{
    Identity,
    invite::Invite,
    payload::{ContentType, Message},
    plaintext::Kind,
};
use sealpost_node_core::connection::{Connection, Incoming, Outgoing, Phase, RequestArgs};
use sealpost_proto::{
    B64, EnvelopeId, MessageId,
    limits::PULL_WAIT_MAX,
    wire::{OpenMailbox, SealedPrekeys, SubmittedEnvelope},
};
use sealpost_service::{Clock as _, SystemClock, entropy, random_array};
use sealpost_signatures::proofs;

/// Hostile peer of one node.
pub(crate) struct HostilePeer {
    identity: Identity,
    connection: Connection,
}

impl HostilePeer {
    /// Creates an identity that uses an invite, and the envelope with its request. The envelope is
    /// not submitted yet.
    pub(crate) async fn request(
        account: &Account,
        invite: &Invite,
        name: &str,
    ) -> anyhow::Result<(Self, SubmittedEnvelope)> {
        let (now, mut rng) = (SystemClock.now(), entropy());
        let identity = Identity::generate(&mut rng);
        let card = identity.sign_card(name, now).context("a card")?;
        let sealed = account
            .client
            .fetch_prekeys(invite.mailbox(), &invite.send_key())
            .await?;
        let args = RequestArgs {
            identity: &identity,
            card: &card,
            relay: account.client.origin(),
            invite,
            sealed_prekeys: sealed.sealed.as_slice(),
            note: Some(format!("{name} would like to connect")),
            now,
        };
        let requested = Connection::request(&args, &mut rng)?;
        let mut peer = Self {
            identity,
            connection: requested.connection,
        };
        let mailbox = requested.publication.mailbox;
        let keys = OpenMailbox {
            send_keys: vec![mailbox.send_key],
            sender_envelopes_max: None,
        };
        account.client.open_mailbox(mailbox.id, &keys).await?;
        let sealed = SealedPrekeys {
            sealed: B64(requested.publication.sealed_bundle.to_vec()),
        };
        account.client.publish_prekeys(mailbox.id, &sealed).await?;
        let envelope = peer.seal(Kind::CONNECTION_REQUEST, requested.body)?;
        Ok((peer, envelope))
    }

    /// Connects to a node whose invite accepts every request.
    pub(crate) async fn connect(account: &Account, invite: &Invite) -> anyhow::Result<Self> {
        let (mut peer, request) = Self::request(account, invite, "Mallory").await?;
        submit(&account.client, vec![request]).await?;
        while peer.connection.phase != Phase::Accepted {
            let batch = pull(&account.client, PULL_WAIT_MAX).await?;
            ensure!(!batch.deliveries.is_empty(), "the node did not respond");
            for delivery in &batch.deliveries {
                peer.receive(delivery.bytes.as_slice())?;
            }
            let results = crate::endpoint::store_all(&batch);
            account.client.acknowledge(&results).await?;
        }
        Ok(peer)
    }

    /// Creates an envelope with a message of this format.
    pub(crate) fn message(
        &mut self,
        content: &str,
        content_type: ContentType,
    ) -> anyhow::Result<SubmittedEnvelope> {
        let message = Message {
            content_type,
            ..Message::text(content)
        };
        self.seal(Kind::MESSAGE, message.encode())
    }

    /// Creates an envelope with a payload of any kind.
    pub(crate) fn seal(&mut self, kind: Kind, body: Vec<u8>) -> anyhow::Result<SubmittedEnvelope> {
        let (now, mut rng) = (SystemClock.now(), entropy());
        let outgoing = Outgoing {
            kind,
            message_id: MessageId::from_bytes(random_array()),
            first_sealing: None,
            body,
        };
        let sealed = self.connection.seal(&outgoing, now, &mut rng)?;
        let id = EnvelopeId::new(now, random_array());
        let proof = proofs::prove_post(&sealed.send_key, sealed.mailbox.id, id, &sealed.envelope);
        Ok(SubmittedEnvelope {
            id,
            mailbox: sealed.mailbox,
            proof: B64(proof.to_vec()),
            expires_at: sealed.expires_at,
            bytes: B64(sealed.envelope),
        })
    }

    fn receive(&mut self, envelope: &[u8]) -> anyhow::Result<()> {
        let (now, mut rng) = (SystemClock.now(), entropy());
        match self
            .connection
            .receive(&self.identity, envelope, now, now, &mut rng)
        {
            Incoming::Opened(opened) => self.connection = opened.connection,
            Incoming::Rejected(rejected) => {
                bail!("an envelope was rejected: {:?}", rejected.reason)
            }
            Incoming::OuterLayerInvalid => bail!("an envelope cannot be opened"),
        }
        Ok(())
    }
}
