//! HTTP client for URLs from untrusted sources, such as webhooks.
//!
//! It does not connect to private addresses (SSRF). A [`Guard`] checks every address that a name
//! resolves to, and the client connects to exactly an address that was checked, whatever notation
//! the URL uses. It follows no redirects, uses no proxy, limits the size of a response and the time
//! of a call.
//!
//! Start reading at [`Client::call`], then [`Guard`].

#![warn(missing_docs)]

mod client;
mod connector;
mod guard;
mod range;
mod resolver;

pub use client::{CallError, Client, Limits, Request, Response};
pub use guard::Guard;
pub use range::{IpRange, ParseIpRangeError};
