//! What is left to a thread that has gone into the transport meanwhile.

use std::io;

use super::*;
use crate::transport::{FrameReceiver, Received};

/// The way in, which tells who waits there, and makes one packet of what has come.
struct Joins {
    inner: Box<dyn FrameReceiver>,
    /// A thread other than the caller waits.
    leads: Arc<AtomicBool>,
    /// The next packet holds all that is sent until this is told.
    joins: Arc<AtomicBool>,
    sent: mpsc::Receiver<()>,
    calls: mpsc::Sender<()>,
}

impl FrameReceiver for Joins {
    fn receive(&mut self, deadline: Option<Instant>) -> io::Result<Received> {
        let calls = thread::current().name() == Some(CALLER);
        if calls {
            let _ = self.calls.send(());
        }
        self.leads.store(!calls, Ordering::SeqCst);
        let received = self.inner.receive(deadline);
        self.leads.store(false, Ordering::SeqCst);
        match received? {
            Received::Packet(mut packet) if self.joins.swap(false, Ordering::SeqCst) => {
                self.sent.recv_timeout(LONG).unwrap();
                while let Some(Received::Packet(more)) = self.inner.try_receive()? {
                    packet.extend(more);
                }
                Ok(Received::Packet(packet))
            }
            other => Ok(other),
        }
    }

    fn try_receive(&mut self) -> io::Result<Option<Received>> {
        self.inner.try_receive()
    }
}

/// The leader has given the role up to a caller, and hands out what came with the inline call that this caller is to
/// run. Red when the caller is not brought out of the transport, where nothing comes any more.
#[test]
fn p_09_an_inline_call_that_is_left_to_a_caller_reaches_it_in_the_transport() {
    watched(|| {
        const NAME: &str = "unread";
        let (ours, theirs) = memory_pair();
        let (leads, joins) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let ((tell, sent), (calls, is_inside)) = (mpsc::channel(), mpsc::channel());
        let receiver =
            Joins { inner: ours.receiver, leads: leads.clone(), joins: joins.clone(), sent, calls };
        let ours = Transport { receiver: Box::new(receiver), ..ours };
        let is_inside = std::sync::Mutex::new(is_inside);
        // There is no thread for the second one: the leader runs it, before it comes to the inline one.
        let slow = move |_: &Context, (): ()| {
            is_inside.lock().unwrap().recv_timeout(LONG).unwrap();
            Ok::<_, Fault>(())
        };
        let head = Head::builder()
            .config(Config::new().name(NAME).grace(Duration::from_millis(100)))
            .serve(Api::new("first").handle("slow", |_: &Context, (): ()| Ok::<_, Fault>(())).unwrap())
            .serve(Api::new("second").handle("slow", slow).unwrap())
            .serve(
                Api::new("inline")
                    .inline()
                    .handle("one", |_: &Context, (): ()| Ok::<_, Fault>(1u32))
                    .unwrap(),
            )
            .over(ours)
            .unwrap();
        let tell = std::sync::Mutex::new(tell);
        let calls_back = move |cx: &Context, (): ()| {
            cx.api("first").action("slow", ()).fire()?;
            cx.api("second").action("slow", ()).fire()?;
            let one = cx.api("inline").action("one", ()).timeout(Timeout::Never).start::<u32>()?;
            tell.lock().unwrap().send(()).unwrap();
            Ok::<_, Fault>(one.wait()?)
        };
        let neck = Neck::builder().serve(Api::new("a").handle("calls_back", calls_back).unwrap());
        let neck = neck.over(theirs).unwrap().start();
        assert_eq!(head.wait_open(LONG), LinkState::Open);
        within(LONG, "one thread leads", || head.n_threads() == 1 && leads.load(Ordering::SeqCst));
        starve(NAME);
        joins.store(true, Ordering::SeqCst);
        let action = head.api("a").action("calls_back", ()).timeout(Timeout::Never);
        let caller = thread::Builder::new().name(CALLER.into()).spawn(move || action.call::<u32>()).unwrap();
        assert_eq!(caller.join().unwrap().unwrap(), 1);
        feed(NAME);
        drop((head, neck));
    });
}

const CALLER: &str = "caller";
