//! What becomes of those whose time is to be watched when the system gives no thread for that.

use std::io;

use super::*;
use crate::{
    api::{Incoming, Next, Outgoing},
    error::{Executed, Rejection, Silence},
    transport::{FrameReceiver, Received},
};

/// A link whose first keeper is gone, or of which there was none yet.
struct Clockless {
    head: Head,
    _neck: crate::neck::Neck,
    keeper: &'static str,
}

impl Clockless {
    fn over((ours, theirs): (Transport, Transport), name: &'static str, keeper: &'static str) -> Clockless {
        // The keeper of the start stays for as long as that may take.
        let config = |name: &str| Config::new().name(name).grace(SOON / 5).start_timeout(SOON * 6);
        let head = Head::builder().config(config(name)).over(ours).unwrap();
        let neck = Neck::builder().config(config("other")).serve(api("a")).over(theirs).unwrap().start();
        Clockless::of(head, neck, keeper)
    }

    fn of(head: Head, neck: crate::neck::Neck, keeper: &'static str) -> Clockless {
        assert_eq!(head.wait_open(LONG), LinkState::Open);
        let link = head.endpoint().0.link().unwrap();
        within(LONG, "the keeper of the start is gone", || !link.has_keeper());
        starve(keeper);
        Clockless { head, _neck: neck, keeper }
    }
}

impl Drop for Clockless {
    fn drop(&mut self) {
        feed(self.keeper);
    }
}

fn is_refused<T: std::fmt::Debug>(end: Result<T, CallError>) -> bool {
    let error = end.unwrap_err();
    let unwatched = |detail: &str| detail.starts_with("no thread to watch its time");
    error.executed() == Executed::No
        && matches!(&error, CallError::Rejected(Rejection::Busy { detail, .. }) if unwatched(detail))
}

/// Red when such a call sets out: it never ends.
#[test]
fn p_04_a_call_whose_time_nobody_can_watch_is_refused() {
    watched(|| {
        const NAMES: [&str; 4] = ["cl-a", "cl-b", "cl-c", "cl-d"];
        const KEEPERS: [&str; 4] = ["cl-a-keeper", "cl-b-keeper", "cl-c-keeper", "cl-d-keeper"];
        let framed = PAIRS.into_iter().zip(NAMES).zip(KEEPERS);
        let links = framed.map(|((pair, name), keeper)| Clockless::over(pair(), name, keeper));
        let near = || {
            let neck = Neck::builder().serve(api("a"));
            let (head, neck) =
                Head::builder().config(Config::new().name("cl-e")).in_process_with(neck).unwrap();
            Clockless::of(head, neck.start(), "cl-e-keeper")
        };
        for link in links.chain(std::iter::once_with(near)) {
            let (head, name) = (&link.head, link.keeper);
            let never = || head.api("a").action("never", ()).timeout(Duration::from_millis(1));
            let (tell, told) = mpsc::channel();
            let then = || {
                let tell = tell.clone();
                never().then(move |end: Result<(), CallError>| tell.send(end).unwrap())
            };
            assert!(is_refused(then()), "{name}");
            assert!(is_refused(never().start::<()>()), "{name}");
            assert!(is_refused(never().open::<()>()), "{name}");
            assert_eq!(head.under_way().0, 0, "{name}");
            // A thread that blocks sees to it itself, but for a receiver that knows no time.
            match never().call::<()>() {
                Err(CallError::TimedOut { .. }) => {}
                end => assert!(is_refused(end), "{name}"),
            }
            // And what has no limit needs nobody.
            let echo = head.api("a").action("echo", 7u64).timeout(Timeout::Never);
            assert_eq!(echo.start::<u64>().unwrap().wait().unwrap(), 7, "{name}");
            feed(name);
            then().unwrap();
            let end = told.recv_timeout(LONG).unwrap_or_else(|_| panic!("{name}: it is never late"));
            assert!(matches!(end, Err(CallError::TimedOut { .. })), "{end:?}");
        }
    });
}

/// Red when they wait for a look at the clock that never comes.
#[test]
fn p_20_items_for_which_nobody_watches_the_clock_leave_at_once() {
    watched(|| {
        const NAME: &str = "cl-items";
        let (go, may_go) = mpsc::channel::<()>();
        let may_go = std::sync::Mutex::new(Some(may_go));
        let make = move |_: &Context, (): ()| {
            let may_go = may_go.lock().unwrap().take().unwrap();
            let wait = move |n: &u64| !n.is_multiple_of(3) || may_go.recv_timeout(LONG).is_ok();
            Ok::<_, Fault>((0..12u64).filter(wait).map(Ok::<_, Fault>))
        };
        // Those that are made here are as the other side's.
        let (ours, theirs) = memory_pair();
        let config = |name: &str| Config::new().name(name).grace(SOON / 5);
        let head = Head::builder().config(config(NAME));
        let head = head.serve(Api::new("s").stream("items", make).unwrap()).over(ours).unwrap();
        let neck = Neck::builder().config(config("other")).serve(api("a")).over(theirs).unwrap().start();
        let link = Clockless::of(head, neck, "cl-items-keeper");
        let mut items = link._neck.api("s").action("items", ()).open::<u64>().unwrap();
        for n in 0..12 {
            if n % 3 == 0 {
                go.send(()).unwrap();
            }
            let item = items.next_timeout(LONG).unwrap();
            assert!(matches!(item, Next::Item(it) if it == n), "{n}: nothing follows it for now");
        }
    });
}

