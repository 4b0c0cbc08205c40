//! HTTP server of relay and node: a listener with limits and timeouts, problem documents, and JSON
//! bodies of bounded size.

mod body;
mod listener;
mod local;
mod problem;

pub use body::{BodyReader, JSON_TYPE, Json, json_body, parse_json, read_body, read_body_with};
pub use listener::{
    AcmeCertificates, AcmeError, AcmeOrder, CertificateError, CertificateFiles, Endpoint,
    EndpointError, Listener, ListenerCounts, ListenerLimits, SocketAccess, Tls, UnixEndpoint,
    Validity, serve,
};
pub use local::LocalGuard;
pub use problem::{PROBLEM_TYPE, ProblemResponse, with_problems};
