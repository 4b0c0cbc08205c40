//! Relay jobs that a refusal ends, and what the node does instead.

use crate::{
    fault::Fault,
    identity::NodeIdentity,
    pairing,
    store::{
        Tx, connections, invites,
        relay_jobs::{self, JobKind, JobSubject},
    },
};
use sealpost_node_core::model::{ConnectionId, HealthState, InviteStatus};
use sealpost_proto::FailureCode;

/// Ends a job that the relay has refused with a code that ends it
/// ([`JobKind::is_ended_by`](relay_jobs::JobKind::is_ended_by)).
pub fn end(
    tx: &mut Tx<'_>,
    identity: &NodeIdentity,
    job: i64,
    kind: JobKind,
    subject: JobSubject,
) -> Result<(), Fault> {
    relay_jobs::remove(tx, job)?;
    match (kind, subject) {
        (JobKind::PublishPrekeys, _) => pairing::reopen_mailbox(tx, identity, subject),
        (JobKind::StartSession, JobSubject::Connection(id)) => abandon_session(tx, id),
        (JobKind::OpenMailbox, _) => close_again(tx, subject),
        (JobKind::StartSession | JobKind::CloseMailbox, _) => Ok(()),
    }
}

/// Records that no session can be started, because the peer has closed its mailbox. Without any
/// session, nothing can be sent, so the messages fail.
fn abandon_session(tx: &Tx<'_>, id: ConnectionId) -> Result<(), Fault> {
    let loaded = connections::load_secrets(tx, id)?;
    if loaded.secrets.sessions.current_id().is_some() {
        return Ok(());
    }
    let why = connections::CLOSED_BY_PARTNER;
    connections::set_health(tx, id, HealthState::Broken, Some(why))?;
    pairing::fail_deliveries(tx, id, FailureCode::MailboxUnknown)
}

/// Closes an invite or a connection whose mailbox was deleted: a person blocked the connection, or
/// the invite was used or revoked, and then this node was rolled back to a time before that.
fn close_again(tx: &mut Tx<'_>, subject: JobSubject) -> Result<(), Fault> {
    tracing::warn!(%subject, "closed, because its mailbox was deleted after the backup");
    relay_jobs::remove_for_subject(tx, subject)?;
    match subject {
        JobSubject::Connection(id) => pairing::block(tx, id),
        JobSubject::Invite(id) => invites::close(tx, id, InviteStatus::Revoked).map(|_| ()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        healing, recovery,
        testing::{Pair, TestNode, connected_pair, settle},
    };
    use sealpost_e2ee::sessions::InitReason;
    use sealpost_node_core::model::ConnectionStatus;
    use sealpost_proto::DeliveryStatus;

    /// Ends the first job of a kind of Bolt's connection.
    fn end_first(bolt: &mut TestNode, id: ConnectionId, kind: JobKind) {
        let sql = format!(
            "SELECT min(id) FROM relay_jobs WHERE kind = '{}'",
            kind.as_str()
        );
        let job = bolt.query_number(&sql);
        bolt.step(|tx, identity| end(tx, identity, job, kind, id.into()));
    }

    #[test]
    fn messages_fail_without_session_and_mailbox() {
        let mut pair = connected_pair(904);
        let to_acme = pair.to_acme;
        let message = pair.bolt.send(to_acme, "hello");
        pair.bolt.step(|tx, _| {
            let loaded = connections::load_secrets(tx, to_acme)?;
            let now = tx.now;
            healing::queue_session(tx, &loaded, InitReason::Desync, now)
        });
        end_first(&mut pair.bolt, to_acme, JobKind::StartSession);
        let status = pair.bolt.delivery(&message).status;
        assert_eq!(status, DeliveryStatus::Pending, "the session remains");
        pair.bolt.step(recovery::recover);
        end_first(&mut pair.bolt, to_acme, JobKind::StartSession);
        let code = pair.bolt.delivery(&message).code;
        assert_eq!(code, Some(FailureCode::MailboxUnknown));
        let health = pair.bolt.connection(to_acme).health;
        assert_eq!(health, HealthState::Broken);
        assert!(pair.bolt.seal().is_empty());
    }

    #[test]
    fn lost_mailboxes_are_opened_again() {
        let mut pair = connected_pair(911);
        let Pair { bolt, to_acme, .. } = &mut pair;
        bolt.step(recovery::recover);
        let jobs = |bolt: &TestNode, kind: &str| {
            bolt.query_number(&format!(
                "SELECT count(*) FROM relay_jobs WHERE kind = '{kind}'"
            ))
        };
        assert_eq!(jobs(bolt, "open_mailbox"), 0);
        end_first(bolt, *to_acme, JobKind::PublishPrekeys);
        assert_eq!(jobs(bolt, "open_mailbox"), 1);
        assert_eq!(jobs(bolt, "publish_prekeys"), 1);
        assert_eq!(jobs(bolt, "start_session"), 1);
        bolt.advance(std::time::Duration::from_secs(60));
        pair.acme.send(pair.to_bolt, "hello");
        settle(&mut pair.bolt, &mut pair.acme);
        assert_eq!(pair.bolt.received_texts(), ["hello"]);
    }

    #[test]
    fn connections_with_deleted_mailboxes_are_closed_again() {
        let mut pair = connected_pair(913);
        let Pair { bolt, to_acme, .. } = &mut pair;
        let message = bolt.send(*to_acme, "hello");
        bolt.step(recovery::recover);
        end_first(bolt, *to_acme, JobKind::PublishPrekeys);
        end_first(bolt, *to_acme, JobKind::OpenMailbox);
        assert_eq!(bolt.connection(*to_acme).status, ConnectionStatus::Blocked);
        assert_eq!(bolt.delivery(&message).status, DeliveryStatus::Failed);
        let others = "SELECT count(*) FROM relay_jobs WHERE kind <> 'close_mailbox'";
        assert_eq!(bolt.query_number(others), 0);
    }

    #[test]
    fn invites_with_deleted_mailboxes_are_closed_again() {
        let mut acme = TestNode::new("Acme", 915);
        let (id, _, _) = acme.invite(true);
        let (job, kind) = (0, JobKind::OpenMailbox);
        acme.step(|tx, identity| end(tx, identity, job, kind, id.into()));
        let invite = acme.step(|tx, _| pairing::load_invite(tx, id));
        assert_eq!(invite.status, InviteStatus::Revoked);
        assert!(invite.issued.bundles.is_empty());
    }
}
