use crate::{
    ClientError, RelayClient,
    transport::{Call, Signing},
};
use http::Method;
use sealpost_proto::{
    EnvelopeId, MailboxRef, Origin, SendKey, b64,
    wire::{
        EnvelopeStatus, PROOF_HEADER, StatusRequest, StatusResponse, SubmitRequest, SubmitResponse,
    },
};
use sealpost_signatures::proofs;

impl RelayClient {
    /// `POST /v1/envelopes`: submits up to 100 envelopes and 4 MiB; returns one result per
    /// envelope, in order.
    ///
    /// # Errors
    /// [`ClientError`] if the whole request failed; the response has the outcome of each envelope.
    pub async fn submit(&self, request: &SubmitRequest) -> Result<SubmitResponse, ClientError> {
        let call = Call::new(Method::POST, "/v1/envelopes", Signing::Session).json(request)?;
        self.call_json(&call.recurring()).await
    }

    /// `GET /v1/envelopes/{id}`: returns the status of an envelope that this account sent to
    /// `mailbox`.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn query_envelope_status(
        &self,
        mailbox: &MailboxRef,
        id: EnvelopeId,
    ) -> Result<EnvelopeStatus, ClientError> {
        self.call_json(&Call::get(
            self.path_at(&mailbox.relay, &format!("envelopes/{id}")),
        ))
        .await
    }

    /// `POST /v1/envelopes/status`: returns the statuses of up to 100 envelopes that this account
    /// sent to mailboxes of `relay`; unknown ones are omitted.
    ///
    /// # Errors
    /// [`ClientError`] if the request fails.
    pub async fn query_envelope_statuses(
        &self,
        relay: &Origin,
        ids: Vec<EnvelopeId>,
    ) -> Result<Vec<EnvelopeStatus>, ClientError> {
        let call = Call::new(
            Method::POST,
            self.path_at(relay, "envelopes/status"),
            Signing::Session,
        );
        let response: StatusResponse = self.call_json(&call.json(&StatusRequest { ids })?).await?;
        Ok(response.envelopes)
    }

    /// `DELETE /v1/envelopes/{id}`: recalls an envelope before it is delivered, with a proof under
    /// the mailbox's key.
    ///
    /// # Errors
    /// `too_late`, `proof_invalid`, `not_found`.
    pub async fn recall(
        &self,
        mailbox: &MailboxRef,
        id: EnvelopeId,
        key: &SendKey,
    ) -> Result<(), ClientError> {
        let target = self.path_at(&mailbox.relay, &format!("envelopes/{id}"));
        let proof = proofs::prove_recall(key, mailbox.id, id);
        let call = Call::new(Method::DELETE, target, Signing::Session)
            .header(PROOF_HEADER, &b64::encode(&proof))?;
        self.call(&call).await.map(|_| ())
    }
}
