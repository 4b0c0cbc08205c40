//! Files, ours and theirs. On this node's disk a file is the same sealed blob that travels, in one file of the data folder;
//! what opens it, its name and its type stand sealed in the row.

mod contents;
mod keeping;
mod listing;

pub use contents::*;
pub use keeping::*;
pub use listing::*;

use crate::{
    api::model::{AttachmentStatus, Direction, EventTopic},
    fault::Fault,
    files::FileId,
    store::{Tx, count, events, millis, refs, refs::Noun, unwanted, words},
};
use rusqlite::Row;
use sealpost_e2ee::attachment::Descriptor;
use sealpost_node_core::file_type::FileType;
use sealpost_proto::{BlobId, Timestamp};
use zeroize::Zeroizing;

const TABLE: &str = "attachments";

/// One file.
#[derive(Clone)]
pub struct Attachment {
    /// `ATC-…`
    pub name: String,
    /// Ours or theirs.
    pub direction: Direction,
    /// Where it is.
    pub status: AttachmentStatus,
    /// What opens it, without its preview.
    pub descriptor: Descriptor,
    /// Where it is on this disk.
    pub file: FileId,
    /// What its bytes tell, once they are here.
    pub file_type: Option<FileType>,
    /// Whether it has a preview.
    pub has_preview: bool,
    /// Sealed bytes that have moved.
    pub transferred: u64,
    /// Why it waits or failed.
    pub reason: Option<String>,
    /// Tries that failed in a row.
    pub attempt: u32,
}

/// A file that is about to be stored.
pub struct NewAttachment<'a> {
    /// Ours or theirs.
    pub direction: Direction,
    /// Where it is.
    pub status: AttachmentStatus,
    /// What opens it, with its preview.
    pub descriptor: &'a Descriptor,
    /// What its bytes tell, where they are here.
    pub file_type: Option<&'a FileType>,
    /// Where it is on this disk.
    pub file: FileId,
    /// SHA-256 of each part of a blob of ours.
    pub part_digests: &'a [[u8; 32]],
}

/// Stores a file under a new name and returns it.
///
/// # Errors
/// When SQLite fails.
pub fn insert(tx: &mut Tx<'_>, new: &NewAttachment<'_>) -> Result<String, Fault> {
    let name = refs::draw(tx, Noun::Attachment)?;
    let (pk, bare) = (
        name.as_bytes(),
        Descriptor {
            preview: None,
            ..new.descriptor.clone()
        },
    );
    let details = tx.seal(TABLE, pk, "details", 1, &encode(&bare));
    let preview = new
        .descriptor
        .preview
        .as_ref()
        .map(|preview| tx.seal(TABLE, pk, "preview", 1, preview));
    let file_type = new
        .file_type
        .map(|file_type| seal_file_type(tx, &name, file_type))
        .transpose()?;
    let size = i64::try_from(new.descriptor.sealed.pt_len).unwrap_or(i64::MAX);
    tx.execute(
        "INSERT INTO attachments (ref, direction, status, file, blob, details, preview, file_type, size, digests, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        &[
            &name,
            &words::word(&new.direction),
            &words::word(&new.status),
            new.file.as_bytes(),
            new.descriptor.blob.id.as_bytes(),
            &details,
            &preview,
            &file_type,
            &size,
            &new.part_digests.concat(),
            &millis(tx.now),
        ],
    )?;
    Ok(name)
}

fn encode(descriptor: &Descriptor) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(512));
    // A vector takes all that is written to it.
    let _ = descriptor.encode(&mut minicbor::Encoder::new(&mut *bytes));
    bytes
}

const COLUMNS: &str =
    "SELECT a.ref, a.direction, a.status, a.file, a.transferred, a.reason, a.attempt, a.details,
     a.file_type, a.preview IS NOT NULL FROM attachments a";

struct Raw {
    name: String,
    direction: String,
    status: String,
    file: [u8; 16],
    transferred: i64,
    reason: Option<String>,
    attempt: u32,
    details: Vec<u8>,
    file_type: Option<Vec<u8>>,
    has_preview: bool,
}

