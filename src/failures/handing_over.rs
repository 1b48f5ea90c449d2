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
