//! What becomes of those who wait when a thread of the library panics, at each of many places, when there is none to be
//! had, or when another one comes in between: they are told, soon, and nothing else suffers.
//!
//! Where nothing else is said, a test is red when the panic of the thread that it names is not caught where its link can
//! be told.

mod brought;
mod clockless;
mod handing_over;
mod held_up;
mod in_process;
mod keeperless;
mod listening;
mod published;
mod starved;
mod stuck;
mod together;
mod unread;

use std::{
    env, fs,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    api::{Api, AsyncResult, Backlog, Context, Endpoint, Missed, Responder, Subscription, Topic},
    config::{Config, Timeout},
    error::{CallError, CloseReason, Error, Rejection, StartError},
    head::Head,
    link::LinkState,
    neck::Neck,
    process::Wire,
    supervisor::{Restarts, Supervisor, Transition},
    sync::{do_once, fail_once, feed, is_to_fail, starve},
    transport::{Transport, ipc_pair, memory_pair, pipe_pair, shm_pair},
    wire::Fault,
};

/// Where whoever waits is told that the link is broken.
const OF_A_LINK: [&str; 14] = [
    "a reader that looks",
    "a reader with a packet",
    "a reader that acts",
    "a reader with an answer",
    "a sender that sends",
    "a sender that has sent",
    "a keeper that looks at the clock",
    "a keeper that ends calls",
    "a thread without a job",
    "a ticker that leaves",
    "a thread that leads",
    "a thread with a batch",
    "a caller that reads",
    "a caller that has read",
];

/// Where the call that is served ends, and nothing else does.
const OF_A_WORKER: [&str; 2] = ["a worker that serves", "a worker that answers"];

/// Where a supervisor gives up.
const OF_A_SUPERVISOR: [&str; 4] = [
    "a supervisor that starts",
    "a supervisor that waits",
    "a supervisor after a crash",
    "a supervisor between two starts",
];

/// What the threads are called that fail.
const NAME: &str = "failing";
/// Each way in which frames move.
const PAIRS: [fn() -> (Transport, Transport); 4] =
    [memory_pair, || pipe_pair().unwrap(), || shm_pair().unwrap(), || ipc_pair().unwrap()];
const SOON: Duration = Duration::from_millis(500);
const LONG: Duration = Duration::from_secs(30);

fn api(name: &str) -> Api {
    let never = |_: Context, (): (), answer: Responder<()>| std::mem::forget(answer);
    let echo = |_: &Context, n: u64| Ok::<_, Fault>(n);
    let nap = |_: &Context, (): ()| {
        thread::sleep(Duration::from_millis(5));
        Ok::<_, Fault>(())
    };
    Api::new(name).handle("echo", echo).unwrap().deferred("never", never).unwrap().handle("nap", nap).unwrap()
}

fn news() -> Api {
    let numbers = Topic::<u64>::new();
    let ours = numbers.clone();
    let count = move |_: &Context, (): ()| Ok::<_, Fault>(ours.n_subscriptions());
    Api::new("news").topic("numbers", &numbers).unwrap().handle("count", count).unwrap()
}

/// Runs a test on a thread of its own that is called as those that fail are; ends the process when it hangs.
fn watched(test: impl FnOnce() + Send + 'static) {
    // One failure at a time.
    static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let test = thread::Builder::new().name(format!("{NAME}-test")).spawn(test).unwrap();
    let end = Instant::now() + 4 * LONG;
    while !test.is_finished() {
        if Instant::now() > end {
            eprintln!("a test of failures hangs");
            std::process::abort();
        }
        thread::sleep(Duration::from_millis(1));
    }
    assert!(test.join().is_ok(), "what it says stands above");
}

