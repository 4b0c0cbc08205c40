//! A proxy between nodes and their relay that cuts connections on demand and counts the requested
//! parts of files.

use anyhow::Context as _;
use memchr::memmem;
use sealpost_demo::ports::reserve_port;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// Path prefix and end of the request line for a part, and its maximum length.
const PATH_PREFIX: &[u8] = b" /v1/blobs/";
const LINE_END: &[u8] = b" HTTP/1.1\r\n";
const LINE_BYTES_MAX: usize = 256;

/// Running proxy. It stops when this is dropped.
pub(crate) struct Proxy {
    address: SocketAddr,
    state: Arc<ProxyState>,
    task: tokio::task::JoinHandle<()>,
}

struct ProxyState {
    relay: SocketAddr,
    /// Bytes forwarded in both directions.
    forwarded_bytes: watch::Sender<u64>,
    /// Number of times that all connections were cut.
    cuts: watch::Sender<u32>,
    recorded: Mutex<Recorded>,
}

#[derive(Default)]
struct Recorded {
    /// The next cuts, in forwarded bytes.
    cut_points: BTreeSet<u64>,
    uploads: PartRequests,
    downloads: PartRequests,
}

/// Number of requests for each part.
#[derive(Debug, Clone, Default)]
pub(crate) struct PartRequests(BTreeMap<String, usize>);

impl PartRequests {
    /// Returns the number of different parts.
    pub(crate) fn distinct_parts(&self) -> usize {
        self.0.len()
    }

    /// Returns the number of repeated requests.
    pub(crate) fn repeated_requests(&self) -> usize {
        self.0.values().map(|count| count - 1).sum()
    }
}

impl Proxy {
    /// Starts a proxy to a relay.
    pub(crate) async fn start(relay: &str) -> anyhow::Result<Self> {
        let relay = relay
            .strip_prefix("http://")
            .context("the relay is not at an http origin")?
            .parse()?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, reserve_port()?));
        let listener = TcpListener::bind(address).await?;
        let (forwarded_bytes, cuts) = (watch::channel(0).0, watch::channel(0).0);
        let state = Arc::new(ProxyState {
            relay,
            forwarded_bytes,
            cuts,
            recorded: Mutex::default(),
        });
        let task = tokio::spawn(Arc::clone(&state).serve(listener));
        Ok(Self {
            address,
            state,
            task,
        })
    }

    /// Returns the URL of the proxy.
    pub(crate) fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the bytes forwarded so far.
    pub(crate) fn forwarded_bytes(&self) -> u64 {
        *self.state.forwarded_bytes.borrow()
    }

    /// Cuts all connections once at each of these numbers of forwarded bytes.
    pub(crate) fn schedule_cuts(&self, cut_points: impl IntoIterator<Item = u64>) {
        self.state.recorded().cut_points.extend(cut_points);
    }

    /// Returns the number of cuts.
    pub(crate) fn cut_count(&self) -> u32 {
        *self.state.cuts.borrow()
    }

    /// Waits until the given number of bytes has been forwarded.
    pub(crate) async fn wait_until_forwarded(&self, bytes: u64) {
        // The channel stays open as long as this proxy exists.
        let _ = self
            .state
            .forwarded_bytes
            .subscribe()
            .wait_for(|forwarded| *forwarded >= bytes)
            .await;
    }

    /// Returns the upload requests of nodes, by part.
    pub(crate) fn uploads(&self) -> PartRequests {
        self.state.recorded().uploads.clone()
    }

    /// Returns the download requests of nodes, by part.
    pub(crate) fn downloads(&self) -> PartRequests {
        self.state.recorded().downloads.clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        self.state.cut();
    }
}

impl ProxyState {
    async fn serve(self: Arc<Self>, listener: TcpListener) {
        while let Ok((node, _)) = listener.accept().await {
            let state = Arc::clone(&self);
            tokio::spawn(async move {
                let mut cuts = state.cuts.subscribe();
                tokio::select! {
                    // Either side may close the connection.
                    _ = state.forward(node) => {}
                    _ = cuts.changed() => {}
                }
            });
        }
    }

    async fn forward(&self, mut node: TcpStream) -> anyhow::Result<()> {
        let mut relay = TcpStream::connect(self.relay).await?;
        let (from_node, to_node) = node.split();
        let (from_relay, to_relay) = relay.split();
        tokio::select! {
            ended = self.forward_bytes(
                from_node,
                to_relay,
                Some(RequestScanner::default())
            ) => ended,
            ended = self.forward_bytes(from_relay, to_node, None) => ended,
        }
    }

    async fn forward_bytes(
        &self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
        mut scanner: Option<RequestScanner>,
    ) -> anyhow::Result<()> {
        let mut piece = vec![0; 64 * 1024];
        loop {
            let read = from.read(&mut piece).await?;
            if read == 0 {
                return Ok(());
            }
            if let Some(scanner) = &mut scanner {
                scanner.scan(&piece[..read], &mut self.recorded());
            }
            self.count_bytes(read as u64);
            to.write_all(&piece[..read]).await?;
        }
    }

    fn count_bytes(&self, bytes: u64) {
        let mut total = 0;
        self.forwarded_bytes.send_modify(|sum| {
            *sum += bytes;
            total = *sum;
        });
        let reaches_cut_point = {
            let mut recorded = self.recorded();
            let remaining = recorded.cut_points.split_off(&(total + 1));
            !std::mem::replace(&mut recorded.cut_points, remaining).is_empty()
        };
        if reaches_cut_point {
            self.cut();
        }
    }

    fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    fn recorded(&self) -> std::sync::MutexGuard<'_, Recorded> {
        self.recorded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Finds the requests for parts in the data that a node sends. A false match inside a sealed file
/// would need 20 matching bytes.
#[derive(Default)]
struct RequestScanner(Vec<u8>);

impl RequestScanner {
    fn scan(&mut self, piece: &[u8], recorded: &mut Recorded) {
        self.0.extend_from_slice(piece);
        let mut scanned = 0;
        for end in memmem::find_iter(&self.0, LINE_END) {
            let line = &self.0[scanned.max(end.saturating_sub(LINE_BYTES_MAX))..end];
            scanned = end + LINE_END.len();
            let Some(path) = memmem::rfind(line, PATH_PREFIX) else {
                continue;
            };
            let (before, part) = line.split_at(path);
            let Some(part) = std::str::from_utf8(part)
                .ok()
                .filter(|part| part.contains("/parts/"))
            else {
                continue;
            };
            let parts = if before.ends_with(b"PUT") {
                &mut recorded.uploads
            } else {
                &mut recorded.downloads
            };
            *parts.0.entry(part.to_owned()).or_default() += 1;
        }
        self.0
            .drain(..scanned.max(self.0.len().saturating_sub(LINE_BYTES_MAX)));
    }
}
