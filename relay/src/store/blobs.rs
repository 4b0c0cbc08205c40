//! Blobs: what was announced, which parts are on disk, until when.

use super::{
    Store, StoreError, accounts, quotas,
    rows::{count, first, int, millis, row, rows, run, small, time},
};
use rusqlite::{Connection, Row, params};
use sealpost_proto::{
    AccountId, BlobId, ErrorCode, Timestamp,
    limits::{BLOB_BYTES_MAX, SWEEP_ROWS_MAX},
    wire::{Blob, BlobState},
};
use sealpost_relay_core::{
    Quotas,
    blob::{self, BlobSize},
    quota::HeldBlobs,
};
use sha2::{Digest as _, Sha256};

/// A blob that is announced.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewBlob {
    /// Made by the node.
    pub(crate) id: BlobId,
    /// Its owner.
    pub(crate) account: AccountId,
    /// Its whole size.
    pub(crate) size: BlobSize,
    /// SHA-256 of the token that fetches it.
    pub(crate) token_hash: [u8; 32],
    /// The end of life that was asked for.
    pub(crate) expires_at: Timestamp,
}

/// Where a part goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PartPlace {
    /// It is not there yet; so many bytes belong into it.
    Missing {
        /// The exact length of the part.
        bytes: usize,
    },
    /// It is there, with this SHA-256.
    Present {
        /// The digest of the part.
        digest: [u8; 32],
    },
    /// The blob has no such part.
    OutOfRange,
}

/// A blob that is not complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unfinished {
    touched_at: i64,
    /// Which.
    pub(crate) blob: BlobId,
}

struct Stored {
    size: BlobSize,
    token_hash: [u8; 32],
    complete: bool,
    expires_at: Timestamp,
}

const COLUMNS: &str = "size, token_hash, complete, expires_at";

impl Store {
    /// Announces a blob, or finds the same one. The flag says whether it is new.
    ///
    /// # Errors
    /// [`StoreError`]; inside, `conflict`, `too_large`, `quota_exceeded`, or `unavailable` while a blob of that id is deleted.
    pub(crate) async fn create_blob(
        &self,
        now: Timestamp,
        new: NewBlob,
        quotas: Quotas,
    ) -> Result<Result<(Blob, bool), ErrorCode>, StoreError> {
        self.write_new(move |db| create(db, now, &new, &quotas))
            .await
    }