#[track_caller]
fn within(limit: Duration, what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + limit;
    while !is_so() {
        assert!(Instant::now() < end, "not after {limit:?}: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Calls that nobody answers, made in all ways, and what becomes of them.
struct Waiting(mpsc::Receiver<Result<(), CallError>>);

impl Waiting {
    fn at(end: &Endpoint) -> Waiting {
        Waiting::of(end, "a", NAME, true)
    }

    fn of(end: &Endpoint, api: &str, name: &str, blocking: bool) -> Waiting {
        let never = || end.api(api).action("never", ()).timeout(Timeout::Never);
        let (tell, told) = mpsc::sync_channel(N_WAITING);
        let called_back = tell.clone();
        never().then(move |end| called_back.send(end).unwrap()).unwrap();
        let (blocks, mut waits) = (never(), never().start().unwrap());
        let polled: AsyncResult<()> = never().start().unwrap();
        let spawn = |tell: mpsc::SyncSender<_>, run: Box<dyn FnOnce() -> Result<(), CallError> + Send>| {
            let caller = thread::Builder::new().name(format!("{name}-caller"));
            caller.spawn(move || tell.send(run()).unwrap()).unwrap();
        };
        // Whoever blocks for ever may read for ever.
        let wait = move || loop {
            if let Some(()) = waits.wait_timeout(Duration::from_millis(20))? {
                return Ok(());
            }
        };
        spawn(tell.clone(), Box::new(wait));
        if blocking {
            spawn(tell.clone(), Box::new(|| blocks.call()));
        } else {
            let called_back = tell.clone();
            blocks.then(move |end| called_back.send(end).unwrap()).unwrap();
        }
        let poll = move || {
            let _ = polled.ready().recv();
            polled.wait()
        };
        spawn(tell, Box::new(poll));
        Waiting(told)
    }

    /// How all of them end, soon.
    #[track_caller]
    fn ends(self, what: &str) -> Vec<CallError> {
        let end = |_| self.0.recv_timeout(SOON).unwrap_or_else(|_| panic!("{what}: somebody waits for ever"));
        (0..N_WAITING).map(end).map(Result::unwrap_err).collect()
    }
}

const N_WAITING: usize = 4;

#[track_caller]
fn is_broken(reason: &CloseReason, place: &str) {
    assert!(matches!(reason, CloseReason::Broken(text) if text.contains(place)), "{place}: {reason:?}");
}

/// Calls of both sides, with pauses in which nobody reads but a thread of the link, until something breaks.
fn traffic(head: &Endpoint, neck: &Endpoint, over: &AtomicBool) {
    let call = |end: &Endpoint, api: &str| {
        let echo = |n: u64| end.api(api).action("echo", n).timeout(LONG);
        // It runs out, with nobody else who would see that.
        let _ = end.api(api).action("nap", ()).timeout(Duration::from_millis(1)).start::<()>();
        let _ = echo(1).fire();
        let _ = echo(2).then(|_: Result<u64, CallError>| ());
        let started: Vec<_> = (0..8).map_while(|n| echo(n).start::<u64>().ok()).collect();
        for n in 0..5 {
            match echo(n).call::<u64>() {
                Err(CallError::Closed { .. }) | Ok(_) => {}
                other => panic!("{other:?}"),
            }
        }
        drop(started);
    };
    let began = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                call(neck, "h");
            }
        });
        let caller = thread::Builder::new().name(format!("{NAME}-caller"));
        let calls = || {
            while is_to_fail() && began.elapsed() < 4 * SOON && head.state() < LinkState::Disconnected {
                call(head, "a");
                thread::sleep(Duration::from_millis(12));
            }
            over.store(true, Ordering::Relaxed);
        };
        caller.spawn_scoped(scope, calls).unwrap();
    });
}

fn both((ours, theirs): (Transport, Transport)) -> (Head, Neck) {
    let config = |name: &str| Config::new().name(name).grace(Duration::from_millis(100));
    let head = Head::builder().config(config(NAME)).serve(api("h")).over(ours).unwrap();
    let neck = Neck::builder().config(config("other")).serve(api("a")).over(theirs).unwrap().start();
    assert_eq!(head.wait_open(LONG), LinkState::Open);
    (head, neck)
}

