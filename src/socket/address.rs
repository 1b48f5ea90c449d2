//! Where programs meet.

use std::{
    ffi::OsStr,
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

use crate::error::AddressError;

/// Where programs on one machine meet: a Unix socket, or a port of the loopback.
///
/// As a text it is `unix:/run/user/1000/app.sock`, `tcp:127.0.0.1:4711`, `tcp:[::1]:4711` or
/// `tcp:localhost:4711`, which is 127.0.0.1. Whatever takes an address takes such a text as well.
///
/// ```
/// use nape::{Address, AddressError};
///
/// let address: Address = "unix:/run/user/1000/app.sock".parse()?;
/// assert_eq!(address.path().unwrap().to_str(), Some("/run/user/1000/app.sock"));
/// assert_eq!("tcp:localhost:4711".parse::<Address>()?.to_string(), "tcp:127.0.0.1:4711");
///
/// let far = "tcp:192.168.0.1:4711".parse::<Address>().unwrap_err();
/// assert!(matches!(far, AddressError::NotLoopback(_)), "{far}");
/// # Ok::<(), AddressError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address(Place);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Place {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

impl Address {
    /// The Unix socket with this path, which must be absolute. On Windows nobody can listen or connect there.
    ///
    /// # Errors
    ///
    /// When no socket can have such a path; it may have 107 bytes at most on Linux, and 103 elsewhere.
    pub fn unix(path: impl Into<PathBuf>) -> Result<Address, AddressError> {
        let path = path.into();
        let bytes = path.as_os_str().as_encoded_bytes();
        if bytes.contains(&0) || bytes.is_empty() {
            return Err(AddressError::BadPath(path));
        }
        if !path.is_absolute() {
            return Err(AddressError::NotAbsolute(path));
        }
        if bytes.len() > LONGEST {
            return Err(AddressError::TooLong { len: bytes.len(), path, limit: LONGEST });
        }
        if path.file_name().is_none() || bytes.ends_with(b"/") {
            return Err(AddressError::BadPath(path));
        }
        Ok(Address(Place::Unix(path)))
    }

    /// A port of the loopback. To listen at port 0 takes a free one.
    ///
    /// # Errors
    ///
    /// When other machines could connect there.
    pub fn tcp(address: SocketAddr) -> Result<Address, AddressError> {
        match address.ip().to_canonical() {
            ip if ip.is_loopback() => Ok(Address(Place::Tcp(address))),
            ip => Err(AddressError::NotLoopback(ip)),
        }
    }

    /// The path, if it is that of a Unix socket.
    pub fn path(&self) -> Option<&Path> {
        match &self.0 {
            Place::Unix(path) => Some(path),
            Place::Tcp(_) => None,
        }
    }

    /// The address and the port, if it is one of TCP.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        match self.0 {
            Place::Tcp(address) => Some(address),
            Place::Unix(_) => None,
        }
    }

    pub(super) fn place(&self) -> &Place {
        &self.0
    }

    /// As it stands in errors.
    pub(super) fn text(&self) -> Arc<str> {
        self.to_string().into()
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Address, AddressError> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Address::unix(OsStr::new(path));
        }
        let tcp = text.strip_prefix("tcp:").ok_or_else(|| AddressError::Unknown(text.to_owned()))?;
        Address::tcp(socket_addr(tcp).ok_or_else(|| AddressError::NoPort(tcp.to_owned()))?)
    }
}

fn socket_addr(text: &str) -> Option<SocketAddr> {
    match text.strip_prefix("localhost:") {
        Some(port) => Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port.parse().ok()?)),
        None => text.parse().ok(),
    }
}

impl TryFrom<&str> for Address {
    type Error = AddressError;

    fn try_from(text: &str) -> Result<Address, AddressError> {
        text.parse()
    }
}

impl TryFrom<String> for Address {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Address, AddressError> {
        text.parse()
    }
}

impl TryFrom<&String> for Address {
    type Error = AddressError;

    fn try_from(text: &String) -> Result<Address, AddressError> {
        text.parse()
    }
}

impl From<&Address> for Address {
    fn from(address: &Address) -> Address {
        address.clone()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::Unix(path) => write!(f, "unix:{}", path.display()),
            Place::Tcp(address) => write!(f, "tcp:{address}"),
        }
    }
}

/// What fits into the address of a socket, besides the zero byte at its end.
const LONGEST: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> AddressError {
        text.parse::<Address>().unwrap_err()
    }

    #[test]
    fn a_text_is_an_address_and_the_other_way_round() {
        for text in ["unix:/run/a.sock", "unix:/a", "tcp:127.0.0.1:0", "tcp:127.8.8.8:65535", "tcp:[::1]:80"]
        {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        assert_eq!("tcp:localhost:80".parse::<Address>().unwrap().to_string(), "tcp:127.0.0.1:80");
    }

    #[test]
    fn what_is_no_address_is_refused_with_what_is_wrong() {
        for (text, says) in [
            ("", "neither"),
            ("/run/a.sock", "neither"),
            ("UNIX:/run/a.sock", "neither"),
            ("udp:127.0.0.1:1", "neither"),
            ("unix:", "no file"),
            ("unix:/", "no file"),
            ("unix:/run/", "no file"),
            ("unix:/run/..", "no file"),
            ("unix:/run/a\0b", "no file"),
            ("unix:a.sock", "slash"),
            ("tcp:", "with a port"),
            ("tcp:127.0.0.1", "with a port"),
            ("tcp:127.0.0.1:65536", "with a port"),
            ("tcp:localhost:", "with a port"),
            ("tcp:example.org:80", "with a port"),
            ("tcp:0.0.0.0:80", "other machines"),
            ("tcp:[::]:80", "other machines"),
            ("tcp:10.0.0.1:80", "other machines"),
            ("tcp:[::ffff:10.0.0.1]:80", "other machines"),
        ] {
            let error = refused(text);
            assert!(error.to_string().contains(says), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_path_that_is_too_long_is_named_with_the_limit() {
        let path = format!("/{}", "x".repeat(LONGEST - 1));
        assert!(Address::unix(&path).is_ok());
        let error = refused(&format!("unix:{path}y"));
        assert_eq!(error, AddressError::TooLong { path: format!("{path}y").into(), len: 108, limit: 107 });
        assert!(
            error.to_string().contains("xxxy has 108 bytes") && error.to_string().contains("107"),
            "{error}"
        );
    }
}
