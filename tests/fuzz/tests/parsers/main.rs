//! Whatever comes, no parser panics; nothing that is signed or sealed is taken once it is damaged; and what is taken is
//! what its encoder writes.

#![expect(
    clippy::unwrap_used,
    reason = "a seed that is not as it should be fails the test"
)]

mod answers;
mod attachments;
mod corpus;
mod people;
mod records;
mod requests;
mod sessions;
mod stored;
mod wire;
