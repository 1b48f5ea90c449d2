//! What is published while nothing can be sent, and no thread is to be had for sending it later.

use std::io;

use super::*;
use crate::{
    error::Rejection,
    transport::{FrameReceiver, Received},
};

/// The way in of a side that does not read for a while.
struct Shut {
    inner: Box<dyn FrameReceiver>,
    is_shut: Arc<AtomicBool>,
}

impl FrameReceiver for Shut {
    fn receive(&mut self, deadline: Option<Instant>) -> io::Result<Received> {
        let received = self.inner.receive(deadline);
        within(LONG, "it reads again", || !self.is_shut.load(Ordering::SeqCst));
        received
    }

    fn try_receive(&mut self) -> io::Result<Option<Received>> {
        self.inner.try_receive()
    }
}

/// Red when what waits for its turn is sent by a thread that waits for room: without one, that is the publisher.
#[test]
fn p_12_a_publisher_waits_for_nobody_where_there_is_no_thread() {
    watched(|| {
        const NAME: &str = "no-thread-to-publish";
        let (ours, theirs) = memory_pair();
        let is_shut = Arc::new(AtomicBool::new(false));
        let receiver = Box::new(Shut { inner: ours.receiver, is_shut: is_shut.clone() });
        let head = Head::builder().over(Transport { receiver, ..ours }).unwrap();
        let numbers = Topic::<u64>::new();
        let config = Config::new().name(NAME).send_queue(1).grace(Duration::from_millis(100));
        let neck = Neck::builder().config(config).serve(Api::new("news").topic("numbers", &numbers).unwrap());
        let neck = neck.over(theirs).unwrap().start();
        let mut news = head.subscribe::<u64>("news.numbers", Backlog::default()).unwrap();
        within(LONG, "one thread leads", || neck.n_threads() == 1);
        starve(NAME);
        is_shut.store(true, Ordering::SeqCst);
        let fill = || neck.api("nothing").action("there", ()).fire();
        while !matches!(fill(), Err(CallError::Rejected(Rejection::Busy { .. }))) {}
        let (tell, told) = mpsc::channel();
        let publisher = thread::spawn(move || {
            (0..20).for_each(|n| assert_eq!(numbers.publish(n).taken, 1));
            tell.send(()).unwrap();
            numbers
        });
        let published = told.recv_timeout(LONG / 2);
        is_shut.store(false, Ordering::SeqCst);
        assert!(published.is_ok(), "it waits for a peer that does not read");
        for n in 0..20 {
            assert_eq!(news.next_timeout(LONG).unwrap(), Some(n));
        }
        feed(NAME);
        drop((publisher.join(), news, head, neck));
    });
}
