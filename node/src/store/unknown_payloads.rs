//! Payloads of unknown kinds, stored unchanged for a later version that supports them. Their number
//! is limited, because a partner chooses the kinds that it sends.

use crate::{fault::Fault, store::Tx};
use sealpost_e2ee::plaintext::Kind;
use sealpost_node_core::{connection::MessageMetadata, model::ConnectionId};
use sealpost_proto::limits::{
    UNKNOWN_PAYLOAD_BYTES_MAX, UNKNOWN_PAYLOAD_BYTES_PER_CONNECTION_MAX,
    UNKNOWN_PAYLOADS_PER_CONNECTION_MAX,
};
use sealpost_sqlite::{RowExt as _, to_integer, to_millis};

/// Stores a payload. If there are too many then, the oldest are deleted.
pub(crate) fn insert(
    tx: &mut Tx<'_>,
    connection: ConnectionId,
    metadata: &MessageMetadata,
    kind: Kind,
    payload: &[u8],
) -> Result<(), Fault> {
    let connection = connection.to_string();
    let key = [
        metadata.message_id.as_bytes().as_slice(),
        connection.as_bytes(),
    ]
    .concat();
    let payload = tx.seal("unknown_payloads", &key, "payload", 1, payload);
    let inserted = tx.execute(
        "INSERT OR IGNORE INTO unknown_payloads
             (connection, uuid, kind, seq, sent_at, payload, received_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        &[
            &connection,
            metadata.message_id.as_bytes(),
            &kind.0,
            &to_integer(metadata.seq),
            &to_millis(metadata.sent_at),
            &payload,
            &to_millis(tx.now),
        ],
    )?;
    if inserted == 1 {
        let sql = "INSERT INTO unknown_payload_totals (connection, payloads, bytes)
                   VALUES (?1, 1, ?2) ON CONFLICT (connection) DO UPDATE
                   SET payloads = payloads + 1, bytes = bytes + ?2";
        tx.execute(sql, &[&connection, &to_integer(payload.len() as u64)])?;
    }
    while let Some(excess) = find_excess(tx, &connection)? {
        tracing::warn!(
            connection = excess,
            "deleted the oldest payload of a kind that this version does not know"
        );
        delete_oldest(tx, &excess)?;
    }
    Ok(())
}

/// Returns a connection with too many payloads: the given one or, if all connections together have
/// too many, the one with most bytes.
fn find_excess(tx: &Tx<'_>, connection: &str) -> Result<Option<String>, Fault> {
    let own = "SELECT connection FROM unknown_payload_totals
               WHERE connection = ?1 AND (payloads > ?2 OR bytes > ?3)";
    let params: [&dyn rusqlite::ToSql; 3] = [
        &connection,
        &to_integer(UNKNOWN_PAYLOADS_PER_CONNECTION_MAX),
        &to_integer(UNKNOWN_PAYLOAD_BYTES_PER_CONNECTION_MAX),
    ];
    if let Some(own) = tx.query_value(own, &params)? {
        return Ok(Some(own));
    }
    let largest = "SELECT connection FROM unknown_payload_totals
                   WHERE (SELECT sum(bytes) FROM unknown_payload_totals) > ?1
                   ORDER BY bytes DESC LIMIT 1";
    tx.query_value(largest, &[&to_integer(UNKNOWN_PAYLOAD_BYTES_MAX)])
}

fn delete_oldest(tx: &Tx<'_>, connection: &str) -> Result<(), Fault> {
    let sql = "SELECT uuid, length(payload) AS bytes FROM unknown_payloads
               WHERE connection = ?1 ORDER BY received_at LIMIT 1";
    let oldest = tx.query_row(sql, &[&connection], |row| {
        Ok((row.read::<[u8; 16]>("uuid")?, row.read::<i64>("bytes")?))
    })?;
    let Some((uuid, bytes)) = oldest else {
        // The totals are wrong.
        let sql = "DELETE FROM unknown_payload_totals WHERE connection = ?1";
        tx.execute(sql, &[&connection])?;
        return Ok(());
    };
    let sql = "DELETE FROM unknown_payloads WHERE connection = ?1 AND uuid = ?2";
    tx.execute(sql, &[&connection, &uuid])?;
    let sql = "UPDATE unknown_payload_totals SET payloads = payloads - 1, bytes = bytes - ?2
               WHERE connection = ?1";
    tx.execute(sql, &[&connection, &bytes])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{store::ids, testing::TestNode};
    use sealpost_e2ee::Incarnation;
    use sealpost_proto::MessageId;

    fn insert_many(node: &mut TestNode, connection: ConnectionId, count: u64, bytes: usize) {
        for _ in 0..count {
            node.step(|tx, _| {
                let metadata = MessageMetadata {
                    message_id: MessageId::from_bytes(tx.random_bytes()),
                    incarnation: Incarnation::NONE,
                    seq: 1,
                    sent_at: tx.now,
                };
                insert(tx, connection, &metadata, Kind(0x7fff), &vec![1; bytes])
            });
            node.advance(std::time::Duration::from_millis(1));
        }
    }

    fn new_id(node: &mut TestNode) -> ConnectionId {
        node.step(|tx, _| ids::generate(tx))
    }

    #[test]
    fn payloads_of_a_connection_are_bounded() {
        let mut node = TestNode::new("Acme", 1);
        let (many, large) = (new_id(&mut node), new_id(&mut node));
        insert_many(&mut node, large, 6, 200 * 1024);
        assert_eq!(
            node.query_number("SELECT count(*) FROM unknown_payloads"),
            5,
            "those that fit into 1 MiB"
        );
        assert_eq!(
            node.query_number("SELECT min(received_at) - 1800000000000 FROM unknown_payloads"),
            1,
            "the oldest one is deleted"
        );
        insert_many(&mut node, many, UNKNOWN_PAYLOADS_PER_CONNECTION_MAX + 1, 10);
        assert_eq!(
            node.query_number("SELECT count(*) FROM unknown_payloads"),
            5 + to_integer(UNKNOWN_PAYLOADS_PER_CONNECTION_MAX)
        );
    }

    #[test]
    fn payloads_of_all_connections_are_bounded() {
        let mut node = TestNode::new("Acme", 1);
        for _ in 0..20 {
            let connection = new_id(&mut node);
            insert_many(&mut node, connection, 4, 240 * 1024);
        }
        let bytes = node.query_number("SELECT sum(length(payload)) FROM unknown_payloads");
        assert!(bytes <= to_integer(UNKNOWN_PAYLOAD_BYTES_MAX), "{bytes}");
        assert_eq!(
            node.query_number("SELECT sum(bytes) FROM unknown_payload_totals"),
            bytes
        );
    }
}
