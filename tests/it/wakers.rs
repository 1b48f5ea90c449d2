//! Wakers that take their time: what they wait for comes all the same.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context as Task, Wake, Waker},
    thread,
    time::Instant,
};

use crossbeam_channel::unbounded;
use nape::{
    Api, AsyncResult, CallError, Config, Context, Fault, Head, Incoming, LinkState, Neck, Responder, Timeout,
    TrySendError,
    transport::{FrameReceiver, Received, Transport, ipc_pair, memory_pair, pipe_pair, shm_pair, tcp_pair},
};

use crate::{
    support::{HANG, Kind},
    tools::{Gate, LONG, eventually},
};

on_every_link! {
    p_04_a_waker_may_wait_for_another_caller_of_a_link_that_ends,
    p_16_a_waker_that_waited_for_room_may_wait_for_an_answer,
    p_24_a_waker_may_drop_the_head_whose_call_has_ended_its_own,
}

/// A waker that does this.
struct Does<F>(F);

impl<F: Fn() + Send + Sync> Wake for Does<F> {
    fn wake(self: Arc<Does<F>>) {
        (self.0)();
    }
}

fn waker(does: impl Fn() + Send + Sync + 'static) -> Waker {
    Waker::from(Arc::new(Does(does)))
}

fn poll(result: &mut AsyncResult<()>, waker: &Waker) {
    assert!(pin!(result).poll(&mut Task::from_waker(waker)).is_pending());
}

/// Calls that nobody answers.
fn silent(name: &str) -> Api {
    Api::new(name)
        .deferred("never", |_: Context, (): (), answer: Responder<()>| std::mem::forget(answer))
        .unwrap()
}

/// Red when a waker is called before all calls of the link have ended: it waits for a thread that waits for its call.
fn p_04_a_waker_may_wait_for_another_caller_of_a_link_that_ends(kind: Kind) {
    for closes_here in [true, false] {
        let (head, neck) = kind.serving(silent("a"));
        let lock = Arc::new(Mutex::new(()));
        let never = {
            let end = head.endpoint().clone();
            move || end.api("a").action("never", ()).timeout(Timeout::Never)
        };
        let (theirs, calls) = (lock.clone(), never.clone());
        let caller = move || {
            let _held = theirs.lock().unwrap();
            calls().call::<()>()
        };
        // Some of them before it, and some behind it, in whatever order they end.
        let some = || (0..8).map(|_| never().start::<()>().unwrap()).collect::<Vec<_>>();
        let mut started = some();
        let caller = thread::spawn(caller);
        eventually(|| head.under_way().0 == 9);
        started.extend(some());
        let wants = waker(move || drop(lock.lock().unwrap()));
        started.iter_mut().for_each(|result| poll(result, &wants));
        if closes_here {
            head.close();
        } else {
            drop(neck);
        }
        let end = caller.join().unwrap();
        assert!(matches!(end, Err(CallError::Closed { .. })), "{end:?}");
    }
}

/// A way in where nothing is read from some time on, until a gate is open.
struct Stops(Box<dyn FrameReceiver>, Arc<AtomicBool>, Gate);

impl FrameReceiver for Stops {
    fn receive(&mut self, deadline: Option<Instant>) -> std::io::Result<Received> {
        if self.1.load(Ordering::SeqCst) {
            self.2.pass();
        }
        self.0.receive(deadline)
    }

    fn try_receive(&mut self) -> std::io::Result<Option<Received>> {
        self.0.try_receive()
    }
}

/// Red when the thread that reads calls it, before it reads on.
fn p_16_a_waker_that_waited_for_room_may_wait_for_an_answer(kind: Kind) {
    let (ours, theirs) = match kind {
        Kind::Encoded => memory_pair(),
        Kind::Ipc => ipc_pair().unwrap(),
        Kind::Pipe => pipe_pair().unwrap(),
        Kind::Tcp => tcp_pair().unwrap(),
        Kind::Shm => shm_pair().unwrap(),
        // Nothing waits to be sent, or what is sent makes no difference.
        _ => return,
    };
    let (stops, gate, (keep, kept)) = (Arc::new(AtomicBool::new(false)), Gate::default(), unbounded());
    let receiver = Box::new(Stops(theirs.receiver, stops.clone(), gate.clone()));
    let take = |_: &Context, (): (), items: Incoming<Vec<u8>>| Ok::<_, Fault>(items.count());
    let later = move |_: Context, (): (), answer: Responder<()>| keep.send(answer).unwrap();
    let api = Api::new("a").upload("take", take).and_then(|api| api.deferred("later", later)).unwrap();
    let head = Head::builder().config(Config::new().send_queue_bytes(100_000)).over(ours).unwrap();
    let config = Config::new().stream_items(1 << 20).stream_bytes(1 << 30);
    let neck =
        Neck::builder().config(config).serve(api).over(Transport { receiver, ..theirs }).unwrap().start();
    assert_eq!(head.wait_open(LONG), LinkState::Open);
    let later = head.api("a").action("later", ()).timeout(Timeout::Never).start::<()>().unwrap();
    let (answer, is_here) = (Mutex::new(Some(kept.recv_timeout(LONG).unwrap())), later.ready());
    let mut items = head.api("a").action("take", ()).upload::<Vec<u8>, usize>().unwrap();
    items.send(vec![0; 10_000]).unwrap();
    stops.store(true, Ordering::SeqCst);
    while !matches!(items.try_send(vec![0; 10_000]), Err(TrySendError::Full(_))) {}
    let (tell, told) = unbounded();
    let asks = waker(move || {
        if let Some(answer) = answer.lock().unwrap().take() {
            answer.answer(());
            tell.send(is_here.recv_timeout(LONG)).unwrap();
        }
    });
    {
        let mut room = pin!(items.ready());
        assert!(room.as_mut().poll(&mut Task::from_waker(&asks)).is_pending());
        gate.open();
        told.recv_timeout(2 * LONG).unwrap().expect("the answer is read meanwhile");
    }
    later.wait().unwrap();
    assert!(items.finish().unwrap() > 1);
    drop(neck);
}

/// Red when whoever has ended the outer call counts as one who is about to hand its end over while it ends the inner
/// one: the drop waits for that, and that for the drop.
fn p_24_a_waker_may_drop_the_head_whose_call_has_ended_its_own(kind: Kind) {
    // Longer than a test may take.
    let config = Config::new().grace(10 * HANG);
    let (head, neck) = kind.ends_with(Head::builder().config(config).serve(silent("b")), Neck::builder());
    let held = Arc::new(Mutex::new(None));
    let ((tell, told), gate, theirs) = (unbounded(), Gate::default(), held.clone());
    let closed = gate.clone();
    let outer = move |cx: &Context, (): ()| {
        let (theirs, tell) = (theirs.clone(), tell.clone());
        let mut inner = cx.api("b").action("never", ()).timeout(Timeout::Never).start::<()>()?;
        let drops = waker(move || {
            let head: Option<Head> = theirs.lock().unwrap().take();
            drop(head);
            tell.send(()).unwrap();
        });
        poll(&mut inner, &drops);
        closed.pass();
        Ok::<_, Fault>(())
    };
    let neck = neck.serve(Api::new("a").handle("outer", outer).unwrap()).unwrap().start();
    let call = head.api("a").action("outer", ()).timeout(Timeout::Never).start::<()>().unwrap();
    gate.await_waiting(1);
    *held.lock().unwrap() = Some(head);
    call.cancel();
    told.recv_timeout(LONG).unwrap();
    gate.open();
    drop(neck);
}
