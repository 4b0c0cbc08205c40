//! Loopback ports for servers that keep their address across a restart.

use std::{
    net::Ipv4Addr,
    sync::{Mutex, PoisonError},
};
use tokio::net::TcpSocket;

/// Sockets that are bound but never listen. The system assigns their ports to no other process,
/// while a server with `SO_REUSEADDR` can still listen there.
static RESERVED: Mutex<Vec<TcpSocket>> = Mutex::new(Vec::new());

/// Reserves a port until this process exits. Connections are refused while no server listens.
pub fn reserve_port() -> anyhow::Result<u16> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
    let port = socket.local_addr()?.port();
    RESERVED
        .lock()
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
    fn reserved_port_serves_only_its_own_server() {
        let port = reserve_port().unwrap();
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
