//! Clients that send bodies without their end or do not read responses. They must not affect
//! others.

use crate::{
    blobs::{Upload, start_upload, upload_until},
    support::{Mailbox, Node, Relay, Reply, eventually_some, within_deadline},
};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use sealpost_proto::{
    limits::{
        DELIVERY_BATCH_BYTES_MAX, ENVELOPES_PER_REQUEST_MAX, ENVELOPES_REQUEST_BYTES_MAX,
        JSON_REQUEST_BYTES_MAX, PART_BYTES_MAX, PART_TRANSFERS_MAX, PART_TRANSFERS_PER_ACCOUNT_MAX,
        REGISTRATION_MEMORY_BYTES_MAX, REGISTRATION_REQUEST_BYTES_MAX, REQUEST_MEMORY_BYTES_MAX,
        RESPONSE_MEMORY_PER_ACCOUNT_BYTES_MAX,
    },
    wire::DeliveryMode,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

/// Receive buffer of clients that do not read, which is far smaller than a response.
const RECEIVE_BUFFER_BYTES: u32 = 4 * 1024;

/// Sends the head of a request that announces a body of `announced_bytes`, and `body`.
async fn send_raw(request: Request<Full<Bytes>>, announced_bytes: usize, body: &[u8]) -> TcpStream {
    let (parts, _) = request.into_parts();
    let authority = parts.uri.authority().unwrap();
    let mut head = format!(
        "{} {} HTTP/1.1\r\nhost: {authority}\r\ncontent-length: {announced_bytes}\r\n",
        parts.method,
        parts.uri.path_and_query().unwrap()
    );
    for (name, value) in &parts.headers {
        head.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
    }
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES).unwrap();
    let address = authority.as_str().parse().unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    stream
        .write_all(format!("{head}\r\n").as_bytes())
        .await
        .unwrap();
    // The relay may refuse the request before it has read the body.
    let _ = stream.write_all(body).await;
    stream
}

/// Sends a request whose body lacks its last byte.
async fn send_incomplete(request: Request<Full<Bytes>>, announced_bytes: usize) -> TcpStream {
    send_raw(request, announced_bytes, &vec![b' '; announced_bytes - 1]).await
}

/// Reads the first line of a response.
async fn read_status_line(stream: &mut TcpStream) -> String {
    let mut start = [0; 12];
    within_deadline(stream.read_exact(&mut start))
        .await
        .unwrap();
    String::from_utf8_lossy(&start).into_owned()
}

async fn assert_can_submit(node: &Node, mailbox: &Mailbox) {
    assert_eq!(node.get("/v1/account").await.status, StatusCode::OK);
    let envelopes = (0..ENVELOPES_PER_REQUEST_MAX).map(|_| node.new_envelope(mailbox, 1));
    node.submit(envelopes.collect()).await;
}

#[tokio::test]
async fn incomplete_bodies_affect_only_their_own_account() {
    let relay = Relay::start().await;
    let (acme, bolt) = (relay.node().await, relay.node().await);
    let mailbox = bolt.open_mailbox().await;
    let bytes = REQUEST_MEMORY_BYTES_MAX / 16;
    let mut held = Vec::new();
    for _ in 0..32 {
        let request = acme.session_request(Method::POST, "/v1/envelopes", "");
        held.push(send_incomplete(request, bytes).await);
    }
    assert_can_submit(&bolt, &mailbox).await;
    let refused = acme.session_request(Method::POST, "/v1/envelopes", "");
    let mut refused = send_raw(refused, bytes, b"").await;
    assert_eq!(read_status_line(&mut refused).await, "HTTP/1.1 503");
    assert_eq!(
        acme.get("/v1/account").await.status,
        StatusCode::OK,
        "a request without a body needs no memory"
    );
}

#[tokio::test]
async fn many_accounts_cannot_exclude_others() {
    let relay = Relay::start().await;
    let bolt = relay.node().await;
    let mailbox = bolt.open_mailbox().await;
    let mut held = Vec::new();
    for _ in 0..16 {
        let attacker = relay.node().await;
        let request = attacker.session_request(Method::POST, "/v1/envelopes", "");
        held.push(send_incomplete(request, ENVELOPES_REQUEST_BYTES_MAX).await);
        let request = attacker.session_request(Method::POST, "/v1/deliveries/ack", "");
        held.push(send_incomplete(request, JSON_REQUEST_BYTES_MAX).await);
    }
    for _ in 0..10 {
        assert_can_submit(&bolt, &mailbox).await;
    }
}

