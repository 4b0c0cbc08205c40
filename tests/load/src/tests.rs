use crate::{
    account::Target,
    ceiling, connection,
    generator::{self, Pace},
    receiver::{self, Watch},
};
use sealpost_proto::wire::RegistrationPolicy;
use sealpost_relay::Config;
use sealpost_service::{Shutdown, SystemClock};
use std::{sync::Arc, time::Duration};

const ENVELOPES: u64 = 60;

fn some(envelopes: u64) -> Pace {
    Pace::Closed {
        in_flight: 4,
        time: Duration::MAX,
        requests: ENVELOPES / envelopes,
        envelopes,
    }
}

async fn watch() -> Arc<Watch> {
    let listener = connection::listen().await.unwrap();
    let watch = Arc::new(Watch::at(&listener.local_addr().unwrap().to_string()));
    tokio::spawn(receiver::serve(listener));
    watch
}

#[tokio::test]
async fn what_the_ceiling_takes_arrives() {
    let (watch, folder) = (watch().await, tempfile::tempdir().unwrap());
    let listener = connection::listen().await.unwrap();
    let target = Arc::new(Target::made_up(&listener.local_addr().unwrap().to_string()).unwrap());
    let (path, hook) = (folder.path().to_owned(), watch.hook(0));
    tokio::spawn(async move { ceiling::serve(listener, &path, &hook).await });
    watch.begin(1).await.unwrap();
    let sent = generator::send(&target, 1, some(1)).await.unwrap();
    assert_eq!((sent.accepted(), sent.failure), (ENVELOPES, None));
    let seen = watch.wait_for(ENVELOPES).await.unwrap();
    assert_eq!((seen.envelopes, seen.calls), (ENVELOPES, ENVELOPES));
    assert!(seen.last_ns > sent.began_ns && seen.latency.p50_ms <= seen.latency.p99_ms);
}

#[tokio::test]
async fn what_the_relay_takes_arrives_and_rounds_are_told_apart() {
    let (watch, folder) = (watch().await, tempfile::tempdir().unwrap());
    let listen = ([127, 0, 0, 1], 0).into();
    let mut config = Config {
        listen,
        data: folder.path().join("data"),
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
        Target::registered(&authority, 3, |_| Some(&watch))
            .await
            .unwrap(),
    );
    for (round, pace) in [
        (1, some(1)),
        (2, some(20)),
        (
            3,
            Pace::Open {
                rate: 200.0,
                time: Duration::from_millis(300),
                connections: 4,
            },
        ),
    ] {
        watch.begin(round).await.unwrap();
        let sent = generator::send(&target, round, pace).await.unwrap();
        assert_eq!(
            (sent.accepted(), sent.refused, sent.unsent, sent.failure),
            (ENVELOPES, 0, 0, None)
        );
        assert_eq!(sent.accepted, [ENVELOPES / 3; 3]);
        assert_eq!(
            watch.wait_for(ENVELOPES).await.unwrap().envelopes,
            ENVELOPES
        );
    }
    shutdown.trigger();
    relay.ended().await;
}
