//! Tests of sessions between two parties.

mod delivery;
mod healing;
mod init_wins;
mod pairing;
mod parties;
mod rotation;
