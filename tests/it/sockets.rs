//! Programs that run already and meet: over a Unix socket with a name, and over TCP on the loopback.

mod doors;
mod ends;
mod strangers;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use crossbeam_channel::unbounded;
use nape::{
    Address, Api, Backlog, CallError, Config, Context, Endpoint, Fault, Head, HeadBuilder, LinkState,
    Listener, ListenerBuilder, Neck, NeckBuilder, Payload, StartError, Token, Topic,
};

use crate::tools::{Gate, LONG, eventually};

/// Makes a test of each function for each kind of address.
macro_rules! at_every_address {
    ($($test:ident),* $(,)?) => {
        mod unix { $(#[test] fn $test() { $crate::support::watched(|| super::$test($crate::sockets::Where::unix())) })* }
        mod tcp { $(#[test] fn $test() { $crate::support::watched(|| super::$test($crate::sockets::Where::tcp())) })* }
    };
}
pub(crate) use at_every_address;

at_every_address! {
    a_head_listens_and_both_call_and_serve,
    a_neck_listens_and_both_call_and_serve,
    a_hundred_peers_at_once_are_served_and_called,
    one_more_than_the_limit_is_told_that_it_is_busy,
    peers_are_accepted_in_order_and_once,
    a_hook_sees_each_peer_before_it_can_call,
    a_hook_that_panics_or_closes_lets_nobody_in,
    what_starts_slowly_for_one_peer_holds_up_no_other,
    one_for_whom_nothing_starts_is_not_let_in,
    a_departure_is_told_once_and_frees_the_place,
    a_topic_reaches_all_peers,
    large_messages_cross_both_ways,
    what_one_peer_does_holds_up_no_other,
}

/// Where the programs of one test meet.
pub(crate) struct Where {
    directory: Option<PathBuf>,
    address: Address,
    token: Option<Token>,
}

impl Where {
    pub(crate) fn unix() -> Where {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("nape-meet-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        let address = Address::unix(path.join("a.sock")).unwrap();
        Where { directory: Some(path), address, token: None }
    }

    pub(crate) fn tcp() -> Where {
        let address = "tcp:127.0.0.1:0".parse().unwrap();
        Where { directory: None, address, token: Some(Token::random().unwrap()) }
    }

    /// The same place for those who know where it is by now.
    fn of(&self, listener: &Listener) -> Address {
        assert_eq!(listener.address().path(), self.address.path());
        listener.address().clone()
    }

    fn head(&self) -> HeadBuilder {
        self.token.into_iter().fold(Head::builder(), HeadBuilder::token)
    }

    fn neck(&self) -> NeckBuilder {
        self.token.into_iter().fold(Neck::builder(), NeckBuilder::token)
    }

    /// A Head that listens here.
    fn listen(&self, builder: ListenerBuilder) -> Listener {
        builder.listen(&self.address).unwrap()
    }

    /// A Neck that has connected and started.
    fn visit(&self, listener: &Listener) -> Neck {
        self.neck().connect(self.of(listener)).unwrap().start()
    }
}

impl Drop for Where {
    fn drop(&mut self) {
        let Some(directory) = &self.directory else { return };
        let left = fs::remove_dir(directory);
        if !thread::panicking() {
            left.expect("something is left");
        }
    }
}

/// Gives back what it is sent, with the name of the side.
fn echo(name: &'static str) -> Api {
    Api::new(name).handle("echo", |_: &Context, n: u64| Ok::<_, Fault>(n)).unwrap()
}

fn call(end: &Endpoint, name: &str, n: u64) -> Result<u64, CallError> {
    end.api(name).timeout(LONG).action("echo", n).call()
}

/// Why a side was not let in.
#[track_caller]
fn refusal<T>(outcome: nape::Result<T>) -> nape::CloseReason {
    match outcome.err().expect("it was let in") {
        nape::Error::Start(StartError::NotMet { reason, .. }) => (*reason).clone(),
        other => panic!("{other:?}"),
    }
}

fn a_head_listens_and_both_call_and_serve(place: Where) {
    let listener = place.listen(place.head().serve(echo("head")).listening());
    let neck = place.neck().serve(echo("neck")).connect(place.of(&listener)).unwrap();
    let neck = neck.serve(echo("more")).unwrap().start();
    assert_eq!(call(&neck, "head", 1).unwrap(), 1);
    let peer = listener.accept(LONG).unwrap();
    assert_eq!(call(&peer, "neck", 2).unwrap(), 2);
    assert_eq!(call(&peer, "more", 3).unwrap(), 3);
    assert_eq!(peer.credentials().is_some(), place.directory.is_some());
    if let Some(credentials) = peer.credentials() {
        assert_eq!(credentials.pid, Some(std::process::id()));
        assert_eq!(credentials.uid, rustix::process::geteuid().as_raw());
    }
    assert_eq!((peer.state(), neck.state()), (LinkState::Open, LinkState::Open));
    neck.close();
    eventually(|| listener.peers().is_empty());
    assert!(matches!(call(&peer, "neck", 4), Err(CallError::Closed { .. })));
}

fn a_neck_listens_and_both_call_and_serve(place: Where) {
    let listener = place.listen(place.neck().serve(echo("neck")).listening());
    let head = place.head().serve(echo("head")).connect(place.of(&listener)).unwrap();
    assert_eq!(head.child_id(), None);
    assert_eq!(call(&head, "neck", 1).unwrap(), 1);
    let peer = listener.accept(LONG).unwrap();
    assert_eq!(call(&peer, "head", 2).unwrap(), 2);
    drop(listener);
    let error = call(&head, "neck", 3).unwrap_err();
    assert!(matches!(error.close_reason(), Some(nape::CloseReason::Peer)), "{error:?}");
}

fn a_hundred_peers_at_once_are_served_and_called(place: Where) {
    let listener = place.listen(place.head().serve(echo("head")).listening().max_peers(100));
    let address = place.of(&listener);
    let necks: Vec<Neck> = thread::scope(|scope| {
        let connect = || place.neck().serve(echo("neck")).connect(&address).unwrap().start();
        let threads: Vec<_> = (0..100).map(|_| scope.spawn(connect)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    thread::scope(|scope| {
        for (number, neck) in (0..).zip(&necks) {
            scope.spawn(move || {
                (0..20).for_each(|n| assert_eq!(call(neck, "head", n + number).unwrap(), n + number))
            });
        }
        for peer in listener.peers() {
            scope.spawn(move || assert_eq!(call(&peer, "neck", peer.id()).unwrap(), peer.id()));
        }
    });
    let mut ids: Vec<_> = listener.peers().iter().map(nape::Peer::id).collect();
    assert_eq!(ids, (1..=100).collect::<Vec<_>>());
    // Half of them go, and the other half does not notice.
    let (gone, left): (Vec<_>, Vec<_>) = (0..).zip(necks).partition(|(number, _)| number % 2 == 0);
    thread::scope(|scope| gone.into_iter().for_each(|(_, neck)| drop(scope.spawn(move || drop(neck)))));
    eventually(|| listener.peers().len() == 50);
    for (_, neck) in &left {
        assert_eq!(call(neck, "head", 7).unwrap(), 7);
    }
    ids.retain(|id| listener.peers().iter().any(|peer| peer.id() == *id));
    assert_eq!(ids.len(), 50);
}

fn one_more_than_the_limit_is_told_that_it_is_busy(place: Where) {
    let listener = place.listen(place.head().serve(echo("head")).listening().max_peers(2));
    let address = place.of(&listener);
    let (first, second) = (place.visit(&listener), place.visit(&listener));
    let third = refusal(place.neck().connect(&address));
    assert!(matches!(third, nape::CloseReason::TurnedAway(nape::TurnedAway::Busy)), "{third}");
    assert_eq!(listener.n_turned_away(), 1);
    assert_eq!((call(&first, "head", 1).unwrap(), call(&second, "head", 2).unwrap()), (1, 2));
    drop(first);
    // Its place is free once everything of it has ended.
    eventually(|| place.neck().connect(&address).is_ok());
}

fn peers_are_accepted_in_order_and_once(place: Where) {
    let listener = place.listen(place.head().listening());
    assert!(listener.accept(Duration::from_millis(10)).is_none());
    // Each comes once the one before is let in.
    let let_in = |neck: Neck| {
        assert_eq!(neck.wait_open(LONG), LinkState::Open);
        neck
    };
    let necks: Vec<_> = (0..3).map(|_| let_in(place.visit(&listener))).collect();
    eventually(|| listener.peers().len() == 3);
    assert_eq!(listener.accept(LONG).unwrap().id(), 1);
    drop(necks);
    eventually(|| listener.peers().is_empty());
    // Those who have gone are not told of.
    let _neck = place.visit(&listener);
    assert_eq!(listener.accept(LONG).unwrap().id(), 4);
    assert!(listener.accept(Duration::ZERO).is_none());
    thread::scope(|scope| {
        let waiting = scope.spawn(|| listener.accept(Duration::MAX));
        listener.close();
        assert!(waiting.join().unwrap().is_none());
        listener.wait();
    });
}

fn a_hook_sees_each_peer_before_it_can_call(place: Where) {
    let (tell, told) = unbounded();
    let gate = crate::tools::Gate::default();
    let theirs = gate.clone();
    let listener = place.listen(place.head().serve(echo("all")).listening().on_arrival(move |peer| {
        let id = peer.id();
        theirs.pass();
        let own = Api::new("own").handle("id", move |_: &Context, _: ()| Ok::<_, Fault>(id)).unwrap();
        peer.attach(own).unwrap();
        tell.send(id).unwrap();
    }));
    let (first, second) = (place.visit(&listener), place.visit(&listener));
    let asked = first.api("own").action("id", ()).timeout(LONG).start::<u64>().unwrap();
    // Both hooks are at it: nobody waits for another.
    gate.await_waiting(2);
    assert!(told.try_recv().is_err());
    gate.open();
    assert_eq!(asked.wait().unwrap(), 1);
    assert_eq!(second.api("own").action("id", ()).call::<u64>().unwrap(), 2);
    assert_eq!(call(&second, "all", 5).unwrap(), 5);
    let mut seen = [told.recv().unwrap(), told.recv().unwrap()];
    seen.sort_unstable();
    assert_eq!(seen, [1, 2]);
    // It may call, too, as soon as the other one has started.
    let (tell, told) = unbounded();
    drop(listener);
    let listener = place.listen(place.head().listening().on_arrival(move |peer| {
        tell.send(call(peer, "neck", 9)).unwrap();
    }));
    let neck = place.neck().serve(echo("neck")).connect(place.of(&listener)).unwrap();
    let _neck = neck.start();
    assert_eq!(told.recv().unwrap().unwrap(), 9);
}

fn a_hook_that_panics_or_closes_lets_nobody_in(place: Where) {
    let (tell, told) = unbounded();
    let listener = place.listen(
        place
            .head()
            .serve(echo("head"))
            .listening()
            .on_arrival(|peer| match peer.id() {
                1 => panic!("a panic that is a part of the test"),
                2 => peer.close(),
                _ => {}
            })
            .on_departure(move |peer, why| tell.send((peer.id(), why.to_string())).unwrap()),
    );
    let address = place.of(&listener);
    for _ in 0..2 {
        // It may be closed before whoever connects has seen that it was let in.
        match place.neck().connect(&address) {
            Ok(neck) => assert!(matches!(call(&neck.start(), "head", 1), Err(CallError::Closed { .. }))),
            refused => assert!(matches!(refusal(refused), nape::CloseReason::Peer)),
        }
    }
    let third = place.visit(&listener);
    listener.accept(LONG).unwrap();
    assert_eq!(call(&third, "head", 3).unwrap(), 3);
    let mut gone = [told.recv().unwrap(), told.recv().unwrap()];
    gone.sort();
    assert!(gone[0].0 == 1 && gone[1].0 == 2, "{gone:?}");
    assert_eq!(listener.peers().len(), 1);
}

/// Red when what is served starts on the thread at the door.
fn what_starts_slowly_for_one_peer_holds_up_no_other(place: Where) {
    let (gate, n_started, n_stopped) =
        (Gate::default(), Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let (theirs, up, down) = (gate.clone(), n_started.clone(), n_stopped.clone());
    let start = move || {
        if up.fetch_add(1, Ordering::Relaxed) == 0 {
            theirs.pass();
        }
        Ok(())
    };
    let api = echo("head").on_start(start).on_stop(move || _ = down.fetch_add(1, Ordering::Relaxed));
    let config = Config::new().grace(Duration::from_millis(100));
    let listener = place.listen(place.head().config(config).serve(api).listening());
    let address = place.of(&listener);
    thread::scope(|scope| {
        // It is let in later, or sees the end.
        scope.spawn(|| drop(place.neck().connect(&address)));
        gate.await_waiting(1);
        let second = place.visit(&listener);
        assert_eq!(call(&second, "head", 2).unwrap(), 2);
        listener.close();
        assert!(listener.peers().is_empty());
        gate.open();
    });
    // What has started behind the end has stopped, too.
    eventually(|| n_stopped.load(Ordering::Relaxed) == 2);
    assert_eq!(n_started.load(Ordering::Relaxed), 2);
}

fn one_for_whom_nothing_starts_is_not_let_in(place: Where) {
    let (come, gone) = (unbounded(), unbounded());
    let n_started = AtomicU32::new(0);
    let start = move || match n_started.fetch_add(1, Ordering::Relaxed) {
        0 => Err(Fault::new("a failure that is a part of the test")),
        _ => Ok(()),
    };
    let listening = place.head().serve(echo("head").on_start(start)).listening();
    let listener = place.listen(
        listening
            .on_arrival(move |peer| come.0.send(peer.id()).unwrap())
            .on_departure(move |peer, _| gone.0.send(peer.id()).unwrap()),
    );
    match place.neck().connect(place.of(&listener)) {
        Ok(neck) => assert!(matches!(call(&neck.start(), "head", 1), Err(CallError::Closed { .. }))),
        refused => assert!(matches!(refusal(refused), nape::CloseReason::Peer)),
    }
    eventually(|| listener.n_turned_away() == 1 && listener.peers().is_empty());
    let second = place.visit(&listener);
    assert_eq!(call(&second, "head", 2).unwrap(), 2);
    drop((second, listener));
    assert_eq!((come.1.iter().collect::<Vec<_>>(), gone.1.iter().collect::<Vec<_>>()), (vec![2], vec![2]));
}

fn a_departure_is_told_once_and_frees_the_place(place: Where) {
    let (tell, told) = unbounded();
    let listener = place.listen(place.head().listening().on_departure(move |peer, why| {
        assert_eq!(peer.state(), LinkState::Closed);
        tell.send((peer.id(), why.clone())).unwrap();
    }));
    let first = place.visit(&listener);
    drop(first);
    let (id, why) = told.recv_timeout(LONG).unwrap();
    assert!(id == 1 && matches!(why, nape::CloseReason::Peer), "{why}");
    let second = place.visit(&listener);
    listener.accept(LONG).unwrap().close();
    let (id, why) = told.recv_timeout(LONG).unwrap();
    assert!(id == 2 && matches!(why, nape::CloseReason::Local), "{why}");
    eventually(|| second.state() == LinkState::Closed);
    let third = place.visit(&listener);
    listener.accept(LONG).unwrap();
    drop(listener);
    assert_eq!(told.recv_timeout(LONG).unwrap().0, 3);
    assert!(told.recv().is_err(), "told once more");
    eventually(|| third.state() == LinkState::Closed);
}

fn a_topic_reaches_all_peers(place: Where) {
    let news = Topic::<u64>::new();
    let api = Api::new("news").topic("numbers", &news).unwrap();
    let listener = place.listen(place.head().serve(api).listening());
    let necks: Vec<_> = (0..5).map(|_| place.visit(&listener)).collect();
    let subscribe = |neck: &Neck| neck.subscribe::<u64>("news.numbers", Backlog::drop_oldest(8)).unwrap();
    let mut readers: Vec<_> = necks.iter().map(subscribe).collect();
    eventually(|| news.n_subscriptions() == 5);
    assert_eq!(news.publish(4711).taken, 5);
    for reader in &mut readers {
        assert_eq!(reader.next().unwrap().unwrap(), 4711);
    }
    drop(necks);
    eventually(|| news.n_subscriptions() == 0);
}

fn large_messages_cross_both_ways(place: Where) {
    let back = |_: &Context, bytes: Payload| Ok::<_, Fault>(bytes);
    let api = || Api::new("large").handle("back", back).unwrap();
    let listener = place.listen(place.head().serve(api()).listening());
    let neck = place.neck().serve(api()).connect(place.of(&listener)).unwrap().start();
    let peer = listener.accept(LONG).unwrap();
    let bytes: Vec<u8> = (0..3_000_000u32).map(|n| (n ^ n >> 8) as u8).collect();
    thread::scope(|scope| {
        for end in [neck.endpoint(), peer.endpoint()] {
            let bytes = &bytes;
            scope.spawn(move || {
                for _ in 0..3 {
                    let large =
                        end.api("large").timeout(LONG).action("back", Payload::from_bytes(bytes.clone()));
                    assert!(large.call::<Payload>().unwrap().into_bytes() == *bytes);
                }
            });
        }
    });
}

fn what_one_peer_does_holds_up_no_other(place: Where) {
    let gate = crate::tools::Gate::default();
    let theirs = gate.clone();
    let stuck =
        Api::new("stuck").workers(2).handle("pass", move |_: &Context, _: ()| Ok::<_, Fault>(theirs.pass()));
    let config = Config::new().grace(Duration::from_millis(50));
    let listener =
        place.listen(place.head().config(config).serve(stuck.unwrap()).serve(echo("head")).listening());
    let (first, second) = (place.visit(&listener), place.visit(&listener));
    let pass = |neck: &Neck| neck.api("stuck").timeout(LONG).action("pass", ()).start::<()>().unwrap();
    // All the workers that it has, and more in the queue.
    let _calls: Vec<_> = (0..10).map(|_| pass(&first)).collect();
    gate.await_waiting(2);
    // The other one has workers of its own.
    let _call = pass(&second);
    gate.await_waiting(3);
    assert_eq!(call(&second, "head", 1).unwrap(), 1);
    // One that goes while its handlers are stuck is no reason to wait either.
    drop(first);
    assert_eq!(call(&second, "head", 2).unwrap(), 2);
    let _third = place.visit(&listener);
    let begin = std::time::Instant::now();
    drop(listener);
    assert!(begin.elapsed() < LONG / 3, "{:?}", begin.elapsed());
    gate.open();
}