fn read(row: &Row<'_>) -> rusqlite::Result<Raw> {
    Ok(Raw {
        name: row.get(0)?,
        direction: row.get(1)?,
        status: row.get(2)?,
        file: row.get(3)?,
        transferred: row.get(4)?,
        reason: row.get(5)?,
        attempt: row.get(6)?,
        details: row.get(7)?,
        file_type: row.get(8)?,
        has_preview: row.get(9)?,
    })
}

fn open(tx: &Tx<'_>, raw: Raw) -> Result<Attachment, Fault> {
    let broken = || Fault::failed("an attachment in the database is broken");
    let details = tx.open(TABLE, raw.name.as_bytes(), "details", 1, &raw.details)?;
    let file_type = raw
        .file_type
        .as_ref()
        .map(|sealed| open_file_type(tx, &raw.name, sealed))
        .transpose()?;
    Ok(Attachment {
        direction: words::parse(&raw.direction).ok_or_else(broken)?,
        status: words::parse(&raw.status).ok_or_else(broken)?,
        descriptor: Descriptor::parse(&mut minicbor::Decoder::new(&details))
            .map_err(|_| broken())?,
        name: raw.name,
        file: FileId::from_bytes(raw.file),
        file_type,
        has_preview: raw.has_preview,
        transferred: count(raw.transferred),
        reason: raw.reason,
        attempt: raw.attempt,
    })
}

/// One file.
///
/// # Errors
/// When SQLite fails or the row does not open.
pub fn load(tx: &Tx<'_>, name: &str) -> Result<Option<Attachment>, Fault> {
    let raw = tx.row(&format!("{COLUMNS} WHERE a.ref = ?1"), &[&name], read)?;
    raw.map(|raw| open(tx, raw)).transpose()
}

/// The files of a message, in its order.
///
/// # Errors
/// When SQLite fails or a row does not open.
pub fn of_message(tx: &Tx<'_>, message: &str) -> Result<Vec<Attachment>, Fault> {
    let sql = format!(
        "{COLUMNS} JOIN message_attachments l ON l.attachment = a.ref WHERE l.message = ?1 ORDER BY l.ordinal"
    );
    tx.rows(&sql, &[&message], read)?
        .into_iter()
        .map(|raw| open(tx, raw))
        .collect()
}

/// Ties a file to a message.
///
/// # Errors
/// When SQLite fails.
pub fn link(tx: &Tx<'_>, message: &str, ordinal: usize, attachment: &str) -> Result<(), Fault> {
    tx.execute(
        "INSERT INTO message_attachments (message, ordinal, attachment) VALUES (?1, ?2, ?3)",
        &[
            &message,
            &i64::try_from(ordinal).unwrap_or(i64::MAX),
            &attachment,
        ],
    )?;
    Ok(())
}

/// The messages that a file belongs to.
///
/// # Errors
/// When SQLite fails.
pub fn messages_of(tx: &Tx<'_>, attachment: &str) -> Result<Vec<String>, Fault> {
    let sql = "SELECT message FROM message_attachments WHERE attachment = ?1 ORDER BY message";
    tx.rows(sql, &[&attachment], |row| row.get(0))
}

/// The files of one direction that should be moving now, oldest first.
///
/// # Errors
/// When SQLite fails or a row does not open.
pub fn moving(tx: &Tx<'_>, direction: Direction, limit: usize) -> Result<Vec<Attachment>, Fault> {
    let sql = format!(
        "{COLUMNS} WHERE a.status IN ('uploading', 'waiting', 'downloading') AND a.next_at <= ?1 AND a.direction = ?3
         ORDER BY a.position LIMIT ?2"
    );
    let rows = tx.rows(
        &sql,
        &[&millis(tx.now), &limit, &words::word(&direction)],
        read,
    )?;
    rows.into_iter().map(|raw| open(tx, raw)).collect()
}

/// When the next file of a direction that waits should move again.
///
/// # Errors
/// When SQLite fails.
pub fn next_due(tx: &Tx<'_>, direction: Direction) -> Result<Option<Timestamp>, Fault> {
    let sql = "SELECT min(next_at) FROM attachments
               WHERE status IN ('uploading', 'waiting', 'downloading') AND direction = ?1 AND next_at > ?2";
    Ok(tx
        .value::<Option<i64>>(sql, &[&words::word(&direction), &millis(tx.now)])?
        .flatten()
        .map(super::timestamp))
}

