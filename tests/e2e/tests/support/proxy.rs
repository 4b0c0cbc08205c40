//! A road between nodes and their relay that is cut where a test wants it, and that counts which parts of files pass.

use anyhow::Context as _;
use memchr::memmem;
use sealpost_demo::ports::free_port;
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

/// The beginning and the end of a request for a part, and no line of one is longer.
const PATH: &[u8] = b" /v1/blobs/";
const LINE_END: &[u8] = b" HTTP/1.1\r\n";
const LINE_BYTES_MAX: usize = 256;

/// The road. It is closed when this is dropped.
pub(crate) struct Proxy {
    address: SocketAddr,
    road: Arc<Road>,
    task: tokio::task::JoinHandle<()>,
}

struct Road {
    relay: SocketAddr,
    /// Bytes that have passed, both ways together.
    passed: watch::Sender<u64>,
    /// How often everything under way was cut.
    cuts: watch::Sender<u32>,
    notes: Mutex<Notes>,
}

#[derive(Default)]
struct Notes {
    /// Where the road is cut next, in bytes that have passed.
    places: BTreeSet<u64>,
    puts: Parts,
    gets: Parts,
}

/// How often each part was asked for, or sent.
#[derive(Debug, Clone, Default)]
pub(crate) struct Parts(BTreeMap<String, usize>);

impl Parts {
    /// How many different ones.
    pub(crate) fn distinct(&self) -> usize {
        self.0.len()
    }

    /// How many more than once, and how often more.
    pub(crate) fn again(&self) -> usize {
        self.0.values().map(|times| times - 1).sum()
    }
}

impl Proxy {
    /// A road to this relay.
    pub(crate) async fn to(relay: &str) -> anyhow::Result<Self> {
        let relay = relay
            .strip_prefix("http://")
            .context("an origin")?
            .parse()?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let listener = TcpListener::bind(address).await?;
        let (passed, cuts) = (watch::channel(0).0, watch::channel(0).0);
        let road = Arc::new(Road {
            relay,
            passed,
            cuts,
            notes: Mutex::default(),
        });
        let task = tokio::spawn(Arc::clone(&road).serve(listener));
        Ok(Self {
            address,
            road,
            task,
        })
    }

    /// Where nodes find the relay.
    pub(crate) fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Bytes that have passed so far.
    pub(crate) fn passed(&self) -> u64 {
        *self.road.passed.borrow()
    }

    /// Cuts everything that is under way when so many bytes have passed: at each of these places once.
    pub(crate) fn cut_at(&self, places: impl IntoIterator<Item = u64>) {
        self.road.notes().places.extend(places);
    }

    /// How often it was cut.
    pub(crate) fn cuts(&self) -> u32 {
        *self.road.cuts.borrow()
    }

    /// Returns when so many bytes have passed.
    pub(crate) async fn has_passed(&self, bytes: u64) {
        // The sender lives as long as this.
        let _ = self
            .road
            .passed
            .subscribe()
            .wait_for(|passed| *passed >= bytes)
            .await;
    }

    /// The parts that nodes have sent.
    pub(crate) fn puts(&self) -> Parts {
        self.road.notes().puts.clone()
    }

    /// The parts that nodes have asked for.
    pub(crate) fn gets(&self) -> Parts {
        self.road.notes().gets.clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        self.road.cut();
    }
}

impl Road {
    async fn serve(self: Arc<Self>, listener: TcpListener) {
        while let Ok((node, _)) = listener.accept().await {
            let road = Arc::clone(&self);
            tokio::spawn(async move {
                let mut cuts = road.cuts.subscribe();
                tokio::select! {
                    // Whichever side ends the connection ends it.
                    _ = road.carry(node) => {}
                    _ = cuts.changed() => {}
                }
            });
        }
    }

    async fn carry(&self, mut node: TcpStream) -> anyhow::Result<()> {
        let mut relay = TcpStream::connect(self.relay).await?;
        let (from_node, to_node) = node.split();
        let (from_relay, to_relay) = relay.split();
        tokio::select! {
            ended = self.pump(from_node, to_relay, Some(Lines::default())) => ended,
            ended = self.pump(from_relay, to_node, None) => ended,
        }
    }

    async fn pump(
        &self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
        mut lines: Option<Lines>,
    ) -> anyhow::Result<()> {
        let mut piece = vec![0; 64 * 1024];
        loop {
            let read = from.read(&mut piece).await?;
            if read == 0 {
                return Ok(());
            }
            if let Some(lines) = &mut lines {
                lines.feed(&piece[..read], &mut self.notes());
            }
            self.count(read as u64);
            to.write_all(&piece[..read]).await?;
        }
    }

    fn count(&self, bytes: u64) {
        let mut passed = 0;
        self.passed.send_modify(|sum| {
            *sum += bytes;
            passed = *sum;
        });
        let is_there = {
            let mut notes = self.notes();
            let beyond = notes.places.split_off(&(passed + 1));
            !std::mem::replace(&mut notes.places, beyond).is_empty()
        };
        if is_there {
            self.cut();
        }
    }

    fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    fn notes(&self) -> std::sync::MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Finds the requests for parts in what a node sends. What looks like one in a sealed file would be a coincidence of 20 bytes.
#[derive(Default)]
struct Lines(Vec<u8>);

impl Lines {
    fn feed(&mut self, piece: &[u8], notes: &mut Notes) {
        self.0.extend_from_slice(piece);
        let mut seen = 0;
        for end in memmem::find_iter(&self.0, LINE_END) {
            let line = &self.0[seen.max(end.saturating_sub(LINE_BYTES_MAX))..end];
            seen = end + LINE_END.len();
            let Some(path) = memmem::rfind(line, PATH) else {
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
                &mut notes.puts
            } else {
                &mut notes.gets
            };
            *parts.0.entry(part.to_owned()).or_default() += 1;
        }
        self.0
            .drain(..seen.max(self.0.len().saturating_sub(LINE_BYTES_MAX)));
    }
}
