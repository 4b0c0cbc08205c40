//! The requests of nodes and the responses of the relay.

use sealpost_proto::{
    ErrorCode, MailboxId, SendKey,
    wire::{DeliveryBatch, DeliveryResults, SubmitRequest, SubmitResponse},
};
use std::fmt;

/// Request of a node.
#[derive(Clone)]
pub(crate) enum Request {
    Submit(SubmitRequest),
    Pull,
    Acknowledge(DeliveryResults),
    OpenMailbox(MailboxId, SendKey),
    CloseMailbox(MailboxId),
    PublishPrekeys(MailboxId, Vec<u8>),
    Prekeys(MailboxId),
}

/// Response of the relay.
#[derive(Clone)]
pub(crate) enum Response {
    Submitted(SubmitResponse),
    Pulled(DeliveryBatch),
    Prekeys(Vec<u8>),
    Done,
    Refused(ErrorCode),
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Submit(request) => write!(f, "submit {}", request.envelopes.len()),
            Self::Pull => f.write_str("pull"),
            Self::Acknowledge(results) => write!(
                f,
                "acknowledge {} of fence {}",
                results.results.len(),
                results.fence
            ),
            Self::OpenMailbox(mailbox, _) => write!(f, "open {mailbox}"),
            Self::CloseMailbox(mailbox) => write!(f, "close {mailbox}"),
            Self::PublishPrekeys(mailbox, _) => write!(f, "publish prekeys in {mailbox}"),
            Self::Prekeys(mailbox) => write!(f, "fetch prekeys from {mailbox}"),
        }
    }
}

impl fmt::Display for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Submitted(response) => write!(f, "{:?}", outcomes(response)),
            Self::Pulled(batch) => write!(
                f,
                "{} envelopes, {} events",
                batch.deliveries.len(),
                batch.events.len()
            ),
            Self::Prekeys(_) => f.write_str("prekeys"),
            Self::Done => f.write_str("done"),
            Self::Refused(code) => write!(f, "refused: {code}"),
        }
    }
}

fn outcomes(response: &SubmitResponse) -> Vec<&'static str> {
    use sealpost_proto::wire::SubmitOutcome;
    let name = |outcome: &SubmitOutcome| match outcome {
        SubmitOutcome::Accepted { .. } => "accepted",
        SubmitOutcome::Duplicate { .. } => "duplicate",
        SubmitOutcome::Refused { .. } => "refused",
    };
    response
        .results
        .iter()
        .map(|result| name(&result.outcome))
        .collect()
}
