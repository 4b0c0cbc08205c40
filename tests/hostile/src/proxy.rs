//! A link between nodes and their relay, as a TCP proxy: its rate is shared by all connections in
//! one direction, it can refuse large request bodies as a reverse proxy does, and it can cut
//! connections.

use crate::request_scanner::RequestScanner;
use anyhow::Context as _;
use sealpost_demo::ports::reserve_port;
use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    task::AbortHandle,
    time::{Instant, sleep_until, timeout},
};

/// Buffer of each connection in the kernel: a link has little memory.
const SOCKET_BUFFER_BYTES: u32 = 32 * 1024;
/// Pieces that pass in a second at least, so that connections alternate.
const PIECES_PER_SECOND: u64 = 50;
/// Limits of the size of a piece.
const PIECE_BYTES_MIN: u64 = 512;
const PIECE_BYTES_MAX: u64 = 64 * 1024;
/// Time for which the rest of a refused request is read, so that its sender can read the response.
const LINGER_TIME: Duration = Duration::from_secs(5);
const REFUSAL: &[u8] = b"HTTP/1.1 413 Content Too Large\r\ncontent-type: text/html\r\n\
    content-length: 0\r\nconnection: close\r\n\r\n";

/// Properties of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LinkShape {
    /// Rate of each direction.
    pub(crate) bytes_per_second: u64,
    /// Largest body of a request; a larger one is refused with 413.
    pub(crate) body_bytes_max: Option<u64>,
    /// Bytes from a client after which its connection is cut.
    pub(crate) cut_after_bytes: Option<u64>,
}

/// Direction of data on the link, as the client of a connection sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opener {
    /// The node opens the connections: responses arrive at the node.
    Node,
    /// The relay opens the connections: requests arrive at the node.
    Relay,
}

/// Link with its proxies, which stop when this is dropped. Until it has a shape, it forwards
/// everything at once.
pub(crate) struct Link {
    state: Arc<LinkState>,
    proxies: Vec<AbortHandle>,
}

struct LinkState {
    shape: Mutex<Option<LinkShape>>,
    to_node: Direction,
    to_relay: Direction,
}

/// When the link is free again in one direction.
struct Direction(Mutex<Instant>);

/// Why a connection ended.
#[derive(Debug, PartialEq, Eq)]
enum ConnectionEnd {
    /// One side closed it, or the link cut it.
    Closed,
    /// A body was too large.
    BodyTooLarge,
}

impl Link {
    /// Creates a link without a shape.
    pub(crate) fn new() -> Self {
        Self {
            state: Arc::new(LinkState {
                shape: Mutex::new(None),
                to_node: Direction::new(),
                to_relay: Direction::new(),
            }),
            proxies: Vec::new(),
        }
    }

    /// Sets the shape from now on.
    pub(crate) fn set_shape(&self, shape: LinkShape) {
        *lock(&self.state.shape) = Some(shape);
    }

    /// Starts a proxy to a server and returns its address.
    pub(crate) fn start_proxy(
        &mut self,
        server: SocketAddr,
        opener: Opener,
    ) -> anyhow::Result<SocketAddr> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, reserve_port()?));
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
        socket.bind(address)?;
        let listener = socket.listen(1_024)?;
        let state = Arc::clone(&self.state);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let state = Arc::clone(&state);
                // Either side may close the connection.
                tokio::spawn(async move { drop(state.forward(client, server, opener).await) });
            }
        });
        self.proxies.push(task.abort_handle());
        Ok(address)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.proxies.iter().for_each(AbortHandle::abort);
    }
}

impl LinkState {
    async fn forward(
        &self,
        mut client: TcpStream,
        server: SocketAddr,
        opener: Opener,
    ) -> anyhow::Result<()> {
        let (requests, responses) = match opener {
            Opener::Node => (&self.to_relay, &self.to_node),
            Opener::Relay => (&self.to_node, &self.to_relay),
        };
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
        let mut upstream = socket.connect(server).await?;
        let scanner = Some(RequestScanner::default());
        let end = {
            let (from_client, to_client) = client.split();
            let (from_server, to_server) = upstream.split();
            tokio::select! {
                end = self.forward_bytes(from_client, to_server, requests, scanner) => end,
                end = self.forward_bytes(from_server, to_client, responses, None) => end,
            }
        };
        drop(upstream);
        if end? == ConnectionEnd::BodyTooLarge {
            self.refuse(client, requests).await?;
        }
        Ok(())
    }

    async fn forward_bytes(
        &self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
        direction: &Direction,
        mut scanner: Option<RequestScanner>,
    ) -> anyhow::Result<ConnectionEnd> {
        let (mut buffer, mut forwarded) = (Vec::new(), 0);
        loop {
            let read = self.read_piece(&mut from, &mut buffer).await?;
            let (piece, shape) = (&buffer[..read], self.shape());
            let body_bytes_max = shape.and_then(|shape| shape.body_bytes_max);
            if let Some(scanner) = &mut scanner
                && !scanner.accepts(piece, body_bytes_max)?
            {
                return Ok(ConnectionEnd::BodyTooLarge);
            }
            forwarded += read as u64;
            let cut_after_bytes = shape.and_then(|shape| shape.cut_after_bytes);
            if read == 0 || cut_after_bytes.is_some_and(|limit| forwarded > limit) {
                return Ok(ConnectionEnd::Closed);
            }
            direction.pass(read, shape).await;
            to.write_all(piece).await?;
        }
    }