/// Says whether a thread came there: to some places it comes only where others are late.
fn fails(pair: (Transport, Transport), place: &'static str) -> bool {
    let (head, neck) = both(pair);
    // One that blocks for ever may read for ever, so that no other thread does.
    let others_read = place.contains("thread") || place.contains("ticker") || place.contains("has read");
    let ours = Waiting::of(&head, "a", NAME, !others_read);
    let theirs = Waiting::of(&neck, "h", "other", true);
    fail_once(Some(place), NAME);
    traffic(&head, &neck, &AtomicBool::new(false));
    if fail_once(None, "").is_some() {
        return false;
    }
    within(SOON, place, || head.state() == LinkState::Closed && neck.state() == LinkState::Closed);
    is_broken(&head.close_reason().unwrap(), place);
    for end in ours.ends(place) {
        assert!(matches!(end.close_reason(), Some(CloseReason::Broken(_))), "{place}: {end:?}");
    }
    theirs.ends(place);
    within(LONG, "no thread is left", || head.n_threads() == 0);
    let began = Instant::now();
    drop((head, neck));
    assert!(began.elapsed() < 2 * SOON, "{place}: {:?}", began.elapsed());
    true
}

#[test]
fn p_19_whoever_waits_for_a_link_is_told_where_a_thread_of_it_panics() {
    watched(|| {
        // Here the other end learns of it by the last words alone, which a sender that has failed does not say.
        let says_bye = |place: &str| !place.starts_with("a sender");
        for place in OF_A_LINK {
            let mut came = 0;
            for pair in [memory_pair, || pipe_pair().unwrap(), || shm_pair().unwrap()] {
                came += u32::from(fails(pair(), place));
            }
            came += u32::from(says_bye(place) && fails(ipc_pair().unwrap(), place));
            assert!(came > 0, "nobody came to {place}");
        }
    });
}

/// Many calls that are to end at the same time, and a thread that panics over the first of them.
fn fails_among_many(pair: (Transport, Transport), place: &'static str, timeout: Timeout) {
    let (head, neck) = both(pair);
    let (tell, told) = mpsc::sync_channel(N_ENDS);
    for _ in 0..N_ENDS {
        let tell = tell.clone();
        let never = head.api("a").action("never", ()).timeout(timeout);
        never.then(move |end: Result<(), CallError>| tell.send(end).unwrap()).unwrap();
    }
    drop(tell);
    fail_once(Some(place), NAME);
    if timeout == Timeout::Never {
        neck.close();
    }
    let mut broken = 0;
    for _ in 0..N_ENDS {
        let end =
            told.recv_timeout(SOON).unwrap_or_else(|_| panic!("{place}: a call never ends")).unwrap_err();
        broken += u32::from(matches!(end.close_reason(), Some(CloseReason::Broken(_))));
    }
    assert_eq!(fail_once(None, ""), None, "nobody came to {place}");
    assert!(broken > 0, "{place}: who is told that nothing was wrong?");
    drop((head, neck));
}

const N_ENDS: usize = 8;

/// Red when whoever ends many calls at once does not see to it that those are told that are left.
#[test]
fn p_19_whoever_is_left_by_a_thread_that_ends_many_calls_is_told() {
    for pair in PAIRS {
        watched(move || {
            let soon = Timeout::After(Duration::from_millis(50));
            fails_among_many(pair(), "a keeper with late calls", soon);
            fails_among_many(pair(), "a link that tells of its end", Timeout::Never);
        });
    }
}

