//! What time ends: envelopes past their life, envelopes of closed mailboxes, old digests, nonces, blobs.

use super::{
    Store, StoreError, blobs,
    rows::{first, int, millis, rows, run},
    tally::{Tally, WAITING_COLUMNS, WaitingEnvelope},
};
use rusqlite::{Connection, params};
use sealpost_proto::{
    AccountId, BlobId, EnvelopeState, Timestamp,
    limits::{DIGEST_KEPT_BEYOND_LIFE, ENVELOPE_LIFE_MAX, LEASE_LIFE, SWEEP_ROWS_MAX, UPLOAD_LIFE},
};

/// What one sweep did.
#[derive(Debug, Default)]
pub(crate) struct Swept {
    /// Senders with news.
    pub(crate) woken: Vec<AccountId>,
    /// Whether another sweep would find more at once.
    pub(crate) more: bool,
    /// Blobs whose parts are to be deleted from the disk; see [`Store::forget_doomed`].
    pub(crate) doomed: Vec<BlobId>,
}

const EXPIRED: &str = "its life ended before the recipient's node took it";
const CLOSED: &str = "mailbox_unknown";

impl Store {
    /// Ends what has expired, [`SWEEP_ROWS_MAX`] rows of each kind at most. It always commits something, so that it also
    /// shows whether the store works.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn sweep(&self, now: Timestamp) -> Result<Swept, StoreError> {
        self.write(move |db| {
            let mut sweep = Sweep {
                db,
                now,
                tally: Tally::default(),
                more: false,
            };
            sweep.heed_clock()?;
            sweep.expire_envelopes()?;
            sweep.fail_closed()?;
            sweep.forget_digests()?;
            sweep.forget_nonces()?;
            sweep.expire_blobs()?;
            let doomed = sweep.doomed()?;
            let more = sweep.more;
            Ok(Swept {
                woken: sweep.tally.write(db, now)?,
                more,
                doomed,
            })
        })
        .await
    }

    /// The parts of these blobs are gone from the disk.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn forget_doomed(&self, blobs: Vec<BlobId>) -> Result<(), StoreError> {
        self.write(move |db| {
            for blob in blobs {
                run(db, "DELETE FROM doomed WHERE blob = ?", [blob.as_bytes()])?;
            }
            Ok(())
        })
        .await
    }
}

struct Sweep<'a> {
    db: &'a Connection,
    now: Timestamp,
    tally: Tally,
    more: bool,
}