    /// Reads one piece, which is small on a slow link.
    async fn read_piece(
        &self,
        from: &mut (impl AsyncRead + Unpin),
        buffer: &mut Vec<u8>,
    ) -> anyhow::Result<usize> {
        let bytes = self.shape().map_or(PIECE_BYTES_MAX, |shape| {
            (shape.bytes_per_second / PIECES_PER_SECOND).clamp(PIECE_BYTES_MIN, PIECE_BYTES_MAX)
        });
        buffer.resize(usize::try_from(bytes)?, 0);
        Ok(from.read(buffer).await?)
    }

    /// Responds with 413 and closes the connection, as nginx does.
    async fn refuse(&self, mut client: TcpStream, direction: &Direction) -> anyhow::Result<()> {
        client.write_all(REFUSAL).await?;
        client.shutdown().await?;
        let drained = timeout(LINGER_TIME, async {
            let mut buffer = Vec::new();
            while let Ok(read @ 1..) = self.read_piece(&mut client, &mut buffer).await {
                direction.pass(read, self.shape()).await;
            }
        });
        drained.await.context("the client continues to send")
    }

    fn shape(&self) -> Option<LinkShape> {
        *lock(&self.shape)
    }
}

impl Direction {
    fn new() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    /// Waits until the bytes have passed the link.
    async fn pass(&self, bytes: usize, shape: Option<LinkShape>) {
        let Some(shape) = shape else {
            return;
        };
        let passed_at = {
            let mut free_at = lock(&self.0);
            let time = Duration::from_secs_f64(bytes as f64 / shape.bytes_per_second as f64);
            *free_at = (*free_at).max(Instant::now()) + time;
            *free_at
        };
        sleep_until(passed_at).await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    const SHAPE: LinkShape = LinkShape {
        bytes_per_second: 100_000,
        body_bytes_max: None,
        cut_after_bytes: None,
    };

    /// Starts a server that responds with the number of received bytes when its client is silent.
    async fn start_server() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut buffer, mut received) = (vec![0; 65_536], 0);
                    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                        received += read;
                        if buffer[..read].ends_with(b"?") {
                            stream
                                .write_all(received.to_string().as_bytes())
                                .await
                                .unwrap();
                        }
                    }
                });
            }
        });
        address
    }

    async fn connect(shape: LinkShape) -> (Link, TcpStream) {
        let mut link = Link::new();
        link.set_shape(shape);
        let address = link
            .start_proxy(start_server().await, Opener::Node)
            .unwrap();
        (link, TcpStream::connect(address).await.unwrap())
    }

    fn request(body: usize) -> Vec<u8> {
        let head = format!("POST / HTTP/1.1\r\nContent-Length: {body}\r\n\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend(vec![b'?'; body]);
        bytes
    }

    async fn response(stream: &mut TcpStream) -> String {
        let mut buffer = vec![0; 1_024];
        let read = stream.read(&mut buffer).await.unwrap();
        String::from_utf8_lossy(&buffer[..read]).into_owned()
    }

    #[tokio::test]
    async fn connections_share_the_rate() {
        let (link, first) = connect(SHAPE).await;
        let mut link = link;
        let address = link
            .start_proxy(start_server().await, Opener::Node)
            .unwrap();
        let second = TcpStream::connect(address).await.unwrap();
        let started = Instant::now();
        let send = async |mut stream: TcpStream| {
            let request = request(20_000);
            stream.write_all(&request).await.unwrap();
            let mut received = String::new();
            while !received.ends_with(&request.len().to_string()) {
                received.push_str(&response(&mut stream).await);
            }
        };
        tokio::join!(send(first), send(second));
        let seconds = started.elapsed().as_secs_f64();
        assert!((0.38..2.0).contains(&seconds), "{seconds}");
    }

    #[tokio::test]
    async fn large_bodies_are_refused() {
        let shape = LinkShape {
            body_bytes_max: Some(100),
            ..SHAPE
        };
        let (_link, mut stream) = connect(shape).await;
        stream.write_all(&request(100)).await.unwrap();
        assert!(!response(&mut stream).await.is_empty());
        stream.write_all(&request(101)).await.unwrap();
        let refusal = response(&mut stream).await;
        assert!(refusal.starts_with("HTTP/1.1 413 "), "{refusal}");
        assert!(refusal.contains("connection: close"));
    }

    #[tokio::test]
    async fn connections_are_cut() {
        let shape = LinkShape {
            cut_after_bytes: Some(1_000),
            ..SHAPE
        };
        let (_link, mut stream) = connect(shape).await;
        stream.write_all(&request(2_000)).await.unwrap();
        let mut buffer = [0; 10];
        assert!(matches!(stream.read(&mut buffer).await, Ok(0) | Err(_)));
    }
}
