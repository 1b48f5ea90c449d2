//! What a program may do to its own process: fork, have `SIGPIPE` end it, and become another user's.
//!
//! A child that was forked has a copy of all handles: it gets errors from them, and can drop them, and the process
//! that has the links notices nothing.

// None of it can be done without.
#![allow(unsafe_code)]

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context as TaskContext, Poll, Waker},
    thread::{self, JoinHandle},
    time::Duration,
};

use nape::{
    Api, ApiHandle, AsyncResult, Backlog, CallError, Context, Endpoint, Fault, Head, Incoming, LinkState,
    Listening, Missed, Misuse, Neck, Outgoing, Payload, Responder, Restarts, Subscription, Timer, Topic,
    Wire,
    transport::{ipc_pair, pipe_pair, shm_pair, tcp_pair},
};
use rustix::process::{Pid, Resource, Rlimit, Signal, WaitOptions, getrlimit, setrlimit, waitpid};
use serde::de::DeserializeOwned;

use super::{Watch, head, remains::resident_kib, victim};
use crate::{soak::rounds, support::Kind};

on_every_wire_to_a_child! {
    p_32_a_fork_has_no_part_in_a_link_to_a_child,
    row_17_signals_for_every_thread_show_nowhere,
    row_49_a_peer_that_dies_raises_no_signal,
    row_53_a_child_that_forbids_itself_new_files_goes_on,
    row_54_a_child_that_gives_its_rights_up_goes_on,
    row_55_a_child_costs_what_the_guide_says,
}

/// In a process of its own, whose descriptors and threads nobody else changes.
fn row_55_a_child_costs_what_the_guide_says(wire: Wire) {
    let told = alone(wire, "many");
    told.lines().filter(|line| line.contains("for each")).for_each(|line| println!("{line}"));
}

/// Has many children at once, all of which answer.
pub(super) fn with_many_children() {
    let wire = victim::wire_of_its_own();
    let count = |what| std::fs::read_dir(what).unwrap().count();
    let owned = || (count("/proc/self/fd"), count("/proc/self/task"));
    // What is there once for all of them.
    drop(head(wire));
    let (before, held) = (owned(), resident_kib());
    let n = (rounds().unwrap_or(20) as usize).min(most_children());
    let heads: Vec<Head> = (0..n).map(|_| head(wire)).collect();
    let now = owned();
    let of_each = ((now.0 - before.0).div_ceil(n), (now.1 - before.1).div_ceil(n));
    println!(
        "{wire:?}: {n} children, {} descriptors, {} threads and {} KiB of the Head for each",
        of_each.0,
        of_each.1,
        resident_kib().saturating_sub(held) / n as u64
    );
    heads.iter().for_each(super::echo);
    // As `guide::choosing` has it. Where a process is no descriptor a thread waits for it, and pipes stand in for events.
    let portable = cfg!(nape_portable);
    let (n_descriptors, n_threads) = match wire {
        Wire::Ipc if portable => (9, 3),
        Wire::Pipe if portable => (9, 3),
        _ if portable => (6, 3),
        Wire::Ipc => (7, 2),
        Wire::Pipe => (6, 2),
        _ => (4, 2),
    };
    assert_eq!(of_each, (n_descriptors, n_threads));
    println!("{LAST_WORD}");
}

/// As many as this process may have descriptors for, of which it gets as many as it may.
fn most_children() -> usize {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    limit.maximum.map_or(usize::MAX, |most| (most as usize).saturating_sub(100) / 8)
}

/// In a process of its own: no other test's descriptors are to be held by a fork. Red when nobody looks in
/// which process a link was made.
fn p_32_a_fork_has_no_part_in_a_link_to_a_child(wire: Wire) {
    alone(wire, "fork");
}

#[test]
fn p_32_a_fork_has_no_part_in_links_within_a_process() {
    crate::support::watched(|| drop(alone(Wire::Pipe, "fork-ends")));
}

