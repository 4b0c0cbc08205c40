//! Invites: records encoded here, texts encoded by the library.

use crate::{Outcome, counting, flipped, hash, text};
use sealpost_e2ee::invite::{Invite, InviteKind};
use sealpost_proto::b64;
use serde_json::{Value, json};

const RELAY: &str = "https://relay.example";
const EXPIRY: u64 = 1_800_000_000_000;

pub(crate) fn vectors() -> Outcome<Value> {
    let longest = format!("https://{}.example", "r".repeat(84));
    let valid: Result<Vec<_>, _> = [
        ("single use", Record::default()),
        (
            "contact address",
            Record {
                kind: 2,
                expiry: 0,
                ..Record::default()
            },
        ),
        (
            "relay with a port",
            Record {
                relay: "http://127.0.0.1:9000",
                ..Record::default()
            },
        ),
        (
            "longest relay",
            Record {
                relay: &longest,
                ..Record::default()
            },
        ),
    ]
    .iter()
    .map(|(name, record)| record.vector(name))
    .collect();
    Ok(json!({
        "about": "docs/e2ee-files-invites-vault.md, Invite. Bytes are base64url without padding.",
        "valid": valid?,
        "invalid": invalid()?,
        "refused": refused(),
    }))
}

struct Record<'a> {
    version: u8,
    kind: u8,
    relay: &'a str,
    expiry: u64,
    more: &'a [u8],
}

impl Default for Record<'_> {
    fn default() -> Self {
        Self {
            version: 1,
            kind: 1,
            relay: RELAY,
            expiry: EXPIRY,
            more: b"",
        }
    }
}

impl Record<'_> {
    fn body(&self) -> Vec<u8> {
        let relay_bytes = u32::try_from(self.relay.len())
            .unwrap_or(u32::MAX)
            .to_be_bytes();
        [
            &[self.version, self.kind],
            &relay_bytes[..],
            self.relay.as_bytes(),
            &counting::<16>(0x10),
            &counting::<16>(0x20),
            &counting::<32>(0x30),
            &counting::<32>(0x50),
            &self.expiry.to_be_bytes(),
            self.more,
        ]
        .concat()
    }

    fn bytes(&self) -> Vec<u8> {
        with_checksum(&self.body())
    }

    fn link(&self) -> String {
        link(self.relay, &self.bytes())
    }

    fn vector(&self, name: &str) -> Outcome<Value> {
        let invite = Invite::parse(&self.link())?;
        let kind = match invite.kind() {
            InviteKind::SingleUse { .. } => "single_use",
            InviteKind::ContactAddress => "contact_address",
        };
        Ok(json!({
            "name": name,
            "link": *invite.encode_link(),
            "uri": *invite.encode_uri(),
            "kind": kind,
            "relay": self.relay,
            "mailbox": text(&counting::<16>(0x10)),
            "invite_id": text(&counting::<16>(0x20)),
            "secret": text(&counting::<32>(0x30)),
            "fingerprint": text(&counting::<32>(0x50)),
            "expiry": self.expiry,
            "send_key": text(invite.send_key().expose()),
        }))
    }
}

fn with_checksum(body: &[u8]) -> Vec<u8> {
    [body, &hash(&[body])[..4]].concat()
}

fn link(relay: &str, record: &[u8]) -> String {
    format!("{relay}/i#sp1.{}", b64::encode(record))
}

