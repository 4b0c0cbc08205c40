//! Requests that are not valid HTTP or exceed a limit of the listener.

use crate::{
    bad_input::{ABSENT, ROUTES, Signature, assert_still_ready, relay},
    support::{Relay, within_deadline},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

#[tokio::test]
async fn announced_oversized_body_is_refused_unread() {
    let relay = relay().await;
    let node = relay.node().await;
    for &(name, path, signed) in ROUTES
        .iter()
        .filter(|(_, _, signed)| *signed != Signature::None)
    {
        let limit = match (name, path) {
            ("POST", "/v1/envelopes") => 4 * 1024 * 1024,
            ("PUT", "/v1/blobs/ID/parts/0") => 2_097_712,
            _ => 64 * 1024,
        };
        let target = path.replace("ID", ABSENT);
        // The body is announced but never sent.
        let head = format!(
            "{name} {target} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n",
            relay.origin.authority(),
            limit + 1
        );
        let response = raw(&relay, head.as_bytes()).await;
        assert!(
            response.starts_with("HTTP/1.1 413"),
            "{name} {path} {signed:?}: {response}"
        );
    }
    assert_still_ready(&node).await;
}

/// Sends bytes and returns the start of the response.
async fn raw(relay: &Relay, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(relay.origin.authority()).await.unwrap();
    // The relay may close the connection before it has read all bytes.
    let _ = stream.write_all(bytes).await;
    let mut response = vec![0; 4_096];
    let read = within_deadline(stream.read(&mut response)).await;
    String::from_utf8_lossy(&response[..read.unwrap_or_default()]).into_owned()
}

#[tokio::test]
async fn invalid_http_is_refused() {
    let relay = relay().await;
    let node = relay.node().await;
    let long = "x".repeat(100_000);
    let many: String = (0..2_000)
        .map(|number| format!("x-{number}: y\r\n"))
        .collect();
    for (what, bytes) in [
        (
            "a huge header",
            format!("GET /healthz HTTP/1.1\r\nhost: a\r\nx: {long}\r\n\r\n"),
        ),
        (
            "many headers",
            format!("GET /healthz HTTP/1.1\r\nhost: a\r\n{many}\r\n"),
        ),
        (
            "a huge path",
            format!("GET /{long} HTTP/1.1\r\nhost: a\r\n\r\n"),
        ),
        (
            "a huge query",
            format!("GET /v1/mailboxes?after={long} HTTP/1.1\r\nhost: a\r\n\r\n"),
        ),
        (
            "a huge method",
            format!("{long} / HTTP/1.1\r\nhost: a\r\n\r\n"),
        ),
        ("no version", "GET /healthz\r\n\r\n".to_owned()),
        ("another protocol", "EHLO mail.example\r\n\r\n".to_owned()),
        (
            "two lengths",
            "POST /v1/blobs HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n\
             xx"
            .to_owned(),
        ),
        (
            "a length below zero",
            "POST /v1/blobs HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n".to_owned(),
        ),
        (
            "length and chunks",
            "POST /v1/blobs HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\
             transfer-encoding: chunked\r\n\r\nz\r\n"
                .to_owned(),
        ),
        (
            "a chunk without end",
            "POST /v1/blobs HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n\
             ffffffffffffffff\r\nx"
                .to_owned(),
        ),
        (
            "a header without name",
            "GET /healthz HTTP/1.1\r\nhost: a\r\n: x\r\n\r\n".to_owned(),
        ),
        ("zero bytes", "\0".repeat(100)),
    ] {
        let response = raw(&relay, bytes.as_bytes()).await;
        assert!(
            response.is_empty() || response.starts_with("HTTP/1.1 4"),
            "{what}: {response:.200}"
        );
    }
    assert_still_ready(&node).await;
}