#[test]
fn p_32_a_fork_has_no_part_in_a_listener() {
    crate::support::watched(|| drop(alone(Wire::Pipe, "fork-listener")));
}

/// Red when a packet is sent to a socket without saying that no signal is wanted.
fn row_49_a_peer_that_dies_raises_no_signal(wire: Wire) {
    alone(wire, "sigpipe");
}

/// In a process of its own, all of whose threads are interrupted all the time, and its child's too. Red when what a
/// signal wakes is held against the other side.
fn row_17_signals_for_every_thread_show_nowhere(wire: Wire) {
    alone(wire, "signals");
}

/// Red when anything of the library opens something for a message.
fn row_53_a_child_that_forbids_itself_new_files_goes_on(wire: Wire) {
    let head = head(wire);
    let victim = head.api("victim");
    let opens = || victim.action("open-a-file", ()).call::<bool>().unwrap();
    assert!(opens());
    assert!(victim.action("forbid-new-files", ()).call::<bool>().unwrap(), "it can be forbidden");
    assert!(!opens());
    (0..10).for_each(|_| echo(&victim));
    let large = victim.action("bytes", 3usize << 20).call::<Payload>().unwrap();
    victim.action("take", large).call::<()>().unwrap();
    let started = |n: u64| victim.action("echo", n).start::<u64>().unwrap();
    let calls: Vec<_> = (0..200).map(started).collect();
    assert!(calls.into_iter().enumerate().all(|(n, call)| call.wait().unwrap() == n as u64));
    let watch = Watch::child_of(&head);
    drop(head);
    assert!(watch.has_ended());
}

/// Where the tests do not run as root there is nothing to give up, and little to see.
fn row_54_a_child_that_gives_its_rights_up_goes_on(wire: Wire) {
    let head = head(wire);
    let victim = head.api("victim");
    let became: bool = victim.action("become-nobody", ()).call().unwrap();
    assert_eq!(became, rustix::process::geteuid().is_root());
    echo(&victim);
    let large = victim.action("bytes", 3usize << 20).call::<Payload>().unwrap();
    assert_eq!(large.into_bytes().len(), 3 << 20);
    let watch = Watch::child_of(&head);
    drop(head);
    assert!(watch.has_ended());
}

/// Whether this process could give up what its user may do.
pub(super) fn become_nobody() -> bool {
    const NOBODY: libc::uid_t = 65_534;
    // SAFETY: it takes a number, and changes who this process runs as.
    unsafe { libc::setuid(NOBODY) == 0 }
}

/// From now on every thread of this process gets an error for whatever would give it a new descriptor.
pub(super) fn forbid_new_files() -> bool {
    let forbidden = [
        libc::SYS_openat,
        libc::SYS_openat2,
        libc::SYS_socket,
        libc::SYS_socketpair,
        libc::SYS_accept4,
        libc::SYS_pipe2,
        libc::SYS_eventfd2,
        libc::SYS_epoll_create1,
        libc::SYS_memfd_create,
        libc::SYS_pidfd_open,
        libc::SYS_dup3,
    ];
    let step = |code: u32, jt, k| libc::sock_filter { code: code as u16, jt, jf: 0, k };
    // The number of the system call, which is the first word of what is looked at.
    let mut program = vec![step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0)];
    for (at, call) in forbidden.into_iter().enumerate() {
        let to_refuse = (forbidden.len() - at) as u8;
        program.push(step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, to_refuse, call as u32));
    }
    program.push(step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW));
    program.push(step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32));
    let all = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the program lives as long as these calls, which copy it.
    unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                libc::SECCOMP_FILTER_FLAG_TSYNC,
                &raw const all,
            ) == 0
    }
}

/// From now on this signal interrupts a wait, and nothing more.
pub(super) fn take_signals() {
    extern "C" fn nothing(_: libc::c_int) {}
    // SAFETY: the handler does nothing, and the action is made of zeros but for it: no system call is begun again.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as usize;
        assert_eq!(libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()), 0);
    }
}

