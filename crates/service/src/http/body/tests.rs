use super::*;
use crate::fair_pool::FairPool;
use sealpost_proto::limits::POOL_STALL_TIMEOUT;
use serde_json::Value;

fn request(content_type: Option<&str>, body: impl Into<Body>) -> Request {
    let mut request = Request::new(body.into());
    if let Some(content_type) = content_type {
        request
            .headers_mut()
            .insert(header::CONTENT_TYPE, content_type.parse().unwrap());
    }
    request
}

async fn code_of<const LIMIT: usize>(request: Request) -> Option<ErrorCode> {
    Json::<Value, LIMIT>::from_request(request, &())
        .await
        .err()
        .map(|problem| problem.0.code)
}

#[tokio::test]
async fn bodies_are_parsed_or_refused() {
    assert_eq!(
        code_of::<9>(request(Some("application/json"), "{\"a\":123}")).await,
        None
    );
    assert_eq!(
        code_of::<9>(request(Some("Application/JSON; charset=utf-8"), "[]")).await,
        None
    );
    assert_eq!(
        code_of::<9>(request(Some(JSON_TYPE), "{\"a\":1234}")).await,
        Some(ErrorCode::TooLarge)
    );
    assert_eq!(
        code_of::<9>(request(Some("text/plain"), "[]")).await,
        Some(ErrorCode::UnsupportedMediaType)
    );
    assert_eq!(
        code_of::<9>(request(None, "[]")).await,
        Some(ErrorCode::UnsupportedMediaType)
    );
    assert_eq!(
        code_of::<9>(request(Some(JSON_TYPE), "[")).await,
        Some(ErrorCode::Malformed)
    );
    assert_eq!(
        code_of::<9>(request(Some(JSON_TYPE), "[] x")).await,
        Some(ErrorCode::Malformed)
    );
}

#[tokio::test]
async fn content_length_is_checked_before_reading() {
    let mut request = request(Some(JSON_TYPE), "[]");
    request
        .headers_mut()
        .insert(header::CONTENT_LENGTH, HeaderValue::from(10));
    assert_eq!(code_of::<9>(request).await, Some(ErrorCode::TooLarge));
}

#[tokio::test]
async fn deeply_nested_json_is_refused() {
    let deep = "[".repeat(10_000);
    assert_eq!(
        code_of::<20_000>(request(Some(JSON_TYPE), deep)).await,
        Some(ErrorCode::Malformed)
    );
}

/// Creates a body that sends one chunk per second.
fn slow_body(chunk_bytes: usize, chunks: usize) -> Body {
    Body::from_stream(futures_util::stream::unfold(0, move |sent| async move {
        tokio::time::sleep(Duration::from_secs(1)).await;
        (sent < chunks).then(|| (Ok::<_, std::io::Error>(vec![b' '; chunk_bytes]), sent + 1))
    }))
}

#[tokio::test(start_paused = true)]
async fn slow_bodies_are_accepted_above_minimum_rate() {
    let read = async |body| read_body(&HeaderMap::new(), body, 10_000_000).await;
    let steady = read(slow_body(BODY_BYTES_PER_SECOND_MIN as usize, 100))
        .await
        .unwrap();
    assert_eq!(steady.len(), BODY_BYTES_PER_SECOND_MIN as usize * 100);
    let started_at = Instant::now();
    let slow = read(slow_body(100, 1_000)).await.unwrap_err();
    assert!(
        slow.detail.contains("too long") && started_at.elapsed() < BODY_GRACE * 2,
        "{slow}"
    );
    let silent = read(Body::from_stream(futures_util::stream::pending::<
        Result<Bytes, std::io::Error>,
    >()))
    .await;
    assert!(silent.unwrap_err().detail.contains("too long"));
}

#[tokio::test(start_paused = true)]
async fn minimum_rate_can_be_lowered() {
    let chunk_bytes = BODY_BYTES_PER_SECOND_MIN as usize / 4;
    assert!(
        read_body(&HeaderMap::new(), slow_body(chunk_bytes, 100), 10_000_000)
            .await
            .is_err()
    );
    let slow = BodyReader::new(&HeaderMap::new(), slow_body(chunk_bytes, 100), 10_000_000).unwrap();
    let mut slow = slow.with_bytes_per_second_min(BODY_BYTES_PER_SECOND_MIN / 4);
    let mut received_bytes = 0;
    while let Some(chunk) = slow.next().await.unwrap() {
        received_bytes += chunk.len();
    }
    assert_eq!(received_bytes, chunk_bytes * 100);
}

#[tokio::test(start_paused = true)]
async fn evicted_bodies_are_refused() {
    let pool = FairPool::new(1, 1);
    let stalled =
        Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>());
    let reader = BodyReader::new(&HeaderMap::new(), stalled, 1_000).unwrap();
    let permit = pool.reserve(None, 1).await.unwrap();
    let reading = tokio::spawn(reader.with_permit(permit).read_to_end());
    tokio::time::sleep(POOL_STALL_TIMEOUT).await;
    assert!(pool.reserve(None, 1).await.is_some());
    let problem = reading.await.unwrap().unwrap_err();
    assert_eq!(
        (problem.code, problem.retry_after_ms),
        (ErrorCode::Overloaded, Some(1_000))
    );
}

#[tokio::test(start_paused = true)]
async fn progress_protects_bodies_from_eviction() {
    let pool = FairPool::new(1, 1);
    let body = slow_body(BODY_BYTES_PER_SECOND_MIN as usize, 20);
    let reader = BodyReader::new(&HeaderMap::new(), body, 10_000_000).unwrap();
    let permit = pool.reserve(None, 1).await.unwrap();
    let reading = tokio::spawn(reader.with_permit(permit.clone()).read_to_end());
    while !reading.is_finished() {
        assert!(pool.reserve(None, 1).await.is_none());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(reading.await.unwrap().is_ok());
    tokio::time::sleep(POOL_STALL_TIMEOUT).await;
    assert!(
        pool.reserve(None, 1).await.is_none(),
        "the request is processed"
    );
    drop(permit);
    assert!(pool.reserve(None, 1).await.is_some());
}

#[tokio::test]
async fn chunks_of_a_body_are_joined() {
    let chunks = [vec![1; 1_000], vec![2; 1_000], vec![3; 1]].map(Ok::<_, std::io::Error>);
    let joined = chunks
        .iter()
        .flatten()
        .flatten()
        .copied()
        .collect::<Vec<_>>();
    let body = Body::from_stream(futures_util::stream::iter(chunks));
    assert_eq!(
        read_body(&HeaderMap::new(), body, 2_001).await.unwrap(),
        joined
    );
}
