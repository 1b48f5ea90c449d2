//! Whose time the keeper of a link watches while it has something of the user's to run.

use super::*;
use crate::config::Limits;

fn config(name: &str) -> Config {
    Config::new().name(name).grace(SOON / 5)
}

/// One in one process, and one over each way in which frames move. All threads of both ends may be starved.
fn links(names: [&'static str; 5]) -> impl Iterator<Item = (&'static str, Head, Neck)> {
    let near = |name: &'static str| {
        let neck = Neck::builder().config(config(name));
        Head::builder().config(config(name)).in_process_with(neck).unwrap()
    };
    let over = |pair: fn() -> (Transport, Transport), name: &'static str| {
        let (ours, theirs) = pair();
        let head = Head::builder().config(config(name)).over(ours).unwrap();
        (head, Neck::builder().config(config(name)).over(theirs).unwrap())
    };
    names.into_iter().enumerate().map(move |(which, name)| {
        let (head, neck) = if which == 0 { near(name) } else { over(PAIRS[which - 1], name) };
        let neck = neck.serve(api("a")).unwrap().start();
        assert_eq!(head.wait_open(LONG), LinkState::Open);
        // Those of the start go; over a wire one of each end stays, to read.
        let n = usize::from(which > 0);
        within(LONG, name, || head.n_threads() == n && neck.n_threads() == n);
        (name, head, neck)
    })
}

fn never(head: &Head, timeout: Duration) -> crate::api::Action<()> {
    head.api("a").action("never", ()).timeout(timeout)
}

/// A callback that waits for a call which is late after its own, and for as long as that takes. It tells in which order
/// both end.
fn waits_for_a_later_one(head: &Head) -> (AsyncResult<()>, mpsc::Receiver<bool>) {
    let (tell, told) = mpsc::channel();
    let later = never(head, 2 * SOON).start().unwrap();
    let is_late = later.ready();
    let callback = move |_: Result<(), CallError>| {
        let _ = tell.send(is_late.recv_timeout(LONG / 2).is_ok());
    };
    never(head, SOON / 2).then(callback).unwrap();
    (later, told)
}

/// There is no thread for the callback. Red when the keeper runs it and watches no clock meanwhile.
#[test]
fn p_04_a_callback_for_which_there_is_no_thread_holds_up_nobodys_clock() {
    watched(|| {
        let names = ["kl-back-a", "kl-back-b", "kl-back-c", "kl-back-d", "kl-back-e"];
        for (name, head, neck) in links(names) {
            starve(name);
            let (later, told) = waits_for_a_later_one(&head);
            let is_late = told.recv_timeout(LONG);
            feed(name);
            drop((later, head, neck));
            assert!(matches!(is_late, Ok(true)), "{name}: {is_late:?}");
        }
    });
}

struct Blocks(mpsc::SyncSender<bool>, std::sync::Mutex<Option<crossbeam_channel::Receiver<()>>>);

impl std::task::Wake for Blocks {
    fn wake(self: Arc<Self>) {
        let is_late = self.1.lock().unwrap().take();
        let is_late = is_late.is_some_and(|is_late| is_late.recv_timeout(LONG / 2).is_ok());
        let _ = self.0.send(is_late);
    }
}

/// It should not, but it blocks. Red when the keeper calls it.
#[test]
fn p_04_a_waker_that_takes_its_time_holds_up_nobodys_clock() {
    use std::{future::Future, pin::pin};
    watched(|| {
        let names = ["kl-wake-a", "kl-wake-b", "kl-wake-c", "kl-wake-d", "kl-wake-e"];
        for (name, head, neck) in links(names) {
            let (tell, told) = mpsc::sync_channel(1);
            let later = never(&head, 2 * SOON).start::<()>().unwrap();
            let waker = Arc::new(Blocks(tell, std::sync::Mutex::new(Some(later.ready()))));
            let mut first = pin!(never(&head, SOON / 2).start::<()>().unwrap());
            let waker = std::task::Waker::from(waker);
            assert!(first.as_mut().poll(&mut std::task::Context::from_waker(&waker)).is_pending(), "{name}");
            let is_late = told.recv_timeout(LONG);
            drop((later, head, neck));
            assert!(matches!(is_late, Ok(true)), "{name}: {is_late:?}");
        }
    });
}