/// Everything that a link does, while each thread of both processes is interrupted thousands of times.
pub(super) fn with_signals_for_everybody() {
    take_signals();
    let over = Arc::new(AtomicBool::new(false));
    let child = Arc::new(Mutex::new(None));
    let (seen, of_the_child) = (over.clone(), child.clone());
    let pepper = thread::spawn(move || {
        let mut n_sent = 0u64;
        while !seen.load(Ordering::Relaxed) {
            n_sent += interrupt_all(std::process::id());
            if let Some(pid) = *of_the_child.lock().unwrap() {
                n_sent += interrupt_all(pid);
            }
            thread::yield_now();
        }
        n_sent
    });
    let builder = || Head::builder().wire(victim::wire_of_its_own());
    for _ in 0..3 {
        // Interrupted from the start, at this side.
        let head = builder().spawn(victim::command("serve-through-signals")).unwrap();
        *child.lock().unwrap() = head.child_id();
        let victim = head.api("victim").timeout(HANG);
        (0..200).for_each(|_| echo(&victim));
        let started = |n: u64| victim.action("echo", n).start::<u64>().unwrap();
        let calls: Vec<_> = (0..100).map(started).collect();
        assert!(calls.into_iter().enumerate().all(|(n, call)| call.wait().unwrap() == n as u64));
        let large = victim.action("bytes", 1usize << 20).call::<Payload>().unwrap();
        victim.action("take", large).call::<()>().unwrap();
        // One whose time is over has had all of it.
        let began = std::time::Instant::now();
        let limit = Duration::from_millis(500);
        let late = victim.action("wait", ()).timeout(limit).call::<()>();
        assert!(matches!(late, Err(CallError::TimedOut { .. })), "{late:?}");
        assert!(began.elapsed() >= limit);
        // The end of a child is one to those who send it signals, too.
        *child.lock().unwrap() = None;
        drop(head);
    }
    over.store(true, Ordering::Relaxed);
    assert!(pepper.join().unwrap() > 1000);
    println!("{LAST_WORD}");
}

/// Sends the signal to each thread of a process but the calling one.
fn interrupt_all(pid: u32) -> u64 {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return 0 };
    let numbers = tasks.filter_map(|task| task.ok()?.file_name().to_str()?.parse::<libc::pid_t>().ok());
    // SAFETY: it takes nothing.
    let me = unsafe { libc::gettid() };
    // SAFETY: it takes numbers.
    let send = |to: i32| unsafe { libc::syscall(libc::SYS_tgkill, pid as i32, to, libc::SIGUSR1) == 0 };
    numbers.filter(|thread| *thread != me && send(*thread)).count() as u64
}

/// With a program that does not want to hear of children.
pub(super) fn with_children_ignored() {
    // SAFETY: no handler is installed; the kernel forgets children that end.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    super::rows::deaths_of_unknown_cause();
    super::rows::goodbyes_of_unknown_cause();
    println!("{LAST_WORD}");
}

/// With a thread that reaps every child there is.
pub(super) fn with_a_thief() {
    let over = Arc::new(AtomicBool::new(false));
    let seen = over.clone();
    let thief = thread::spawn(move || {
        while !seen.load(Ordering::Relaxed) {
            let _ = rustix::process::wait(WaitOptions::NOHANG);
            thread::yield_now();
        }
    });
    super::rows::deaths_of_unknown_cause();
    super::rows::goodbyes_of_unknown_cause();
    over.store(true, Ordering::Relaxed);
    thief.join().unwrap();
    println!("{LAST_WORD}");
}

pub(super) fn alone(wire: Wire, verb: &str) -> String {
    let output = victim::command_over(wire, verb).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}: {out}{err}", output.status);
    assert!(out.contains(LAST_WORD), "{out}{err}");
    out.into_owned()
}

