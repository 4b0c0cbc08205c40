use crate::{
    ClientError, RelayClient,
    transport::{Call, Signing},
};
use http::Method;
use sealpost_proto::{
    EnvelopeId, MailboxRef, Origin, SendKey, b64,
    batch_size::transfer_time,
    limits::RELAY_CALL_TIMEOUT,
    wire::{
        EnvelopeStatus, PROOF_HEADER, StatusRequest, StatusResponse, SubmitRequest, SubmitResponse,
        SubmittedEnvelope,
    },
};
use sealpost_signatures::proofs;
use std::time::Duration;

impl RelayClient {
    /// `POST /v1/envelopes`: submits up to 100 envelopes and 4 MiB; returns one result per
    /// envelope, in order. A single envelope has as long as the slowest supported link needs for
    /// it. Several have the ordinary timeout: the caller can submit fewer.
    ///
    /// # Errors
    /// [`ClientError`] if the whole request failed; the response has the outcome of each envelope.
    pub async fn submit(&self, request: &SubmitRequest) -> Result<SubmitResponse, ClientError> {
        let call = Call::new(Method::POST, "/v1/envelopes", Signing::Session);
        let mut call = call.json(request)?.recurring();
        call.timeout = submission_timeout(&request.envelopes);
        self.call_json(&call).await
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

/// Returns the timeout of a submission. A single envelope cannot be divided.
fn submission_timeout(envelopes: &[SubmittedEnvelope]) -> Duration {
    match envelopes {
        [single] => RELAY_CALL_TIMEOUT + transfer_time(single.bytes.as_slice().len()),
        _ => RELAY_CALL_TIMEOUT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sealpost_proto::{MailboxId, limits::ENVELOPE_BYTES_MAX};

    #[test]
    fn single_envelopes_have_time_on_slow_links() {
        let envelope = SubmittedEnvelope {
            id: EnvelopeId::from_bytes([1; 16]),
            mailbox: MailboxRef {
                relay: Origin::parse("https://relay.example").unwrap(),
                id: MailboxId::from_bytes([2; 16]),
            },
            proof: vec![0; 16].into(),
            expires_at: None,
            bytes: vec![0; ENVELOPE_BYTES_MAX].into(),
        };
        let several = [envelope.clone(), envelope];
        assert_eq!(submission_timeout(&several), RELAY_CALL_TIMEOUT);
        let time = submission_timeout(&several[..1]);
        assert_eq!(time.as_secs(), 30 + 73);
    }
}
