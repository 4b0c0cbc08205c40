//! Checkpoints: decisions from which a node learns that its database is older than what it has done
//! since, or that a second node runs with its identity (docs/e2ee.md#checkpoint).
//!
//! The node stores the checkpoints that it writes in its database first, so the database knows
//! every checkpoint that it has written, except those that were written after it was copied. The
//! first column says which checkpoint was found outside the database: in the local file or at the
//! relay.
//!
//! | found | at start | while running |
//! |---|---|---|
//! | none | write | write |
//! | the latest one | write | nothing |
//! | an earlier one | write | write |
//! | older than all that are known | write | write |
//! | unknown | recover | alert |
//!
//! - *Write*: the node writes a checkpoint over the one that was found.
//! - *Recover*: the database was rolled back. The node starts new sessions and adopts the
//!   generation.
//! - *Alert*: a second node runs with this identity, so people are warned, and the node adopts the
//!   generation. It does not recover, because the second node would do the same: both would replace
//!   their sessions for ever.
//!
//! A node adopts a generation by forgetting all its own checkpoints and writing one of a generation
//! above both. From then on, everything up to the adopted generation is older than all that are
//! known. The relay can present an old checkpoint again, but a copy of the node can have written
//! only a few that are not older than all that are known: it must have been running, and each one
//! that the node adopts makes the earlier ones ineffective.

use sealpost_e2ee::Checkpoint;

/// When a checkpoint was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Before the node has sent or received anything since its start.
    Start,
    /// Later, because another checkpoint was stored than the one to be replaced.
    Running,
}

/// What to do about a checkpoint that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The latest checkpoint is stored already.
    Nothing,
    /// Write a checkpoint over it.
    Write,
    /// Replace all sessions and adopt the generation.
    Recover,
    /// Warn people about a second node and adopt the generation.
    Alert,
}

/// Relation of a checkpoint that was found to those that this database has written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Relation {
    None,
    Latest,
    Earlier,
    Older,
    Unknown,
}

/// Decides about the checkpoint that was found. `own` are the latest ones of the database, oldest
/// first.
#[must_use]
pub fn evaluate(own: &[Checkpoint], found: Option<&Checkpoint>, moment: Moment) -> Decision {
    match (relation(own, found), moment) {
        (Relation::Latest, Moment::Running) => Decision::Nothing,
        (Relation::Unknown, Moment::Start) => Decision::Recover,
        (Relation::Unknown, Moment::Running) => Decision::Alert,
        (Relation::None | Relation::Latest | Relation::Earlier | Relation::Older, _) => {
            Decision::Write
        }
    }
}

/// Returns the generation of the next checkpoint, which is above those of all others.
#[must_use]
pub fn next_generation(own: &[Checkpoint], adopted: Option<&Checkpoint>) -> u64 {
    let known = own.iter().chain(adopted);
    let highest = known.map(|checkpoint| checkpoint.generation).max();
    highest.unwrap_or(0).saturating_add(1)
}

fn relation(own: &[Checkpoint], found: Option<&Checkpoint>) -> Relation {
    let Some(found) = found else {
        return Relation::None;
    };
    let is_found = |known: &Checkpoint| known.mark == found.mark;
    if own.last().is_some_and(is_found) {
        Relation::Latest
    } else if own.iter().any(is_found) {
        Relation::Earlier
    } else if own
        .first()
        .is_some_and(|oldest| found.generation < oldest.generation)
    {
        Relation::Older
    } else {
        Relation::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sealpost_e2ee::CheckpointMark;
    use sealpost_proto::Timestamp;

    const fn checkpoint(generation: u64, mark: u8) -> Checkpoint {
        Checkpoint {
            generation,
            mark: CheckpointMark::from_bytes([mark; 16]),
            written_at: Timestamp::from_millis(1),
        }
    }

    /// Rows of the table in the module documentation.
    fn rows() -> Vec<Vec<&'static str>> {
        let page = include_str!("checkpoint.rs")
            .lines()
            .take_while(|line| line.starts_with("//!"));
        page.filter_map(|line| line.strip_prefix("//! | "))
            .skip(1)
            .map(|line| line.trim_end_matches(" |").split(" | ").collect())
            .collect()
    }

    fn decision(word: &str) -> Decision {
        match word {
            "nothing" => Decision::Nothing,
            "write" => Decision::Write,
            "recover" => Decision::Recover,
            "alert" => Decision::Alert,
            other => panic!("{other}"),
        }
    }

    fn found(name: &str) -> Vec<Option<Checkpoint>> {
        match name {
            "none" => vec![None],
            "the latest one" => vec![Some(checkpoint(12, 12))],
            "an earlier one" => vec![Some(checkpoint(10, 10)), Some(checkpoint(11, 11))],
            "older than all that are known" => vec![Some(checkpoint(9, 99))],
            "unknown" => (10..14)
                .map(|generation| Some(checkpoint(generation, 99)))
                .collect(),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn decisions_follow_the_table() {
        let own = [checkpoint(10, 10), checkpoint(11, 11), checkpoint(12, 12)];
        let rows = rows();
        assert_eq!(rows.len(), 5);
        for row in rows {
            for found in found(row[0]) {
                let decide = |moment| evaluate(&own, found.as_ref(), moment);
                assert_eq!(decide(Moment::Start), decision(row[1]), "{found:?}");
                assert_eq!(decide(Moment::Running), decision(row[2]), "{found:?}");
            }
        }
    }

    #[test]
    fn database_without_checkpoints_was_rolled_back() {
        let found = checkpoint(1, 1);
        let decide = |found| evaluate(&[], found, Moment::Start);
        assert_eq!(decide(Some(&found)), Decision::Recover);
        assert_eq!(decide(None), Decision::Write);
    }

    #[test]
    fn adopted_generations_are_not_evaluated_again() {
        let own = [checkpoint(1, 1), checkpoint(2, 2)];
        for generation in 1..5 {
            let adopted = checkpoint(generation, 99);
            let next = checkpoint(next_generation(&own, Some(&adopted)), 50);
            assert!(next.generation > 2.max(generation));
            for replayed in own.iter().chain([&adopted]) {
                let decided = evaluate(&[next], Some(replayed), Moment::Start);
                assert_eq!(decided, Decision::Write, "{replayed:?}");
            }
        }
    }

    #[test]
    fn generations_start_at_one() {
        assert_eq!(next_generation(&[], None), 1);
        assert_eq!(next_generation(&[checkpoint(u64::MAX, 1)], None), u64::MAX);
    }
}