/// With a Head and a supervisor, while others call.
pub(super) fn beside_children() {
    // Not for ever over the same links: what was cancelled and is not answered counts there.
    (0..links()).for_each(|_| beside_two_children(victim::wire_of_its_own()));
    println!("{LAST_WORD}");
}

fn beside_two_children(wire: Wire) {
    let head = head(wire);
    let supervisor = Head::builder().wire(wire).supervise(Restarts::on_crash());
    let supervisor = supervisor.spawn(victim::command("serve")).unwrap();
    let callers = Callers::of(vec![head.api("victim"), supervisor.api("victim")]);
    for _ in 0..FORKS {
        let mut pending: Vec<_> = (0..8).map(|_| wait(&head)).collect();
        let action = supervisor.api("victim").action("wait", ());
        pending.push(action.retry_safe().start::<()>().unwrap());
        let items = head.api("victim").action("make", 3u32).open::<u32>().unwrap();
        let Some(fork) = fork() else {
            in_fork(move || {
                refused(&head, "victim");
                refused(&supervisor, "victim");
                ended(pending, items);
                head.kill();
                head.close();
                assert!(!head.shut_down(HANG) && !supervisor.shut_down(HANG));
                supervisor.kill();
                supervisor.stop();
                drop((head, supervisor));
            })
        };
        fork.ended_well();
        assert!(pending.iter().all(|call| !call.is_done()), "a fork has ended what is not its own");
        drop((pending, items));
    }
    callers.go_on_and_end();
}

fn wait(head: &Endpoint) -> AsyncResult<()> {
    head.api("victim").action("wait", ()).start().unwrap()
}

/// With both ends of each kind of link.
pub(super) fn beside_both_ends() {
    let kinds = [Kind::Channel, Kind::Encoded, Kind::Ipc, Kind::Pipe, Kind::Tcp, Kind::Shm];
    for kind in (0..links()).flat_map(|_| kinds) {
        let topic = Topic::<u64>::new();
        let (head, neck) = ends(kind, &topic);
        let callers = Callers::of(vec![head.api("api"), head.api("here")]);
        for _ in 0..FORKS {
            let all = Handles::of(&head);
            let inline = head.api("here").action("echo", 1u64);
            let Some(fork) = fork() else {
                in_fork(move || {
                    refused(&head, "api");
                    is_refused(&inline.call::<u64>());
                    all.are_over();
                    assert_eq!(topic.publish(1), Default::default());
                    drop((head, neck, topic));
                })
            };
            fork.ended_well();
            assert!(all.pending.iter().all(|call| !call.is_done()), "a fork has ended what is not its own");
            assert!(topic.publish(1).taken >= 2, "{kind:?}: it has ended a subscription");
        }
        callers.go_on_and_end();
    }
    println!("{LAST_WORD}");
}

/// What can be held of a link besides its end.
struct Handles {
    pending: Vec<AsyncResult<()>>,
    items: Incoming<u64>,
    out: Outgoing<u64>,
    news: Subscription<u64>,
    others: [Subscription<u64>; 2],
    _listening: Listening,
    _timer: Timer,
}

impl Handles {
    fn of(head: &Endpoint) -> Handles {
        let api = head.api("api");
        let (out, ..) = api.action("pass-on", ()).duplex::<u64, u64, ()>().unwrap().split();
        let news = || api.subscribe("news", Backlog::drop_oldest(4)).unwrap();
        Handles {
            pending: (0..8).map(|_| api.action("wait", ()).start().unwrap()).collect(),
            items: api.action("count", ()).open().unwrap(),
            out,
            news: news(),
            others: [news(), news()],
            _listening: news().on(|_: Result<u64, Missed>| ()),
            _timer: api
                .every(Duration::from_millis(1), "echo", 1u64)
                .then(|_: Result<u64, CallError>| ())
                .unwrap(),
        }
    }

