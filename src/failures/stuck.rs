//! A peer that acknowledges what it does not read, and no thread to wait for it.

use std::io;

use super::*;
use crate::transport::FrameSender;

/// The way out, in which there is no room from some time on.
struct Stuck(Box<dyn FrameSender>, Arc<AtomicBool>);

impl FrameSender for Stuck {
    fn send(&mut self, packet: &[u8]) -> io::Result<()> {
        self.0.send(packet)
    }

    fn try_send(&mut self, packet: &[u8]) -> io::Result<bool> {
        if self.1.load(Ordering::SeqCst) {
            return Ok(false);
        }
        self.0.try_send(packet)
    }

    fn go_on(&mut self, until: Instant) -> io::Result<bool> {
        thread::sleep(until.saturating_duration_since(Instant::now()));
        Ok(!self.1.load(Ordering::SeqCst))
    }
}

/// Red when whoever sends waits for such a peer itself: a caller, the keeper, or whoever drops the Head.
#[test]
fn p_17_where_no_thread_can_wait_for_a_peer_that_lies_nobody_does() {
    watched(|| {
        const NAME: &str = "no-thread-to-send";
        for blocks in [true, false] {
            let (ours, theirs) = memory_pair();
            let is_stuck = Arc::new(AtomicBool::new(false));
            let ours = Transport { sender: Box::new(Stuck(ours.sender, is_stuck.clone())), ..ours };
            let config = Config::new().name(NAME).grace(Duration::from_millis(100));
            let head = Head::builder().config(config).over(ours).unwrap();
            let neck = Neck::builder().serve(api("a")).over(theirs).unwrap().start();
            assert_eq!(head.wait_open(LONG), LinkState::Open);
            // A thread leads, and is to have no other beside it.
            within(LONG, NAME, || head.n_threads() == 1);
            starve(NAME);
            is_stuck.store(true, Ordering::SeqCst);
            if blocks {
                let end = head.api("a").action("echo", 1u64).timeout(LONG).call::<u64>();
                assert!(matches!(end.unwrap_err().close_reason(), Some(CloseReason::Io(_))));
            }
            drop(head);
            feed(NAME);
            drop(neck);
        }
    });
}
