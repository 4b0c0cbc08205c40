//! The delays between attempts: the same for every lane and for the node.

pub use sealpost_proto::backoff::{delay, whole};
