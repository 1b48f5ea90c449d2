//! What an API does when it begins to be served, and when that is over.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
};

use super::{Api, task::Pool};
use crate::{
    error::ApiError,
    sync::{Arc, hold_nothing},
    wire::{Fault, Path},
    workers::{contain, discard, forget_panic, panic_text},
};

/// The hooks of one API; one into which others were nested has those of each.
#[derive(Clone, Default)]
pub(crate) struct Life {
    start: Option<Arc<dyn Fn() -> Result<(), Fault> + Send + Sync>>,
    stop: Option<Arc<dyn Fn() + Send + Sync>>,
}

/// Those whose start has succeeded. They are stopped when it goes, the last one first.
#[derive(Default)]
pub(crate) struct Started(Vec<Life>);

/// What has started and is served, in the order in which it was attached. Stopped in reverse when it goes.
#[derive(Debug, Default)]
pub(crate) struct Lives(Vec<(Arc<Pool>, Started)>);

impl Api {
    /// Calls `hook` when the API is attached, before anything of it can be reached: to open what its handlers need.
    ///
    /// It runs on the thread that attaches, which waits for it, and under no lock. When it fails or panics, nothing of
    /// the API is served, and attaching ends with [`ApiError::NotStarted`]. A second hook takes the place of the
    /// first. Those of [nested](Api::nest) APIs run after that of the outer one, in the order of nesting.
    ///
    /// An API that a [`Listener`](crate::Listener) serves is attached for each peer, and starts and stops for each, on
    /// a thread of the peer's own link; where it fails, that peer is closed and [counted](crate::Listener::n_turned_away),
    /// before any hook has seen it. One that is served by a [`Supervisor`](crate::Supervisor) starts once, however often the child does.
    ///
    /// ```
    /// use nape::{Api, ApiError, Context, Fault, Head};
    ///
    /// let api = Api::new("store")
    ///     .on_start(|| Err(Fault::new("the disk is full")))
    ///     .on_stop(|| println!("does not run: it has not started"))
    ///     .handle("get", |_: &Context, key: String| Ok::<_, Fault>(key))?;
    /// let (head, _neck) = Head::in_process()?;
    /// let error = head.attach(api).unwrap_err();
    /// assert_eq!(error.to_string(), "the API store did not start: the disk is full");
    /// # Ok::<(), nape::Error>(())
    /// ```
    pub fn on_start(mut self, hook: impl Fn() -> Result<(), Fault> + Send + Sync + 'static) -> Api {
        self.own_life().start = Some(Arc::new(hook));
        self
    }

    /// Calls `hook` when the API is not served any more: when it is [detached](crate::Attached::detach), or with the
    /// Head or the Neck, after its link has closed. Of several APIs the one that was attached last is the first.
    ///
    /// It runs once for each start that has succeeded, on the thread that ends the API, which waits for it. Nothing
    /// new comes then; a handler that runs still may be one that was detached under way, or that has not come back
    /// within the [grace](crate::Config::grace). A panic is contained. A second hook takes the place of the first.
    ///
    /// ```
    /// use std::sync::{Arc, Mutex};
    /// use nape::{Api, Head};
    ///
    /// let log = Arc::new(Mutex::new(Vec::new()));
    /// let api = |name: &'static str| {
    ///     let (up, down) = (log.clone(), log.clone());
    ///     let start = move || Ok(up.lock().unwrap().push(format!("{name} up")));
    ///     Api::new(name).on_start(start).on_stop(move || down.lock().unwrap().push(format!("{name} down")))
    /// };
    /// let ends = Head::builder().serve(api("a")).serve(api("b")).in_process()?;
    /// drop(ends);
    /// assert_eq!(*log.lock().unwrap(), ["a up", "b up", "b down", "a down"]);
    /// # Ok::<(), nape::Error>(())
    /// ```
    pub fn on_stop(mut self, hook: impl Fn() + Send + Sync + 'static) -> Api {
        self.own_life().stop = Some(Arc::new(hook));
        self
    }

    /// Its own hooks come before those of what is nested.
    fn own_life(&mut self) -> &mut Life {
        if self.lives.is_empty() {
            self.lives.push(Life::default());
        }
        &mut self.lives[0]
    }

    /// Takes over those of a nested API.
    pub(super) fn nest_lives(&mut self, child: Vec<Life>) {
        if !child.is_empty() {
            self.own_life();
            self.lives.extend(child);
        }
    }
}

/// Starts all of them. If one fails, those before are stopped. Runs user code.
pub(super) fn start(lives: Vec<Life>, namespace: &Path) -> Result<Started, ApiError> {
    hold_nothing();
    let mut started = Started::default();
    for life in lives {
        let outcome =
            life.start.as_ref().map_or(Ok(Ok(())), |start| catch_unwind(AssertUnwindSafe(|| start())));
        let why = match outcome {
            Ok(Ok(())) => {
                started.0.push(life);
                continue;
            }
            Ok(Err(fault)) => fault.to_string(),
            Err(panic) => {
                let text = format!("it panicked: {}", panic_text(&*panic));
                forget_panic(panic);
                text
            }
        };
        return Err(ApiError::NotStarted { namespace: namespace.clone(), why: why.into() });
    }
    Ok(started)
}

impl Lives {
    pub(super) fn add(&mut self, pool: &Arc<Pool>, started: Started) {
        if !started.0.is_empty() {
            self.0.push((pool.clone(), started));
        }
    }

    /// That of one API, which is detached. To be dropped without a lock.
    pub(super) fn take(&mut self, pool: &Arc<Pool>) -> Started {
        let at = self.0.iter().position(|(other, _)| Arc::ptr_eq(other, pool));
        at.map_or_else(Started::default, |at| self.0.remove(at).1)
    }
}

impl Life {
    /// Lets go of both hooks, each for itself.
    pub(super) fn discard(self) {
        discard(self.start);
        discard(self.stop);
    }
}

impl Drop for Lives {
    fn drop(&mut self) {
        while let Some(last) = self.0.pop() {
            drop(last);
        }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        while let Some(life) = self.0.pop() {
            contain(|| life.stop.iter().for_each(|stop| stop()));
            life.discard();
        }
    }
}

impl fmt::Debug for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Life")
            .field("starts", &self.start.is_some())
            .field("stops", &self.stop.is_some())
            .finish()
    }
}

impl fmt::Debug for Started {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Started").field(&self.0.len()).finish()
    }
}
