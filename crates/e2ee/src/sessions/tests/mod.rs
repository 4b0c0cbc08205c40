//! Two parties, and everything that may happen between them.

mod delivery;
mod healing;
mod init_wins;
mod pairing;
mod parties;
mod rotation;
