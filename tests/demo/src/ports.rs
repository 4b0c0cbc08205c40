//! Ports on loopback for servers that come back at the same address after a restart.

use std::{
    net::Ipv4Addr,
    sync::{Mutex, PoisonError},
};
use tokio::net::TcpSocket;

/// Bound, and never listening: the system gives such a port to nobody else, and a server may listen there beside it.
static HELD: Mutex<Vec<TcpSocket>> = Mutex::new(Vec::new());

/// A port that is this process's until it ends. While no server listens there, connections are refused.
///
/// # Errors
/// When all are taken.
pub fn free_port() -> anyhow::Result<u16> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
    let port = socket.local_addr()?.port();
    HELD.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(socket);
    Ok(port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::ErrorKind,
        net::{TcpListener, TcpStream},
    };

    #[test]
    fn a_port_is_free_for_its_server_and_for_nobody_else() {
        let port = free_port().unwrap();
        for _ in 0..2 {
            let refused = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
            let second = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap_err();
            assert_eq!(second.kind(), ErrorKind::AddrInUse);
            drop(listener);
        }
        assert!((0..1_000).all(|_| {
            TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap()
                .port()
                != port
        }));
    }
}