#[tokio::test]
async fn incomplete_registrations_block_nobody() {
    let relay = Relay::start().await;
    let bolt = relay.node().await;
    let mailbox = bolt.open_mailbox().await;
    let stranger = Node::new(&relay);
    let registrations = REGISTRATION_MEMORY_BYTES_MAX / REGISTRATION_REQUEST_BYTES_MAX;
    let mut held = Vec::new();
    for number in 0..2 * registrations {
        let mut request = stranger.key_request(Method::POST, "/v1/accounts", "");
        let address = format!("198.51.100.{}", number % 16);
        request
            .headers_mut()
            .insert("x-forwarded-for", address.parse().unwrap());
        held.push(send_incomplete(request, REGISTRATION_REQUEST_BYTES_MAX).await);
    }
    assert_can_submit(&bolt, &mailbox).await;
    let newcomer = Node::new(&relay);
    let registered = eventually_some(async || {
        let reply = newcomer.try_register(DeliveryMode::Pull, None).await;
        (reply.status == StatusCode::CREATED).then_some(reply)
    });
    registered.await;
    drop(held);
}

#[tokio::test]
async fn unread_pulls_affect_only_their_own_account() {
    let relay = Relay::start().await;
    let (acme, bolt) = (relay.node().await, relay.node().await);
    let (full, other) = (acme.open_mailbox().await, bolt.open_mailbox().await);
    for _ in 0..=DELIVERY_BATCH_BYTES_MAX / (ENVELOPES_PER_REQUEST_MAX * 2_048) {
        let envelopes = (0..ENVELOPES_PER_REQUEST_MAX).map(|_| bolt.new_envelope(&full, 1));
        bolt.submit(envelopes.collect()).await;
    }
    let mut responses = Vec::new();
    for _ in 0..16 {
        let request = acme.session_request(Method::GET, "/v1/deliveries", "");
        let mut stream = send_raw(request, 0, b"").await;
        responses.push((read_status_line(&mut stream).await, stream));
    }
    let held = responses.iter().filter(|(line, _)| line == "HTTP/1.1 200");
    let response_bytes = ENVELOPES_PER_REQUEST_MAX * 2_048;
    assert!(
        held.count() <= RESPONSE_MEMORY_PER_ACCOUNT_BYTES_MAX / response_bytes,
        "unread responses count as memory of their account"
    );
    let refused = responses.iter().any(|(line, _)| line == "HTTP/1.1 503");
    assert!(refused, "the share of the account is used");
    acme.submit_one(&other, 1).await;
    assert_eq!(bolt.pull(0).await.deliveries.len(), 1);
    drop(responses);
    let again: Reply = eventually_some(async || {
        let reply = acme.get("/v1/deliveries").await;
        (reply.status == StatusCode::OK).then_some(reply)
    })
    .await;
    assert!(again.body.len() > response_bytes);
}

#[tokio::test]
async fn stalled_downloads_are_evicted() {
    let relay = Relay::start().await;
    let bolt = relay.node().await;
    let upload = Upload::new(&[PART_BYTES_MAX]);
    upload.send(&relay, &bolt).await;
    let mut held = Vec::new();
    for _ in 0..PART_TRANSFERS_MAX / PART_TRANSFERS_PER_ACCOUNT_MAX {
        let attacker = relay.node().await;
        for _ in 0..PART_TRANSFERS_PER_ACCOUNT_MAX {
            let mut stream = send_raw(upload.fetch_request(&attacker, 0), 0, b"").await;
            assert_eq!(read_status_line(&mut stream).await, "HTTP/1.1 200");
            held.push(stream);
        }
    }
    let fetched = upload.fetch(&bolt, 0, None).await;
    assert_eq!(
        (fetched.status, fetched.body),
        (StatusCode::OK, upload.parts[0].clone())
    );
}

#[tokio::test]
async fn stalled_uploads_are_evicted() {
    let relay = Relay::start().await;
    let bolt = relay.node().await;
    let mut held = Vec::new();
    for _ in 0..PART_TRANSFERS_MAX / PART_TRANSFERS_PER_ACCOUNT_MAX {
        let attacker = relay.node().await;
        for _ in 0..PART_TRANSFERS_PER_ACCOUNT_MAX {
            let upload = Upload::new(&[500]);
            attacker.post("/v1/blobs", &upload.create(&relay)).await;
            held.push(start_upload(&attacker, &upload).await);
        }
        upload_until(&relay, &attacker, StatusCode::SERVICE_UNAVAILABLE).await;
    }
    Upload::new(&[PART_BYTES_MAX]).send(&relay, &bolt).await;
    drop(held);
}
