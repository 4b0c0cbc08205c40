use super::{ATTACK_TIME, Finding, PreparedAttack};
use crate::{
    account::{attacker_address, http_client},
    testbed::Testbed,
};
use http::StatusCode;
use reqwest::{Client, Request};
use sealpost_proto::{AccountId, Origin, SessionKey, Timestamp};
use sealpost_service::{Clock as _, SystemClock, random_array};
use sealpost_signatures::{ContentDigest, RequestParts, SessionId, request};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{task::JoinSet, time::sleep};

const NETWORK: u8 = 8;
/// Concurrent requests of each kind.
const CONCURRENT_REQUESTS: usize = 16;
const FORGED_TARGET: &str = "/v1/account";
/// Largest number of requests that one address may have answered during the attack: a burst of
/// one minute, and what is refilled meanwhile.
const ANSWERED_MAX: u64 = 2 * 700;

/// One address requests the description of the API and forges sessions.
pub(super) fn prepare(testbed: &Testbed) -> anyhow::Result<PreparedAttack> {
    let http = http_client(attacker_address(NETWORK, 0))?;
    let relay = testbed.relay.clone();
    let description = http.get(format!("{relay}/openapi.json")).build()?;
    let forged = forge_session(&http, &relay)?;
    Ok(Box::pin(async move {
        let answered = Arc::new(AtomicU64::new(0));
        let mut running = JoinSet::new();
        for request in [&description, &forged] {
            for _ in 0..CONCURRENT_REQUESTS {
                let request = request.try_clone();
                running.spawn(repeat(http.clone(), request, Arc::clone(&answered)));
            }
        }
        sleep(ATTACK_TIME).await;
        let answered = answered.load(Ordering::Relaxed);
        let answered = Finding::new("requests of one address that were not limited", answered);
        Ok(vec![answered.with_limit(ANSWERED_MAX)])
    }))
}

/// Creates a request with a session of an account that does not exist.
fn forge_session(http: &Client, relay: &Origin) -> anyhow::Result<Request> {
    let now: Timestamp = SystemClock.now();
    let session = SessionId {
        account: AccountId::from_bytes(random_array()),
        key_generation: 1,
        expires_at: now.plus(Duration::from_secs(3_600)),
        random: random_array(),
    };
    let parts = RequestParts {
        method: "GET",
        authority: relay.authority(),
        path: FORGED_TARGET,
        query: None,
    };
    let key = SessionKey::from_bytes(random_array());
    let digest = ContentDigest::of(b"");
    let signed = request::sign_hmac(&session.to_string(), &key, &parts, &digest, now);
    let mut request = http.get(format!("{relay}{FORGED_TARGET}"));
    for (name, value) in signed.pairs() {
        request = request.header(name, value);
    }
    Ok(request.build()?)
}

async fn repeat(http: Client, request: Option<Request>, answered: Arc<AtomicU64>) {
    while let Some(request) = request.as_ref().and_then(Request::try_clone) {
        let Ok(response) = http.execute(request).await else {
            return;
        };
        if response.status() != StatusCode::TOO_MANY_REQUESTS {
            answered.fetch_add(1, Ordering::Relaxed);
        }
        // The connection is used again only after the whole response.
        let _ = response.bytes().await;
    }
}
