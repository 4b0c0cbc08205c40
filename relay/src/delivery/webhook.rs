//! One call of a webhook: signed, guarded, and read as what it means for the lane.

use crate::{relay::Relay, store::Webhook};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use sealpost_egress::{Answer, CallError, Request};
use sealpost_proto::{
    Timestamp,
    time::millis,
    wire::{DeliveryBatch, DeliveryResult, DeliveryResults, WebhookCall},
};
use sealpost_relay_core::classify::{Call, Class, classify};
use sealpost_signatures::webhook::sign_webhook;
use std::time::{Duration, UNIX_EPOCH};
use url::Url;

/// What a call came to.
#[derive(Debug)]
pub(crate) struct Called {
    pub(crate) class: Class,
    /// With [`Class::Answered`].
    pub(crate) results: Vec<DeliveryResult>,
    /// In words that strangers may read, what went wrong.
    pub(crate) reason: Option<String>,
}

impl Called {
    /// The account has no webhook any more.
    pub(crate) fn without_webhook() -> Self {
        Self {
            class: Class::Unreachable,
            results: Vec::new(),
            reason: Some("there is no endpoint".to_owned()),
        }
    }
}

/// Calls a webhook with a batch; it may take so much time.
pub(crate) async fn deliver(
    relay: &Relay,
    target: &Webhook,
    id: &str,
    data: DeliveryBatch,
    time: Duration,
) -> Called {
    let now = relay.now();
    let body = serde_json::to_vec(&WebhookCall::Deliveries {
        timestamp: now,
        data,
    })
    .unwrap_or_default();
    let answer = tokio::time::timeout(time, send(relay, target, id, now, body)).await;
    read(answer.unwrap_or(Err(CallError::Timeout)), now)
}

/// Signs and sends one body.
pub(crate) async fn send(
    relay: &Relay,
    target: &Webhook,
    id: &str,
    now: Timestamp,
    body: Vec<u8>,
) -> Result<Answer, CallError> {
    let invalid = |reason| CallError::Url { reason };
    let url = Url::parse(&target.url).map_err(|_| invalid("it does not parse"))?;
    let mut headers = HeaderMap::new();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(
        header::USER_AGENT,
        HeaderValue::from_static("sealpost-relay"),
    );
    let signed = sign_webhook(&target.secret, id, now, &body);
    signed
        .insert_into(&mut headers)
        .map_err(|_| invalid("its headers cannot be written"))?;
    relay
        .rules()
        .client
        .call(Request {
            method: Method::POST,
            url: &url,
            headers,
            body: Bytes::from(body),
        })
        .await
}

fn read(called: Result<Answer, CallError>, now: Timestamp) -> Called {
    let answer = match called {
        Ok(answer) => answer,
        Err(error) => {
            let class = classify(how_it_failed(&error));
            return Called {
                class,
                results: Vec::new(),
                reason: Some(error.reason().to_owned()),
            };
        }
    };
    let results = (answer.status == 200 && !answer.truncated)
        .then(|| serde_json::from_slice::<DeliveryResults>(&answer.body).ok())
        .flatten();
    let class = classify(Call::Status {
        status: answer.status,
        retry_after: retry_after(&answer.headers, now),
        parses: results.is_some(),
    });
    let reason = match class {
        Class::Answered => None,
        Class::Broke if answer.status == 200 => {
            Some("the endpoint's answer does not parse".to_owned())
        }
        Class::Unreachable
        | Class::Broke
        | Class::AskedToWait(_)
        | Class::Refused
        | Class::Gone => Some(format!("the endpoint answered {}", answer.status)),
    };
    Called {
        class,
        results: results.map(|results| results.results).unwrap_or_default(),
        reason,
    }
}

const fn how_it_failed(error: &CallError) -> Call {
    match error {
        CallError::Url { .. }
        | CallError::Forbidden { .. }
        | CallError::Dns
        | CallError::Connect { .. }
        | CallError::Tls { .. } => Call::NotConnected,
        CallError::Timeout => Call::TimedOut,
        CallError::Http => Call::Broken,
    }
}

/// The header `Retry-After`, as seconds or as a date (RFC 9110, section 10.2.3).
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
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

    fn answer(status: u16, body: &'static str) -> Called {
        let mut headers = HeaderMap::new();
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("30"));
        read(
            Ok(Answer {
                status,
                headers,
                body: Bytes::from_static(body.as_bytes()),
                truncated: false,
            }),
            NOW,
        )
    }

    #[test]
    fn only_a_200_that_parses_is_an_answer() {
        let good = answer(
            200,
            r#"{"lease":1,"results":[{"id":1,"outcome":"stored"}]}"#,
        );
        assert_eq!(
            (good.class, good.results.len(), good.reason),
            (Class::Answered, 1, None)
        );
        let junk = answer(200, "<html>");
        assert_eq!(junk.class, Class::Broke);
        assert!(junk.reason.unwrap().contains("does not parse"));
        let busy = answer(503, "");
        assert_eq!(busy.class, Class::AskedToWait(Duration::from_secs(30)));
        assert_eq!(busy.reason.as_deref(), Some("the endpoint answered 503"));
        assert_eq!(answer(404, "").class, Class::Refused);
    }

    #[test]
    fn what_never_answered_is_unreachable_and_what_broke_off_may_be_the_envelope() {
        assert_eq!(read(Err(CallError::Dns), NOW).class, Class::Unreachable);
        assert_eq!(read(Err(CallError::Timeout), NOW).class, Class::Unreachable);
        assert_eq!(read(Err(CallError::Http), NOW).class, Class::Broke);
    }

    #[test]
    fn a_wish_to_wait_is_seconds_or_a_date() {
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
                retry_after(&headers, NOW),
                seconds.map(Duration::from_secs),
                "{text}"
            );
        }
    }
}
