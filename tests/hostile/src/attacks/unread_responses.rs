use super::{ATTACK_TIME, PreparedAttack, connect, connect_http2};
use crate::{
    account::{Account, SignedRequest, attacker_address, submit},
    testbed::Testbed,
};
use bytes::Bytes;
use http_body_util::Empty;
use sealpost_proto::{Origin, limits::HTTP2_STREAMS_MAX};
use sealpost_signatures::ContentDigest;
use std::{future::pending, net::Ipv4Addr, sync::Arc, time::Duration};
use tokio::{
    io::AsyncWriteExt as _,
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};

/// Part of the addresses that belongs to this attack.
const NETWORK: u8 = 1;
/// Size and number of the queued envelopes: more than one batch of deliveries.
const ENVELOPE_BYTES: usize = 64 * 1024;
const ENVELOPES: usize = 32;
/// Envelopes in one request that submits them.
const ENVELOPES_PER_REQUEST: usize = 16;
const HTTP2_CONNECTIONS: usize = 8;
const HTTP1_CONNECTIONS: usize = 200;
/// Pulls that wait for the beginning of a response at a time: the batches of concurrent pulls are
/// smaller.
const PENDING_PULLS: usize = 2;
const RESPONSE_TIMEOUT: Duration = Duration::from_millis(200);
const TARGET: &str = "/v1/deliveries?wait=0&bytes=1048576&within=60";
const RECEIVE_BUFFER_BYTES: u32 = 4 * 1024;

pub(super) async fn prepare(testbed: &Testbed) -> anyhow::Result<PreparedAttack> {
    let authority = testbed.relay.authority().to_owned();
    let first = UnreadPulls::new(&testbed.relay, attacker_address(NETWORK, 0)).await?;
    let second = UnreadPulls::new(&testbed.relay, attacker_address(NETWORK, 1)).await?;
    let streams: Vec<_> = (0..HTTP2_CONNECTIONS)
        .map(|_| first.requests(HTTP2_STREAMS_MAX as usize))
        .collect();
    let requests = second.requests(HTTP1_CONNECTIONS);
    Ok(Box::pin(async move {
        let mut held = JoinSet::new();
        let permits = Arc::new(Semaphore::new(PENDING_PULLS));
        for streams in streams {
            let (authority, permits) = (authority.clone(), Arc::clone(&permits));
            held.spawn(hold_streams(authority, first.source, streams, permits));
        }
        for request in requests {
            let (authority, source) = (authority.clone(), second.source);
            held.spawn(async move {
                let mut stream = connect(&authority, source, Some(RECEIVE_BUFFER_BYTES)).await?;
                stream.write_all(&request.head(0, "")).await?;
                pending::<anyhow::Result<()>>().await
            });
        }
        sleep(ATTACK_TIME).await;
        Ok(Vec::new())
    }))
}

/// Account whose pulls return large batches.
struct UnreadPulls {
    account: Account,
    session: sealpost_proto::wire::Session,
    source: Ipv4Addr,
}

impl UnreadPulls {
    async fn new(relay: &Origin, source: Ipv4Addr) -> anyhow::Result<Self> {
        let account = Account::with_pull(relay, source).await?;
        let mailbox = account.open_mailbox().await?;
        for _ in 0..ENVELOPES / ENVELOPES_PER_REQUEST {
            let envelopes = (0..ENVELOPES_PER_REQUEST).map(|_| mailbox.envelope(ENVELOPE_BYTES));
            submit(&account.client, envelopes.collect()).await?;
        }
        let session = account.sign_in().await?;
        Ok(Self {
            account,
            session,
            source,
        })
    }

    fn requests(&self, count: usize) -> Vec<SignedRequest> {
        let digest = ContentDigest::of(b"");
        let sign = |_| {
            self.account
                .sign_with_session(&self.session, "GET", TARGET, &digest)
        };
        (0..count).map(sign).collect()
    }
}

/// Opens a stream for each request, and reads no byte of any response.
async fn hold_streams(
    authority: String,
    source: Ipv4Addr,
    requests: Vec<SignedRequest>,
    permits: Arc<Semaphore>,
) -> anyhow::Result<()> {
    let mut sender = connect_http2(&authority, source, 0).await?;
    let mut unread = Vec::new();
    for request in requests {
        let _permit = permits.acquire().await?;
        sender.ready().await?;
        let request = request.with_body(Empty::<Bytes>::new())?;
        // A server that does not respond must not stop the attack.
        if let Ok(response) = timeout(RESPONSE_TIMEOUT, sender.send_request(request)).await {
            unread.push(response?);
        }
    }
    pending().await
}
