//! Whom one end of a Unix socket lets in.

use std::{
    collections::BTreeSet,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use super::local;
use crate::sync::hold_nothing;

/// The process at the other end of a Unix socket: the one that connected, or that began to listen. The kernel
/// says so, so that nobody can lie about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Credentials {
    /// The number of its user.
    pub uid: u32,
    /// The number of its first group.
    pub gid: u32,
    /// The number of the process; `None` where this process cannot see it, as from within some containers.
    /// By the time anybody looks, another process may have it.
    pub pid: Option<u32>,
}

impl Credentials {
    /// Whether its user is that of this process.
    pub fn is_same_user(&self) -> bool {
        super::local::is_same_user(self)
    }
}

/// Which processes may be at the other end of a Unix socket: by default those of the same user as this one.
///
/// Both who listens and who connects has such a rule. It has no meaning over TCP, where the kernel does not say
/// who is there; a [`Token`](crate::Token) decides there.
///
/// Whoever listens with another rule than the default makes a socket to which every user may connect, so that
/// the rule can decide.
///
/// ```
/// use nape::{Allow, Head};
///
/// // A daemon of the system, for all users but guests.
/// let builder = Head::builder().allow(Allow::when(|peer| peer.uid != 65_534));
/// ```
#[derive(Clone, Default)]
pub struct Allow(Rule);

#[derive(Clone, Default)]
enum Rule {
    #[default]
    SameUser,
    Users(Arc<BTreeSet<u32>>),
    When(Arc<dyn Fn(&Credentials) -> bool + Send + Sync>),
}

impl Allow {
    /// Processes of the user whose rights this process has.
    pub fn same_user() -> Allow {
        Allow(Rule::SameUser)
    }

    /// Processes of these users, by their numbers. This process' own is among them only if it is named.
    pub fn users(uids: impl IntoIterator<Item = u32>) -> Allow {
        Allow(Rule::Users(Arc::new(uids.into_iter().collect())))
    }

    /// Processes for which `rule` holds. It runs before anything else that a peer could wait for, so it must
    /// not block. One that panics lets nobody in.
    pub fn when(rule: impl Fn(&Credentials) -> bool + Send + Sync + 'static) -> Allow {
        Allow(Rule::When(Arc::new(rule)))
    }

    /// Any process.
    pub fn everybody() -> Allow {
        Allow::when(|_| true)
    }

    pub(crate) fn lets_in(&self, peer: &Credentials) -> bool {
        hold_nothing();
        match &self.0 {
            Rule::SameUser => local::is_same_user(peer),
            Rule::Users(uids) => uids.contains(&peer.uid),
            Rule::When(rule) => catch_unwind(AssertUnwindSafe(|| rule(peer))).unwrap_or_else(|panic| {
                // What it holds may panic as well when it goes.
                std::mem::forget(panic);
                false
            }),
        }
    }

    /// Who may connect to the file: only its owner, where nobody else is let in anyway.
    pub(super) fn mode(&self) -> u32 {
        match self.0 {
            Rule::SameUser => 0o600,
            Rule::Users(_) | Rule::When(_) => 0o666,
        }
    }
}

impl fmt::Debug for Allow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Rule::SameUser => f.write_str("SameUser"),
            Rule::Users(uids) => write!(f, "Users({uids:?})"),
            Rule::When(_) => f.write_str("When(..)"),
        }
    }
}
