//! One of those who have connected.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{api::Endpoint, socket::Credentials};

/// One who has connected to a [`Listener`](crate::Listener), which owns the link to it. Cheap to clone; every
/// clone is the same one.
///
/// Everything an [`Endpoint`] can do, it can do: call the peer, serve it what nobody else sees, listen to its
/// states. Once the peer is gone, calls end with [`CallError::Closed`](crate::CallError::Closed).
#[derive(Clone)]
pub struct Peer(Arc<Known>);

struct Known {
    id: u64,
    credentials: Option<Credentials>,
    endpoint: Endpoint,
}

impl Peer {
    pub(super) fn new(id: u64, credentials: Option<Credentials>, endpoint: Endpoint) -> Peer {
        Peer(Arc::new(Known { id, credentials, endpoint }))
    }

    /// Its number: 1 for the first one, and never used again by this listener.
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// Which process has connected; `None` over TCP, where the kernel does not say.
    pub fn credentials(&self) -> Option<Credentials> {
        self.0.credentials
    }

    /// What all handles to it point to. Cheap to clone; it does not keep the link alive.
    pub fn endpoint(&self) -> &Endpoint {
        &self.0.endpoint
    }

    /// Begins no new calls with it in either direction, waits for those under way, at most for `limit`, then
    /// closes. Says whether all had ended, as [`Head::shut_down`](crate::Head::shut_down) does. Blocks. A
    /// peer that has gone before is fine: nothing is under way with it.
    pub fn shut_down(&self, limit: Duration) -> bool {
        let deadline = Instant::now().checked_add(limit);
        let inner = &self.0.endpoint.0;
        match inner.link() {
            Ok(link) => inner.shut_down(&link, deadline),
            Err(_) => inner.wind_down(None, deadline),
        }
    }

    /// Closes the link to it: calls under way end at once. Idempotent. Blocks for at most the
    /// [grace](crate::Config::grace).
    pub fn close(&self) {
        if let Ok(link) = self.0.endpoint.0.link() {
            link.close();
        }
    }
}

impl std::ops::Deref for Peer {
    type Target = Endpoint;

    fn deref(&self) -> &Endpoint {
        &self.0.endpoint
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer")
            .field("id", &self.0.id)
            .field("credentials", &self.0.credentials)
            .field("state", &self.state())
            .finish()
    }
}
