//! Serving until the process is asked to end: by SIGINT or SIGTERM.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, Builder},
    time::Duration,
};

use crossbeam_channel::{Receiver, bounded};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag::register_conditional_default,
    iterator::Signals,
};

use crate::{
    error::{Result, StartError},
    listener::Listener,
    logging::{Line, line},
    neck::Neck,
    sync::Mutex,
};

/// How serving came to its end: see [`Neck::run_until_signal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stopped {
    /// The number of the signal that ended it: 2 is SIGINT, 15 is SIGTERM. `None` when it ended without one.
    pub signal: Option<i32>,
    /// Whether all that was under way had ended within the grace.
    pub drained: bool,
}

impl Neck {
    /// [Starts](Neck::start), and serves until the link is over or the process gets SIGINT or SIGTERM. Then it takes no
    /// new calls, waits for those under way for at most `grace`, and closes. A second signal closes at once, and a third
    /// one does what it does by default.
    ///
    /// Blocks. While it does, these two signals do not end the process; before and after they do what they do by
    /// default. A handler that the program has set before runs as well, and should not end the process itself. It
    /// costs a thread that sleeps. It is the feature `signals`.
    ///
    /// Ctrl-C in a terminal sends SIGINT to a program and to all its children: a child that runs this way drains, too,
    /// and ends after that.
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// use nape::{Api, Context, Fault, Neck};
    ///
    /// let echo = Api::new("echo").handle("text", |_: &Context, text: String| Ok::<_, Fault>(text))?;
    /// let stopped = Neck::from_env()?.serve(echo)?.run_until_signal(Duration::from_secs(5))?;
    /// println!("asked by {:?}, all done: {}", stopped.signal, stopped.drained);
    /// # Ok::<(), nape::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`Neck::run`] when no signal has come. When there is no thread or no way to hear of signals.
    pub fn run_until_signal(self, grace: Duration) -> Result<Stopped> {
        let neck = self;
        let hearing = Hearing::begin()?;
        let neck = neck.start();
        let (ended, stopped) = hearing.until(|| neck.wait(), || neck.shut_down(grace), || neck.close())?;
        if stopped.signal.is_none() { ended.map(|()| stopped) } else { Ok(stopped) }
    }
}

impl Listener {
    /// Waits until it is closed or the process gets SIGINT or SIGTERM. Then it lets nobody in any more, and
    /// [shuts down](Listener::shut_down) within `grace`. A second signal closes at once.
    ///
    /// Blocks. All that [`Neck::run_until_signal`] says of signals holds here.
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// let listener = nape::Head::listen("unix:/run/user/1000/words.sock")?;
    /// listener.run_until_signal(Duration::from_secs(5))?;
    /// # Ok::<(), nape::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When there is no thread or no way to hear of signals.
    pub fn run_until_signal(&self, grace: Duration) -> Result<Stopped> {
        let hearing = Hearing::begin()?;
        let ((), stopped) = hearing.until(|| self.wait(), || self.shut_down(grace), || self.close())?;
        Ok(stopped)
    }
}

/// The signals come here instead of ending the process, until it goes.
struct Hearing {
    signals: Signals,
    hears: Hears,
}

impl Hearing {
    fn begin() -> Result<Hearing> {
        let begin = || {
            AllWhoHear::prepare()?;
            Ok(Hearing { signals: Signals::new(ASKING)?, hears: Hears::begin() })
        };
        Ok(begin().map_err(StartError::setup("handler for signals"))?)
    }

    /// Blocks in `wait` until that returns by itself, or because a signal had it shut down.
    fn until<R>(
        self,
        wait: impl FnOnce() -> R,
        shut_down: impl FnOnce() -> bool + Send,
        close: impl Fn() + Sync,
    ) -> Result<(R, Stopped)> {
        let Hearing { mut signals, hears } = self;
        let handle = signals.handle();
        let close = &close;
        thread::scope(|scope| {
            let listen = move || -> io::Result<Stopped> {
                let mut heard = signals.forever();
                let Some(signal) = heard.next() else { return Ok(Stopped { signal: None, drained: true }) };
                let drain = Builder::new().name("nape-drain".into()).spawn_scoped(scope, shut_down);
                let drain = drain.inspect_err(|_| close())?;
                let written = write_aside(line!(Info, "asked to end by the signal {signal}"));
                let is_urgent = heard.next().is_some();
                // What was cut off has ended, and was not drained.
                let drained = drain.is_finished() || !is_urgent;
                if is_urgent {
                    // Should even the close not come to an end, a third one ends the process.
                    drop(hears);
                    close();
                }
                let drained = drain.join().unwrap_or(false) && drained;
                let _ = written.recv_timeout(TO_WRITE);
                Ok(Stopped { signal: Some(signal), drained })
            };
            let listening = Builder::new().name("nape-signals".into()).spawn_scoped(scope, listen);
            let listening = listening.map_err(StartError::setup("thread for signals"))?;
            let ended = wait();
            handle.close();
            let stopped = listening.join().map_err(|_| io::Error::other("the thread for signals panicked"));
            Ok((ended, stopped.and_then(|stopped| stopped).map_err(StartError::setup("thread for signals"))?))
        })
    }
}

/// Has a line written by a thread that nobody waits for: a logger may take its time, and signals are still to be heard.
/// What comes back says when that is done, or cannot be.
fn write_aside(line: Option<Line>) -> Receiver<()> {
    let (done, written) = bounded(1);
    let write = move || {
        line.into_iter().for_each(Line::write);
        let _ = done.send(());
    };
    // Without a thread it stays unsaid.
    let _ = Builder::new().name("nape-asked".into()).spawn(write);
    written
}

/// As long as one of these is there, the signals do not do what they do by default.
struct Hears;

impl Hears {
    fn begin() -> Hears {
        ALL_WHO_HEAR.lock().iter_mut().for_each(|all| all.change(all.n + 1));
        Hears
    }
}

impl Drop for Hears {
    fn drop(&mut self) {
        ALL_WHO_HEAR.lock().iter_mut().for_each(|all| all.change(all.n - 1));
    }
}

/// Those of the whole process, since a signal is one for the whole process, and whoever has taken it over once cannot
/// give it back: what it does by default is done here while nobody hears.
struct AllWhoHear {
    n: usize,
    nobody: Arc<AtomicBool>,
}

impl AllWhoHear {
    /// Has signals do what they do by default while nobody hears. What is set for a signal runs in the order in which
    /// it was set. So this comes first: behind what tells of the second signal, it could find that nobody hears any
    /// more, and that very signal would end the process.
    fn prepare() -> io::Result<()> {
        let mut all = ALL_WHO_HEAR.lock();
        if all.is_none() {
            let nobody = Arc::new(AtomicBool::new(true));
            let by_default = |signal: &i32| register_conditional_default(*signal, nobody.clone()).map(drop);
            ASKING.iter().try_for_each(by_default)?;
            *all = Some(AllWhoHear { n: 0, nobody });
        }
        Ok(())
    }

    fn change(&mut self, n: usize) {
        self.n = n;
        self.nobody.store(n == 0, Ordering::SeqCst);
    }
}

/// `None` until the first one. An action that is set for a signal stays: one more with each run would be one more each
/// time, and that of the run before would end the process.
static ALL_WHO_HEAR: Mutex<Option<AllWhoHear>> = Mutex::new(None);

/// How long a line that is being written is waited for in the end.
const TO_WRITE: Duration = Duration::from_millis(100);
/// What ends a process that is asked to.
const ASKING: [i32; 2] = [SIGINT, SIGTERM];
