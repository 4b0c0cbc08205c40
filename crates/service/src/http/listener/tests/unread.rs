//! Responses that their clients do not read, and the memory that is held for them.

use super::*;
use crate::fair_pool::FairPool;
use axum::{
    body::{Body, Bytes},
    response::IntoResponse as _,
};
use http_body_util::{BodyExt as _, Empty};
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use sealpost_proto::limits::HTTP2_PING_INTERVAL;
use tokio::io::AsyncWrite;

const LARGE_BYTES: usize = 4 * 1024 * 1024;
/// Smallest window of a stream, which is far smaller than a large response.
const WINDOW_BYTES: u32 = 16 * 1024;

/// Responses for which one unit of the pool is held.
fn held_responses(pool: &FairPool) -> Router {
    let pool = pool.clone();
    let respond = move |body: Bytes| {
        let pool = pool.clone();
        move || async move {
            let permit = pool.reserve(None, 1).await.expect("a free unit");
            let mut response = Body::from(body).into_response();
            response.extensions_mut().insert(permit);
            response
        }
    };
    Router::new()
        .route("/", routing::get(|| async { "hello" }))
        .route("/large", routing::get(respond(vec![0; LARGE_BYTES].into())))
        .route("/short", routing::get(respond(vec![0; 1_000].into())))
}

struct Http2Client(http2::SendRequest<Empty<Bytes>>);

impl Http2Client {
    async fn connect(server: &Server) -> Self {
        Self::handshake(TcpStream::connect(server.address).await.unwrap()).await
    }

    async fn handshake(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(WINDOW_BYTES)
            .handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        Self(sender)
    }

    async fn get(&mut self, path: &str) -> hyper::Response<Incoming> {
        let request = hyper::Request::get(format!("http://localhost{path}"));
        let response = self.0.send_request(request.body(Empty::new()).unwrap());
        timeout(LONG_TIMEOUT, response).await.unwrap().unwrap()
    }
}

async fn read(response: hyper::Response<Incoming>) -> hyper::Result<Bytes> {
    let body = timeout(LONG_TIMEOUT, response.into_body().collect());
    Ok(body.await.expect("the response ends")?.to_bytes())
}

async fn wait_for_units(pool: &FairPool, units: u32) {
    let waiting = async {
        while pool.available() != units {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LONG_TIMEOUT, waiting)
        .await
        .expect("the unit is released");
}

#[tokio::test(start_paused = true)]
async fn unread_http2_responses_are_reset() {
    let pool = FairPool::new(1, 1);
    let limits = ListenerLimits {
        write_stall_timeout: SHORT_TIMEOUT,
        idle_timeout: LONG_TIMEOUT,
        ..limits()
    };
    let connection = connect_in_memory(held_responses(&pool), limits);
    let mut client = Http2Client::handshake(connection).await;
    let unread = client.get("/large").await;
    assert_eq!(
        pool.available(),
        0,
        "the memory is held while the response waits"
    );
    wait_for_units(&pool, 1).await;
    let error = read(unread).await.unwrap_err();
    assert!(!error.is_closed(), "only the stream ends: {error:?}");
    assert_eq!(read(client.get("/").await).await.unwrap(), "hello");
}

#[tokio::test(start_paused = true)]
async fn slowly_read_http2_responses_are_complete() {
    let pool = FairPool::new(1, 1);
    let limits = ListenerLimits {
        write_stall_timeout: SHORT_TIMEOUT,
        ..limits()
    };
    let connection = connect_in_memory(held_responses(&pool), limits);
    let mut client = Http2Client::handshake(connection).await;
    let started_at = Instant::now();
    let mut body = client.get("/large").await.into_body();
    let mut received = 0;
    while let Some(frame) = timeout(LONG_TIMEOUT, body.frame()).await.unwrap() {
        received += frame.unwrap().into_data().map_or(0, |data| data.len());
        // In total longer than the timeout, so that only the progress extends it.
        sleep(SHORT_TIMEOUT / 2).await;
    }
    assert_eq!(received, LARGE_BYTES);
    assert!(started_at.elapsed() > limits.write_stall_timeout);
    wait_for_units(&pool, 1).await;
}

#[tokio::test]
async fn read_responses_release_their_memory() {
    let pool = FairPool::new(1, 1);
    let server = start(held_responses(&pool), limits()).await;
    let mut client = Http2Client::connect(&server).await;
    for _ in 0..20 {
        for path in ["/large", "/short"] {
            read(client.get(path).await).await.unwrap();
            wait_for_units(&pool, 1).await;
            let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            let response = send_request(server.address, &request).await;
            assert!(response.starts_with("HTTP/1.1 200"));
            wait_for_units(&pool, 1).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn short_unread_responses_close_the_connection() {
    let pool = FairPool::new(1, 1);
    let limits = ListenerLimits {
        write_stall_timeout: SHORT_TIMEOUT,
        header_read_timeout: SHORT_TIMEOUT,
        idle_timeout: LONG_TIMEOUT,
        ..limits()
    };
    let mut stream = connect_in_memory(held_responses(&pool), limits);
    // Settings with a window of 1 byte, for which the whole response is handed over, then a request
    // (HPACK: GET http /short x).
    let small_window = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x06\x04\0\0\0\0\0\0\x04\0\0\0\x01";
    let request = b"\0\0\x0d\x01\x05\0\0\0\x01\x82\x86\x04\x06/short\x41\x01\x78";
    stream
        .write_all(&[small_window.as_slice(), request].concat())
        .await
        .unwrap();
    let mut received = Vec::new();
    // Later, the missing answers to pings would close it.
    let _ = timeout(HTTP2_PING_INTERVAL / 2, stream.read_to_end(&mut received))
        .await
        .expect("the server closes the connection");
    assert!(
        received.windows(2).any(|window| window == b"\x01\x04"),
        "{received:?}"
    );
    wait_for_units(&pool, 1).await;
}

#[tokio::test]
async fn stalled_responses_are_evicted() {
    let pool = FairPool::new(2, 2);
    let limits = ListenerLimits {
        write_stall_timeout: LONG_TIMEOUT,
        idle_timeout: LONG_TIMEOUT,
        ..limits()
    };
    let server = start(held_responses(&pool), limits).await;
    let mut client = Http2Client::connect(&server).await;
    let _http2 = client.get("/large").await;
    let mut http1 = TcpStream::connect(server.address).await.unwrap();
    http1
        .write_all(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    wait_for_units(&pool, 0).await;
    let newcomers = async {
        let mut held = Vec::new();
        while held.len() < 2 {
            held.extend(pool.reserve(None, 1).await);
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LONG_TIMEOUT, newcomers)
        .await
        .expect("stalled responses are evicted");
    assert_eq!(read(client.get("/").await).await.unwrap(), "hello");
}
