//! Decisions of a relay: which envelopes it accepts, when and how a lane is delivered, what a
//! webhook's response means, who may register.
//!
//! The crate is pure: state, time and random numbers are arguments, and decisions are returned as
//! data. It awaits nothing, reads no clock, generates no random numbers and does no I/O; the
//! program `relay/` does all of that.
//!
//! Start reading at [`lane`], then [`accept`]. The rules are those of `docs/protocol.md`,
//! *Submission* and *Deliveries*.

#![warn(missing_docs)]

pub mod accept;
pub mod batch_results;
pub mod blob;
pub mod budget;
pub mod classify;
pub mod lane;
pub mod quota;
pub mod rates;
pub mod registration;
pub mod space;

pub use budget::{CallBudget, EndpointHealth};
pub use lane::{Effect, Event, Lane};
pub use quota::{QuotaOverrides, Quotas};
