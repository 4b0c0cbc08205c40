//! HTTP server of relay and node: a listener with limits and timeouts, problem documents, and JSON
//! bodies of bounded size.

mod body;
mod listener;
mod local;
mod problem;
mod response_memory;
mod retry_after;
mod socket_path;

pub use body::{
    BodyReader, JSON_TYPE, Json, body_bytes_max, content_length, json_body, parse_json, read_body,
};
pub use listener::{
    AcmeCertificates, AcmeError, AcmeOrder, CertificateError, CertificateFiles, Endpoint,
    EndpointError, Listener, ListenerCounts, ListenerLimits, SocketAccess, Tls, UnixEndpoint,
    Validity, serve,
};
pub use local::LocalGuard;
pub use problem::{PROBLEM_TYPE, ProblemResponse, has_valid_encoding, with_problems};
pub use response_memory::hold_response_memory;
pub use retry_after::parse_retry_after;
pub use socket_path::SocketPath;
