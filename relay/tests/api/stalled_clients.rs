//! Clients that send bodies without their end or do not read responses. They must not affect
//! others.

use crate::{
    blobs::{Upload, use_up_upload_slots},
    support::{Mailbox, Node, Relay, Reply, eventually_some, within_deadline},
};
use bytes::Bytes;
use futures_util::{StreamExt as _, future::join_all, stream::FuturesUnordered};
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use sealpost_proto::{
    limits::{
        DELIVERY_BATCH_ITEMS_MAX, ENVELOPES_PER_REQUEST_MAX, ENVELOPES_REQUEST_BYTES_MAX,
        PART_BYTES_MAX, PART_TRANSFERS_MAX, PART_TRANSFERS_PER_ACCOUNT_MAX,
        REGISTRATION_MEMORY_BYTES_MAX, REGISTRATION_REQUEST_BYTES_MAX, REQUEST_MEMORY_BYTES_MAX,
        RESPONSE_MEMORY_PER_ACCOUNT_BYTES_MAX,
    },
    wire::DeliveryMode,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

/// Body that is smaller than the one of an honest submission, so that many of them leave no memory
/// for it.
const BODY_BYTES: usize = 256 * 1024;
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

/// Starts a pull and reads the first line of the response.
async fn start_pull(node: &Node) -> (String, TcpStream) {
    let request = node.session_request(Method::GET, "/v1/deliveries", "");
    let mut stream = send_raw(request, 0, b"").await;
    (read_status_line(&mut stream).await, stream)
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
    let mut held = Vec::new();
    for _ in 0..REQUEST_MEMORY_BYTES_MAX / BODY_BYTES {
        let request = acme.session_request(Method::POST, "/v1/envelopes", "");
        held.push(send_incomplete(request, BODY_BYTES).await);
    }
    assert_can_submit(&bolt, &mailbox).await;
    let mut responses: FuturesUnordered<_> = held.iter_mut().map(read_status_line).collect();
    while within_deadline(responses.next()).await.unwrap() != "HTTP/1.1 503" {}
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
        held.push(send_incomplete(request, ENVELOPES_REQUEST_BYTES_MAX - 1024 * 1024).await);
        for _ in 0..4 {
            let request = attacker.session_request(Method::POST, "/v1/envelopes", "");
            held.push(send_incomplete(request, BODY_BYTES).await);
        }
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
        // Small ones use what the large ones leave.
        let bytes = if number < registrations {
            REGISTRATION_REQUEST_BYTES_MAX
        } else {
            2
        };
        held.push(send_incomplete(request, bytes).await);
    }
    assert_can_submit(&bolt, &mailbox).await;
    let newcomer = Node::new(&relay);
    let registered = newcomer.try_register(DeliveryMode::Pull, None).await;
    assert_eq!(registered.status, StatusCode::CREATED);
    drop(held);
}

#[tokio::test]
async fn unread_pulls_affect_only_their_own_account() {
    let relay = Relay::start().await;
    let (acme, bolt) = (relay.node().await, relay.node().await);
    let (full, other) = (acme.open_mailbox().await, bolt.open_mailbox().await);
    // The envelopes of a full batch, as base64.
    let response_bytes = DELIVERY_BATCH_ITEMS_MAX * 2_048 / 3 * 4;
    for _ in 0..=DELIVERY_BATCH_ITEMS_MAX / ENVELOPES_PER_REQUEST_MAX {
        let envelopes = (0..ENVELOPES_PER_REQUEST_MAX).map(|_| bolt.new_envelope(&full, 1));
        bolt.submit(envelopes.collect()).await;
    }
    let held = eventually_some(async || {
        let responses = join_all((0..16).map(|_| start_pull(&acme))).await;
        let (held, refused): (Vec<_>, Vec<_>) = responses
            .into_iter()
            .partition(|(line, _)| line == "HTTP/1.1 200");
        let held_max = RESPONSE_MEMORY_PER_ACCOUNT_BYTES_MAX / response_bytes;
        let is_refused = refused.iter().any(|(line, _)| line == "HTTP/1.1 503");
        // On a slow machine, the first responses may be evicted before the last pulls.
        (is_refused && held.len() <= held_max).then_some(held)
    })
    .await;
    acme.submit_one(&other, 1).await;
    assert_eq!(bolt.pull(0).await.deliveries.len(), 1);
    drop(held);
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
    let relay = Relay::start_with(|config| config.rates.requests_per_second = 0).await;
    let bolt = relay.node().await;
    let mut held = Vec::new();
    for _ in 0..PART_TRANSFERS_MAX / PART_TRANSFERS_PER_ACCOUNT_MAX {
        let attacker = relay.node().await;
        held.push(use_up_upload_slots(&relay, &attacker).await);
    }
    Upload::new(&[PART_BYTES_MAX]).send(&relay, &bolt).await;
    drop(held);
}
