//! Histories: threads call in every way, handlers of every kind answer, something goes wrong in the middle,
//! and a checker looks at all that was written down.
//!
//! A round lasts some milliseconds. A test goes on for two seconds with fresh rounds, or for as many
//! rounds as `NAPE_ROUNDS` says; `NAPE_SEED` makes the rounds of a seed again that a failure has printed.

mod book;
mod callers;
mod checker;
mod served;

use std::{
    env, fs, io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use fastrand::Rng;
use nape::{
    Config, Head, Neck, Wire,
    transport::{FrameReceiver, Received, Transport, ipc_pair, memory_pair, pipe_pair, shm_pair, tcp_pair},
};
use rustix::process::Signal;

use crate::{
    process::{Watch, victim},
    soak::{rounds, seed},
    support::{HANG, Kind},
    tools::eventually,
};
use book::Book;
use callers::{Caller, Event, Log};
use checker::Told;

mod within_a_process {
    on_every_link! { p_01_every_call_has_one_end_and_it_is_true }

    use super::p_01_of_a_link as p_01_every_call_has_one_end_and_it_is_true;
}

mod with_a_child {
    on_every_wire_to_a_child! { p_01_every_call_has_one_end_and_it_is_true }

    use super::p_01_with_a_child as p_01_every_call_has_one_end_and_it_is_true;
}

/// What goes wrong in the middle of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nemesis {
    Nothing,
    /// Whoever reads takes his time, in both directions where both are here.
    SlowReader,
    /// The Head is dropped.
    DropHead,
    /// The Neck is dropped, or says goodbye.
    DropNeck,
    /// The child is killed.
    Kill,
    /// The child is stopped for a moment.
    Pause,
}

/// A link that a round is about to harm.
struct Stage {
    head: Head,
    neck: Option<Neck>,
    book: Book,
    file: Option<PathBuf>,
}

/// Red when a link that ends forgets one of its calls, and when one that has left ends as one that has not.
fn p_01_of_a_link(kind: Kind) {
    let harms = [Nemesis::Nothing, Nemesis::SlowReader, Nemesis::DropHead, Nemesis::DropNeck];
    for_a_while(&format!("{kind:?}"), |chance| {
        let nemesis = harms[chance.usize(..harms.len())];
        (nemesis, round(in_one_process(kind, nemesis, chance), nemesis, chance))
    });
}

/// The same where the other side can be killed and stopped.
fn p_01_with_a_child(wire: Wire) {
    let harms = [Nemesis::Nothing, Nemesis::SlowReader, Nemesis::DropHead, Nemesis::Kill, Nemesis::Pause];
    for_a_while(&format!("child over {wire:?}"), |chance| {
        let nemesis = harms[chance.usize(..harms.len())];
        (nemesis, round(with_child(wire, chance), nemesis, chance))
    });
}

fn for_a_while(name: &str, mut round: impl FnMut(&mut Rng) -> (Nemesis, Result<Told, String>)) {
    let (seed, begin) = (seed(), Instant::now());
    println!("{name}: NAPE_SEED={seed}");
    let mut sum = Told::default();
    let wanted = rounds();
    let mut n = 0;
    let alive = Alive::watch(name, seed);
    while wanted.map_or(begin.elapsed() < A_WHILE, |wanted| n < wanted) {
        let mut chance = Rng::with_seed(seed.wrapping_add(n));
        let (nemesis, told) = round(&mut chance);
        let told = told.unwrap_or_else(|what| {
            panic!("{name}, {nemesis:?}: {what}; again with NAPE_SEED={} NAPE_ROUNDS=1", seed.wrapping_add(n))
        });
        sum.calls += told.calls;
        sum.values += told.values;
        sum.failed += told.failed;
        n += 1;
        alive.0.store(n, Ordering::Relaxed);
    }
    println!("{name}: {n} rounds, {} calls, {} values, {} failures", sum.calls, sum.values, sum.failed);
    assert!(wanted.is_some() || sum.values > 0, "nothing was tried");
}

/// Ends the process when a round hangs: many rounds take longer than the watchdog of a test waits.
struct Alive(Arc<AtomicU64>);

impl Alive {
    fn watch(name: &str, seed: u64) -> Alive {
        let rounds = Arc::new(AtomicU64::new(0));
        let (weak, name) = (Arc::downgrade(&rounds), name.to_owned());
        let watch = move || {
            let mut seen = u64::MAX;
            while let Some(rounds) = weak.upgrade() {
                let now = rounds.load(Ordering::Relaxed);
                if now == seen {
                    eprintln!("{name} hangs; again with NAPE_SEED={} NAPE_ROUNDS=1", seed.wrapping_add(now));
                    std::process::abort();
                }
                seen = now;
                drop(rounds);
                thread::sleep(HANG);
            }
        };
        thread::spawn(watch);
        Alive(rounds)
    }
}

