use super::*;
use crate::attachment::{Descriptor, FileKey, Sealed, blob_len};
use crate::keys::Incarnation;
use sealpost_proto::{
    BlobId, BlobRef, FetchToken, MailboxId, MailboxRef, MessageId, Origin, SendKey, Timestamp,
    limits,
};

const ID: MessageId = MessageId::from_bytes([1; 16]);

fn capability() -> Capability {
    let relay = Origin::parse("https://relay.example").unwrap();
    Capability {
        mailbox: MailboxRef {
            relay,
            id: MailboxId::from_bytes([2; 16]),
        },
        send_key: SendKey::from_bytes([3; 32]),
    }
}

fn resend() -> Resend {
    Resend {
        query: vec![ID],
        resume: Some(Resume {
            incarnation: Incarnation::from_bytes([4; 8]),
            upto: 9,
            bitmap: vec![0b1010_0000],
        }),
        void: Some(Void {
            incarnation: Incarnation::from_bytes([5; 8]),
            seqs: vec![1, 300],
        }),
        attachment: Some(AttachmentRequest {
            message: ID,
            blob: BlobId::from_bytes([6; 16]),
        }),
        attachment_response: Some(AttachmentResponse {
            request: AttachmentRequest {
                message: ID,
                blob: BlobId::from_bytes([7; 16]),
            },
            is_gone: true,
        }),
    }
}

fn chat() -> Chat {
    Chat {
        chat: ChatId([7; 16]),
        event: ChatEvent::PARTICIPANTS,
        chat_type: Some(2),
        name: Some("Order 7".into()),
        description: Some("late".into()),
        participants: vec!["Ann".into(), "Bo".into()],
    }
}

#[test]
fn bodies_round_trip() {
    macro_rules! same {
        ($($value:expr => $type:ident),* $(,)?) => {$(
            let value = $value;
            assert_eq!($type::parse(&value.encode()), Ok(value));
        )*};
    }
    same!(
        Edit { message: ID, content: "new".into(), content_type: ContentType::HTML } => Edit,
        Retract { message: ID } => Retract,
        Reaction { message: ID, emoji: "👍".into(), is_removed: true } => Reaction,
        Receipt {
            kind: ReceiptKind::READ,
            ids: vec![ID; 64],
            at: Timestamp::from_millis(5)
        } => Receipt,
        Probe { nonce: [8; 16], is_response: true } => Probe,
        chat() => Chat,
        Profile {
            card: Some(vec![1; 202]),
            avatar: Some([2; 32]),
            rotated_card: Some(vec![3; 266])
        } => Profile,
        Profile::default() => Profile,
        ConnectionRequest {
            capability: capability(),
            note: Some("hello".into())
        } => ConnectionRequest,
        ConnectionAccept { capability: capability() } => ConnectionAccept,
        ConnectionReject { note: None } => ConnectionReject,
        ConnectionMoved { capability: capability() } => ConnectionMoved,
        resend() => Resend,
        Resend::default() => Resend,
    );
}

#[test]
fn message_round_trips() {
    let mut message = Message::text("**bold**");
    message.chat = Some(ChatId([1; 16]));
    message.author = Some(Author {
        name: "Ann".into(),
        avatar: Some([2; 32]),
    });
    message.links = vec![
        Link {
            url: Some("https://a.example".into()),
            ..Link::default()
        },
        Link::default(),
    ];
    message.reply_to = Some(ID);
    message.action_required = true;
    message.deliver_by = Some(Timestamp::from_millis(1));
    message.read_by = Some(Timestamp::from_millis(2));
    let read = Message::parse(&message.encode()).unwrap();
    assert_eq!(read.encode(), message.encode());
    assert_eq!(
        (read.content.as_str(), read.links.len(), read.author),
        ("**bold**", 2, message.author)
    );
}

#[test]
fn unknown_keys_are_skipped() {
    // {0: id, 1: "new", 2: 0, 9: {0: [true]}}
    let known = Edit {
        message: ID,
        content: "new".into(),
        content_type: ContentType::MARKDOWN,
    };
    let mut body = known.encode();
    body[0] += 1;
    body.extend_from_slice(&[9, 0xa1, 0, 0x81, 0xf5]);
    assert_eq!(Edit::parse(&body), Ok(known));
}

