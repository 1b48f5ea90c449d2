//! Programs that run already, and how they meet: addresses, sockets that listen, and who is let in.
//!
//! Makes transports, and knows no link, handler or thread. Whoever listens waits for the greeting of the other
//! side before it sends anything of its own, so that it gives nothing away to whoever merely connects.

mod address;
mod allow;
mod caller;
mod dial;
mod door;
mod local;
mod token;

pub use address::Address;
pub use allow::{Allow, Credentials};
pub(crate) use caller::{Caller, Heard};
pub(crate) use dial::{connect, failed};
pub(crate) use door::Door;
pub use token::{BadToken, Token};

/// Who may be at the other end, besides what the kernel says already.
#[derive(Clone, Debug, Default)]
pub(crate) struct Terms {
    pub(crate) allow: Allow,
    pub(crate) token: Option<Token>,
}

#[cfg(test)]
mod tests;