    /// A blob of the account's.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn blob(
        &self,
        now: Timestamp,
        account: AccountId,
        id: BlobId,
    ) -> Result<Option<Blob>, StoreError> {
        self.read(move |db| view(db, now, account, id)).await
    }

    /// Where a part of a blob of the account's goes; absent when the account has no such blob.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn part_place(
        &self,
        now: Timestamp,
        account: AccountId,
        id: BlobId,
        number: u32,
    ) -> Result<Option<PartPlace>, StoreError> {
        self.read(move |db| {
            let Some(stored) = find(db, now, account, id)? else {
                return Ok(None);
            };
            let Some(bytes) = stored.size.part_bytes(number) else {
                return Ok(Some(PartPlace::OutOfRange));
            };
            let digest = digest_of(db, id, number)?;
            Ok(Some(
                digest.map_or(PartPlace::Missing { bytes }, |digest| PartPlace::Present {
                    digest,
                }),
            ))
        })
        .await
    }

    /// Writes down that a part is on disk. Inside, the digest that counts: another one when somebody was quicker; absent
    /// when the blob is gone.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn part_written(
        &self,
        now: Timestamp,
        account: AccountId,
        id: BlobId,
        number: u32,
        digest: [u8; 32],
    ) -> Result<Option<[u8; 32]>, StoreError> {
        self.write(move |db| {
            if find(db, now, account, id)?.is_none() {
                // Deleted while the part came, which was perhaps written after a sweep had cleared the disk of the others.
                if first::<i64>(db, "SELECT 1 FROM blobs WHERE blob = ?", [id.as_bytes()])?
                    .is_none()
                {
                    doom(db, id.as_bytes())?;
                }
                return Ok(None);
            }
            let sql = "INSERT OR IGNORE INTO parts (blob, number, digest) VALUES (?, ?, ?)";
            run(db, sql, params![id.as_bytes(), number, digest])?;
            run(
                db,
                "UPDATE blobs SET touched_at = ? WHERE blob = ?",
                params![millis(now), id.as_bytes()],
            )?;
            digest_of(db, id, number)
        })
        .await
    }

    /// Blobs that are not complete, a page after this one; the next one begins after the last of them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn unfinished_blobs(
        &self,
        after: Option<Unfinished>,
    ) -> Result<Vec<Unfinished>, StoreError> {
        let (touched_at, blob) = after.map_or((i64::MIN, [0; 16]), |after| {
            (after.touched_at, *after.blob.as_bytes())
        });
        let sql = "SELECT touched_at, blob FROM blobs WHERE complete = 0 AND (touched_at, blob) > (?, ?) \
                   ORDER BY touched_at, blob LIMIT ?";
        self.read(move |db| {
            rows(
                db,
                sql,
                params![touched_at, blob, int(SWEEP_ROWS_MAX as u64)],
                |row| {
                    Ok(Unfinished {
                        touched_at: row.get("touched_at")?,
                        blob: BlobId::from_bytes(row.get("blob")?),
                    })
                },
            )
        })
        .await
    }

    /// Completes a blob whose parts are all there and fit the digest.
    ///
    /// # Errors
    /// [`StoreError`]; inside, `not_found` or `blob_incomplete`.
    pub(crate) async fn complete_blob(
        &self,
        now: Timestamp,
        account: AccountId,
        id: BlobId,
        digest: [u8; 32],
    ) -> Result<Result<Blob, ErrorCode>, StoreError> {
        self.write(move |db| complete(db, now, account, id, digest))
            .await
    }

    /// Lets a blob live longer; an earlier end than it has changes nothing.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn extend_blob(
        &self,
        now: Timestamp,
        account: AccountId,
        id: BlobId,
        asked: Timestamp,
    ) -> Result<Option<Blob>, StoreError> {
        self.write(move |db| {
            let Some(stored) = find(db, now, account, id)? else {
                return Ok(None);
            };
            extend(db, now, account, id, &stored, asked)
        })
        .await
    }

    /// Deletes a blob of the account's, if there is one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn delete_blob(
        &self,
        account: AccountId,
        id: BlobId,
    ) -> Result<(), StoreError> {
        self.write(move |db| {
            let sql = "SELECT 1 FROM blobs WHERE blob = ? AND account = ?";
            match first::<i64>(db, sql, params![id.as_bytes(), account.as_bytes()])? {
                Some(_) => doom(db, id.as_bytes()),
                None => Ok(()),
            }
        })
        .await
    }

    /// The digest of a part of a complete blob, for whoever has its token; absent in every other case alike.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn fetch_part(
        &self,
        now: Timestamp,
        id: BlobId,
        number: u32,
        token_hash: [u8; 32],
    ) -> Result<Option<([u8; 32], usize)>, StoreError> {
        self.read(move |db| {
            let sql = format!(
                "SELECT {COLUMNS} FROM blobs WHERE blob = ? AND complete = 1 AND expires_at > ?"
            );
            let Some(stored) = row(db, &sql, params![id.as_bytes(), millis(now)], read)? else {
                return Ok(None);
            };
            let fits = subtle::ConstantTimeEq::ct_eq(&stored.token_hash[..], &token_hash[..]);
            let (Some(bytes), true) = (stored.size.part_bytes(number), bool::from(fits)) else {
                return Ok(None);
            };
            Ok(digest_of(db, id, number)?.map(|digest| (digest, bytes)))
        })
        .await
    }
}

/// Takes a blob's rows away and leaves its parts on disk to the next sweep.
pub(super) fn doom(db: &Connection, id: &[u8; 16]) -> Result<(), StoreError> {
    let owner = row(
        db,
        "SELECT account, size FROM blobs WHERE blob = ?",
        [id],
        |row| Ok((row.get::<_, [u8; 16]>("account")?, count(row, "size")?)),
    )?;
    if let Some((account, size)) = owner {
        accounts::blob_left(db, &account, size)?;
    }
    run(db, "INSERT OR IGNORE INTO doomed (blob) VALUES (?)", [id])?;
    run(db, "DELETE FROM parts WHERE blob = ?", [id])?;
    run(db, "DELETE FROM blobs WHERE blob = ?", [id])?;
    Ok(())
}

fn read(row: &Row<'_>) -> rusqlite::Result<Stored> {
    let size = BlobSize::parse(count(row, "size")?, BLOB_BYTES_MAX);
    Ok(Stored {
        size: size.map_err(|_| rusqlite::Error::IntegralValueOutOfRange(0, 0))?,
        token_hash: row.get("token_hash")?,
        complete: row.get("complete")?,
        expires_at: time(row, "expires_at")?,
    })
}

fn find(
    db: &Connection,
    now: Timestamp,
    account: AccountId,
    id: BlobId,
) -> Result<Option<Stored>, StoreError> {
    let sql =
        format!("SELECT {COLUMNS} FROM blobs WHERE blob = ? AND account = ? AND expires_at > ?");
    row(
        db,
        &sql,
        params![id.as_bytes(), account.as_bytes(), millis(now)],
        read,
    )
}

fn digest_of(db: &Connection, id: BlobId, number: u32) -> Result<Option<[u8; 32]>, StoreError> {
    first(
        db,
        "SELECT digest FROM parts WHERE blob = ? AND number = ?",
        params![id.as_bytes(), number],
    )
}