/// Callers call, something happens, and all that was written down is looked at.
fn round(stage: Stage, nemesis: Nemesis, chance: &mut Rng) -> Result<Told, String> {
    let Stage { head, neck, book, file } = stage;
    let (log, numbers, over) = (Log::default(), AtomicU64::new(1), AtomicBool::new(false));
    let endpoint = head.endpoint().clone();
    let child = head.child_id().map(Watch::of);
    thread::scope(|scope| {
        for _ in 0..CALLERS {
            let (history, endpoint) = (head.api("history"), endpoint.clone());
            let caller = Caller { history, endpoint, log: log.clone(), numbers: &numbers, over: &over };
            let chance = chance.fork();
            scope.spawn(move || caller.run(chance));
        }
        let pause = |chance: &mut Rng| thread::sleep(Duration::from_micros(5_000 + chance.u64(..40_000)));
        pause(chance);
        let mut neck = neck;
        match (nemesis, &child) {
            (Nemesis::DropNeck, _) => drop(neck.take()),
            (Nemesis::Kill, Some(child)) => child.send(Signal::KILL),
            (Nemesis::Pause, Some(child)) => {
                child.send(Signal::STOP);
                pause(chance);
                child.send(Signal::CONT);
            }
            (Nemesis::SlowReader, Some(child)) => (0..10).for_each(|_| {
                child.send(Signal::STOP);
                thread::sleep(Duration::from_millis(3));
                child.send(Signal::CONT);
                thread::sleep(Duration::from_millis(1));
            }),
            _ => {}
        }
        if nemesis != Nemesis::DropHead {
            pause(chance);
        }
        log.note(0, Event::DropBegins);
        drop(head);
        log.note(0, Event::DropEnded);
        over.store(true, Ordering::Release);
        drop(neck);
    });
    // Those who waited have returned. Calls that a callback waits for were cut off with the link.
    eventually(|| endpoint.under_way() == (0, 0));
    let ran = book::read(&book, file.as_ref());
    if let Some(file) = file {
        let _ = fs::remove_file(file);
    }
    log.read(|history| checker::check(history, &ran))
}

fn config() -> Config {
    Config::new().grace(Duration::from_secs(5))
}

fn in_one_process(kind: Kind, nemesis: Nemesis, chance: &mut Rng) -> Stage {
    let book = Book::here();
    let head = Head::builder().config(config()).serve(served::host());
    let neck = Neck::builder().config(config()).serve(served::api(&book));
    #[cfg(all(feature = "compression", feature = "encryption"))]
    let (head, neck) = match kind {
        Kind::Filtered => {
            use crate::support::filtered;
            (head.configure(filtered), neck.configure(filtered))
        }
        _ => (head, neck),
    };
    let pair = match kind {
        Kind::Channel => None,
        Kind::Encoded => Some(memory_pair()),
        #[cfg(feature = "json")]
        Kind::Json => {
            use crate::support::asking_for_json;
            let (ours, theirs) = memory_pair();
            Some((asking_for_json(ours), asking_for_json(theirs)))
        }
        Kind::Ipc => Some(ipc_pair().unwrap()),
        Kind::Pipe => Some(pipe_pair().unwrap()),
        #[cfg(all(feature = "compression", feature = "encryption"))]
        Kind::Filtered => Some(pipe_pair().unwrap()),
        Kind::Tcp => Some(tcp_pair().unwrap()),
        Kind::Shm => Some(shm_pair().unwrap()),
    };
    let (head, neck) = match pair {
        None => head.in_process_with(neck).unwrap(),
        Some((ours, theirs)) => {
            let slow = nemesis == Nemesis::SlowReader;
            let mut halting = |end: Transport| match slow {
                true => Slow::end(end, chance.fork()),
                false => end,
            };
            let (ours, theirs) = (halting(ours), halting(theirs));
            (head.over(ours).unwrap(), neck.over(theirs).unwrap())
        }
    };
    Stage { head, neck: Some(neck.start()), book, file: None }
}

fn with_child(wire: Wire, chance: &mut Rng) -> Stage {
    let name = format!("nape-book-{}-{wire:?}-{}", std::process::id(), chance.u64(..));
    let file = env::temp_dir().join(name);
    let book = Book::open(&file);
    let mut command = victim::command("history");
    command.env(BOOK, &file);
    let builder = Head::builder().wire(wire).config(config().grace(Duration::from_millis(300)));
    let head = builder.serve(served::host()).spawn(command).unwrap();
    Stage { head, neck: None, book, file: Some(file) }
}

/// What the child does.
pub fn serve_in_a_child() {
    let book = Book::open(env::var(BOOK).unwrap().as_ref());
    Neck::from_env().unwrap().serve(served::api(&book)).unwrap().run().unwrap();
}

/// A way in that takes its time with every other packet.
struct Slow {
    inner: Box<dyn FrameReceiver>,
    chance: Rng,
}

impl Slow {
    fn end(end: Transport, chance: Rng) -> Transport {
        Transport { receiver: Box::new(Slow { inner: end.receiver, chance }), ..end }
    }
}

impl FrameReceiver for Slow {
    fn receive(&mut self, deadline: Option<Instant>) -> io::Result<Received> {
        if self.chance.u64(..2) == 0 {
            thread::sleep(Duration::from_micros(self.chance.u64(..2_000)));
        }
        self.inner.receive(deadline)
    }

    fn try_receive(&mut self) -> io::Result<Option<Received>> {
        self.inner.try_receive()
    }

    fn expect_soon(&mut self, soon: bool) {
        self.inner.expect_soon(soon);
    }
}

const CALLERS: usize = 8;
const A_WHILE: Duration = Duration::from_secs(2);
const BOOK: &str = "NAPE_TEST_BOOK";
