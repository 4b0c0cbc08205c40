//! The HTTP client for addresses that strangers name: webhooks now, other relays later.
//!
//! It never reaches inside. Every address that a name resolves to is checked by a [`Guard`], and the connection goes to
//! exactly an address that was checked, whatever notation the URL used. It follows no redirect, asks no proxy, reads a
//! bounded part of an answer, and gives up after a bounded time.
//!
//! Start reading at [`Client::call`], then [`Guard`].

mod client;
mod connector;
mod guard;
mod range;

pub use client::{Answer, CallError, Client, Limits, Request};
pub use guard::Guard;
pub use range::{IpRange, NotARange};
