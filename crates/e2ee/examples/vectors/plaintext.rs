use crate::{NOW, Outcome, flipped, longer, shorter, text};
use sealpost_e2ee::keys::Incarnation;
use sealpost_e2ee::payload::{
    AttachmentRequest, Author, Capability, Chat, ChatEvent, ChatId, ConnectionAccept,
    ConnectionMoved, ConnectionReject, ConnectionRequest, ContentType, Edit, Link, Message, Probe,
    Profile, Reaction, Receipt, ReceiptKind, Resend, Resume, Retract, Void,
};
use sealpost_e2ee::plaintext::{Kind, Plaintext};
use sealpost_proto::{BlobId, MailboxId, MailboxRef, MessageId, Origin, SendKey, Timestamp};
use serde_json::{Value, json};

const ID: MessageId = MessageId::from_bytes([0x1d; 16]);

pub(crate) fn vectors() -> Outcome<Value> {
    Ok(json!({
        "about": "docs/e2ee.md, Plaintext and Payloads. `entries` is the CBOR map in JSON: byte \
                  strings are {\"bytes\": base64url}, maps are {\"map\": {key: value}}. Bytes are \
                  base64url without padding.",
        "valid": [
            record(Kind::MESSAGE, 1, b"body")?,
            record(Kind::RECEIPT, 0, b"")?,
            record(Kind(0xfffe), u64::MAX, &[0; 300])?
        ],
        "invalid": invalid_records()?,
        "payloads": payloads()?,
        "invalid_payloads": invalid_payloads(),
    }))
}

fn plaintext(kind: Kind, seq: u64, body: &[u8]) -> Plaintext {
    let incarnation = Incarnation::from_bytes([0xac; 8]);
    Plaintext {
        kind,
        message_id: ID,
        incarnation,
        seq,
        sent_at: NOW,
        body: body.to_vec(),
    }
}

fn record(kind: Kind, seq: u64, body: &[u8]) -> Outcome<Value> {
    Ok(json!({
        "kind": kind.0,
        "message_id": text(ID.as_bytes()),
        "incarnation": text([0xac; 8]),
        "seq": seq.to_string(),
        "sent": NOW.as_millis(),
        "body": text(body),
        "record": text(plaintext(kind, seq, body).encode()?.as_slice()),
    }))
}

fn invalid_records() -> Outcome<Vec<Value>> {
    let good = plaintext(Kind::MESSAGE, 1, b"body").encode()?;
    let cases = [
        ("empty", Vec::new()),
        ("version 0", flipped(&good, 0)),
        ("version 2", [&[2], &good[1..]].concat()),
        ("a byte short", shorter(&good)),
        ("a byte long", longer(&good)),
        ("length of the body too small", flipped(&shorter(&good), 46)),
        ("length of the body huge", flipped(&good, 43)),
        ("cut in the head", good[..40].to_vec()),
    ];
    Ok(cases
        .into_iter()
        .map(|(name, record)| json!({ "name": name, "record": text(record) }))
        .collect())
}

fn bytes(bytes: impl AsRef<[u8]>) -> Value {
    json!({ "bytes": text(bytes) })
}

fn payload(kind: &str, body: &[u8], entries: &Value) -> Value {
    json!({ "kind": kind, "body": text(body), "entries": entries })
}

fn payloads() -> Outcome<Vec<Value>> {
    let mut list = contents();
    list.extend(notices());
    list.extend(connections()?);
    Ok(list)
}

