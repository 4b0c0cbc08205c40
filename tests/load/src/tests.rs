use crate::{
    account::Target,
    ceiling,
    generator::{self, LoadModel},
    listen,
    receiver::{self, ReceiverClient},
};
use sealpost_proto::wire::RegistrationPolicy;
use sealpost_relay::Config;
use sealpost_service::{Shutdown, SystemClock};
use std::{sync::Arc, time::Duration};

const ENVELOPES: u64 = 60;

fn requests_of(envelopes: u64) -> LoadModel {
    LoadModel::Closed {
        in_flight: 4,
        duration: Duration::MAX,
        requests: ENVELOPES / envelopes,
        envelopes,
    }
}

async fn start_receiver() -> Arc<ReceiverClient> {
    let listener = listen().await.unwrap();
    let receiver = Arc::new(ReceiverClient::new(
        &listener.local_addr().unwrap().to_string(),
    ));
    tokio::spawn(receiver::serve(listener));
    receiver
}

#[tokio::test]
async fn the_ceiling_delivers_everything() {
    let (receiver, directory) = (start_receiver().await, tempfile::tempdir().unwrap());
    let listener = listen().await.unwrap();
    let target =
        Arc::new(Target::unregistered(&listener.local_addr().unwrap().to_string()).unwrap());
    let (path, hook) = (directory.path().to_owned(), receiver.webhook_url(0));
    tokio::spawn(async move { ceiling::serve(listener, &path, &hook).await });
    receiver.start_round(1).await.unwrap();
    let report = generator::send(&target, 1, requests_of(1)).await.unwrap();
    assert_eq!(
        (report.total_accepted(), report.first_failure),
        (ENVELOPES, None)
    );
    let received = receiver.wait_for(ENVELOPES).await.unwrap();
    assert_eq!((received.envelopes, received.calls), (ENVELOPES, ENVELOPES));
    assert!(
        received.last_ns > report.started_ns && received.latency.p50_ms <= received.latency.p99_ms
    );
}

#[tokio::test]
async fn the_relay_delivers_everything_in_its_round() {
    let (receiver, directory) = (start_receiver().await, tempfile::tempdir().unwrap());
    let listen = ([127, 0, 0, 1], 0).into();
    let mut config = Config {
        listen,
        data: directory.path().join("data"),
        ..Config::default()
    };
    config.registration.policy = RegistrationPolicy::Open;
    config.egress.allow = vec!["127.0.0.0/8".parse().unwrap()];
    let shutdown = Shutdown::new();
    let relay = sealpost_relay::start(config, Arc::new(SystemClock), shutdown.clone())
        .await
        .unwrap();
    let authority = relay.address.to_string();
    let target = Arc::new(
        Target::register(&authority, 3, |_| Some(&receiver))
            .await
            .unwrap(),
    );
    for (round, model) in [
        (1, requests_of(1)),
        (2, requests_of(20)),
        (
            3,
            LoadModel::Open {
                rate: 200.0,
                duration: Duration::from_millis(300),
                connections: 4,
            },
        ),
    ] {
        receiver.start_round(round).await.unwrap();
        let report = generator::send(&target, round, model).await.unwrap();
        assert_eq!(
            (
                report.total_accepted(),
                report.refused,
                report.unsent,
                report.first_failure
            ),
            (ENVELOPES, 0, 0, None)
        );
        assert_eq!(report.accepted_by_account, [ENVELOPES / 3; 3]);
        assert_eq!(
            receiver.wait_for(ENVELOPES).await.unwrap().envelopes,
            ENVELOPES
        );
    }
    shutdown.trigger();
    relay.ended().await;
}
