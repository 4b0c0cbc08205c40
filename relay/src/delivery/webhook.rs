//! Webhook calls: signing, sending through the SSRF guard, and classification of the response.

use crate::{lease::Webhook, settings::LiveSettings, store::CallOutcome};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use sealpost_egress::{CallError, Request, Response};
use sealpost_proto::{
    Timestamp,
    time::millis,
    wire::{DeliveryBatch, DeliveryResults, WebhookCall},
};
use sealpost_relay_core::classify::{CallResult, Class, classify};
use sealpost_service::{Clock as _, SharedClock};
use sealpost_signatures::webhook::sign_webhook;
use std::time::{Duration, UNIX_EPOCH};
use url::Url;

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
        let response = tokio::time::timeout(timeout, self.send(webhook, id, now, body)).await;
        parse_response(response.unwrap_or(Err(CallError::Timeout)), now)
    }

    /// Signs and sends a body.
    pub(crate) async fn send(
        &self,
        webhook: &Webhook,
        id: &str,
        now: Timestamp,
        body: Vec<u8>,
    ) -> Result<Response, CallError> {
        let invalid = |reason| CallError::Url { reason };
        let url = Url::parse(&webhook.url).map_err(|_| invalid("it does not parse"))?;
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
            .map_err(|_| invalid("its headers cannot be written"))?;
        let request = Request {
            method: Method::POST,
            url: &url,
            headers,
            body: Bytes::from(body),
        };
        self.settings.load().webhook_client.call(request).await
    }
}

fn parse_response(response: Result<Response, CallError>, now: Timestamp) -> CallOutcome {
    let response = match response {
        Ok(response) => response,
        Err(error) => {
            let class = classify(classify_error(&error));
            return CallOutcome {
                class,
                results: Vec::new(),
                reason: Some(error.reason().to_owned()),
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
        | Class::EndpointError
        | Class::RetryAfter(_)
        | Class::Refused
        | Class::Gone => Some(format!("the endpoint responded with {}", response.status)),
    };
    CallOutcome {
        class,
        results: results.map(|results| results.results).unwrap_or_default(),
        reason,
    }
}

const fn classify_error(error: &CallError) -> CallResult {
    match error {
        CallError::Url { .. }
        | CallError::Forbidden { .. }
        | CallError::Dns
        | CallError::Connect { .. }
        | CallError::Tls { .. } => CallResult::NotConnected,
        CallError::Timeout => CallResult::TimedOut,
        CallError::Http => CallResult::Interrupted,
    }
}

/// Parses the header `Retry-After`: seconds or a date (RFC 9110, section 10.2.3).
fn parse_retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => {
            let at = httpdate::parse_http_date(text)
                .ok()?
                .duration_since(UNIX_EPOCH)
                .ok()?;
            Some(Timestamp::from_millis(millis(at)).since(now))
        }
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
    fn interrupted_calls_are_endpoint_errors() {
        assert_eq!(
            parse_response(Err(CallError::Dns), NOW).class,
            Class::Unreachable
        );
        assert_eq!(
            parse_response(Err(CallError::Timeout), NOW).class,
            Class::Unreachable
        );
        assert_eq!(
            parse_response(Err(CallError::Http), NOW).class,
            Class::EndpointError
        );
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        for (text, seconds) in [
            ("120", Some(120)),
            (" 7 ", Some(7)),
            ("Wed, 01 Jan 2025 00:02:00 GMT", Some(120)),
            ("Wed, 01 Jan 2020 00:00:00 GMT", Some(0)),
            ("-1", None),
            ("soon", None),
        ] {
            let headers = [(header::RETRY_AFTER, HeaderValue::from_static(text))]
                .into_iter()
                .collect();
            assert_eq!(
                parse_retry_after(&headers, NOW),
                seconds.map(Duration::from_secs),
                "{text}"
            );
        }
    }
}