/// Red when whoever cancels a call is told of that, and does not come to the other calls of its handler.
#[test]
fn p_19_whoever_cancels_the_calls_of_a_handler_comes_to_the_next_one() {
    watched(|| {
        let ((tell, told), (begin, has_begun)) = (mpsc::channel(), mpsc::channel());
        let outer = move |cx: &Context, (): ()| {
            for _ in 0..2 {
                let tell = tell.clone();
                let never = cx.api("h").action("never", ()).timeout(Timeout::Never);
                never.then(move |end: Result<(), CallError>| tell.send(end).unwrap())?;
            }
            begin.send(()).unwrap();
            cx.cancel_token().wait_timeout(LONG);
            Ok::<_, Fault>(())
        };
        let neck = Neck::builder().serve(Api::new("a").handle("outer", outer).unwrap());
        let (head, neck) = Head::builder().serve(api("h")).in_process_with(neck).unwrap();
        let neck = neck.start();
        let call = head.api("a").action("outer", ()).timeout(LONG).start::<()>().unwrap();
        has_begun.recv_timeout(LONG).unwrap();
        fail_once(Some("whoever cancels"), NAME);
        call.cancel();
        assert_eq!(fail_once(None, ""), None, "nobody came there");
        let end = told.recv_timeout(LONG);
        assert!(matches!(end, Ok(Err(CallError::Cancelled))), "{end:?}");
        drop((head, neck));
    });
}

fn fails_to_serve(pair: (Transport, Transport), place: &'static str) {
    let (head, neck) = both(pair);
    let echo = |n: u64| neck.api("h").action("echo", n).timeout(LONG).call::<u64>();
    assert_eq!(echo(1).unwrap(), 1);
    let began = Instant::now();
    fail_once(Some(place), NAME);
    let end = echo(2);
    assert_eq!(fail_once(None, ""), None, "nobody came to {place}");
    assert!(matches!(end, Err(CallError::NoAnswer)), "{place}: {end:?}");
    assert!(began.elapsed() < SOON, "{place}: {:?}", began.elapsed());
    assert_eq!((echo(3).unwrap(), head.state()), (3, LinkState::Open));
    drop((head, neck));
}

#[test]
fn p_19_whoever_waits_for_a_worker_that_panics_is_told() {
    for pair in PAIRS {
        watched(move || OF_A_WORKER.iter().for_each(|place| fails_to_serve(pair(), place)));
    }
}

#[test]
fn p_19_a_keeper_that_panics_over_a_child_leaves_nobody_waiting() {
    watched(|| {
        let config = Config::new().name(NAME).grace(Duration::from_millis(100));
        let head = Head::builder().config(config).spawn(child()).unwrap();
        let waiting = Waiting::at(&head);
        let place = "a keeper that looks at a child";
        fail_once(Some(place), NAME);
        head.kill();
        within(SOON, place, || head.state() == LinkState::Closed);
        assert_eq!(fail_once(None, ""), None, "nobody came to {place}");
        waiting.ends(place);
        drop(head);
    });
}

#[test]
fn p_19_a_supervisor_that_panics_gives_up_and_says_so() {
    watched(|| {
        for place in OF_A_SUPERVISOR {
            let supervisor = supervise().unwrap();
            let waiting = Waiting::at(&supervisor);
            let child = supervisor.child_id().unwrap();
            fail_once(Some(place), NAME);
            supervisor.kill();
            let gave_up = || matches!(supervisor.last_transition(), Transition::GaveUp(_));
            within(SOON, place, gave_up);
            assert_eq!(fail_once(None, ""), None, "nobody came to {place}");
            is_broken(&supervisor.close_reason().unwrap(), place);
            waiting.ends(place);
            let late = supervisor.api("a").action("echo", 1u64).timeout(LONG).call::<u64>().unwrap_err();
            is_broken(late.close_reason().unwrap(), place);
            drop(supervisor);
            assert!(!std::path::Path::new(&format!("/proc/{child}")).exists(), "{place}: a child is left");
        }
    });
}

#[test]
fn p_19_a_supervisor_that_panics_in_the_first_start_is_an_error() {
    watched(|| {
        fail_once(Some("a supervisor that starts"), NAME);
        let Err(Error::Start(error)) = supervise() else { panic!("it has not failed") };
        assert!(error.to_string().contains("supervisor"), "{error}");
        drop(supervise().unwrap());
    });
}

/// How many subscriptions the child knows of.
fn n_subscriptions(supervisor: &Supervisor) -> usize {
    supervisor.api("news").action("count", ()).timeout(LONG).call().unwrap()
}

