use http::{HeaderMap, header};
use sealpost_proto::{Timestamp, time::millis};
use std::time::{Duration, UNIX_EPOCH};

/// Parses the header `Retry-After`: seconds or a date (RFC 9110, section 10.2.3). `now` is the time
/// of the server's clock as far as it is known.
#[must_use]
pub fn parse_retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    let at = date.duration_since(UNIX_EPOCH).ok()?;
    Some(Timestamp::from_millis(millis(at)).since(now))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        /// 2025-01-01T00:00:00Z
        const NOW: Timestamp = Timestamp::from_millis(1_735_689_600_000);
        for (text, seconds) in [
            ("120", Some(120)),
            (" 7 ", Some(7)),
            ("Wed, 01 Jan 2025 00:02:00 GMT", Some(120)),
            ("Wed, 01 Jan 2020 00:00:00 GMT", Some(0)),
            ("-1", None),
            ("soon", None),
        ] {
            let headers = [(header::RETRY_AFTER, HeaderValue::from_static(text))];
            let parsed = parse_retry_after(&headers.into_iter().collect(), NOW);
            assert_eq!(parsed, seconds.map(Duration::from_secs), "{text}");
        }
    }
}
