//! A thread of the library that does not come back is waited for no longer than was asked for.

use super::*;

/// Red when dropping waits for the thread, which may be in a logger, however long that takes.
#[test]
fn p_24_dropping_does_not_wait_for_a_watchdog_that_is_held_up() {
    watched(|| {
        let config =
            Config::new().name(NAME).watchdog(Duration::from_millis(10)).grace(Duration::from_millis(50));
        let (head, neck) = Head::builder().config(config).in_process().unwrap();
        let _neck = neck.start();
        let (stands, is_there) = mpsc::channel();
        let (go, may_go) = mpsc::channel::<()>();
        do_once("a watchdog that looks", NAME, move || {
            stands.send(()).unwrap();
            let _ = may_go.recv_timeout(LONG);
        });
        is_there.recv_timeout(LONG).unwrap();
        let began = Instant::now();
        let end = head.endpoint().clone();
        drop(head);
        assert!(began.elapsed() < LONG / 10, "{:?}", began.elapsed());
        assert_eq!(end.counters().threads_left_behind, 1);
        drop(go);
    });
}
