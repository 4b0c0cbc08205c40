//! Every decision that a relay takes: which envelope it accepts, when and how a lane is delivered, what an answer of a
//! webhook means, how a blob divides into parts, who may register.
//!
//! Floor 2 of the house: facts, the time and random numbers come in as arguments and decisions leave as data. Nothing
//! here awaits, reads a clock, draws randomness or touches a disk or a socket; the program `relay/` performs.
//!
//! Start reading at [`lane`], then [`accept`]. The rules are those of `docs/protocol.md`, *Submission* and *Deliveries*.

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

pub use budget::{Budget, EndpointHealth};
pub use lane::{Effect, Event, Lane};
pub use quota::{QuotaOverrides, Quotas};
