//! Tests of sessions between two parties.

mod convergence;
mod delivery;
mod init_rules;
mod pairing;
mod parties;
mod rotation;
