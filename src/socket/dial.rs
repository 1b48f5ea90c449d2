//! Connecting to whoever listens.

use std::{
    io::{self, ErrorKind},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Address, Terms, Token, address::Place, local};
use crate::{
    error::{AddressError, CloseReason, StartError},
    transport::{Transport, tcp_end},
    wire::Tokens,
};

/// A connection over which nothing was said so far.
pub(crate) struct Dialed {
    pub(crate) transport: Transport,
    pub(crate) tokens: Tokens,
}

/// Takes an address, and connects there, at most until `deadline`.
///
/// # Errors
///
/// [`StartError::Address`] and [`StartError::Connect`].
pub(crate) fn connect(
    address: impl TryInto<Address, Error: Into<AddressError>>,
    terms: &Terms,
    deadline: Option<Instant>,
) -> Result<(Address, Dialed), StartError> {
    let address = address.try_into().map_err(Into::into)?;
    let dialed = dial(&address, terms, deadline)?;
    Ok((address, dialed))
}

/// Why no link came of a connection, of which the link tells the reason, if it is over.
pub(crate) fn failed(address: &Address, reason: Option<Arc<CloseReason>>, state: &'static str) -> StartError {
    let address = address.text();
    match reason {
        Some(reason) => StartError::NotMet { address, reason },
        None => {
            let error = Arc::new(io::Error::new(ErrorKind::TimedOut, state));
            StartError::Connect { address, error }
        }
    }
}

/// Connects, at most until `deadline`.
///
/// # Errors
///
/// [`StartError::Connect`].
pub(super) fn dial(
    address: &Address,
    terms: &Terms,
    deadline: Option<Instant>,
) -> Result<Dialed, StartError> {
    let transport = match address.place() {
        Place::Unix(path) => local::dial(path, terms, deadline),
        Place::Tcp(at) => dial_tcp(*at, terms, deadline),
    };
    let connect = |error| StartError::Connect { address: address.text(), error: Arc::new(error) };
    Ok(Dialed { transport: transport.map_err(connect)?, tokens: Token::of_caller(terms.token) })
}

fn dial_tcp(at: SocketAddr, terms: &Terms, deadline: Option<Instant>) -> io::Result<Transport> {
    if terms.token.is_none() {
        let why = "over TCP the token of the one who listens is needed";
        return Err(io::Error::new(ErrorKind::InvalidInput, why));
    }
    let left = deadline.map(|at| at.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1)));
    let stream = match left {
        Some(left) => TcpStream::connect_timeout(&at, left)?,
        None => TcpStream::connect(at)?,
    };
    tcp_end(stream, &[])
}