fn contents() -> Vec<Value> {
    let id = bytes(ID.as_bytes());
    let mut message = Message::text("**Hello** [you](https://b.example)");
    message.chat = Some(ChatId([0xc4; 16]));
    message.author = Some(Author {
        name: "Ann".into(),
        avatar: Some([0xa7; 32]),
    });
    message.links = vec![Link {
        url: Some("https://b.example".into()),
        name: Some("you".into()),
        ..Link::default()
    }];
    message.reply_to = Some(ID);
    message.action_required = true;
    message.deliver_by = Some(NOW);
    message.read_by = Some(Timestamp::from_millis(23));
    let edit = Edit {
        message: ID,
        content: "<b>new</b>".into(),
        content_type: ContentType::HTML,
    };
    let reaction = Reaction {
        message: ID,
        emoji: "👍".into(),
        is_removed: false,
    };
    let removal = Reaction {
        is_removed: true,
        ..reaction.clone()
    };
    vec![
        payload(
            "message",
            &Message::text("Hello").encode(),
            &json!({ "2": "Hello", "3": 0 }),
        ),
        payload(
            "message",
            &message.encode(),
            &json!({
                "0": bytes([0xc4; 16]), "1": { "map": { "0": "Ann", "1": bytes([0xa7; 32]) } },
                "2": "**Hello** [you](https://b.example)", "3": 0,
                "5": [{ "map": { "0": "https://b.example", "2": "you" } }],
                "6": id, "7": true, "8": NOW.as_millis(), "9": 23,
            }),
        ),
        payload(
            "edit",
            &edit.encode(),
            &json!({ "0": id, "1": "<b>new</b>", "2": 1 }),
        ),
        payload(
            "retract",
            &Retract { message: ID }.encode(),
            &json!({ "0": id }),
        ),
        payload(
            "reaction",
            &reaction.encode(),
            &json!({ "0": id, "1": "👍" }),
        ),
        payload(
            "reaction",
            &removal.encode(),
            &json!({ "0": id, "1": "👍", "2": true }),
        ),
    ]
}

fn notices() -> Vec<Value> {
    let id = bytes(ID.as_bytes());
    let receipt = Receipt {
        kind: ReceiptKind::READ,
        ids: vec![ID, MessageId::from_bytes([2; 16])],
        at: NOW,
    };
    let chat = Chat {
        chat: ChatId([0xc4; 16]),
        event: ChatEvent::CREATED,
        chat_type: Some(2),
        name: Some("Order 7".into()),
        description: Some("late".into()),
        participants: vec!["Ann".into(), "Bo".into()],
    };
    let profile = Profile {
        card: Some(vec![1; 205]),
        avatar: Some([0xa7; 32]),
        rotated_card: None,
    };
    let resend = Resend {
        query: vec![ID],
        resume: Some(Resume {
            incarnation: Incarnation::from_bytes([0xb0; 8]),
            upto: 70_000,
            bitmap: vec![0x80, 1],
        }),
        void: Some(Void {
            incarnation: Incarnation::from_bytes([0xac; 8]),
            seqs: vec![3, 300],
        }),
        attachment: Some(AttachmentRequest {
            message: ID,
            blob: BlobId::from_bytes([0xb1; 16]),
        }),
        attachment_response: None,
    };
    vec![
        payload(
            "receipt",
            &receipt.encode(),
            &json!({ "0": 1, "1": [id, bytes([2; 16])], "2": NOW.as_millis() }),
        ),
        payload(
            "chat",
            &chat.encode(),
            &json!({
                "0": bytes([0xc4; 16]), "1": 0, "2": 2, "3": "Order 7", "4": "late",
                "5": ["Ann", "Bo"],
            }),
        ),
        payload(
            "profile",
            &profile.encode(),
            &json!({ "0": bytes([1; 205]), "1": bytes([0xa7; 32]) }),
        ),
        payload("profile", &Profile::default().encode(), &json!({})),
        payload(
            "resend",
            &resend.encode(),
            &json!({
                "0": [id],
                "1": { "map": { "0": bytes([0xb0; 8]), "1": 70_000, "2": bytes([0x80, 1]) } },
                "2": { "map": { "0": bytes([0xac; 8]), "1": [3, 300] } },
                "3": { "map": { "0": id, "1": bytes([0xb1; 16]) } },
            }),
        ),
        payload(
            "probe",
            &Probe {
                nonce: [8; 16],
                is_response: true,
            }
            .encode(),
            &json!({ "0": bytes([8; 16]), "1": true }),
        ),
    ]
}