/// Whether a file may go from one status to another.
///
/// | ours | |
/// |---|---|
/// | `staged` | `uploading` when a message takes it |
/// | `uploading` | `uploaded`, `failed`, `cancelled` |
/// | `uploaded` | `released`, `cancelled`; `uploading` when the relay has lost it |
///
/// | theirs | |
/// |---|---|
/// | `offered`, `failed` | `waiting` when somebody asks for it |
/// | `waiting` | `downloading`, `failed`; `offered` when somebody stops it |
/// | `downloading` | `ready`, `failed`; `offered` when somebody stops it |
const fn can_become(from: AttachmentStatus, to: AttachmentStatus) -> bool {
    use AttachmentStatus::{
        Cancelled, Downloading, Failed, Offered, Ready, Released, Staged, Uploaded, Uploading,
        Waiting,
    };
    match from {
        Staged => matches!(to, Uploading),
        Uploading => matches!(to, Uploaded | Failed | Cancelled),
        Uploaded => matches!(to, Released | Cancelled | Uploading),
        Offered | Failed => matches!(to, Waiting),
        Waiting => matches!(to, Downloading | Offered | Failed),
        Downloading => matches!(to, Ready | Offered | Failed),
        Released | Cancelled | Ready => false,
    }
}

/// Moves a file to another status, if the move is legal, with the reason where there is one, and tells the listeners.
/// Returns whether it moved.
///
/// # Errors
/// When SQLite fails.
pub fn advance(
    tx: &Tx<'_>,
    name: &str,
    to: AttachmentStatus,
    reason: Option<&str>,
) -> Result<bool, Fault> {
    let from: Option<String> =
        tx.value("SELECT status FROM attachments WHERE ref = ?1", &[&name])?;
    let from = from.and_then(|word| words::parse(&word));
    if !from.is_some_and(|from| can_become(from, to)) {
        return Ok(false);
    }
    tx.execute(
        "UPDATE attachments SET status = ?2, reason = ?3, attempt = 0, next_at = 0 WHERE ref = ?1",
        &[&name, &words::word(&to), &reason],
    )?;
    events::add(tx, EventTopic::Attachment, name, None)?;
    Ok(true)
}

/// Notes how far a file that moves has come; that is progress, so failures count from zero again. Listeners are told when
/// it had waited; how far it is they hear in `transfer` events.
///
/// # Errors
/// When SQLite fails.
pub fn set_transferred(tx: &Tx<'_>, name: &str, transferred: u64) -> Result<(), Fault> {
    let waited: Option<bool> = tx.value(
        "SELECT reason IS NOT NULL FROM attachments WHERE ref = ?1",
        &[&name],
    )?;
    let moved = tx.execute(
        "UPDATE attachments SET transferred = ?2, reason = NULL, attempt = 0, next_at = 0
         WHERE ref = ?1 AND status IN ('uploading', 'waiting', 'downloading')",
        &[&name, &i64::try_from(transferred).unwrap_or(i64::MAX)],
    )?;
    if moved == 1 && waited == Some(true) {
        events::add(tx, EventTopic::Attachment, name, None)
    } else {
        Ok(())
    }
}

/// Lets a file that moves wait after a failure, the `attempt`th in a row.
///
/// # Errors
/// When SQLite fails.
pub fn postpone(
    tx: &Tx<'_>,
    name: &str,
    attempt: u32,
    reason: &str,
    next_at: Timestamp,
) -> Result<(), Fault> {
    tx.execute(
        "UPDATE attachments SET reason = ?2, attempt = ?3, next_at = ?4
         WHERE ref = ?1 AND status IN ('uploading', 'waiting', 'downloading')",
        &[&name, &reason, &attempt, &millis(next_at)],
    )?;
    events::add(tx, EventTopic::Attachment, name, None)
}

/// Lets all files move again now: the relay is back.
///
/// # Errors
/// When SQLite fails.
pub fn hurry(tx: &Tx<'_>) -> Result<(), Fault> {
    tx.execute("UPDATE attachments SET next_at = 0 WHERE next_at > 0", &[])?;
    tx.execute(
        "UPDATE attachments SET relay_next_at = 0 WHERE relay_next_at > 0",
        &[],
    )?;
    Ok(())
}

