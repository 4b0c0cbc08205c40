//! Webhook calls: signing, sending through the SSRF guard, and classification of the response.

use crate::{lease::Webhook, settings::LiveSettings, store::CallOutcome};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use sealpost_egress::{CallError, Request, Response};
use sealpost_proto::{
    Timestamp,
    wire::{DeliveryBatch, DeliveryResults, WebhookCall},
};
use sealpost_relay_core::classify::{CallResult, Class, classify};
use sealpost_service::{Clock as _, SharedClock, http::parse_retry_after};
use sealpost_signatures::webhook::sign_webhook;
use std::time::Duration;
use tokio::time::Instant;

/// Client that calls webhooks.
#[derive(Clone)]
pub(crate) struct WebhookClient {
    pub(crate) settings: LiveSettings,
    pub(crate) clock: SharedClock,
}

impl WebhookClient {
    /// Calls a webhook with a batch.
    pub(crate) async fn deliver(
        &self,
        webhook: &Webhook,
        id: &str,
        data: DeliveryBatch,
        timeout: Duration,
    ) -> CallOutcome {
        let now = self.clock.now();
        let call = WebhookCall::Deliveries {
            timestamp: now,
            data,
        };
        let body = serde_json::to_vec(&call).unwrap_or_default();
        let started = Instant::now();
        let response = self.send(webhook, id, now, body, timeout).await;
        parse_response(response, now, started.elapsed())
    }

    /// Signs and sends a body.
    pub(crate) async fn send(
        &self,
        webhook: &Webhook,
        id: &str,
        now: Timestamp,
        body: Vec<u8>,
        timeout: Duration,
    ) -> Result<Response, CallError> {
        let mut headers = HeaderMap::new();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        headers.insert(
            header::USER_AGENT,
            HeaderValue::from_static("sealpost-relay"),
        );
        let signed = sign_webhook(&webhook.secret, id, now, &body);
        signed
            .insert_into(&mut headers)
            .map_err(|_| CallError::Url {
                reason: "its headers cannot be written",
            })?;
        let request = Request {
            method: Method::POST,
            url: webhook.url.as_url(),
            headers,
            body: Bytes::from(body),
        };
        let settings = self.settings.load();
        tokio::time::timeout(timeout, settings.webhook_client.call(request))
            .await
            .unwrap_or(Err(CallError::Timeout))
    }
}

fn parse_response(
    response: Result<Response, CallError>,
    now: Timestamp,
    elapsed: Duration,
) -> CallOutcome {
    let response = match response {
        Ok(response) => response,
        Err(error) => {
            let class = classify(classify_error(&error));
            return CallOutcome {
                class,
                results: Vec::new(),
                reason: Some(error.reason().to_owned()),
                elapsed,
            };
        }
    };
    let results = (response.status == 200 && !response.is_truncated)
        .then(|| serde_json::from_slice::<DeliveryResults>(&response.body).ok())
        .flatten();
    let class = classify(CallResult::Status {
        status: response.status,
        retry_after: parse_retry_after(&response.headers, now),
        is_parseable: results.is_some(),
    });
    let reason = match class {
        Class::Succeeded => None,
        Class::EndpointError if response.status == 200 => {
            Some("the endpoint's response does not parse".to_owned())
        }
        Class::Unreachable
        | Class::TimedOut
        | Class::Unavailable
        | Class::EndpointError
        | Class::TooLarge
        | Class::RetryAfter(_)
        | Class::Refused
        | Class::Gone => Some(format!("the endpoint responded with {}", response.status)),
    };
    CallOutcome {
        class,
        results: results.map(|results| results.results).unwrap_or_default(),
        reason,
        elapsed,
    }
}

const fn classify_error(error: &CallError) -> CallResult {
    match error {
        CallError::Url { .. }
        | CallError::Forbidden { .. }
        | CallError::Dns
        | CallError::Connect { .. }
        | CallError::Certificate { .. }
        | CallError::Tls { .. } => CallResult::NotConnected,
        CallError::Timeout => CallResult::TimedOut,
        CallError::Http => CallResult::Interrupted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2025-01-01T00:00:00Z
    const NOW: Timestamp = Timestamp::from_millis(1_735_689_600_000);

    fn outcome_of(status: u16, body: &'static str) -> CallOutcome {
        let mut headers = HeaderMap::new();
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("30"));
        parse_response(
            Ok(Response {
                status,
                headers,
                body: Bytes::from_static(body.as_bytes()),
                is_truncated: false,
            }),
            NOW,
            Duration::ZERO,
        )
    }

    #[test]
    fn only_a_parsable_200_succeeds() {
        let good = outcome_of(
            200,
            r#"{"lease":1,"results":[{"id":1,"outcome":"stored"}]}"#,
        );
        assert_eq!(
            (good.class, good.results.len(), good.reason),
            (Class::Succeeded, 1, None)
        );
        let unparsable = outcome_of(200, "<html>");
        assert_eq!(unparsable.class, Class::EndpointError);
        assert!(unparsable.reason.unwrap().contains("does not parse"));
        let busy = outcome_of(503, "");
        assert_eq!(busy.class, Class::RetryAfter(Duration::from_secs(30)));
        assert_eq!(
            busy.reason.as_deref(),
            Some("the endpoint responded with 503")
        );
        assert_eq!(outcome_of(404, "").class, Class::Refused);
    }

    #[test]
    fn calls_without_response_are_classified() {
        for (error, class) in [
            (CallError::Dns, Class::Unreachable),
            (CallError::Timeout, Class::TimedOut),
            (CallError::Http, Class::EndpointError),
        ] {
            let outcome = parse_response(Err(error), NOW, Duration::ZERO);
            assert_eq!(outcome.class, class);
        }
    }
}
