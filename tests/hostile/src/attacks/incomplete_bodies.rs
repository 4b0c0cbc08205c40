use super::{ATTACK_TIME, PreparedAttack, ZEROS, connect};
use crate::{
    account::{Account, SignedRequest, attacker_address, sign_with_key},
    testbed::Testbed,
};
use ed25519_dalek::SigningKey;
use sealpost_proto::limits::JSON_REQUEST_BYTES_MAX;
use sealpost_service::random_array;
use sealpost_signatures::ContentDigest;
use std::{net::Ipv4Addr, time::Duration};
use tokio::{
    io::AsyncWriteExt as _,
    task::JoinSet,
    time::{Instant, interval},
};

const NETWORK: u8 = 3;
/// Requests per second of one account.
const ACCOUNT_RATE: u32 = 35;
/// Announced sizes: large bodies first, and then ever smaller ones for what they leave free.
const LARGE_BYTES: usize = 1024 * 1024;
const LARGE_REQUESTS: usize = 24;
const SIZES: [usize; 5] = [256 * 1024, 64 * 1024, 16 * 1024, 4 * 1024, 1024];
/// Registrations per second of all strangers.
const REGISTRATION_RATE: u32 = 100;
/// Registrations at the beginning of the attack.
const REGISTRATION_BURST: usize = 400;
/// Addresses of the strangers.
const STRANGERS: usize = 32;
/// Announced size of every other registration, for a relay that accepts no more.
const SMALL_REGISTRATION_BYTES: usize = 4 * 1024;
/// Digest that no body has.
const DIGEST: ContentDigest = ContentDigest::from_sha256([0; 32]);

/// One account sends requests whose bodies lack the last byte.
pub(super) async fn prepare(testbed: &Testbed) -> anyhow::Result<PreparedAttack> {
    let account = Account::with_pull(&testbed.relay, attacker_address(NETWORK, 0)).await?;
    let session = account.sign_in().await?;
    let authority = testbed.relay.authority().to_owned();
    Ok(Box::pin(async move {
        send_incomplete(&authority, LARGE_REQUESTS, ACCOUNT_RATE, |number| {
            let bytes = match number.checked_sub(LARGE_REQUESTS) {
                None => LARGE_BYTES,
                Some(number) => SIZES[number % SIZES.len()],
            };
            let request = account.sign_with_session(&session, "POST", "/v1/envelopes", &DIGEST);
            (account.source, request, bytes)
        })
        .await;
        Ok(Vec::new())
    }))
}

/// Strangers send registrations whose bodies lack the last byte.
pub(super) fn prepare_registrations(testbed: &Testbed) -> PreparedAttack {
    let relay = testbed.relay.clone();
    Box::pin(async move {
        send_incomplete(
            relay.authority(),
            REGISTRATION_BURST,
            REGISTRATION_RATE,
            |number| {
                let key = SigningKey::from_bytes(&random_array());
                let request = sign_with_key(&key, &relay, "POST", "/v1/accounts", &DIGEST);
                let bytes = match number % 2 {
                    0 => JSON_REQUEST_BYTES_MAX,
                    _ => SMALL_REGISTRATION_BYTES,
                };
                let source = attacker_address(NETWORK, 1 + number % STRANGERS);
                (source, request, bytes)
            },
        )
        .await;
        Ok(Vec::new())
    })
}

/// Sends a burst of requests and then more at a rate, each over its own connection, which stays
/// open.
async fn send_incomplete(
    authority: &str,
    burst: usize,
    rate: u32,
    mut create_request: impl FnMut(usize) -> (Ipv4Addr, SignedRequest, usize),
) {
    let mut ticks = interval(Duration::from_secs(1) / rate);
    let deadline = Instant::now() + ATTACK_TIME;
    let mut held = JoinSet::new();
    let mut number = 0;
    while Instant::now() < deadline {
        if number >= burst {
            ticks.tick().await;
        }
        let (source, request, bytes) = create_request(number);
        number += 1;
        held.spawn(hold(authority.to_owned(), source, request, bytes));
    }
}

async fn hold(
    authority: String,
    source: Ipv4Addr,
    request: SignedRequest,
    bytes: usize,
) -> anyhow::Result<()> {
    let mut stream = connect(&authority, source, None).await?;
    stream.write_all(&request.head(bytes, "")).await?;
    let mut remaining = bytes - 1;
    while remaining > 0 {
        let chunk = remaining.min(ZEROS.len());
        stream.write_all(&ZEROS[..chunk]).await?;
        remaining -= chunk;
    }
    std::future::pending().await
}