fn view(
    db: &Connection,
    now: Timestamp,
    account: AccountId,
    id: BlobId,
) -> Result<Option<Blob>, StoreError> {
    let Some(stored) = find(db, now, account, id)? else {
        return Ok(None);
    };
    let sql = "SELECT number FROM parts WHERE blob = ? ORDER BY number";
    let present = rows(db, sql, [id.as_bytes()], |row| small(row, "number"))?;
    Ok(Some(Blob {
        id,
        state: if stored.complete {
            BlobState::Complete
        } else {
            BlobState::Uploading
        },
        size_bytes: stored.size.bytes(),
        parts: stored.size.parts(),
        present,
        expires_at: stored.expires_at,
    }))
}

fn create(
    db: &Connection,
    now: Timestamp,
    new: &NewBlob,
    for_all: &Quotas,
) -> Result<Result<(Blob, bool), ErrorCode>, StoreError> {
    if first::<i64>(
        db,
        "SELECT 1 FROM blobs WHERE blob = ?",
        [new.id.as_bytes()],
    )?
    .is_some()
    {
        return Ok(again(db, now, new)?
            .map(|blob| (blob, false))
            .ok_or(ErrorCode::Conflict));
    }
    // Its parts on disk are still being deleted, and a sweep could not tell new ones from them.
    if first::<i64>(
        db,
        "SELECT 1 FROM doomed WHERE blob = ?",
        [new.id.as_bytes()],
    )?
    .is_some()
    {
        return Ok(Err(ErrorCode::Unavailable));
    }
    let quotas = quotas::of(db, new.account, for_all)?;
    if new.size.bytes() > quotas.blob_bytes {
        return Ok(Err(ErrorCode::TooLarge));
    }
    let held = row(
        db,
        "SELECT blobs, blob_bytes FROM accounts WHERE account = ?",
        [new.account.as_bytes()],
        |row| {
            Ok(HeldBlobs {
                blobs: count(row, "blobs")?,
                bytes: count(row, "blob_bytes")?,
            })
        },
    )?;
    if !quotas.allows_blob(held.unwrap_or_default(), new.size.bytes()) {
        return Ok(Err(ErrorCode::QuotaExceeded));
    }
    insert(db, now, new)?;
    Ok(view(db, now, new.account, new.id)?
        .map(|blob| (blob, true))
        .ok_or(ErrorCode::Malformed))
}

/// The same blob again, as a node does that resumes; it lives as long as was asked for last, if that is longer.
fn again(db: &Connection, now: Timestamp, new: &NewBlob) -> Result<Option<Blob>, StoreError> {
    let stored = find(db, now, new.account, new.id)?;
    let same =
        stored.filter(|stored| stored.size == new.size && stored.token_hash == new.token_hash);
    match same {
        Some(stored) => extend(db, now, new.account, new.id, &stored, new.expires_at),
        None => Ok(None),
    }
}

fn extend(
    db: &Connection,
    now: Timestamp,
    account: AccountId,
    id: BlobId,
    stored: &Stored,
    asked: Timestamp,
) -> Result<Option<Blob>, StoreError> {
    let expires_at = blob::extended(now, stored.expires_at, asked);
    let sql = "UPDATE blobs SET expires_at = ? WHERE blob = ?";
    run(db, sql, params![millis(expires_at), id.as_bytes()])?;
    view(db, now, account, id)
}

fn insert(db: &Connection, now: Timestamp, new: &NewBlob) -> Result<(), StoreError> {
    run(
        db,
        "INSERT INTO blobs (blob, account, size, token_hash, expires_at, touched_at) VALUES (?, ?, ?, ?, ?, ?)",
        params![
            new.id.as_bytes(),
            new.account.as_bytes(),
            int(new.size.bytes()),
            new.token_hash,
            millis(blob::expiry(now, new.expires_at)),
            millis(now)
        ],
    )?;
    accounts::blob_came(db, new.account.as_bytes(), new.size.bytes())
}

fn complete(
    db: &Connection,
    now: Timestamp,
    account: AccountId,
    id: BlobId,
    digest: [u8; 32],
) -> Result<Result<Blob, ErrorCode>, StoreError> {
    let Some(stored) = find(db, now, account, id)? else {
        return Ok(Err(ErrorCode::NotFound));
    };
    let sql = "SELECT digest FROM parts WHERE blob = ? ORDER BY number";
    let digests = rows(db, sql, [id.as_bytes()], |row| {
        row.get::<_, [u8; 32]>("digest")
    })?;
    let mut hash = Sha256::new();
    for part in &digests {
        hash.update(part);
    }
    let whole = digests.len() == stored.size.parts() as usize
        && <[u8; 32]>::from(hash.finalize()) == digest;
    if !whole {
        return Ok(Err(ErrorCode::BlobIncomplete));
    }
    run(
        db,
        "UPDATE blobs SET complete = 1 WHERE blob = ?",
        [id.as_bytes()],
    )?;
    Ok(view(db, now, account, id)?.ok_or(ErrorCode::NotFound))
}
