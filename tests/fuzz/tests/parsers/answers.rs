//! What a stranger's server answers to a webhook call: anything at all.

use bytes::Bytes;
use http::{HeaderMap, Method};
use sealpost_egress::{Client, Guard, Limits, Request};
use sealpost_fuzz::bombard;
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use url::Url;

const CASES: u32 = 1_500;
const ANSWER_BYTES: usize = 256;
/// Far longer than a slow and busy machine takes.
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
    bombard(&seeds.map(|seed| seed.as_bytes().to_vec()), CASES, |case| {
        inputs.push(case.bytes.to_vec())
    });
    inputs
}

/// Answers whoever comes, until it is dropped.
async fn answer_all(listener: &TcpListener, bytes: &[u8]) {
    while let Ok((socket, _)) = listener.accept().await {
        // A client that has read enough hangs up first.
        let _ = answer(socket, bytes).await;
    }
}

async fn answer(mut socket: TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    let mut request = [0; 1_024];
    let _ = socket.read(&mut request).await?;
    socket.write_all(bytes).await?;
    socket.shutdown().await
}

#[tokio::test]
async fn a_call_ends_within_its_limits_whatever_is_answered() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url: Url = format!("http://{}/hook", listener.local_addr().unwrap())
        .parse()
        .unwrap();
    let limits = Limits {
        connect: DEADLINE,
        whole: DEADLINE,
        answer_bytes: ANSWER_BYTES,
    };
    let client = Client::new(Guard::new(vec!["127.0.0.0/8".parse().unwrap()]), limits).unwrap();
    let mut answered = 0;
    for bytes in inputs() {
        let request = Request {
            method: Method::POST,
            url: &url,
            headers: HeaderMap::new(),
            body: Bytes::from_static(b"{}"),
        };
        let called = tokio::select! {
            called = client.call(request) => called,
            () = answer_all(&listener, &bytes) => continue,
        };
        if let Ok(answer) = called {
            assert!(answer.body.len() <= ANSWER_BYTES);
            answered += 1;
        }
    }
    assert!(answered > 100, "hardly anything was an answer: {answered}");
}
