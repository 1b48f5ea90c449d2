//! Peers that come and go while there is no thread for them, or while somebody else ends them; and a Neck for which
//! there is no thread that ends it with its Head.

use super::*;
use crate::{listener::Listener, socket::Token};

/// A listener over TCP, and what makes the Necks that visit it.
fn listen(name: &str, grace: Duration, arrival: impl Fn() + Send + Sync + 'static) -> (Listener, Token) {
    let config = Config::new().name(name).grace(grace);
    let builder = Head::builder().config(config).serve(api("a")).listening();
    let listener = builder.on_arrival(move |_| arrival()).listen("tcp:127.0.0.1:0").unwrap();
    let token = *listener.token().unwrap();
    (listener, token)
}

fn visit(listener: &Listener, token: Token) -> Result<Neck, Error> {
    let builder = Neck::builder().config(Config::new().name("other")).token(token);
    builder.connect(listener.address().clone()).map(Neck::start)
}

/// Red when whoever closes goes by what it saw of the peers before: somebody else has taken them meanwhile, who has
/// time.
#[test]
fn p_24_closing_beside_a_shutting_down_that_begins_closes_every_peer() {
    watched(|| {
        let (listener, token) = listen(NAME, LONG / 6, || ());
        let listener = Arc::new(listener);
        let necks: Vec<_> = (0..4).map(|_| visit(&listener, token).unwrap()).collect();
        let echo = |neck: &Endpoint| neck.api("a").action("echo", 1u64).timeout(LONG).call::<u64>();
        let calls = necks.iter().map(|neck| {
            let never = neck.api("a").action("never", ()).timeout(Timeout::Never).start::<()>().unwrap();
            // It came behind the other one.
            assert_eq!(echo(neck).unwrap(), 1);
            never
        });
        let calls: Vec<_> = calls.collect();
        let (tell, told) = mpsc::channel();
        let (theirs, ends) = (listener.clone(), necks.iter().map(|neck| neck.endpoint().clone()));
        let ends: Vec<_> = ends.collect();
        do_once("a listener that ends", NAME, move || {
            thread::spawn(move || tell.send(theirs.shut_down(4 * LONG)).unwrap());
            let is_told = |end| matches!(echo(end), Err(CallError::Rejected(Rejection::ShuttingDown)));
            ends.iter().for_each(|end| within(LONG, "it is shut down", || is_told(end)));
        });
        listener.close();
        assert!(!is_to_fail(), "nobody has come there");
        assert_eq!(listener.peers().len(), 0, "they are shut down, and not closed");
        assert!(!told.recv_timeout(LONG).unwrap(), "calls were cut off");
        calls.into_iter().for_each(|call| drop(call.wait().unwrap_err()));
    });
}

/// Red when the thread at the door runs what is the user's: nobody else comes in then.
#[test]
fn p_20_a_peer_for_whom_there_is_no_second_thread_is_turned_away() {
    watched(|| {
        const NAME: &str = "crowded";
        let (tell, told) = mpsc::channel();
        let arrival = move || tell.send(thread::current().name().map(str::to_owned)).unwrap();
        let (listener, token) = listen(NAME, SOON, arrival);
        do_once("a listener that lets in", NAME, || starve(NAME));
        // It may have gone again before it is greeted.
        if let Ok(neck) = visit(&listener, token) {
            assert_eq!(neck.wait_closed(LONG), LinkState::Closed);
        }
        assert!(!is_to_fail(), "nobody has come there");
        within(LONG, "it is seen off", || listener.peers().is_empty() && listener.n_turned_away() == 1);
        feed(NAME);
        assert_eq!(told.try_recv().ok(), None, "a hook has run at the door");
        let neck = visit(&listener, token).unwrap();
        assert_eq!(neck.api("a").action("echo", 7u64).timeout(LONG).call::<u64>().unwrap(), 7);
        assert_ne!(told.recv_timeout(LONG).unwrap().unwrap(), format!("{NAME}-listener"));
        assert_eq!(listener.n_turned_away(), 1);
    });
}

/// Red when a Neck that cannot be had leaves its link: the Head waits for it, and a thread reads.
#[test]
fn p_20_a_neck_that_cannot_be_tied_to_its_head_leaves_no_link() {
    watched(|| {
        for wire in [Wire::Ipc, Wire::Pipe, Wire::Shm] {
            let mut command = child();
            command.env(CHILD, UNTIED);
            let config = Config::new().start_timeout(LONG / 3);
            let error = Head::builder().config(config).wire(wire).spawn(command).map(drop).unwrap_err();
            let Error::Start(StartError::Refused { reason, .. }) = &error else { panic!("{error:?}") };
            assert!(matches!(**reason, CloseReason::Peer), "{reason:?}");
        }
    });
}

/// A child that gets no Neck, and stays.
pub(super) fn be_untied() -> ! {
    let n_threads = || fs::read_dir("/proc/self/task").unwrap().count();
    let before = n_threads();
    starve("nape-lifeline");
    Neck::from_env().map(drop).unwrap_err();
    within(LONG, "its threads are gone", || n_threads() <= before);
    loop {
        thread::park();
    }
}

/// Says to a child that it is to be that one.
pub(super) const UNTIED: &str = "untied";
