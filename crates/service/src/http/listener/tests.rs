mod acme;
mod crowd;
mod tls;
mod unread;

use super::*;
use axum::{extract::ConnectInfo, routing};
use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, net::UnixListener},
    sync::Mutex,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    net::{TcpListener, TcpStream, UnixStream},
    sync::Semaphore,
    task::JoinHandle,
    time::Instant,
};

/// Timeout that a test waits for.
const SHORT_TIMEOUT: Duration = Duration::from_millis(200);
/// Timeout that no test reaches, even on a slow and busy machine.
const LONG_TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes that a connection in memory buffers in each direction.
const SOCKET_BYTES: usize = 64 * 1024;

struct Server {
    address: SocketAddr,
    shutdown: Shutdown,
    counts: Arc<ListenerCounts>,
    task: JoinHandle<()>,
}

fn limits() -> ListenerLimits {
    ListenerLimits {
        connections: 3,
        first_byte_timeout: LONG_TIMEOUT,
        header_read_timeout: LONG_TIMEOUT,
        drain_timeout: LONG_TIMEOUT,
        ..ListenerLimits::default()
    }
}

async fn start(router: Router, limits: ListenerLimits) -> Server {
    start_with(Listener::new(limits), router).await
}

async fn start_with(listener: Listener, router: Router) -> Server {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let (shutdown, counts) = (Shutdown::new(), listener.counts());
    let task = tokio::spawn(listener.serve(socket, router, shutdown.clone()));
    Server {
        address,
        shutdown,
        counts,
        task,
    }
}

/// Connects a client in memory. With the clock paused, time passes only while both sides wait, so a
/// slow machine does not make the client slow.
fn connect_in_memory(router: Router, limits: ListenerLimits) -> DuplexStream {
    let (client, stream) = tokio::io::duplex(SOCKET_BYTES);
    let http = HttpServer::new(router, limits, Shutdown::new());
    tokio::spawn(async move { http.serve(Box::new(stream), None, &Activity::new()).await });
    client
}

fn hello() -> Router {
    Router::new().route(
        "/",
        routing::get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.to_string() }),
    )
}

/// Reads what the server sends until it closes or resets the connection.
async fn read_all(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut text = Vec::new();
    let _ = timeout(LONG_TIMEOUT, stream.read_to_end(&mut text))
        .await
        .expect("the server closes the connection");
    String::from_utf8(text).unwrap()
}

async fn send_request(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    read_all(&mut stream).await
}

#[tokio::test]
async fn handlers_receive_the_client_address() {
    let server = start(hello(), limits()).await;
    let response = send_request(
        server.address,
        "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    )
    .await;
    assert!(
        response.starts_with("HTTP/1.1 200") && response.contains("127.0.0.1:"),
        "{response}"
    );
}

#[tokio::test]
async fn slow_clients_time_out() {
    let server = start(
        hello(),
        ListenerLimits {
            first_byte_timeout: SHORT_TIMEOUT,
            header_read_timeout: SHORT_TIMEOUT,
            ..limits()
        },
    )
    .await;
    for start in [
        "",
        "G",
        "P",
        "PRI * HTTP/2.0\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nHeader: incomplete",
    ] {
        let response = send_request(server.address, start).await;
        assert!(!response.contains("200 OK"), "{start:?} -> {response}");
    }
}

#[tokio::test]
async fn shutdown_waits_for_open_requests() {
    let release = Arc::new(Semaphore::new(0));
    let waiting = Arc::clone(&release);
    let (arrived, arrival) = tokio::sync::oneshot::channel();
    let arrived = Arc::new(Mutex::new(Some(arrived)));
    let handler = move || {
        let (waiting, arrived) = (Arc::clone(&waiting), arrived.lock().unwrap().take());
        async move {
            arrived.unwrap().send(()).unwrap();
            waiting.acquire().await.unwrap().forget();
            "done"
        }
    };
    let server = start(Router::new().route("/", routing::get(handler)), limits()).await;
    let request_task = tokio::spawn(send_request(
        server.address,
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    ));
    arrival.await.unwrap();
    server.shutdown.trigger();
    let deadline = Instant::now() + LONG_TIMEOUT;
    while TcpStream::connect(server.address).await.is_ok() {
        assert!(
            Instant::now() < deadline,
            "the server still accepts connections"
        );
    }
    release.add_permits(1);
    assert!(request_task.await.unwrap().ends_with("done"));
    timeout(LONG_TIMEOUT, server.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn shutdown_aborts_endless_requests() {
    let arrived = Arc::new(Semaphore::new(0));
    let permits = Arc::clone(&arrived);
    let handler = move || {
        permits.add_permits(1);
        std::future::pending::<()>()
    };
    let server = start(
        Router::new().route("/", routing::get(handler)),
        ListenerLimits {
            drain_timeout: SHORT_TIMEOUT,
            ..limits()
        },
    )
    .await;
    let _request_task = tokio::spawn(send_request(
        server.address,
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    ));
    arrived.acquire().await.unwrap().forget();
    server.shutdown.trigger();
    timeout(LONG_TIMEOUT, server.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn http2_starts_with_the_preface() {
    let server = start(hello(), limits()).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .unwrap();
    let mut frame = [0; 9];
    timeout(LONG_TIMEOUT, stream.read_exact(&mut frame))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(frame[3], 4, "the server's settings");
}

#[tokio::test]
async fn unix_sockets_follow_their_access_mode() {
    let directory = tempfile::tempdir().unwrap();
    for (access, mode) in [(SocketAccess::Owner, 0o600), (SocketAccess::Group, 0o660)] {
        let path = directory.path().join("admin.sock");
        let endpoint = Endpoint::unix(&path, access).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            mode
        );
        assert!(matches!(
            Endpoint::unix(&path, access),
            Err(EndpointError::InUse { .. })
        ));
        let router = Router::new().route("/", routing::get(|| async { "hello" }));
        let shutdown = Shutdown::new();
        let task = tokio::spawn(serve(endpoint, router, limits(), shutdown.clone()));
        let mut stream = UnixStream::connect(&path).await.unwrap();
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .await
            .unwrap();
        assert!(read_all(&mut stream).await.ends_with("hello"));
        shutdown.trigger();
        timeout(LONG_TIMEOUT, task).await.unwrap().unwrap();
        assert!(!path.exists());
    }
}

#[tokio::test]
async fn only_stale_sockets_are_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let stale = directory.path().join("stale.sock");
    drop(UnixListener::bind(&stale).unwrap());
    let first = Endpoint::unix(&stale, SocketAccess::Owner).unwrap();
    fs::remove_file(&stale).unwrap();
    let _second = Endpoint::unix(&stale, SocketAccess::Owner).unwrap();
    drop(first);
    assert!(stale.exists(), "an endpoint removes only its own socket");
    let file = directory.path().join("notes");
    fs::write(&file, "content").unwrap();
    assert!(matches!(
        Endpoint::unix(&file, SocketAccess::Owner),
        Err(EndpointError::NotASocket { .. })
    ));
    assert_eq!(fs::read_to_string(&file).unwrap(), "content");
    let too_long = directory.path().join("x".repeat(200));
    assert!(matches!(
        Endpoint::unix(&too_long, SocketAccess::Owner),
        Err(EndpointError::Failed { .. })
    ));
}
