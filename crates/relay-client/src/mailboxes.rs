use crate::{
    ClientError, RelayClient,
    transport::{Call, Signing},
};
use http::Method;
use sealpost_proto::{
    ErrorCode, MailboxId, MailboxRef, SendKey, b64,
    wire::{Mailboxes, OpenMailbox, PROOF_HEADER, PROOF_TIME_HEADER, SealedPrekeys},
};
use sealpost_signatures::proofs;

impl RelayClient {
    /// `GET /v1/mailboxes`: fetches one page of the account's mailboxes, ordered by id and starting
    /// after `after`.
    ///
    /// # Errors
    /// [`ClientError`] if the request fails.
    pub async fn list_mailboxes(&self, after: Option<MailboxId>) -> Result<Mailboxes, ClientError> {
        let query = after.map(|id| format!("?after={id}")).unwrap_or_default();
        self.call_json(&Call::get(format!("/v1/mailboxes{query}")))
            .await
    }

    /// `PUT /v1/mailboxes/{id}`: opens a mailbox, or replaces its keys.
    ///
    /// # Errors
    /// `conflict`, `quota_exceeded`.
    pub async fn open_mailbox(&self, id: MailboxId, keys: &OpenMailbox) -> Result<(), ClientError> {
        let call =
            Call::new(Method::PUT, format!("/v1/mailboxes/{id}"), Signing::Account).json(keys)?;
        self.call(&call).await.map(|_| ())
    }

    /// `DELETE /v1/mailboxes/{id}`: closes a mailbox permanently, which blocks the peer. Closing a
    /// closed mailbox succeeds.
    ///
    /// # Errors
    /// [`ClientError`] if the request fails.
    pub async fn close_mailbox(&self, id: MailboxId) -> Result<(), ClientError> {
        self.call(&Call::new(
            Method::DELETE,
            format!("/v1/mailboxes/{id}"),
            Signing::Account,
        ))
        .await
        .map(|_| ())
    }

    /// `PUT /v1/mailboxes/{id}/prekeys`: publishes the sealed bundle of one of the account's
    /// mailboxes.
    ///
    /// # Errors
    /// `not_found` if the mailbox does not belong to the account.
    pub async fn publish_prekeys(
        &self,
        id: MailboxId,
        bundle: &SealedPrekeys,
    ) -> Result<(), ClientError> {
        let call = Call::new(
            Method::PUT,
            format!("/v1/mailboxes/{id}/prekeys"),
            Signing::Account,
        )
        .json(bundle)?;
        self.call(&call).await.map(|_| ())
    }

    /// `GET /v1/mailboxes/{id}/prekeys`: fetches the prekeys of a peer's mailbox, with a proof
    /// computed with its send key.
    ///
    /// # Errors
    /// `proof_invalid`, `mailbox_unknown`, `mailbox_closed`, `not_found` if none were published,
    /// `foreign_relay_unsupported`.
    pub async fn fetch_prekeys(
        &self,
        mailbox: &MailboxRef,
        key: &SendKey,
    ) -> Result<SealedPrekeys, ClientError> {
        let at = self.relay_now();
        let proof = proofs::prove_read(key, mailbox.id, at);
        let target = self.path_at(&mailbox.relay, &format!("mailboxes/{}/prekeys", mailbox.id));
        let call = Call::get(target)
            .header(PROOF_HEADER, &b64::encode(&proof))?
            .header(PROOF_TIME_HEADER, &at.as_millis().to_string())?;
        self.call_json(&call).await
    }

    /// `GET /v1/mailboxes/{id}/prekeys`: fetches the prekeys of one of the account's mailboxes.
    /// Returns `None` if none were published.
    ///
    /// # Errors
    /// `mailbox_unknown`, `mailbox_closed`.
    pub async fn fetch_own_prekeys(
        &self,
        id: MailboxId,
    ) -> Result<Option<SealedPrekeys>, ClientError> {
        match self
            .call_json(&Call::get(format!("/v1/mailboxes/{id}/prekeys")))
            .await
        {
            Ok(bundle) => Ok(Some(bundle)),
            Err(ClientError::Problem(problem)) if problem.code == ErrorCode::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}