    fn are_over(mut self) {
        is_refused(&self.out.send(1));
        assert!(matches!(self.news.next(), Some(Err(Missed::Closed(_)))));
        assert!(self.news.next().is_none());
        let [mut polled, listened] = self.others;
        assert!(polled.ready().recv_timeout(HANG).is_err_and(|error| error.is_disconnected()));
        let mut cx = TaskContext::from_waker(Waker::noop());
        assert!(matches!(polled.poll_next(&mut cx), Poll::Ready(Some(Err(Missed::Closed(_))))));
        assert!(matches!(polled.poll_next(&mut cx), Poll::Ready(None)));
        drop(listened.on(|_: Result<u64, Missed>| unreachable!("nobody would run it")));
        ended(self.pending, self.items);
    }
}

fn ends(kind: Kind, topic: &Topic<u64>) -> (Head, Neck) {
    let waiting = Mutex::new(Vec::new());
    let wait = move |_: Context, (): (), answer: Responder<()>| waiting.lock().unwrap().push(answer);
    let echo = |_: &Context, n: u64| Ok::<_, Fault>(n);
    let api = Api::new("api").workers(16).topic("news", topic).unwrap();
    let api = api.handle("echo", echo).unwrap().deferred("wait", wait).unwrap();
    let api =
        api.stream("count", |_: &Context, (): ()| Ok::<_, Fault>((0u64..).map(Ok::<_, Fault>))).unwrap();
    let pass_on = |_: &Context, (): (), items: Incoming<u64>, mut out: Outgoing<u64>| -> Result<(), Fault> {
        for item in items {
            out.send(item?)?;
        }
        Ok(())
    };
    let api = api.duplex("pass-on", pass_on).unwrap();
    let here = Api::new("here").inline().handle("echo", echo).unwrap();
    let (head, neck) = kind.ends();
    (head, neck.serve(api).unwrap().serve(here).unwrap().start())
}

/// With a listener, those whom it has let in, and one that they are connected to.
pub(super) fn beside_a_listener() {
    let echo = |_: &Context, n: u64| Ok::<_, Fault>(n);
    let serving = Neck::builder().serve(Api::new("api").handle("echo", echo).unwrap());
    let listener = serving.listen("tcp:127.0.0.1:0").unwrap();
    let connect = || Head::builder().token(*listener.token().unwrap()).connect(listener.address()).unwrap();
    let head = connect();
    let peer = listener.accept(HANG).unwrap();
    for _ in 0..FORKS * links() {
        let Some(fork) = fork() else {
            in_fork(move || {
                refused(&head, "api");
                assert!(listener.accept(HANG).is_none() && !listener.shut_down(HANG));
                listener.wait();
                listener.close();
                drop((peer, listener, head));
            })
        };
        fork.ended_well();
        assert_eq!(head.api("api").action("echo", 1u64).call::<u64>().unwrap(), 1);
        assert_eq!(connect().api("api").action("echo", 2u64).call::<u64>().unwrap(), 2);
    }
    println!("{LAST_WORD}");
}

/// With children that are killed while much is sent to them.
pub(super) fn without_broken_pipes() {
    // SAFETY: no handler is installed; whoever writes to nobody is ended by the kernel, as it was before `main`.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    for pair in [ipc_pair, pipe_pair, tcp_pair, shm_pair] {
        let (mut ours, theirs) = pair().unwrap();
        drop(theirs);
        (0..3).for_each(|_| drop(ours.sender.send(&[1; 1000])));
    }
    for _ in 0..rounds().unwrap_or(5) {
        let head = head(victim::wire_of_its_own());
        let take = head.api("victim").action("take", Payload::from_bytes(vec![1; 4 << 20]));
        take.then(|_: Result<(), CallError>| ()).unwrap();
        let watch = Watch::child_of(&head);
        head.kill();
        while head.api("victim").action("take", Payload::from_bytes(vec![1; 1000])).fire().is_ok() {}
        watch.wait_end(HANG).unwrap();
        head.api("victim").action("echo", 1u64).call::<u64>().unwrap_err();
    }
    println!("{LAST_WORD}");
}

// In a fork.

