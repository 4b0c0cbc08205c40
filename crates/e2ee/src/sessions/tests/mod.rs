//! Tests of sessions between two parties.

mod convergence;
mod delivery;
mod init_rules;
mod network;
mod pairing;
mod parties;
mod rotation;