fn subscribe() -> (Arc<Supervisor>, Subscription<u64>) {
    let supervisor = Arc::new(supervise().unwrap());
    let news = supervisor.subscribe::<u64>("news.numbers", Backlog::block(1, LONG)).unwrap();
    assert_eq!(n_subscriptions(&supervisor), 1);
    (supervisor, news)
}

#[track_caller]
fn nobody_subscribes(supervisor: &Supervisor) {
    within(LONG, "it goes on for nobody", || n_subscriptions(supervisor) == 0);
    assert_eq!(supervisor.counters().events_dropped, 0, "what came for it found nobody");
}

/// Red when it is asked for all the same, or when the news that it has gone comes before the question.
#[test]
fn p_30_a_subscription_that_goes_while_it_is_made_again_goes_on_for_nobody() {
    watched(|| {
        for is_made in [false, true] {
            let (supervisor, news) = subscribe();
            let (tell, told) = mpsc::channel();
            let (before, after) = ("a subscription that is made again", "a subscription that was made again");
            let lets_go = move || {
                drop(news);
                let asks = tell.clone();
                do_once(after, NAME, move || asks.send("asks").unwrap());
                tell.send("has gone").unwrap();
            };
            do_once(if is_made { after } else { before }, NAME, lets_go);
            supervisor.kill();
            assert_eq!(told.recv_timeout(LONG).unwrap(), "has gone");
            assert!(told.recv_timeout(SOON).is_err(), "it is asked for, once more or all the same");
            fail_once(None, "");
            nobody_subscribes(&supervisor);
        }
    });
}

/// Threads and processes of this name, dead ones that nobody has reaped among them.
fn called(name: &str) -> Vec<std::path::PathBuf> {
    let threads = fs::read_dir("/proc/self/task").unwrap();
    let all = fs::read_dir("/proc").unwrap().chain(threads).map(|entry| entry.unwrap().path());
    all.filter(|path| fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim() == name)).collect()
}