/// Whatever sets out from this side is refused.
fn refused(end: &Endpoint, api: &str) {
    let api = end.api(api);
    let echo = || api.action("echo", 1u64);
    is_refused(&echo().call::<u64>());
    is_refused(&echo().retry_safe().call::<u64>());
    is_refused(&echo().start::<u64>());
    is_refused(&echo().then(|_: Result<u64, CallError>| unreachable!("nobody would run it")));
    is_refused(&echo().fire());
    is_refused(&echo().open::<u64>());
    is_refused(&api.subscribe::<u64>("news", Backlog::drop_oldest(4)));
    assert_eq!(end.state(), LinkState::Closed);
    assert!(end.close_reason().is_some());
}

#[track_caller]
fn is_refused<T>(outcome: &Result<T, CallError>) {
    let error = outcome.as_ref().err();
    assert!(matches!(error, Some(CallError::Misuse(Misuse::Forked))), "{error:?}");
}

/// Whatever was under way is over, and may be dropped.
fn ended<T: DeserializeOwned + 'static>(pending: Vec<AsyncResult<()>>, mut items: Incoming<T>) {
    for (at, mut call) in pending.into_iter().enumerate() {
        assert!(call.is_done() && call.ready().recv().is_err());
        match at % 4 {
            0 => is_refused(&call.wait()),
            1 => is_refused(&call.try_wait()),
            2 => is_refused(&call.wait_timeout(HANG)),
            _ => call.cancel(),
        }
    }
    is_refused(&items.next().expect("it is told once"));
    assert!(items.next().is_none());
}

/// What a process runs that was forked. It unwinds no further, and what its parent would do in the end is left
/// to that.
fn in_fork(what: impl FnOnce()) -> ! {
    let code = i32::from(catch_unwind(AssertUnwindSafe(what)).is_err());
    // SAFETY: it takes a number and does not return.
    unsafe { libc::_exit(code) }
}

// Outside.

/// A process that was forked.
struct Fork(Pid);

/// `None` in the process that was forked.
fn fork() -> Option<Fork> {
    // SAFETY: the child runs code that is made for it, and what it needs of others is safe to use there: the
    // C library keeps its allocator in order.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    Pid::from_raw(pid).map(Fork)
}

impl Fork {
    fn ended_well(self) {
        let watch = Watch::of(self.0.as_raw_nonzero().get().unsigned_abs());
        let in_time = watch.wait_end(HANG).is_some();
        if !in_time {
            watch.send(Signal::KILL);
        }
        let (_, status) = waitpid(Some(self.0), WaitOptions::empty()).unwrap().unwrap();
        assert!(in_time, "the fork hangs");
        assert_eq!(status.exit_status(), Some(0), "{status:?}");
    }
}

/// Threads that call without a pause, so that a fork finds the locks in every state.
struct Callers(Vec<ApiHandle>, Arc<AtomicBool>, Vec<JoinHandle<()>>);

impl Callers {
    fn of(apis: Vec<ApiHandle>) -> Callers {
        let over = Arc::new(AtomicBool::new(false));
        let call = |api: &ApiHandle| {
            let (api, over) = (api.clone(), over.clone());
            thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    echo(&api);
                }
            })
        };
        let threads = apis.iter().map(call).collect();
        Callers(apis, over, threads)
    }

    fn go_on_and_end(self) {
        let Callers(apis, over, threads) = self;
        apis.iter().for_each(|api| (0..500).for_each(|_| echo(api)));
        over.store(true, Ordering::Relaxed);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

fn echo(api: &ApiHandle) {
    assert_eq!(api.action("echo", 4711u64).call::<u64>().unwrap(), 4711);
}

/// Over how many links, one after the other.
fn links() -> u64 {
    rounds().unwrap_or_default().div_ceil(FORKS).max(1)
}

/// How many forks a link sees.
const FORKS: u64 = 5;
const HANG: Duration = Duration::from_secs(10);
pub(super) const LAST_WORD: &str = "no harm was done";
