use crate::{
    ClientError, RelayClient,
    transport::{Call, Signing},
};
use http::Method;
use sealpost_proto::{
    limits::{PULL_GRACE, PULL_WAIT_MAX},
    wire::{DeliveryBatch, DeliveryResults},
};
use std::time::Duration;

impl RelayClient {
    /// `GET /v1/deliveries`: waits up to `wait`, in whole seconds and up to
    /// [`PULL_WAIT_MAX`], for items; the batch may be empty.
    ///
    /// # Errors
    /// [`ClientError`] if the request fails.
    pub async fn pull(&self, wait: Duration) -> Result<DeliveryBatch, ClientError> {
        let wait = wait.min(PULL_WAIT_MAX);
        let mut call = Call::get(format!("/v1/deliveries?wait={}", wait.as_secs()));
        call.timeout = wait + PULL_GRACE;
        self.call_json(&call).await
    }

    /// `POST /v1/deliveries/ack`: reports the outcomes of a pulled batch. Repeating it or sending
    /// it late changes nothing.
    ///
    /// # Errors
    /// [`ClientError`] if the request fails.
    pub async fn acknowledge(&self, results: &DeliveryResults) -> Result<(), ClientError> {
        let call = Call::new(Method::POST, "/v1/deliveries/ack", Signing::Session).json(results)?;
        self.call(&call).await.map(|_| ())
    }
}
