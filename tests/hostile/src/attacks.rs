//! The attacks. Each is prepared first, so that only its harmful part is measured.

mod account_deletion;
mod contact_requests;
mod endless_bodies;
mod fast_relay;
mod floods;
mod growth;
mod incomplete_bodies;
mod rich_text;
mod stalled_downloads;
mod unread_responses;
mod webhook_tests;

pub(crate) use account_deletion::QueuedAccount;

use crate::testbed::Testbed;
use bytes::Bytes;
use clap::ValueEnum;
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::Serialize;
use std::{
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::net::{TcpSocket, TcpStream};

/// Time for which an attack continues.
const ATTACK_TIME: Duration = Duration::from_secs(5);

/// Bytes of bodies that never end.
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// Attack on the relay or on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Attack {
    /// Large responses that nobody reads, over HTTP/2 and HTTP/1.1
    UnreadResponses,
    /// Bodies without an end, sent to a webhook and to the relay without a key
    EndlessBodies,
    /// Requests of one account whose bodies lack the last byte
    IncompleteBodies,
    /// Registrations of strangers whose bodies lack the last byte
    IncompleteRegistrations,
    /// Webhook tests of names that a resolver never answers
    UnresolvableNames,
    /// Webhook tests against a server that accepts connections and never responds
    WebhookTests,
    /// Downloads that sixteen accounts do not read
    StalledDownloads,
    /// Forged sessions and descriptions of the API, requested from one address
    Floods,
    /// A relay that responds to every long poll at once
    FastRelay,
    /// 120 contact requests of one account
    ContactRequests,
    /// Envelopes and mailboxes that leave records after their end
    Growth,
    /// Deletion of an account with 92,000 envelopes in 2,010 mailboxes
    AccountDeletion,
    /// Messages that are expensive to display
    RichText,
}

/// Attack that is ready to start; it ends with its findings.
pub(crate) type PreparedAttack = Pin<Box<dyn Future<Output = anyhow::Result<Vec<Finding>>> + Send>>;

/// What an attack found out besides the honest client's latencies.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Finding {
    /// Name of the figure.
    pub(crate) name: &'static str,
    /// Value of the figure.
    pub(crate) value: u64,
    /// Largest accepted value, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) limit: Option<u64>,
}

impl Finding {
    /// Creates a figure without a limit.
    const fn new(name: &'static str, value: u64) -> Self {
        Self {
            name,
            value,
            limit: None,
        }
    }

    /// Sets the largest accepted value.
    const fn with_limit(self, limit: u64) -> Self {
        Self {
            limit: Some(limit),
            ..self
        }
    }

    /// Whether the value is within its limit.
    pub(crate) fn is_within_limit(&self) -> bool {
        self.limit.is_none_or(|limit| self.value <= limit)
    }
}

impl Attack {
    /// Prepares the attack; returns `None` if this machine cannot run it.
    pub(crate) async fn prepare(
        self,
        testbed: &Testbed,
        queued: &mut Option<QueuedAccount>,
    ) -> anyhow::Result<Option<PreparedAttack>> {
        Ok(Some(match self {
            Self::UnreadResponses => unread_responses::prepare(testbed).await?,
            Self::EndlessBodies => endless_bodies::prepare(testbed).await?,
            Self::IncompleteBodies => incomplete_bodies::prepare(testbed).await?,
            Self::IncompleteRegistrations => incomplete_bodies::prepare_registrations(testbed),
            Self::UnresolvableNames if testbed.resolver.is_none() => return Ok(None),
            Self::UnresolvableNames => webhook_tests::prepare_unresolvable(testbed).await?,
            Self::WebhookTests => webhook_tests::prepare_silent(testbed).await?,
            Self::AccountDeletion => match queued.take() {
                Some(queued) => account_deletion::prepare(queued),
                None => return Ok(None),
            },
            Self::Growth => growth::prepare(testbed).await?,
            Self::StalledDownloads => stalled_downloads::prepare(testbed).await?,
            Self::Floods => floods::prepare(testbed)?,
            Self::FastRelay => fast_relay::prepare(testbed).await?,
            Self::ContactRequests => contact_requests::prepare(testbed).await?,
            Self::RichText => rich_text::prepare(testbed).await?,
        }))
    }
}

/// Opens a connection from an address. A small receive buffer makes unread responses fill the
/// buffers of the server.
async fn connect(
    authority: &str,
    source: Ipv4Addr,
    receive_buffer_bytes: Option<u32>,
) -> anyhow::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if let Some(bytes) = receive_buffer_bytes {
        socket.set_recv_buffer_size(bytes)?;
    }
    socket.bind(SocketAddr::from((source, 0)))?;
    let stream = socket.connect(authority.parse()?).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Opens an HTTP/2 connection without negotiation whose streams grant the server `window_bytes`.
async fn connect_http2<B>(
    authority: &str,
    source: Ipv4Addr,
    window_bytes: u32,
) -> anyhow::Result<hyper::client::conn::http2::SendRequest<B>>
where
    B: http_body::Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static,
{
    let stream = connect(authority, source, None).await?;
    let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(window_bytes)
        .handshake(TokioIo::new(stream))
        .await?;
    tokio::spawn(async move {
        // The streams of the connection receive the same error.
        let _ = connection.await;
    });
    Ok(sender)
}

/// Body that sends its bytes as fast as possible and then never ends.
#[derive(Debug)]
struct EndlessBody {
    remaining: usize,
}

impl http_body::Body for EndlessBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.remaining == 0 {
            return Poll::Pending;
        }
        let chunk = self.remaining.min(ZEROS.len());
        self.remaining -= chunk;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&ZEROS[..chunk])))))
    }
}