#[test]
fn malformed_maps_are_refused() {
    let good = Retract { message: ID }.encode();
    let refused = |body: &[u8]| Retract::parse(body).unwrap_err();
    assert_eq!(refused(&[0xa0]), PayloadError::Missing { key: 0 });
    assert_eq!(
        refused(&[&good[..], &[0]].concat()),
        PayloadError::Malformed,
        "trailing bytes"
    );
    assert_eq!(
        refused(&good[..good.len() - 1]),
        PayloadError::Malformed,
        "too short"
    );
    assert_eq!(
        refused(&[&[0xbf], &good[1..], &[0xff]].concat()),
        PayloadError::Malformed,
        "indefinite"
    );
    assert_eq!(
        refused(&[&[0xa2], &good[1..], &good[1..]].concat()),
        PayloadError::Malformed,
        "a duplicate key"
    );
    assert_eq!(
        refused(&[0xb8, 33]),
        PayloadError::Malformed,
        "too many entries"
    );
    assert_eq!(
        refused(&[0xa1, 0, 0x41, 1]),
        PayloadError::Malformed,
        "an id of one byte"
    );
    let deep = [&[0xa1, 5][..], &[0x81; 10_000], &[0]].concat();
    assert!(Retract::parse(&deep).is_err());
}

#[test]
fn oversized_entries_are_refused() {
    let long = Message::text("x".repeat(64 * 1024 + 1));
    assert_eq!(
        Message::parse(&long.encode()).err(),
        Some(PayloadError::TooLong {
            limit_bytes: 65_536
        })
    );
    let many = Receipt {
        kind: ReceiptKind::DELIVERED,
        ids: vec![ID; 65],
        at: Timestamp::default(),
    };
    assert_eq!(
        Receipt::parse(&many.encode()),
        Err(PayloadError::TooMany { key: 1 })
    );
    let note = ConnectionReject {
        note: Some("x".repeat(201)),
    };
    assert_eq!(
        ConnectionReject::parse(&note.encode()),
        Err(PayloadError::TooLong { limit_bytes: 200 })
    );
}

#[test]
fn largest_message_with_previews_fits_a_body() {
    let relay = Origin::parse(&format!("https://{}.example", "x".repeat(60))).unwrap();
    let file = Descriptor {
        blob: BlobRef {
            relay,
            id: BlobId::from_bytes([1; 16]),
        },
        fetch_token: FetchToken::from_bytes([2; 32]),
        file_key: FileKey::from_bytes([3; 32]),
        sealed: Sealed {
            ct_len: blob_len(limits::FILE_BYTES_MAX),
            ct_hash: [4; 32],
            pt_len: limits::FILE_BYTES_MAX,
        },
        name: "x".repeat(limits::FILE_NAME_BYTES_MAX),
        mime: "x".repeat(limits::MIME_BYTES_MAX),
        preview: Some(vec![5; limits::PREVIEW_BYTES_MAX]),
    };
    let mut message = Message::text("x".repeat(limits::MESSAGE_TEXT_BYTES_MAX));
    message.attachments = vec![file; limits::FILES_PER_MESSAGE_MAX];
    let body = message.encode();
    assert!(
        body.len() < limits::PLAINTEXT_BODY_BYTES_MAX,
        "{}",
        body.len()
    );
    let previews = Message::parse(&body)
        .unwrap()
        .attachments
        .into_iter()
        .map(|file| file.preview);
    assert_eq!(
        previews
            .flatten()
            .map(|preview| preview.len())
            .sum::<usize>(),
        5 * limits::PREVIEW_BYTES_MAX
    );
}

#[test]
fn non_canonical_origin_is_refused() {
    let body = ConnectionAccept {
        capability: capability(),
    }
    .encode();
    let at = body
        .windows(5)
        .position(|window| window == b"relay")
        .unwrap();
    let mut other = body;
    other[at] = b'R';
    assert_eq!(
        ConnectionAccept::parse(&other),
        Err(PayloadError::Malformed)
    );
}

#[test]
fn highest_received_message_includes_the_bitmap() {
    let highest = |upto, bitmap: &[u8]| {
        let incarnation = Incarnation::from_bytes([4; 8]);
        let bitmap = bitmap.to_vec();
        Resume {
            incarnation,
            upto,
            bitmap,
        }
        .highest()
    };
    assert_eq!(highest(9, &[]), 9);
    assert_eq!(highest(9, &[0, 0]), 9);
    assert_eq!(highest(9, &[0b1010_0000]), 12);
    assert_eq!(highest(9, &[0b1010_0000, 1, 0]), 25);
    assert_eq!(highest(u64::MAX, &[0xff]), u64::MAX);
}

#[test]
fn resume_reports_received_messages() {
    let resume = resend().resume.unwrap();
    let received: Vec<_> = (7..=20).filter(|seq| resume.contains(*seq)).collect();
    assert_eq!(received, [7, 8, 9, 10, 12]);
    assert!(!resume.contains(u64::MAX));
}
