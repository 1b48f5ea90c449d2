//! What can be wrong with an address, and why one who knocks there is turned away.

use std::{convert::Infallible, fmt, net::IpAddr, path::PathBuf};

use super::{CloseReason, Error, StartError};
use crate::wire::ProtocolError;

/// Why a text or a path is no [`Address`](crate::Address).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// It begins with neither of the two kinds.
    #[error("{0:?} is neither `unix:/path` nor `tcp:127.0.0.1:port`")]
    Unknown(String),
    /// The path of a socket must not depend on where a program was started.
    #[error("the path {} does not begin with a slash", .0.display())]
    NotAbsolute(PathBuf),
    /// The path of a socket is longer than the operating system takes.
    #[error("the path {} has {len} bytes, and a socket has at most {limit}", .path.display())]
    TooLong {
        /// The path.
        path: PathBuf,
        /// How many bytes it has.
        len: usize,
        /// How many it may have: 107 on Linux.
        limit: usize,
    },
    /// A path that no file can have: empty, without a name at its end, or with a zero byte.
    #[error("{0:?} is the path of no file")]
    BadPath(PathBuf),
    /// What stands behind `tcp:` is no address with a port.
    #[error("{0:?} is no address with a port: write `127.0.0.1:4711`, `[::1]:4711` or `localhost:4711`")]
    NoPort(String),
    /// Other machines could connect there: only the loopback is served.
    #[error("{0} is not on the loopback: other machines are not served, write 127.0.0.1 or [::1]")]
    NotLoopback(IpAddr),
}

impl From<Infallible> for AddressError {
    fn from(never: Infallible) -> AddressError {
        match never {}
    }
}

impl From<AddressError> for Error {
    fn from(error: AddressError) -> Error {
        StartError::from(error).into()
    }
}

/// Why one who listens takes no link from whoever has connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TurnedAway {
    /// As many peers as it takes are there already.
    Busy,
    /// Its rule does not let this process in: see [`Allow`](crate::Allow).
    NotAllowed,
    /// It is about to end, and takes no new peers.
    GoingAway,
}

impl TurnedAway {
    /// The number that stands in a bye.
    pub fn code(self) -> u16 {
        match self {
            TurnedAway::Busy => 64,
            TurnedAway::NotAllowed => 65,
            TurnedAway::GoingAway => 66,
        }
    }
}

impl fmt::Display for TurnedAway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TurnedAway::Busy => "it has as many peers as it takes",
            TurnedAway::NotAllowed => "it does not let this process in",
            TurnedAway::GoingAway => "it is about to end",
        })
    }
}

impl CloseReason {
    /// What a bye with this code, which is not 0, says.
    pub(crate) fn told_by(code: u16) -> CloseReason {
        let all = [TurnedAway::Busy, TurnedAway::NotAllowed, TurnedAway::GoingAway];
        match all.into_iter().find(|why| why.code() == code) {
            Some(why) => CloseReason::TurnedAway(why),
            None => CloseReason::Accused { code },
        }
    }
}

/// What the codes mean that a user can do something about.
pub(super) fn in_words(code: u16) -> &'static str {
    const NOT_A_PEER: u16 = 1;
    const VERSION: u16 = 2;
    const FILTERS: u16 = 22;
    match code {
        NOT_A_PEER => ": a Head goes with a Neck, and nothing with its own kind",
        VERSION => ": it speaks other versions of the protocol",
        code if code == ProtocolError::AuthFailed.code() => ": the token is wrong",
        FILTERS => ": it has other filters",
        code if code == ProtocolError::WrongKey.code() => ": it has another key",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_bye_says_is_told_in_words() {
        for why in [TurnedAway::Busy, TurnedAway::NotAllowed, TurnedAway::GoingAway] {
            let told = CloseReason::told_by(why.code());
            assert!(matches!(told, CloseReason::TurnedAway(said) if said == why), "{told}");
        }
        assert!(CloseReason::told_by(5).to_string().contains("token"));
        assert!(CloseReason::told_by(1).to_string().contains("Head"));
        assert!(CloseReason::told_by(22).to_string().contains("filters"));
        assert!(CloseReason::told_by(23).to_string().contains("key"));
        assert!(CloseReason::told_by(18).to_string().ends_with("(code 18)"));
    }
}
