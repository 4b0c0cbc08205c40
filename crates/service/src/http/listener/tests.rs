mod acme;
mod crowd;
mod tls;

use super::*;
use axum::{extract::ConnectInfo, routing};
use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, net::UnixListener},
    sync::Mutex,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UnixStream},
    sync::Semaphore,
    task::JoinHandle,
    time::Instant,
};

/// For what has to be cut off.
const SHORT: Duration = Duration::from_millis(200);
/// For everything else: far longer than a slow and busy machine takes.
const DEADLINE: Duration = Duration::from_secs(60);

struct Server {
    address: SocketAddr,
    shutdown: Shutdown,
    counts: Arc<ListenerCounts>,
    task: JoinHandle<()>,
}

fn limits() -> ListenerLimits {
    ListenerLimits {
        connections: 3,
        first_byte: DEADLINE,
        header_read: DEADLINE,
        drain: DEADLINE,
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

fn hello() -> Router {
    Router::new().route(
        "/",
        routing::get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.to_string() }),
    )
}

/// Everything the server sends until it hangs up; what was read before a reset counts.
async fn read_all(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut text = Vec::new();
    let _ = timeout(DEADLINE, stream.read_to_end(&mut text))
        .await
        .expect("the server hangs up");
    String::from_utf8(text).unwrap()
}

async fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    read_all(&mut stream).await
}

#[tokio::test]
async fn it_answers_and_tells_handlers_who_asks() {
    let server = start(hello(), limits()).await;
    let answer = ask(
        server.address,
        "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    )
    .await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("127.0.0.1:"),
        "{answer}"
    );
}

#[tokio::test]
async fn slow_clients_are_cut_off() {
    let server = start(
        hello(),
        ListenerLimits {
            first_byte: SHORT,
            header_read: SHORT,
            ..limits()
        },
    )
    .await;
    for begun in [
        "",
        "G",
        "P",
        "PRI * HTTP/2.0\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nMore: and more",
    ] {
        let answer = ask(server.address, begun).await;
        assert!(!answer.contains("200 OK"), "{begun:?} -> {answer}");
    }
}

#[tokio::test]
async fn open_requests_end_before_the_server_does() {
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
    let asking = tokio::spawn(ask(server.address, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
    arrival.await.unwrap();
    server.shutdown.trigger();
    let deadline = Instant::now() + DEADLINE;
    while TcpStream::connect(server.address).await.is_ok() {
        assert!(Instant::now() < deadline, "it still accepts");
    }
    release.add_permits(1);
    assert!(asking.await.unwrap().ends_with("done"));
    timeout(DEADLINE, server.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_request_that_does_not_end_does_not_hold_the_shutdown() {
    let arrived = Arc::new(Semaphore::new(0));
    let note = Arc::clone(&arrived);
    let handler = move || {
        note.add_permits(1);
        std::future::pending::<()>()
    };
    let server = start(
        Router::new().route("/", routing::get(handler)),
        ListenerLimits {
            drain: SHORT,
            ..limits()
        },
    )
    .await;
    let _asking = tokio::spawn(ask(server.address, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
    arrived.acquire().await.unwrap().forget();
    server.shutdown.trigger();
    timeout(DEADLINE, server.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn http_2_begins_with_its_preface() {
    let server = start(hello(), limits()).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .unwrap();
    let mut frame = [0; 9];
    timeout(DEADLINE, stream.read_exact(&mut frame))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(frame[3], 4, "the server's settings");
}

#[tokio::test]
async fn a_socket_in_the_file_system_is_private_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    for (access, mode) in [(SocketAccess::Owner, 0o600), (SocketAccess::Group, 0o660)] {
        let path = folder.path().join("admin.sock");
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
        timeout(DEADLINE, task).await.unwrap().unwrap();
        assert!(!path.exists());
    }
}

#[tokio::test]
async fn a_dead_socket_is_replaced_and_anything_else_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let dead = folder.path().join("dead.sock");
    drop(UnixListener::bind(&dead).unwrap());
    let first = Endpoint::unix(&dead, SocketAccess::Owner).unwrap();
    fs::remove_file(&dead).unwrap();
    let _second = Endpoint::unix(&dead, SocketAccess::Owner).unwrap();
    drop(first);
    assert!(dead.exists(), "it removes only the one that it made");
    let file = folder.path().join("notes");
    fs::write(&file, "mine").unwrap();
    assert!(matches!(
        Endpoint::unix(&file, SocketAccess::Owner),
        Err(EndpointError::NotASocket { .. })
    ));
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    let far = folder.path().join("x".repeat(200));
    assert!(matches!(
        Endpoint::unix(&far, SocketAccess::Owner),
        Err(EndpointError::Failed { .. })
    ));
}
