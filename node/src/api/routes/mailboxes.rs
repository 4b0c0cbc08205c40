//! `/v1/mailboxes/unknown`: mailboxes at the relay that this node does not know.

use super::{ApiResult, ErrorResponse};
use crate::{
    api::{
        iso::Iso,
        model::{Page, UnknownMailbox},
        problem::{Problem, ProblemCode},
    },
    daemon::{MailboxError, UnknownMailboxes, format_mailbox_id},
    fault::Fault,
};
use axum::{
    Json,
    extract::{Path, State},
};
use http::StatusCode;
use std::sync::Arc;

/// `GET /v1/mailboxes/unknown`
pub(super) async fn list_unknown(
    State(unknown): State<Arc<UnknownMailboxes>>,
) -> ApiResult<Json<Page<UnknownMailbox>>> {
    let found = unknown.find().await?.into_iter();
    let items = found.map(|mailbox| UnknownMailbox {
        id: format_mailbox_id(&mailbox.id),
        created_at: Iso(mailbox.created_at),
        envelopes: mailbox.envelopes,
    });
    Ok(Json(Page {
        items: items.collect(),
        next: None,
    }))
}

/// `DELETE /v1/mailboxes/unknown/{id}`: closes the mailbox permanently.
pub(super) async fn close_unknown(
    State(unknown): State<Arc<UnknownMailboxes>>,
    Path(id): Path<String>,
) -> ApiResult<StatusCode> {
    if unknown.close(id.trim()).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Fault::not_found("unknown mailbox", format_args!("{id:?}")).into())
    }
}

impl From<MailboxError> for ErrorResponse {
    fn from(error: MailboxError) -> Self {
        match error {
            MailboxError::Fault(fault) => fault.into(),
            MailboxError::Relay(error) => {
                let detail = format!("the relay does not list the mailboxes: {error}");
                Problem::new(ProblemCode::Unavailable, detail)
                    .next("try again when the relay is reachable")
                    .into()
            }
        }
    }
}
