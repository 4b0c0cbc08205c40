//! Arbitrary responses of an unknown server to a webhook call.

use bytes::Bytes;
use http::{HeaderMap, Method};
use sealpost_egress::{Client, Guard, Limits, Request};
use sealpost_fuzz::fuzz_inputs;
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use url::Url;

const CASES: u32 = 1_500;
const RESPONSE_BYTES: usize = 256;
/// Much longer than a slow and busy machine needs.
const DEADLINE: Duration = Duration::from_secs(60);

fn inputs() -> Vec<Vec<u8>> {
    let seeds = [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Type: application/json\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.0 500 Oops\r\nRetry-After: 5\r\n\r\nuntil the end",
    ];
    let mut inputs = Vec::new();
    fuzz_inputs(&seeds.map(|seed| seed.as_bytes().to_vec()), CASES, |case| {
        inputs.push(case.bytes.to_vec())
    });
    inputs
}

/// Responds to every connection with these bytes.
async fn respond_to_all(listener: &TcpListener, bytes: &[u8]) {
    while let Ok((socket, _)) = listener.accept().await {
        // A client that has read enough may disconnect first.
        let _ = respond(socket, bytes).await;
    }
}

async fn respond(mut socket: TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    let mut request = [0; 1_024];
    let _ = socket.read(&mut request).await?;
    socket.write_all(bytes).await?;
    socket.shutdown().await
}

#[tokio::test]
async fn calls_end_within_their_limits() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url: Url = format!("http://{}/hook", listener.local_addr().unwrap())
        .parse()
        .unwrap();
    let limits = Limits {
        connect_timeout: DEADLINE,
        total_timeout: DEADLINE,
        response_bytes_max: RESPONSE_BYTES,
    };
    let client = Client::new(Guard::new(vec!["127.0.0.0/8".parse().unwrap()]), limits).unwrap();
    let mut responses = 0;
    for bytes in inputs() {
        let request = Request {
            method: Method::POST,
            url: &url,
            headers: HeaderMap::new(),
            body: Bytes::from_static(b"{}"),
        };
        let called = tokio::select! {
            called = client.call(request) => called,
            () = respond_to_all(&listener, &bytes) => continue,
        };
        if let Ok(response) = called {
            assert!(response.body.len() <= RESPONSE_BYTES);
            responses += 1;
        }
    }
    assert!(responses > 100, "too few valid responses: {responses}");
}
