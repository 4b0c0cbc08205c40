//! Request and response bodies as relay and node read them.

use sealpost_fuzz::fuzz_inputs;
use sealpost_proto::{Problem, b64, wire};
use serde::{Serialize, de::DeserializeOwned};

/// Checks that an accepted body survives a round trip through its encoding.
fn check_round_trip<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(
    seeds: &[String],
) {
    let seeds: Vec<_> = seeds.iter().map(|seed| seed.clone().into_bytes()).collect();
    fuzz_inputs(&seeds, 10_000, |case| {
        match serde_json::from_slice::<T>(case.bytes) {
            Ok(body) => {
                let written = serde_json::to_vec(&body).unwrap();
                assert_eq!(serde_json::from_slice::<T>(&written).unwrap(), body);
            }
            Err(error) => assert!(
                !case.is_seed,
                "{error}: {}",
                String::from_utf8_lossy(case.bytes)
            ),
        }
    });
}

fn id() -> String {
    b64::encode(&[1; 16])
}

fn key() -> String {
    b64::encode(&[2; 32])
}

#[test]
fn registration_bodies_round_trip() {
    check_round_trip::<wire::RegisterRequest>(&[
        r#"{"delivery":{"mode":"pull"}}"#.to_owned(),
        r#"{"delivery":{"mode":"webhook","url":"https://node.example/hook"},"token":"let me in"}"#
            .to_owned(),
    ]);
    check_round_trip::<wire::AccountChange>(&[
        r#"{"delivery":{"mode":"pull"}}"#.to_owned(),
        "{}".to_owned(),
    ]);
    check_round_trip::<wire::Checkpoint>(&[format!(r#"{{"sealed":"{}"}}"#, key())]);
}

#[test]
fn mailbox_bodies_round_trip() {
    check_round_trip::<wire::OpenMailbox>(&[format!(r#"{{"send_keys":["{}"]}}"#, key())]);
    check_round_trip::<wire::SealedPrekeys>(&[format!(r#"{{"sealed":"{}"}}"#, key())]);
    let mailbox = format!(
        r#"{{"id":"{}","created_at":1,"envelopes":2,"has_prekeys":true}}"#,
        id()
    );
    check_round_trip::<wire::Mailboxes>(&[format!(
        r#"{{"mailboxes":[{mailbox}],"next":"{}"}}"#,
        id()
    )]);
}

#[test]
fn envelope_bodies_round_trip() {
    let envelope = format!(
        concat!(
            r#"{{"id":"{0}","mailbox":{{"relay":"https://relay.example","id":"{0}"}},"#,
            r#""proof":"{0}","expires_at":5,"bytes":"{1}"}}"#
        ),
        id(),
        key()
    );
    check_round_trip::<wire::SubmitRequest>(&[
        format!(r#"{{"envelopes":[{envelope}]}}"#),
        r#"{"envelopes":[]}"#.to_owned(),
    ]);
    check_round_trip::<wire::StatusRequest>(&[format!(r#"{{"ids":["{}"]}}"#, id())]);
    let rows = [
        r#""outcome":"accepted","expires_at":5"#,
        r#""outcome":"duplicate","state":"queued""#,
        r#""outcome":"refused","code":"mailbox_full","retry_after_ms":7"#,
    ];
    let rows = rows.map(|row| format!(r#"{{"id":"{}",{row}}}"#, id()));
    check_round_trip::<wire::SubmitResponse>(&[format!(r#"{{"results":[{}]}}"#, rows.join(","))]);
}

#[test]
fn delivery_bodies_round_trip() {
    let delivery = format!(
        r#"{{"id":9,"mailbox":"{0}","envelope":"{0}","accepted_at":1,"bytes":"{1}"}}"#,
        id(),
        key()
    );
    let event = format!(
        r#"{{"id":10,"envelope":"{}","state":"retrying","attempts":2,"reason":"busy","at":3}}"#,
        id()
    );
    let batch =
        format!(r#"{{"deliveries":[{delivery}],"events":[{event}],"backlog":2,"lease":4}}"#);
    check_round_trip::<wire::WebhookCall>(&[
        format!(r#"{{"type":"deliveries","timestamp":1,"data":{batch}}}"#),
        format!(
            r#"{{"type":"challenge","timestamp":1,"challenge":"{}"}}"#,
            key()
        ),
    ]);
    check_round_trip::<wire::DeliveryBatch>(&[batch]);
    check_round_trip::<wire::ChallengeResponse>(&[format!(r#"{{"answer":"{}"}}"#, key())]);
    let results = concat!(
        r#"{"lease":4,"results":[{"id":9,"outcome":"stored"},"#,
        r#"{"id":10,"outcome":"later","retry_after_ms":7}]}"#
    );
    check_round_trip::<wire::DeliveryResults>(&[
        results.to_owned(),
        r#"{"lease":0,"results":[]}"#.to_owned(),
    ]);
}

#[test]
fn blob_bodies_round_trip() {
    check_round_trip::<wire::CreateBlob>(&[format!(
        r#"{{"id":"{}","size_bytes":4160,"fetch_token_hash":"{}","expires_at":5}}"#,
        id(),
        key()
    )]);
    check_round_trip::<wire::CompleteBlob>(&[format!(r#"{{"digest":"{}"}}"#, key())]);
    check_round_trip::<wire::ExtendBlob>(&[r#"{"expires_at":5}"#.to_owned()]);
    check_round_trip::<wire::Blob>(&[format!(
        concat!(
            r#"{{"id":"{}","state":"uploading","size_bytes":4160,"parts":1,"#,
            r#""present":[0],"expires_at":5}}"#
        ),
        id()
    )]);
}

#[test]
fn session_and_problem_bodies_round_trip() {
    check_round_trip::<wire::Session>(&[format!(
        r#"{{"session_id":"opaque","key":"{}","expires_at":5,"relay_time":1}}"#,
        key()
    )]);
    check_round_trip::<Problem>(&[concat!(
        r#"{"code":"clock_skew","title":"t","status":401,"detail":"d","#,
        r#""retry_after_ms":1,"relay_time":2}"#
    )
    .to_owned()]);
}