fn invalid() -> Outcome<Vec<Value>> {
    let record = Record::default().bytes();
    let token = b64::encode(&record);
    let good = link(RELAY, &record);
    let of = |record: Record<'_>| record.link();
    let too_long = format!("https://{}.example", "r".repeat(85));
    let mut vectors = Vec::new();
    let mut refuse = |name: &str, reason: &str, text: String| {
        vectors.push(json!({"name": name, "reason": reason, "text": text}));
    };

    refuse("nothing", "not_an_invite", String::new());
    refuse(
        "prose",
        "not_an_invite",
        "please connect with us".to_owned(),
    );
    refuse("another page", "not_an_invite", good.replace("/i#", "/j#"));
    refuse(
        "another scheme",
        "not_an_invite",
        good.replace("https:", "ftp:"),
    );
    refuse("no marker", "not_an_invite", good.replace("sp1.", ""));
    refuse(
        "another marker",
        "not_an_invite",
        good.replace("sp1.", "xy1."),
    );
    refuse(
        "too long",
        "not_an_invite",
        format!("{good}{}", "A".repeat(300)),
    );
    refuse(
        "user in the link",
        "not_an_invite",
        good.replace("https://", "https://relay.example@"),
    );

    refuse("fragment cut off", "damaged", format!("{RELAY}/i"));
    refuse("fragment empty", "damaged", format!("{RELAY}/i#"));
    refuse("marker alone", "damaged", format!("{RELAY}/i#sp1."));
    refuse("scheme alone", "damaged", "sealpost:".to_owned());
    refuse(
        "last character missing",
        "damaged",
        good[..good.len() - 1].to_owned(),
    );
    refuse(
        "last half missing",
        "damaged",
        good[..good.len() - 100].to_owned(),
    );
    refuse("one character more", "damaged", format!("{good}A"));
    refuse("padded", "damaged", format!("{good}="));
    refuse(
        "alphabet of plain base64",
        "damaged",
        format!("{RELAY}/i#sp1.+/{}", &token[2..]),
    );
    refuse(
        "last character not canonical",
        "damaged",
        link(RELAY, &record[..record.len() - 2]) + "B",
    );
    refuse(
        "space inside",
        "damaged",
        format!("{RELAY}/i#sp1.{} {}", &token[..50], &token[50..]),
    );
    for (name, at) in [
        ("version", 0),
        ("kind", 1),
        ("origin", 8),
        ("mailbox", 27),
        ("invite id", 43),
        ("secret", 60),
    ] {
        refuse(
            &format!("{name} flipped"),
            "damaged",
            link(RELAY, &flipped(&record, at)),
        );
    }
    refuse(
        "checksum flipped",
        "damaged",
        link(RELAY, &flipped(&record, record.len() - 1)),
    );
    refuse(
        "checksum of other bytes",
        "damaged",
        link(RELAY, &[&record[..record.len() - 4], &[0; 4]].concat()),
    );

    refuse(
        "version 0",
        "unknown_version",
        of(Record {
            version: 0,
            ..Record::default()
        }),
    );
    refuse(
        "version 2",
        "unknown_version",
        of(Record {
            version: 2,
            ..Record::default()
        }),
    );
    refuse(
        "marker sp2",
        "unknown_version",
        good.replace("sp1.", "sp2."),
    );
    refuse(
        "marker sp300 in the short form",
        "unknown_version",
        format!("sealpost:sp300.{token}"),
    );
    refuse(
        "kind 0",
        "unknown_kind",
        of(Record {
            kind: 0,
            ..Record::default()
        }),
    );
    refuse(
        "kind 3",
        "unknown_kind",
        of(Record {
            kind: 3,
            ..Record::default()
        }),
    );

    refuse(
        "single use without expiry",
        "malformed",
        of(Record {
            expiry: 0,
            ..Record::default()
        }),
    );
    refuse(
        "contact address with expiry",
        "malformed",
        of(Record {
            kind: 2,
            ..Record::default()
        }),
    );
    refuse(
        "bytes after the expiry",
        "malformed",
        of(Record {
            more: &[0],
            ..Record::default()
        }),
    );
    refuse(
        "record without expiry",
        "malformed",
        link(RELAY, &with_checksum(&record[..record.len() - 12])),
    );
    refuse(
        "empty record",
        "malformed",
        link(RELAY, &with_checksum(b"")),
    );
    refuse(
        "origin over 100 bytes",
        "malformed",
        format!(
            "sealpost:sp1.{}",
            b64::encode(
                &Record {
                    relay: &too_long,
                    ..Record::default()
                }
                .bytes()
            )
        ),
    );
    for relay in [
        "https://Relay.example",
        "https://relay.example/",
        "https://relay.example:443",
        "ftp://relay.example",
        "relay.example",
        "",
    ] {
        let record = Record {
            relay,
            ..Record::default()
        };
        refuse(
            &format!("origin {relay:?}"),
            "malformed",
            format!("sealpost:sp1.{}", b64::encode(&record.bytes())),
        );
    }
    let mut overlong = Record::default().body();
    overlong[2..6].copy_from_slice(&u32::MAX.to_be_bytes());
    refuse(
        "origin's length lies",
        "malformed",
        link(RELAY, &with_checksum(&overlong)),
    );

    refuse(
        "link to another host",
        "foreign_origin",
        link("https://relay.invalid", &record),
    );
    refuse(
        "link to another port",
        "foreign_origin",
        link("https://relay.example:8443", &record),
    );
    refuse(
        "link without encryption",
        "foreign_origin",
        link("http://relay.example", &record),
    );
    refuse(
        "link to a host that begins alike",
        "foreign_origin",
        link("https://relay.example.invalid", &record),
    );
    Ok(vectors)
}

fn refused() -> Vec<Value> {
    let single = Record::default().link();
    let address = Record {
        kind: 2,
        expiry: 0,
        ..Record::default()
    }
    .link();
    let (own, other) = (text(&counting::<32>(0x50)), text(&counting::<32>(0x51)));
    [
        ("in time", &single, EXPIRY - 1, &other, Value::Null),
        ("at its expiry", &single, EXPIRY, &other, json!("expired")),
        ("long expired", &single, u64::MAX, &other, json!("expired")),
        (
            "contact addresses do not expire",
            &address,
            u64::MAX,
            &other,
            Value::Null,
        ),
        ("one's own", &single, 0, &own, json!("own")),
        ("one's own contact address", &address, 0, &own, json!("own")),
    ]
    .map(|(name, link, now, own, refusal)| {
        json!({
            "name": name,
            "link": link,
            "now": now,
            "own": own,
            "refusal": refusal
        })
    })
    .to_vec()
}