/// Forgets a staged file that no message uses, and whatever the relay may have of it; false when there is none such.
///
/// # Errors
/// When SQLite fails.
pub fn remove_staged(tx: &Tx<'_>, name: &str) -> Result<bool, Fault> {
    let sql = "DELETE FROM attachments WHERE ref = ?1 AND status = 'staged'
               AND NOT EXISTS (SELECT 1 FROM message_attachments WHERE attachment = ?1) RETURNING blob";
    let blob: Option<[u8; 16]> = tx.value(sql, &[&name])?;
    blob.map(|blob| unwanted::add(tx, &BlobId::from_bytes(blob)))
        .transpose()
        .map(|added| added.is_some())
}

/// The file of ours that a blob is.
///
/// # Errors
/// When SQLite fails or the row does not open.
pub fn of_blob(tx: &Tx<'_>, blob: &BlobId) -> Result<Option<Attachment>, Fault> {
    let sql = format!("{COLUMNS} WHERE a.blob = ?1 AND a.direction = 'out'");
    tx.row(&sql, &[blob.as_bytes()], read)?
        .map(|raw| open(tx, raw))
        .transpose()
}

/// Staged files that no message took up since `before`.
///
/// # Errors
/// When SQLite fails or a row does not open.
pub fn forgotten(tx: &Tx<'_>, before: Timestamp) -> Result<Vec<Attachment>, Fault> {
    let sql = format!("{COLUMNS} WHERE a.status = 'staged' AND a.created_at < ?1");
    tx.rows(&sql, &[&millis(before)], read)?
        .into_iter()
        .map(|raw| open(tx, raw))
        .collect()
}

/// Whether a row knows a file on this disk; any other there is a leftover.
///
/// # Errors
/// When SQLite fails.
pub fn knows_file(tx: &Tx<'_>, file: FileId) -> Result<bool, Fault> {
    Ok(tx
        .value::<i64>(
            "SELECT 1 FROM attachments WHERE file = ?1",
            &[file.as_bytes()],
        )?
        .is_some())
}

/// SHA-256 of each part of a blob of ours.
///
/// # Errors
/// When SQLite fails.
pub fn part_digests(tx: &Tx<'_>, name: &str) -> Result<Vec<[u8; 32]>, Fault> {
    let digests: Option<Vec<u8>> =
        tx.value("SELECT digests FROM attachments WHERE ref = ?1", &[&name])?;
    Ok(digests.unwrap_or_default().as_chunks().0.to_vec())
}

/// Whether a file is on the move, or waits to be.
///
/// # Errors
/// When SQLite fails.
pub fn is_moving(tx: &Tx<'_>, name: &str) -> Result<bool, Fault> {
    let sql = "SELECT 1 FROM attachments WHERE ref = ?1 AND status IN ('uploading', 'waiting', 'downloading')";
    Ok(tx.value::<i64>(sql, &[&name])?.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_these_moves_are_legal() {
        use AttachmentStatus::{
            Cancelled, Downloading, Failed, Offered, Ready, Released, Staged, Uploaded, Uploading,
            Waiting,
        };
        const ALL: [AttachmentStatus; 10] = [
            Staged,
            Uploading,
            Uploaded,
            Released,
            Cancelled,
            Offered,
            Waiting,
            Downloading,
            Ready,
            Failed,
        ];
        let legal = [
            (Staged, Uploading),
            (Uploading, Uploaded),
            (Uploading, Cancelled),
            (Uploading, Failed),
            (Uploaded, Uploading),
            (Uploaded, Released),
            (Uploaded, Cancelled),
            (Offered, Waiting),
            (Waiting, Offered),
            (Waiting, Downloading),
            (Waiting, Failed),
            (Downloading, Offered),
            (Downloading, Ready),
            (Downloading, Failed),
            (Failed, Waiting),
        ];
        for from in ALL {
            for to in ALL {
                assert_eq!(
                    can_become(from, to),
                    legal.contains(&(from, to)),
                    "{from:?} to {to:?}"
                );
            }
        }
    }
}