/// No thread at all is to be had. Red when a call sets out while the one that would watch its time is in a callback, or
/// when that one does not watch again.
#[test]
fn p_04_a_keeper_that_runs_a_callback_is_none_until_that_has_ended() {
    watched(|| {
        let names = ["kl-none-a", "kl-none-b", "kl-none-c", "kl-none-d", "kl-none-e"];
        let keepers = [
            "kl-none-a-keeper",
            "kl-none-b-keeper",
            "kl-none-c-keeper",
            "kl-none-d-keeper",
            "kl-none-e-keeper",
        ];
        for ((name, head, neck), keeper) in links(names).zip(keepers) {
            let ((tell, told), (go, may_go)) = (mpsc::channel(), mpsc::channel::<()>());
            let callback = move |_: Result<(), CallError>| {
                let _ = tell.send(());
                let _ = may_go.recv_timeout(LONG / 2);
            };
            never(&head, SOON / 2).then(callback).unwrap();
            starve(name);
            starve(keeper);
            told.recv_timeout(LONG).unwrap();
            let meanwhile = never(&head, SOON / 5).start::<()>();
            go.send(()).unwrap();
            let link = head.endpoint().0.link().unwrap();
            within(LONG, name, || link.has_keeper());
            let is_late = never(&head, SOON / 5).start::<()>().unwrap().ready().recv_timeout(LONG / 2);
            feed(keeper);
            feed(name);
            drop((head, neck));
            let detail = "no thread to watch its time";
            assert!(
                matches!(&meanwhile, Err(CallError::Rejected(Rejection::Busy { detail: it, .. })) if it.starts_with(detail)),
                "{name}: {meanwhile:?}"
            );
            assert!(is_late.is_ok(), "{name}: nobody watches");
        }
    });
}

/// A call that waited for the late one leaves, and there is no thread for its handler. Red when the keeper runs that before
/// it has ended the late call, or watches no clock meanwhile.
#[test]
fn p_04_a_handler_for_which_there_is_no_thread_holds_up_nobodys_clock() {
    watched(|| {
        const NAME: &str = "kl-handler";
        let ((tell, has_begun), (go, may_go)) = (mpsc::channel(), mpsc::channel::<()>());
        let may_go = std::sync::Mutex::new(may_go);
        let gate = move |_: &Context, (): ()| {
            let _ = tell.send(());
            let _ = may_go.lock().unwrap().recv_timeout(LONG / 2);
            Ok::<_, Fault>(())
        };
        let config = || config(NAME).limits(Limits::new().in_flight(1));
        let neck = Neck::builder().config(config());
        let (head, neck) = Head::builder().config(config()).in_process_with(neck).unwrap();
        let neck = neck.serve(api("a").handle("gate", gate).unwrap()).unwrap().start();
        assert_eq!(head.wait_open(LONG), LinkState::Open);
        within(LONG, NAME, || head.n_threads() == 0 && neck.n_threads() == 0);
        starve(NAME);
        let first = never(&head, SOON).start::<()>().unwrap();
        let gated = head.api("a").action("gate", ()).timeout(Timeout::Never).start::<()>().unwrap();
        let last = never(&head, 3 * SOON).start::<()>().unwrap();
        has_begun.recv_timeout(LONG).expect("it leaves when the first is late");
        let first = first.ready().recv_timeout(LONG / 4);
        let last = last.ready().recv_timeout(LONG / 4);
        go.send(()).unwrap();
        feed(NAME);
        drop(gated);
        drop((head, neck));
        assert!(first.is_ok() && last.is_ok(), "{first:?} {last:?}");
    });
}
