use crate::support::Relay;
use http::Method;
use sealpost_proto::{FetchToken, b64};
use std::{
    io,
    sync::{Arc, Mutex},
};
use tracing_subscriber::{filter::LevelFilter, fmt::MakeWriter, layer::SubscriberExt as _};

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;
    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn logs_contain_no_request_data() {
    let lines = Lines::default();
    let layer = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_writer(lines.clone());
    let ours =
        tracing_subscriber::filter::Targets::new().with_target("sealpost", LevelFilter::TRACE);
    let registry =
        tracing_subscriber::registry().with(tracing_subscriber::Layer::with_filter(layer, ours));
    tracing::subscriber::set_global_default(registry).unwrap();
    let relay = Relay::start().await;
    let (acme, bolt) = (relay.node().await, relay.node().await);
    let mailbox = bolt.open_mailbox().await;
    let envelope = acme.new_envelope(&mailbox, 0xab);
    let (id, proof) = (envelope.id, b64::encode(envelope.proof.as_slice()));
    acme.submit(vec![envelope]).await;
    bolt.get("/v1/deliveries?wait=0&canary=in-the-query").await;
    let token = FetchToken::from_bytes([0xcd; 32]);
    let mut fetch =
        acme.session_request(Method::GET, "/v1/blobs/AAAAAAAAAAAAAAAAAAAAAA/parts/0", "");
    fetch.headers_mut().insert(
        "sealpost-fetch-token",
        b64::encode(token.expose()).parse().unwrap(),
    );
    acme.send(fetch).await;
    acme.get(&format!("/v1/envelopes/{id}")).await;
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    assert!(
        text.contains("route=\"/v1/envelopes/{id}\"") && text.contains("status=200"),
        "{text}"
    );
    let (session, key) = acme.session.clone().unwrap();
    for secret in [
        b64::encode(&[0xab; 48]),
        proof,
        id.to_string(),
        mailbox.id.to_string(),
        "in-the-query".to_owned(),
        b64::encode(token.expose()),
        session,
        b64::encode(key.expose()),
        acme.account.unwrap().to_string(),
    ] {
        assert!(!text.contains(&secret), "{secret}");
    }
}