/// A way in that is not looked at for a while.
struct Deaf {
    inner: Box<dyn FrameReceiver>,
    is_deaf: Arc<AtomicBool>,
}

impl FrameReceiver for Deaf {
    fn receive(&mut self, deadline: Option<Instant>) -> io::Result<Received> {
        while self.is_deaf.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(1));
        }
        self.inner.receive(deadline)
    }

    fn try_receive(&mut self) -> io::Result<Option<Received>> {
        self.inner.try_receive()
    }
}

/// Nobody calls any more. Red when whoever reads does not see to it that there is somebody to watch the clock.
#[test]
fn p_20_a_clock_for_which_there_was_no_thread_is_tried_again() {
    watched(|| {
        let names = [("cl-k", "cl-k-keeper"), ("cl-l", "cl-l-keeper"), ("cl-m", "cl-m-keeper")];
        for (pair, (name, keeper)) in PAIRS.into_iter().zip(names) {
            let (ours, theirs) = pair();
            let is_deaf = Arc::new(AtomicBool::new(false));
            let deaf = Deaf { inner: theirs.receiver, is_deaf: is_deaf.clone() };
            let theirs = Transport { receiver: Box::new(deaf), ..theirs };
            let config = |name: &str| Config::new().name(name).grace(SOON / 5).write_stall(SOON);
            let head = Head::builder().config(config(name)).over(ours).unwrap();
            let neck = Neck::builder().config(config("other")).serve(api("a")).over(theirs).unwrap().start();
            let link = Clockless::of(head, neck, keeper);
            within(LONG, "a thread leads", || link.head.n_threads() == 1);
            is_deaf.store(true, Ordering::SeqCst);
            // More than the other side reads, and fewer than wait for each failure.
            (0..200).for_each(|_| drop(link.head.api("a").action("echo", 1u64).fire()));
            thread::sleep(SOON / 5);
            feed(keeper);
            within(LONG, name, || link.head.close_reason().is_some());
            let reason = link.head.close_reason().unwrap();
            assert!(
                matches!(*reason, CloseReason::Unresponsive { what: Silence::Read, .. }),
                "{name}: {reason:?}"
            );
            is_deaf.store(false, Ordering::SeqCst);
        }
    });
}

/// Takes what comes, and does not answer in time.
fn slow() -> Api {
    let wait = |items: Incoming<u64>| {
        items.into_iter().try_for_each(|item| item.map(drop))?;
        thread::sleep(LONG / 3);
        Ok::<_, Fault>(())
    };
    let both = move |_: &Context, (): (), items: Incoming<u64>, _: Outgoing<u64>| wait(items);
    let up = move |_: &Context, (): (), items: Incoming<u64>| wait(items);
    Api::new("slow").workers(8).upload("up", up).unwrap().duplex("both", both).unwrap()
}

/// The time that begins with the last item runs out where no keeper is left and none is to be had.
fn ends_without_a_keeper(head: &Head, keeper: &'static str) {
    let action = |name: &str| head.api("slow").action(name, ()).timeout(2 * SOON);
    let upload = || {
        let mut upload = action("up").upload::<u64, ()>().unwrap();
        upload.send(1).unwrap();
        upload
    };
    let [finished, asked, listened, awaited] = [upload(), upload(), upload(), upload()];
    let mut both = action("both").duplex::<u64, u64, ()>().unwrap();
    both.send(1).unwrap();
    let link = head.endpoint().0.link().unwrap();
    within(LONG, "they have begun, and the keeper is gone", || !link.has_keeper());
    starve(keeper);
    let (tell, told) = mpsc::channel();
    let tells = |how: &'static str, end: Box<dyn FnOnce() -> Result<(), CallError> + Send>| {
        let tell = tell.clone();
        thread::spawn(move || tell.send((how, end())));
    };
    tells("finish of an upload", Box::new(|| finished.finish()));
    tells("finish of both ways", Box::new(|| both.finish()));
    tells(
        "is_done",
        Box::new(|| {
            let mut answer = asked.end();
            within(LONG, "it is done", || answer.is_done());
            answer.try_wait().map(|end| end.expect("it is done"))
        }),
    );
    tells(
        "ready",
        Box::new(|| {
            let mut answer = listened.end();
            answer.ready().recv_timeout(LONG).expect("it is ready");
            answer.try_wait().map(|end| end.expect("it is ready"))
        }),
    );
    tells("await", Box::new(|| block_on(awaited.end())));
    for _ in 0..5 {
        let (how, end) = told.recv_timeout(LONG / 3).unwrap_or_else(|_| panic!("{keeper}: one never ends"));
        assert!(matches!(end, Err(CallError::TimedOut { .. })), "{keeper}, {how}: {end:?}");
    }
    feed(keeper);
}

