//! A socket that listens, and the file under which it is found.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
};

use super::{
    Address, Allow, Caller,
    address::Place,
    local::{self, SocketFile},
};
use crate::{
    error::StartError,
    os::{
        self,
        fd::{AsFd, BorrowedFd, OwnedFd},
    },
};

/// Where others connect. Dropping it removes the file, if it still is this one.
#[derive(Debug)]
pub(crate) struct Door {
    // Dropped first: the file goes while it is still listened to, so that nobody takes it for a stale one.
    _file: Option<SocketFile>,
    socket: OwnedFd,
    address: Address,
}

impl Door {
    /// Listens at this address.
    ///
    /// # Errors
    ///
    /// [`StartError::Listen`]; then nothing has changed at the address, but for a stale file that is gone.
    pub(crate) fn open(address: &Address, allow: &Allow) -> Result<Door, StartError> {
        let opened = match address.place() {
            Place::Unix(path) => local::open(path, allow.mode()).map(|(socket, file)| Door {
                _file: Some(file),
                socket,
                address: address.clone(),
            }),
            Place::Tcp(at) => open_tcp(*at),
        };
        let listen = |error| StartError::Listen { address: address.text(), error: Arc::new(error) };
        opened.map_err(listen)
    }

    /// Where it listens: the port is the one that was taken.
    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// The next one who has connected. Does not wait.
    pub(crate) fn accept(&self) -> io::Result<Caller> {
        let socket = os::accept(self.socket.as_fd())?;
        let credentials = match self.address.place() {
            Place::Unix(_) => Some(local::credentials(socket.as_fd())?),
            Place::Tcp(_) => None,
        };
        Ok(Caller::new(socket, credentials))
    }
}

/// Readable when somebody has connected.
impl AsFd for Door {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn open_tcp(at: SocketAddr) -> io::Result<Door> {
    let listener = TcpListener::bind(at)?;
    listener.set_nonblocking(true)?;
    let address = Address::tcp(listener.local_addr()?).map_err(io::Error::other)?;
    Ok(Door { _file: None, socket: listener.into(), address })
}