fn connections() -> Outcome<Vec<Value>> {
    let mailbox = MailboxRef {
        relay: Origin::parse("https://relay.example")?,
        id: MailboxId::from_bytes([0x3b; 16]),
    };
    let capability = Capability {
        mailbox,
        send_key: SendKey::from_bytes([0x5e; 32]),
    };
    let map = json!({
        "map": { "0": "https://relay.example", "1": bytes([0x3b; 16]), "2": bytes([0x5e; 32]) }
    });
    let request = ConnectionRequest {
        capability: capability.clone(),
        note: Some("We met on Monday".into()),
    };
    let accept = ConnectionAccept {
        capability: capability.clone(),
    };
    let reject = ConnectionReject {
        note: Some("Not now".into()),
    };
    Ok(vec![
        payload(
            "connection_request",
            &request.encode(),
            &json!({ "0": map, "1": "We met on Monday" }),
        ),
        payload("connection_accept", &accept.encode(), &json!({ "0": map })),
        payload(
            "connection_reject",
            &reject.encode(),
            &json!({ "0": "Not now" }),
        ),
        payload(
            "connection_moved",
            &ConnectionMoved { capability }.encode(),
            &json!({ "0": map }),
        ),
    ])
}

fn invalid_payloads() -> Vec<Value> {
    let id = [&[0x50][..], ID.as_bytes()].concat();
    let map = |parts: &[&[u8]]| parts.concat();
    let long = Message::text("x".repeat(65_537)).encode();
    let note = ConnectionReject {
        note: Some("x".repeat(201)),
    }
    .encode();
    let many = Receipt {
        kind: ReceiptKind::DELIVERED,
        ids: vec![ID; 65],
        at: NOW,
    }
    .encode();
    let cases = [
        ("retract", "empty", Vec::new()),
        ("retract", "an array", map(&[&[0x81], &id])),
        ("retract", "no entries", vec![0xa0]),
        (
            "retract",
            "bytes behind the map",
            map(&[&[0xa1, 0], &id, &[0]]),
        ),
        (
            "retract",
            "an id of 15 bytes",
            map(&[&[0xa1, 0, 0x4f], &ID.as_bytes()[..15]]),
        ),
        (
            "retract",
            "an id that is text",
            map(&[&[0xa1, 0, 0x70], &[b'x'; 16]]),
        ),
        (
            "retract",
            "indefinite length",
            map(&[&[0xbf, 0], &id, &[0xff]]),
        ),
        (
            "retract",
            "an indefinite byte string",
            map(&[&[0xa1, 0, 0x5f], &id, &[0xff]]),
        ),
        ("retract", "a key twice", map(&[&[0xa2, 0], &id, &[0], &id])),
        (
            "retract",
            "keys that descend",
            map(&[&[0xa2, 1, 0, 0], &id]),
        ),
        (
            "retract",
            "a key that is text",
            map(&[&[0xa1, 0x61, b'0'], &id]),
        ),
        (
            "retract",
            "a negative key",
            map(&[&[0xa2, 0], &id, &[0x20, 0]]),
        ),
        ("retract", "33 entries announced", vec![0xb8, 33]),
        (
            "retract",
            "fewer entries than announced",
            map(&[&[0xa2, 0], &id]),
        ),
        ("message", "no content", vec![0xa1, 3, 0]),
        ("message", "content over 64 KiB", long),
        (
            "message",
            "content that is bytes",
            vec![0xa2, 2, 0x41, b'x', 3, 0],
        ),
        (
            "message",
            "content not UTF-8",
            vec![0xa2, 2, 0x61, 0xff, 3, 0],
        ),
        (
            "message",
            "content type over a byte",
            vec![0xa2, 2, 0x61, b'x', 3, 0x19, 1, 0],
        ),
        (
            "message",
            "a flag that is a number",
            vec![0xa3, 2, 0x61, b'x', 3, 0, 7, 1],
        ),
        (
            "message",
            "six attachments",
            vec![
                0xa3, 2, 0x61, b'x', 3, 0, 4, 0x86, 0xa0, 0xa0, 0xa0, 0xa0, 0xa0, 0xa0,
            ],
        ),
        ("receipt", "65 ids", many),
        ("connection_reject", "a note of 201 bytes", note),
        (
            "connection_accept",
            "a capability without send key",
            map(&[&[0xa1, 0, 0xa2, 0, 0x61, b'x', 1], &id]),
        ),
        (
            "connection_accept",
            "a relay that is no origin",
            map(&[
                &[0xa1, 0, 0xa3, 0, 0x61, b'x', 1],
                &id,
                &[2, 0x58, 32],
                &[7; 32],
            ]),
        ),
    ];
    let case = |(kind, name, body): (&str, &str, Vec<u8>)| {
        json!({
            "kind": kind,
            "name": name,
            "body": text(body)
        })
    };
    cases.into_iter().map(case).collect()
}