impl Sweep<'_> {
    fn note_more(&mut self, found: usize) {
        self.more |= found >= SWEEP_ROWS_MAX;
    }

    /// Where the clock was put back all lanes are looked at: the times that they wait for may lie far ahead.
    fn heed_clock(&self) -> Result<(), StoreError> {
        let before = first::<i64>(
            self.db,
            "SELECT value FROM counters WHERE name = 'heartbeat'",
            [],
        )?;
        if before.is_some_and(|before| before > millis(self.now)) {
            let sql = "UPDATE lanes SET due_at = ?1, free_at = 0 WHERE due_at > ?1 OR free_at > ?1";
            run(self.db, sql, [millis(self.now)])?;
        }
        run(
            self.db,
            "UPDATE counters SET value = ? WHERE name = 'heartbeat'",
            [millis(self.now)],
        )?;
        Ok(())
    }

    /// An expired envelope is not given out any more, and ends when the last lease that may hold it has ended.
    fn expire_envelopes(&mut self) -> Result<(), StoreError> {
        let sql = format!(
            "SELECT {WAITING_COLUMNS} FROM envelopes WHERE state < 2 AND expires_at <= ? LIMIT ?"
        );
        let ended = self.now.minus(LEASE_LIFE);
        let found = rows(
            self.db,
            &sql,
            params![millis(ended), limit()],
            WaitingEnvelope::read,
        )?;
        self.note_more(found.len());
        for waiting in found {
            self.tally.end(
                self.db,
                self.now,
                &waiting,
                EnvelopeState::Expired,
                Some(EXPIRED),
            )?;
        }
        Ok(())
    }

    fn fail_closed(&mut self) -> Result<(), StoreError> {
        let closing = rows(
            self.db,
            "SELECT account, mailbox FROM closings LIMIT ?",
            [limit()],
            |row| {
                Ok((
                    row.get::<_, [u8; 16]>("account")?,
                    row.get::<_, [u8; 16]>("mailbox")?,
                ))
            },
        )?;
        self.note_more(closing.len());
        let mut room = SWEEP_ROWS_MAX;
        for (account, mailbox) in closing {
            let found = self.waiting_in(account, mailbox, room)?;
            if found.len() < room {
                run(
                    self.db,
                    "DELETE FROM closings WHERE account = ? AND mailbox = ?",
                    [account, mailbox],
                )?;
            }
            room -= found.len();
            for waiting in found {
                self.tally.end(
                    self.db,
                    self.now,
                    &waiting,
                    EnvelopeState::Failed,
                    Some(CLOSED),
                )?;
            }
            if room == 0 {
                self.more = true;
                break;
            }
        }
        Ok(())
    }

    /// Looks for a mailbox's envelopes among all that wait in its lane, so not where the mailbox says that it has none.
    fn waiting_in(
        &self,
        account: [u8; 16],
        mailbox: [u8; 16],
        room: usize,
    ) -> Result<Vec<WaitingEnvelope>, StoreError> {
        if first::<i64>(
            self.db,
            "SELECT envelopes FROM mailboxes WHERE mailbox = ?",
            [mailbox],
        )? == Some(0)
        {
            return Ok(Vec::new());
        }
        let sql = format!(
            "SELECT {WAITING_COLUMNS} FROM envelopes WHERE account = ? AND mailbox = ? AND state < 2 LIMIT ?"
        );
        rows(
            self.db,
            &sql,
            params![account, mailbox, int(room as u64)],
            WaitingEnvelope::read,
        )
    }

    fn forget_digests(&mut self) -> Result<(), StoreError> {
        let old = self
            .now
            .minus(ENVELOPE_LIFE_MAX)
            .minus(DIGEST_KEPT_BEYOND_LIFE);
        let sql = "DELETE FROM envelopes WHERE id IN (SELECT id FROM envelopes ORDER BY id LIMIT ?) \
                   AND accepted_at <= ? AND state >= 2";
        let gone = run(self.db, sql, params![limit(), millis(old)])?;
        self.note_more(gone);
        Ok(())
    }

    fn forget_nonces(&mut self) -> Result<(), StoreError> {
        let sql = "DELETE FROM nonces WHERE (key, nonce) IN \
                   (SELECT key, nonce FROM nonces WHERE expires_at <= ? LIMIT ?)";
        let gone = run(self.db, sql, params![millis(self.now), limit()])?;
        self.note_more(gone);
        Ok(())
    }

    fn expire_blobs(&mut self) -> Result<(), StoreError> {
        let sql = "SELECT blob FROM blobs WHERE expires_at <= ? \
                   UNION SELECT blob FROM blobs WHERE complete = 0 AND touched_at <= ? LIMIT ?";
        let idle = self.now.minus(UPLOAD_LIFE);
        let found = rows(
            self.db,
            sql,
            params![millis(self.now), millis(idle), limit()],
            |row| row.get("blob"),
        )?;
        self.note_more(found.len());
        for blob in found {
            blobs::doom(self.db, &blob)?;
        }
        Ok(())
    }

    fn doomed(&mut self) -> Result<Vec<BlobId>, StoreError> {
        let sql = "SELECT blob FROM doomed LIMIT ?";
        let found = rows(self.db, sql, [limit()], |row| {
            Ok(BlobId::from_bytes(row.get("blob")?))
        })?;
        self.note_more(found.len());
        Ok(found)
    }
}

fn limit() -> i64 {
    int(SWEEP_ROWS_MAX as u64)
}
