//! Who hands over whose messages.

use std::time::Duration;

use super::*;
use crate::{
    Api, Config, Context, Head, LinkState, Neck,
    sync::{AtomicUsize, Ordering, feed, starve},
};

const EVENTS: usize = 1000;

/// Two ends, with so many events of one of them that nobody has handed over yet.
fn with_a_queue(name: &str) -> (Head, Neck, Arc<AtomicUsize>) {
    let came = Arc::new(AtomicUsize::new(0));
    let counts = came.clone();
    let api = Api::new("a").handle("count", move |_: &Context, (): ()| {
        counts.fetch_add(1, Ordering::SeqCst);
        Ok::<_, crate::Fault>(())
    });
    let config = Config::new().name(name);
    let (head, neck) = Head::builder().config(config).in_process().unwrap();
    let neck = neck.serve(api.unwrap()).unwrap().start();
    assert_eq!(head.wait_open(Duration::from_secs(30)), LinkState::Open);
    let link = head.endpoint().0.link().unwrap();
    link.core.lock().sending = true;
    (0..EVENTS).for_each(|_| head.api("a").action("count", ()).fire().unwrap());
    link.core.lock().sending = false;
    (head, neck, came)
}

fn n_waiting(head: &Head) -> usize {
    head.endpoint().0.link().unwrap().core.lock().state.n_waiting()
}

fn await_all(came: &AtomicUsize) {
    let patience = Instant::now() + Duration::from_secs(30);
    while came.load(Ordering::SeqCst) < EVENTS {
        assert!(Instant::now() < patience, "{} came", came.load(Ordering::SeqCst));
        std::thread::yield_now();
    }
}

/// Red when whoever sends hands over all that there is: while another thread floods the link, that has no end.
#[test]
fn p_04_whoever_sends_hands_over_so_many_messages_and_no_more() {
    let (head, neck, came) = with_a_queue("handing-over");
    let link = head.endpoint().0.link().unwrap();
    let inline = link.deliver(link.core.lock());
    assert_eq!(n_waiting(&head), EVENTS - AT_MOST);
    assert!(inline.rest.is_some(), "who goes on?");
    inline.run_elsewhere();
    await_all(&came);
    drop((head, neck));
}

/// Red when messages are left to a thread that is not to be had.
#[test]
fn p_20_without_another_thread_whoever_sends_hands_all_over() {
    const NAME: &str = "handing-over-alone";
    let (head, neck, came) = with_a_queue(NAME);
    let link = head.endpoint().0.link().unwrap();
    starve(NAME);
    link.deliver(link.core.lock()).run_elsewhere();
    assert_eq!(n_waiting(&head), 0);
    feed(NAME);
    await_all(&came);
    drop((head, neck));
}
