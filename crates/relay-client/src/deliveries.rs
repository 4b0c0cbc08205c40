use crate::{
    ClientError, RelayClient, ResponseBody,
    transport::{Call, Signing, parse_json},
};
use bytes::BytesMut;
use http::Method;
use sealpost_proto::{
    batch_size::transfer_time,
    limits::{PULL_GRACE, PULL_WAIT_MAX, RELAY_CALL_TIMEOUT},
    wire::{DeliveryBatch, DeliveryResults},
};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// Batch that was pulled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PulledBatch {
    /// The batch; it may be empty.
    pub batch: DeliveryBatch,
    /// Time in which the body of the response arrived.
    pub elapsed: Duration,
}

impl RelayClient {
    /// `GET /v1/deliveries`: waits up to `wait`, in whole seconds and up to
    /// [`PULL_WAIT_MAX`], for items of up to `bytes_max` bytes. The response has as long as the
    /// slowest supported link needs for it, and the lease as long as the caller then needs to store
    /// and acknowledge it.
    ///
    /// # Errors
    /// [`ClientError`] if the request fails.
    pub async fn pull(&self, wait: Duration, bytes_max: usize) -> Result<PulledBatch, ClientError> {
        let wait = wait.min(PULL_WAIT_MAX);
        let transfer_time = transfer_time(bytes_max);
        let lease = transfer_time + PULL_GRACE + RELAY_CALL_TIMEOUT;
        let mut call = Call::get(format!(
            "/v1/deliveries?wait={}&bytes={bytes_max}&within={}",
            wait.as_secs(),
            lease.as_secs()
        ))
        .recurring();
        call.timeout = wait + PULL_GRACE + transfer_time;
        let response = timeout(wait + PULL_GRACE, self.call_streaming(&call));
        let response = response.await.map_err(|_| ClientError::no_response())??;
        let started = Instant::now();
        let batch: DeliveryBatch = parse_json(&read_steadily(response).await?)?;
        let elapsed = started.elapsed();
        self.set_webhook_state(batch.webhook);
        Ok(PulledBatch { batch, elapsed })
    }

    /// `POST /v1/deliveries/ack`: reports the outcomes of a pulled batch. Repeating it or sending
    /// it late changes nothing.
    ///
    /// # Errors
    /// [`ClientError`] if the request fails.
    pub async fn acknowledge(&self, results: &DeliveryResults) -> Result<(), ClientError> {
        let call = Call::new(Method::POST, "/v1/deliveries/ack", Signing::Session).json(results)?;
        self.call(&call.recurring()).await.map(|_| ())
    }
}

/// Reads a body that may take long, but not one that stops arriving.
async fn read_steadily(mut response: ResponseBody) -> Result<BytesMut, ClientError> {
    let mut body = BytesMut::new();
    loop {
        let next = timeout(RELAY_CALL_TIMEOUT, response.next());
        match next.await.map_err(|_| ClientError::no_response())?? {
            Some(chunk) => body.extend_from_slice(&chunk),
            None => return Ok(body),
        }
    }
}