fn block_on<F: std::future::Future>(future: F) -> F::Output {
    struct Unpark(thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = std::task::Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut std::task::Context::from_waker(&waker)) {
            std::task::Poll::Ready(end) => return end,
            std::task::Poll::Pending => thread::park(),
        }
    }
}

/// Red when those who wait leave that time to the keeper alone.
#[test]
fn p_04_the_answer_to_a_stream_is_late_in_time_where_nobody_watches_the_clock() {
    watched(|| {
        let framed = [
            ("cl-up-a", "cl-up-a-keeper"),
            ("cl-up-b", "cl-up-b-keeper"),
            ("cl-up-c", "cl-up-c-keeper"),
            ("cl-up-d", "cl-up-d-keeper"),
        ];
        let config = |name: &str| Config::new().name(name).grace(SOON / 5);
        thread::scope(|scope| {
            let mut all = Vec::new();
            for (pair, (name, keeper)) in PAIRS.into_iter().zip(framed) {
                all.push(scope.spawn(move || {
                    let (ours, theirs) = pair();
                    let head = Head::builder().config(config(name)).over(ours).unwrap();
                    let neck =
                        Neck::builder().config(config("other")).serve(slow()).over(theirs).unwrap().start();
                    assert_eq!(head.wait_open(LONG), LinkState::Open);
                    ends_without_a_keeper(&head, keeper);
                    drop((head, neck));
                }));
            }
            all.push(scope.spawn(move || {
                let neck = Neck::builder().config(config("other")).serve(slow());
                let (head, neck) = Head::builder().config(config("cl-up-e")).in_process_with(neck).unwrap();
                let neck = neck.start();
                assert_eq!(head.wait_open(LONG), LinkState::Open);
                ends_without_a_keeper(&head, "cl-up-e-keeper");
                drop((head, neck));
            }));
            let ends: Vec<_> = all.into_iter().map(thread::ScopedJoinHandle::join).collect();
            assert!(ends.iter().all(Result::is_ok), "what it says stands above");
        });
    });
}

/// What a waker leaves with the thread that calls it, and what takes its time to go.
struct Slow(mpsc::Sender<()>, Arc<std::sync::Mutex<mpsc::Receiver<()>>>);

impl Drop for Slow {
    fn drop(&mut self) {
        let _ = self.0.send(());
        let _ = self.1.lock().unwrap().recv_timeout(LONG);
    }
}

thread_local! {
    static LEFT: std::cell::RefCell<Option<Slow>> = const { std::cell::RefCell::new(None) };
}

struct Leaves(std::sync::Mutex<Option<Slow>>);

impl std::task::Wake for Leaves {
    fn wake(self: Arc<Self>) {
        LEFT.set(self.0.lock().unwrap().take());
    }
}

/// Red when whoever starts the next keeper waits for the one before.
#[test]
fn p_16_a_start_does_not_wait_for_what_a_waker_has_left_with_the_keeper() {
    use std::{future::Future, pin::pin};
    watched(|| {
        const NAME: &str = "cl-left";
        let neck = Neck::builder().serve(api("a"));
        let (head, neck) = Head::builder().config(Config::new().name(NAME)).in_process_with(neck).unwrap();
        let neck = neck.start();
        // The keeper calls a waker only where no other thread can be had for it.
        within(LONG, NAME, || head.n_threads() == 0);
        starve(NAME);
        let never = || head.api("a").action("never", ()).timeout(SOON / 5).start::<()>().unwrap();
        let ((tell, told), (go, may_go)) = (mpsc::channel(), mpsc::channel());
        let slow = Slow(tell, Arc::new(std::sync::Mutex::new(may_go)));
        let waker = std::task::Waker::from(Arc::new(Leaves(std::sync::Mutex::new(Some(slow)))));
        let mut first = pin!(never());
        if first.as_mut().poll(&mut std::task::Context::from_waker(&waker)).is_ready() {
            panic!("this machine is too slow");
        }
        told.recv_timeout(LONG).expect("its keeper ends");
        let began = Instant::now();
        drop(never());
        let took = began.elapsed();
        go.send(()).unwrap();
        feed(NAME);
        drop((head, neck));
        assert!(took < 2 * SOON, "{took:?}");
    });
}
