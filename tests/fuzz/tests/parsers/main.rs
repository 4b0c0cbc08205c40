//! No parser panics on any input, no damaged signature or seal is accepted, and accepted inputs
//! match their encoder's output.

#![expect(clippy::unwrap_used, reason = "a malformed seed fails the test")]

mod age;
mod attachments;
mod corpus;
mod records;
mod requests;
mod responses;
mod sessions;
mod stored;
mod texts;
mod wire;
