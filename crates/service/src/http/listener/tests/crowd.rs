//! Many slow or greedy clients, which must not affect the others.

use super::*;
use axum::body::{Body, Bytes};
use http_body_util::Empty;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use sealpost_proto::limits::CONNECTION_EVICTABLE_AFTER;
use std::convert::Infallible;

const SLOW_CONNECTIONS: usize = 1_000;
const LARGE_BYTES: usize = 8 * 1024 * 1024;
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

fn large_responses() -> Router {
    let body = Bytes::from(vec![0; LARGE_BYTES]);
    hello().route("/large", routing::get(move || async move { body }))
}

async fn connect(server: &Server, first_bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(first_bytes).await.unwrap();
    stream
}

async fn wait_until(server: &Server, condition: impl Fn(&ListenerCounts) -> bool) {
    let waiting = async {
        while !condition(&server.counts) {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LONG_TIMEOUT, waiting)
        .await
        .unwrap_or_else(|_| panic!("not in time: {:?}", server.counts));
}

/// Returns whether the server responds to a request on a new connection.
async fn responds(server: &Server) -> bool {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let sent = stream
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .await;
    sent.is_ok() && read_all(&mut stream).await.contains("200 OK")
}

/// First bytes of slow clients.
fn slow_starts() -> [&'static [u8]; 6] {
    let partial_client_hello: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    [
        b"",
        b"G",
        b"GET / HTTP/1.1\r\nHost: x\r\nHeader: incomplete",
        partial_client_hello,
        GET,
        PREFACE,
    ]
}

#[tokio::test]
async fn slow_connections_do_not_affect_others() {
    raise_limit();
    let limits = ListenerLimits {
        connections: 2 * SLOW_CONNECTIONS,
        idle_timeout: SHORT_TIMEOUT * 10,
        write_stall_timeout: SHORT_TIMEOUT * 10,
        ..limits()
    };
    let limits = ListenerLimits {
        first_byte_timeout: SHORT_TIMEOUT * 10,
        header_read_timeout: SHORT_TIMEOUT * 10,
        ..limits
    };
    let server = start(large_responses(), limits).await;
    let mut slow = Vec::new();
    for first_bytes in slow_starts().iter().cycle().take(SLOW_CONNECTIONS - 100) {
        slow.push(connect(&server, first_bytes).await);
    }
    for _ in 0..100 {
        slow.push(connect(&server, b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n").await);
    }
    let client = Client::builder(TokioExecutor::new())
        .build::<HttpConnector, Empty<Bytes>>(HttpConnector::new());
    let url: hyper::Uri = format!("http://{}/", server.address).parse().unwrap();
    let mut responses = 0;
    // Ordinary requests while slow connections are open.
    while server.counts.open() > 1 || responses < 100 {
        let response = timeout(LONG_TIMEOUT, client.get(url.clone()))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(response.status(), 200);
        responses += 1;
        assert!(responds(&server).await);
    }
    assert_eq!(
        (
            server.counts.refused_at_limit(),
            server.counts.idle_evicted()
        ),
        (0, 0)
    );
    drop(slow);
}

#[tokio::test]
async fn single_bytes_do_not_extend_timeouts() {
    let short_limits = ListenerLimits {
        first_byte_timeout: SHORT_TIMEOUT,
        header_read_timeout: SHORT_TIMEOUT,
        idle_timeout: SHORT_TIMEOUT,
        ..limits()
    };
    let server = start(hello(), short_limits).await;
    let partial_frame = [PREFACE, b"\0\x10\0\x01\x04\0\0\0\x01"].concat();
    for first_bytes in [
        b"GET / HTTP/1.1\r\nHost: x\r\nX: ",
        partial_frame.as_slice(),
        b"",
    ] {
        let mut stream = connect(&server, first_bytes).await;
        let slow_writes = async {
            while stream.write_all(b"a").await.is_ok() {
                sleep(SHORT_TIMEOUT / 10).await;
            }
        };
        timeout(LONG_TIMEOUT, slow_writes)
            .await
            .expect("the server closes the connection");
    }
}

#[tokio::test(start_paused = true)]
async fn only_clients_that_read_nothing_time_out() {
    const REQUEST: &[u8] = b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let limits = ListenerLimits {
        write_stall_timeout: SHORT_TIMEOUT,
        idle_timeout: LONG_TIMEOUT,
        ..limits()
    };
    let connect = || connect_in_memory(large_responses(), limits);
    let (mut idle, mut steady) = (connect(), connect());
    for stream in [&mut idle, &mut steady] {
        stream.write_all(REQUEST).await.unwrap();
    }
    let (started_at, mut received, mut buffer) = (Instant::now(), 0, vec![0; SOCKET_BYTES]);
    loop {
        let read = timeout(LONG_TIMEOUT, steady.read(&mut buffer)).await;
        match read.unwrap().unwrap() {
            0 => break,
            bytes => received += bytes,
        }
        // In total longer than the timeout, so that only the progress extends it.
        sleep(SHORT_TIMEOUT / 2).await;
    }
    assert!(received > LARGE_BYTES && started_at.elapsed() > SHORT_TIMEOUT);
    let mut rest = Vec::new();
    let _ = timeout(LONG_TIMEOUT, idle.read_to_end(&mut rest))
        .await
        .expect("the server closes the connection");
    assert!(rest.len() < LARGE_BYTES, "{} bytes", rest.len());
}

#[tokio::test(start_paused = true)]
async fn http2_clients_without_flow_window_time_out() {
    let limits = ListenerLimits {
        header_read_timeout: SHORT_TIMEOUT,
        idle_timeout: SHORT_TIMEOUT,
        ..limits()
    };
    let mut stream = connect_in_memory(large_responses(), limits);
    // Settings with a window of 0 bytes, then a request (HPACK: GET http / x).
    let no_window = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x06\x04\0\0\0\0\0\0\x04\0\0\0\0";
    let request = b"\0\0\x06\x01\x05\0\0\0\x01\x82\x86\x84\x41\x01\x78";
    let opening = [no_window.as_slice(), request].concat();
    stream.write_all(&opening).await.unwrap();
    let mut received = Vec::new();
    let _ = timeout(LONG_TIMEOUT, stream.read_to_end(&mut received))
        .await
        .expect("the server closes the connection");
    assert!(
        received.windows(2).any(|window| window == b"\x01\x04"),
        "headers of a response: {received:?}"
    );
}

#[tokio::test]
async fn stream_reset_floods_end_the_connection() {
    let server = start(
        hello(),
        ListenerLimits {
            idle_timeout: LONG_TIMEOUT,
            ..limits()
        },
    )
    .await;
    let mut stream = connect(&server, PREFACE).await;
    let (mut reader, mut writer) = stream.split();
    let flood = async {
        for id in (1_u32..2_000_000).step_by(2) {
            let mut frames = b"\0\0\x06\x01\x05".to_vec();
            frames.extend(id.to_be_bytes());
            frames.extend(b"\x82\x86\x84\x41\x01\x78\0\0\x04\x03\0");
            frames.extend(id.to_be_bytes());
            frames.extend(8_u32.to_be_bytes());
            if writer.write_all(&frames).await.is_err() {
                return;
            }
        }
        panic!("a million resets were accepted");
    };
    let mut sink = tokio::io::sink();
    let reading = async {
        let _ = tokio::io::copy(&mut reader, &mut sink).await;
    };
    timeout(LONG_TIMEOUT, async { tokio::join!(flood, reading) })
        .await
        .expect("the server closes the connection");
    assert!(responds(&server).await);
}

#[tokio::test]
async fn longest_idle_connections_are_evicted() {
    let long_limits = ListenerLimits {
        first_byte_timeout: LONG_TIMEOUT,
        header_read_timeout: LONG_TIMEOUT,
        idle_timeout: LONG_TIMEOUT,
        ..limits()
    };
    let server = start(hello(), long_limits).await;
    let mut connections = Vec::new();
    for _ in 0..long_limits.connections {
        connections.push(connect(&server, b"").await);
    }
    wait_until(&server, |counts| counts.open() == 3).await;
    let deadline = Instant::now() + LONG_TIMEOUT;
    // At first no connection has been idle long enough, so the new one is refused.
    while !responds(&server).await {
        assert!(Instant::now() < deadline, "no connection was evicted");
    }
    assert_eq!(server.counts.idle_evicted(), 1);
    assert_eq!(
        read_all(&mut connections[0]).await,
        "",
        "the first connection was evicted"
    );
    wait_until(&server, |counts| counts.open() == 2).await;
}

#[tokio::test]
async fn clients_that_read_nothing_are_evicted() {
    let long_limits = ListenerLimits {
        write_stall_timeout: LONG_TIMEOUT,
        idle_timeout: LONG_TIMEOUT,
        ..limits()
    };
    // In chunks: hyper takes a single chunk completely, and the response would be finished for us.
    let chunk = Bytes::from(vec![0; 64 * 1024]);
    let chunked = move || {
        let chunks = std::iter::repeat_n(Ok::<_, Infallible>(chunk.clone()), 256);
        async move { Body::from_stream(futures_util::stream::iter(chunks)) }
    };
    let server = start(
        hello().route("/chunked", routing::get(chunked)),
        long_limits,
    )
    .await;
    let mut idle = Vec::new();
    for _ in 0..long_limits.connections {
        idle.push(
            connect(
                &server,
                b"GET /chunked HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            )
            .await,
        );
    }
    wait_until(&server, |counts| counts.open() == 3).await;
    let deadline = Instant::now() + LONG_TIMEOUT / 2;
    while !responds(&server).await {
        assert!(
            Instant::now() < deadline,
            "an unread response does not count as processing"
        );
    }
    assert_eq!(server.counts.idle_evicted(), 1);
    drop(idle);
}

#[tokio::test]
async fn connections_with_open_requests_are_not_evicted() {
    let release = Arc::new(Semaphore::new(0));
    let waiting = Arc::clone(&release);
    let wait = move || {
        let waiting = Arc::clone(&waiting);
        async move {
            waiting.acquire().await.unwrap().forget();
            "done"
        }
    };
    let router = hello().route("/wait", routing::get(wait));
    let server = start(router, limits()).await;
    let mut connections = Vec::new();
    for _ in 0..3 {
        connections.push(
            connect(
                &server,
                b"GET /wait HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            )
            .await,
        );
    }
    wait_until(&server, |counts| counts.open() == 3).await;
    let evictable_at = Instant::now() + CONNECTION_EVICTABLE_AFTER;
    loop {
        let is_last = Instant::now() > evictable_at;
        assert!(!responds(&server).await);
        if is_last {
            break;
        }
    }
    assert!(server.counts.refused_at_limit() > 0);
    release.add_permits(3);
    for mut stream in connections {
        assert!(read_all(&mut stream).await.ends_with("done"));
    }
}

#[tokio::test]
async fn limit_per_address_does_not_apply_to_loopback() {
    let counts = Arc::<ListenerCounts>::default();
    let slots = ConnectionSlots::new(100, 2, counts);
    let reserve = |ip: &str| {
        slots.reserve(
            Some((ip.parse::<std::net::IpAddr>().unwrap(), 1).into()),
            &Activity::new(),
        )
    };
    let first = reserve("192.0.2.1").unwrap_or_else(|_| panic!("free"));
    let _second = reserve("::ffff:192.0.2.1").unwrap_or_else(|_| panic!("free"));
    assert_eq!(reserve("192.0.2.1").err(), Some(NoSlot::AddressLimit));
    let _other = reserve("192.0.2.2").unwrap_or_else(|_| panic!("free"));
    drop(first);
    let _again = reserve("192.0.2.1").unwrap_or_else(|_| panic!("its slot was released"));
    let _network = [reserve("2001:db8::1").ok(), reserve("2001:db8::2").ok()];
    assert_eq!(
        reserve("2001:db8::ffff:3").err(),
        Some(NoSlot::AddressLimit)
    );
    assert!(reserve("2001:db8:0:1::1").is_ok());
    let local: Vec<_> = (0..10).map(|_| reserve("127.0.0.1").ok()).collect();
    assert!(local.iter().all(Option::is_some));
}

#[tokio::test(start_paused = true)]
async fn connections_end_at_maximum_age() {
    let limits = ListenerLimits {
        connection_age_max: SHORT_TIMEOUT,
        header_read_timeout: LONG_TIMEOUT,
        ..limits()
    };
    let mut stream = connect_in_memory(large_responses(), limits);
    stream.write_all(GET).await.unwrap();
    let started_at = Instant::now();
    let response = read_all(&mut stream).await;
    assert!(response.starts_with("HTTP/1.1"), "{response}");
    assert_eq!(started_at.elapsed(), SHORT_TIMEOUT);
}

fn raise_limit() {
    assert!(
        crate::raise_open_files_limit() > 2 * SLOW_CONNECTIONS + 100,
        "the test needs {} open files",
        2 * SLOW_CONNECTIONS + 100
    );
}