/// The first thread is to be had, and the next one is not. Red when a link that cannot be leaves its keeper, and that
/// the child.
#[test]
fn p_20_a_link_that_gets_no_thread_leaves_neither_its_keeper_nor_a_child() {
    watched(|| {
        const NAME: &str = "starved";
        starve(NAME);
        let folder = env::temp_dir().join(format!("nape-failures-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        // A program that is no Neck, under a name of its own.
        let program = folder.join("nape-sleeps");
        std::os::unix::fs::symlink("/bin/sleep", &program).unwrap();
        for wire in [Wire::Pipe, Wire::Shm] {
            let mut command = Command::new(&program);
            command.arg("1000");
            let head = Head::builder().config(Config::new().name(NAME)).wire(wire).spawn(command);
            let error = head.map(drop).unwrap_err();
            assert!(matches!(&error, Error::Start(StartError::Setup { what: "link", .. })), "{error:?}");
            for name in ["nape-sleeps", "starved-keeper"] {
                assert_eq!(called(name), Vec::<std::path::PathBuf>::new(), "{wire:?}");
            }
        }
        fs::remove_dir_all(&folder).unwrap();
    });
}

/// A keeper that is stuck in a waker of the user's. Red when a child is left to it.
#[test]
fn p_24_a_child_is_ended_while_the_keeper_is_in_a_waker() {
    watched(|| {
        struct Blocks(mpsc::SyncSender<()>);

        impl std::task::Wake for Blocks {
            fn wake(self: std::sync::Arc<Blocks>) {
                // The first is taken, and the second one never.
                (0..2).for_each(|_| _ = self.0.send(()));
            }
        }

        let config = Config::new().grace(Duration::from_millis(100));
        let head = Head::builder().config(config).spawn(child()).unwrap();
        let (child, end) = (head.child_id().unwrap(), head.endpoint().clone());
        let (tell, told) = mpsc::sync_channel(0);
        let waker = std::task::Waker::from(std::sync::Arc::new(Blocks(tell)));
        let late =
            head.api("a").action("never", ()).timeout(Duration::from_millis(20)).start::<()>().unwrap();
        let mut late = std::pin::pin!(late.into_future());
        assert!(late.as_mut().poll(&mut std::task::Context::from_waker(&waker)).is_pending());
        told.recv_timeout(LONG).unwrap();
        let began = Instant::now();
        drop(head);
        assert!(began.elapsed() < 2 * SOON, "{:?}", began.elapsed());
        assert_eq!(end.counters().threads_left_behind, 1);
        assert!(!std::path::Path::new(&format!("/proc/{child}")).exists(), "the child is left");
        drop(told);
    });
}

/// With no thread to be had, what follows from the end of a link is run by whoever ends it. Red when that is under the
/// lock of the link.
#[test]
fn p_16_what_follows_from_an_end_is_run_without_a_lock_when_there_is_no_thread() {
    watched(|| {
        let names = ["no-thread-a", "no-thread-b", "no-thread-c", "no-thread-d"];
        for (pair, name) in PAIRS.into_iter().zip(names) {
            let (ours, theirs) = pair();
            let config = |name: &str| Config::new().name(name).grace(Duration::from_millis(100));
            let head = Head::builder().config(config(name)).over(ours).unwrap();
            let topic = Topic::<u64>::new();
            let neck =
                Neck::builder().config(config("other")).serve(Api::new("t").topic("news", &topic).unwrap());
            let neck = neck.over(theirs).unwrap().start();
            assert_eq!(head.wait_open(LONG), LinkState::Open);
            let mut news = head.subscribe::<u64>("t.news", Backlog::default()).unwrap();
            // A thread leads, and is to have no other beside it.
            within(LONG, name, || head.n_threads() == 1);
            starve(name);
            let (tell, told) = mpsc::channel();
            let (asked, ours) = (head.endpoint().clone(), tell.clone());
            head.on_state(move |state| _ = ours.send((state, asked.state(), asked.counters())));
            drop(neck);
            let passed: Vec<_> = (0..3).map(|_| told.recv_timeout(LONG).unwrap().0).collect();
            assert_eq!(passed, [LinkState::Open, LinkState::Disconnected, LinkState::Closed], "{name}");
            assert!(matches!(news.next_timeout(LONG), Err(Missed::Closed(_))), "{name}");
            let began = Instant::now();
            drop(head);
            assert!(began.elapsed() < 2 * SOON, "{name}: {:?}", began.elapsed());
        }
    });
}

/// Red when the news goes to the link that there was when the reader began to let go.
#[test]
fn p_30_a_subscription_that_goes_before_a_restart_and_behind_it_goes_on_for_nobody() {
    watched(|| {
        let (supervisor, news) = subscribe();
        let theirs = supervisor.clone();
        do_once("a reader that lets go", NAME, move || {
            theirs.kill();
            within(LONG, "it is started again", || theirs.generation() == 2);
            within(LONG, "it is made again", || n_subscriptions(&theirs) == 1);
        });
        drop(news);
        assert!(!is_to_fail(), "nobody has come there");
        nobody_subscribes(&supervisor);
    });
}

fn supervise() -> Result<Supervisor, Error> {
    let config = Config::new().name(NAME).grace(Duration::from_millis(100));
    let pause = Duration::from_millis(1);
    let restarts = Restarts::on_crash().limit(100, LONG).backoff(pause, pause);
    Head::builder().config(config).supervise(restarts).spawn(child())
}

fn child() -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(["failures::entry", "--exact", "--nocapture"])
        .env(CHILD, "1")
        .stdout(std::process::Stdio::null());
    command
}

/// The `main` of the child. In a normal run of the tests it does nothing.
#[test]
fn entry() {
    if env::var_os(CHILD).is_some_and(|role| role == listening::UNTIED) {
        listening::be_untied();
    }
    if env::var_os(CHILD).is_some() {
        let neck = Neck::from_env().unwrap().serve(api("a")).unwrap();
        neck.serve(news()).unwrap().run().unwrap();
    }
}

const CHILD: &str = "NAPE_TEST_FAILURES";
