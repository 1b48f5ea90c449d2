//! Who hands messages over within a process, and how many.

use super::*;
use crate::link::Link;

const EVENTS: usize = 1000;
/// So many are for one thread.
const AT_MOST: usize = 256;

/// Two ends, with so many events of one of them that nobody has handed over yet.
fn with_a_queue(name: &str) -> (Head, Neck, Arc<Link>, mpsc::Receiver<()>) {
    let (tell, told) = mpsc::channel();
    let api = Api::new("a").handle("count", move |_: &Context, (): ()| {
        tell.send(()).unwrap();
        Ok::<_, Fault>(())
    });
    let (head, neck) = Head::builder().config(Config::new().name(name)).in_process().unwrap();
    let neck = neck.serve(api.unwrap()).unwrap().start();
    assert_eq!(head.wait_open(LONG), LinkState::Open);
    let link = head.endpoint().0.link().unwrap();
    link.hold_back(true);
    (0..EVENTS).for_each(|_| head.api("a").action("count", ()).fire().unwrap());
    link.hold_back(false);
    (head, neck, link, told)
}

/// Red when whoever sends hands over all that there is: while another thread floods the link, that has no end.
#[test]
fn p_04_whoever_sends_hands_over_so_many_messages_and_no_more() {
    watched(|| {
        let (head, neck, link, told) = with_a_queue("handing-over");
        assert_eq!(link.hand_over_once(), EVENTS - AT_MOST);
        (0..EVENTS).for_each(|_| told.recv_timeout(LONG).unwrap());
        drop((head, neck));
    });
}

/// Red when messages are left to a thread that is not to be had.
#[test]
fn p_20_without_another_thread_whoever_sends_hands_all_over() {
    watched(|| {
        const NAME: &str = "handing-over-alone";
        let (head, neck, link, told) = with_a_queue(NAME);
        starve(NAME);
        link.hand_over_once();
        assert_eq!(link.hand_over_once(), 0, "nobody else does it");
        feed(NAME);
        (0..EVENTS).for_each(|_| told.recv_timeout(LONG).unwrap());
        drop((head, neck));
    });
}

/// A value that waits for the end of a link when it goes, and says how that link is then.
struct Waits(Endpoint, mpsc::Sender<LinkState>);

impl serde::Serialize for Waits {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_unit()
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        let _ = self.1.send(self.0.wait_closed(LONG));
    }
}

/// Red when whoever closes one end drops what waits at the other, before its own is over.
#[test]
fn p_24_what_waits_at_the_other_end_may_wait_for_the_end_of_this_one() {
    watched(|| {
        let (head, neck) = Head::in_process().unwrap();
        let neck = neck.serve(Api::new("a")).unwrap().start();
        assert_eq!(head.wait_open(LONG), LinkState::Open);
        let theirs = neck.endpoint().0.link().unwrap();
        let (tell, told) = mpsc::channel();
        theirs.hold_back(true);
        neck.api("b").action("nothing", Waits(head.endpoint().clone(), tell)).fire().unwrap();
        head.close();
        let state = told.recv_timeout(2 * LONG).unwrap();
        drop((head, neck));
        assert_eq!(state, LinkState::Closed);
    });
}
