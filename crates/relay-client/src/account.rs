use crate::{
    ClientError, RelayClient,
    transport::{Call, FullResponse, Signing},
};
use http::{Method, header};
use sealpost_proto::{
    ErrorCode,
    wire::{
        Account, AccountChange, Checkpoint, RegisterRequest, Registered, WebhookState, WebhookTest,
        WellKnown,
    },
};

/// Checkpoint with the entity tag that the next change has to name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredCheckpoint {
    /// Checkpoint as the relay stores it.
    pub checkpoint: Checkpoint,
    /// Entity tag, including the quotes.
    pub tag: String,
}

/// `If-Match` of the first checkpoint of an account.
const NO_CHECKPOINT: &str = "\"none\"";

impl RelayClient {
    /// `GET /.well-known/sealpost`: describes the relay and its limits. Needs no account.
    ///
    /// # Errors
    /// Returns an error if there is no response, or if another server than a relay responds.
    pub async fn fetch_well_known(&self) -> Result<WellKnown, ClientError> {
        self.call_unsigned(&Call::get("/.well-known/sealpost"))
            .await?
            .json()
    }

    /// `POST /v1/accounts`: registers the account key; repeating it returns the same response.
    ///
    /// # Errors
    /// `registration_closed`, `registration_token_invalid`, `webhook_invalid`.
    pub async fn register(&self, request: &RegisterRequest) -> Result<Registered, ClientError> {
        self.call_json(&Call::new(Method::POST, "/v1/accounts", Signing::Account).json(request)?)
            .await
    }

    /// `GET /v1/account`: fetches the account's settings and state.
    ///
    /// # Errors
    /// [`ClientError`] if the request fails.
    pub async fn fetch_account(&self) -> Result<Account, ClientError> {
        self.call_json(&Call::get("/v1/account")).await
    }

    /// `PATCH /v1/account`: changes how the relay delivers.
    ///
    /// # Errors
    /// `webhook_invalid`.
    pub async fn change_account(&self, change: &AccountChange) -> Result<Account, ClientError> {
        self.call_json(&Call::new(Method::PATCH, "/v1/account", Signing::Account).json(change)?)
            .await
    }

    /// `DELETE /v1/account`: deletes the account with its mailboxes and blobs.
    ///
    /// # Errors
    /// [`ClientError`] if the request fails.
    pub async fn delete_account(&self) -> Result<(), ClientError> {
        self.call(&Call::new(Method::DELETE, "/v1/account", Signing::Account))
            .await
            .map(|_| ())
    }

    /// `POST /v1/account/webhook-test`: the relay calls the webhook with a challenge. The node must
    /// be listening.
    ///
    /// # Errors
    /// [`ClientError`] if the request fails; a failing webhook is a successful response.
    pub async fn test_webhook(&self) -> Result<WebhookTest, ClientError> {
        let target = "/v1/account/webhook-test";
        let call = Call::new(Method::POST, target, Signing::Account).recurring();
        let test: WebhookTest = self.call_json(&call).await?;
        self.set_webhook_state(test.ok.then_some(WebhookState::Active));
        Ok(test)
    }

    /// `GET /v1/account/checkpoint`: fetches the checkpoint, or `None` if none is stored yet.
    ///
    /// # Errors
    /// [`ClientError`] if the request fails.
    pub async fn fetch_checkpoint(&self) -> Result<Option<StoredCheckpoint>, ClientError> {
        match self.call(&Call::get("/v1/account/checkpoint")).await {
            Ok(response) => Ok(Some(StoredCheckpoint {
                checkpoint: response.json()?,
                tag: parse_tag(&response)?,
            })),
            Err(ClientError::Problem(problem)) if problem.code == ErrorCode::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// `PUT /v1/account/checkpoint`: replaces the checkpoint that has the tag `replaced`, or writes
    /// the first one. Returns the new tag.
    ///
    /// # Errors
    /// `precondition_failed` if another checkpoint is stored.
    pub async fn put_checkpoint(
        &self,
        checkpoint: &Checkpoint,
        replaced: Option<&str>,
    ) -> Result<String, ClientError> {
        let call = Call::new(Method::PUT, "/v1/account/checkpoint", Signing::Session)
            .json(checkpoint)?
            .header("if-match", replaced.unwrap_or(NO_CHECKPOINT))?;
        parse_tag(&self.call(&call).await?)
    }
}

fn parse_tag(response: &FullResponse) -> Result<String, ClientError> {
    let tag = response
        .headers
        .get(header::ETAG)
        .and_then(|tag| tag.to_str().ok());
    tag.map(str::to_owned)
        .ok_or_else(|| ClientError::unexpected("a checkpoint without a tag"))
}
