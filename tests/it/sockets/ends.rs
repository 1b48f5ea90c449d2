//! How it ends: go-away, close, a peer that is killed; and what is left then, which is nothing.

use std::{
    cell::RefCell,
    env, fs,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::unbounded;
use nape::{
    Address, Api, CallError, CloseReason, Context, Fault, Head, LayerCall, Leave, LinkState, Neck, Rejection,
    Token, TurnedAway,
};

use super::{Where, at_every_address, call, echo, refusal};
use crate::{
    support::watched,
    tools::{Gate, LONG, SOON, Touchy, eventually},
};

at_every_address! {
    shutting_down_waits_for_what_is_under_way_with_all_peers,
    shutting_down_has_a_limit_for_all_together,
    closing_ends_everything_at_once,
    p_24_closing_does_not_wait_for_a_shutting_down_that_has_time,
    a_peer_that_is_killed_is_missed_at_once_and_by_itself,
    whoever_outlives_the_listener_is_told,
    a_peer_that_has_gone_is_shut_down_at_once,
    p_24_nothing_of_the_users_is_left_of_a_listener_that_has_gone,
    p_19_what_panics_as_a_listener_goes_hurts_nobody,
}

fn gated(gate: &Gate) -> Api {
    let gate = gate.clone();
    Api::new("gated").handle("pass", move |_: &Context, n: u64| Ok::<_, Fault>((gate.pass(), n).1)).unwrap()
}

fn shutting_down_waits_for_what_is_under_way_with_all_peers(place: Where) {
    let gate = Gate::default();
    let listener = place.listen(place.head().serve(gated(&gate)).listening());
    let address = place.of(&listener);
    let necks: Vec<_> = (0..4).map(|_| place.visit(&listener)).collect();
    let pass = |neck: &Neck| neck.api("gated").action("pass", 7u64).timeout(LONG).start::<u64>().unwrap();
    let calls: Vec<_> = necks.iter().map(pass).collect();
    gate.await_waiting(4);
    thread::scope(|scope| {
        let end = scope.spawn(|| listener.shut_down(LONG));
        for neck in &necks {
            // Each of them is told before any is waited for.
            let new = || neck.api("gated").action("pass", 8u64).timeout(LONG).fire();
            eventually(|| matches!(new(), Err(CallError::Rejected(Rejection::ShuttingDown))));
        }
        // Nobody comes any more, be it that the door is gone or that somebody stands behind it.
        let late = place.neck().connect(&address).unwrap_err();
        assert!(matches!(late, nape::Error::Start(_)), "{late:?}");
        if let Some(path) = address.path() {
            eventually(|| !path.exists());
        }
        assert!(!end.is_finished());
        gate.open();
        assert!(end.join().unwrap(), "they had all ended");
    });
    for call in calls {
        assert_eq!(call.wait().unwrap(), 7);
    }
    assert!(listener.peers().is_empty());
    assert!(listener.accept(LONG).is_none());
    assert!(listener.shut_down(LONG), "once more is fine");
}

fn shutting_down_has_a_limit_for_all_together(place: Where) {
    let gate = Gate::default();
    let config = nape::Config::new().grace(Duration::from_millis(100));
    let listener = place.listen(place.head().config(config).serve(gated(&gate)).listening());
    let necks: Vec<_> = (0..8).map(|_| place.visit(&listener)).collect();
    let pass = |neck: &Neck| neck.api("gated").action("pass", 7u64).timeout(LONG).start::<u64>().unwrap();
    let calls: Vec<_> = necks.iter().map(pass).collect();
    gate.await_waiting(8);
    let begin = Instant::now();
    assert!(!listener.shut_down(Duration::from_millis(100)), "nothing has ended");
    // One after the other they would take eight times as long.
    assert!(begin.elapsed() < Duration::from_millis(1500), "{:?}", begin.elapsed());
    for call in calls {
        assert!(matches!(call.wait(), Err(CallError::Closed { .. })));
    }
    gate.open();
}

fn closing_ends_everything_at_once(place: Where) {
    let gate = Gate::default();
    let listener = place.listen(place.head().serve(echo("head")).listening());
    let theirs = gate.clone();
    let wait = move |_: &Context, _: ()| Ok::<_, Fault>(theirs.pass());
    let served = Api::new("neck").handle("wait", wait).unwrap();
    let neck = place.neck().serve(served).connect(place.of(&listener)).unwrap().start();
    let peer = listener.accept(LONG).unwrap();
    let call = peer.api("neck").action("wait", ()).timeout(LONG).start::<()>().unwrap();
    gate.await_waiting(1);
    listener.close();
    assert!(
        matches!(call.wait(), Err(CallError::Closed { reason, .. }) if matches!(*reason, CloseReason::Local))
    );
    assert!(peer.state() == LinkState::Closed && listener.peers().is_empty());
    gate.open();
    neck.wait().unwrap();
    listener.close();
}

fn p_24_closing_does_not_wait_for_a_shutting_down_that_has_time(place: Where) {
    let gate = Gate::default();
    let config = nape::Config::new().grace(Duration::from_millis(100));
    let listener = place.listen(place.head().config(config).serve(gated(&gate)).listening());
    let neck = place.visit(&listener);
    let pass = || neck.api("gated").action("pass", 7u64).timeout(2 * LONG);
    let call = pass().start::<u64>().unwrap();
    gate.await_waiting(1);
    thread::scope(|scope| {
        let end = scope.spawn(|| listener.shut_down(2 * LONG));
        eventually(|| matches!(pass().fire(), Err(CallError::Rejected(Rejection::ShuttingDown))));
        let begin = Instant::now();
        listener.close();
        assert!(listener.peers().is_empty() && neck.state() != LinkState::Open);
        assert!(matches!(call.wait(), Err(CallError::Closed { .. })));
        end.join().unwrap();
        assert!(begin.elapsed() < LONG, "{:?}", begin.elapsed());
    });
    gate.open();
}

fn whoever_outlives_the_listener_is_told(place: Where) {
    let listener = place.listen(place.head().serve(echo("head")).listening());
    let neck = place.visit(&listener);
    let pending = neck.api("head").timeout(LONG);
    drop(listener);
    let error = pending.action("echo", 1u64).call::<u64>().unwrap_err();
    assert!(matches!(error.close_reason(), Some(CloseReason::Peer)), "{error:?}");
}

fn a_peer_that_has_gone_is_shut_down_at_once(place: Where) {
    let listener = place.listen(place.head().listening());
    let neck = place.visit(&listener);
    let peer = listener.accept(LONG).unwrap();
    drop(neck);
    eventually(|| listener.peers().is_empty());
    assert!(peer.shut_down(LONG), "nothing is under way with it");
    drop(listener);
    assert!(peer.shut_down(LONG), "nor later");
}

/// Red when those who see peers off are not waited for to their end: the last of them has the handlers as well.
fn p_24_nothing_of_the_users_is_left_of_a_listener_that_has_gone(place: Where) {
    struct TakesItsTime {
        _held: Arc<()>,
    }

    impl Drop for TakesItsTime {
        fn drop(&mut self) {
            thread::sleep(SOON);
        }
    }

    thread_local! {
        static KEPT: RefCell<Option<TakesItsTime>> = const { RefCell::new(None) };
    }

    for _ in 0..4 {
        let held = Arc::new(());
        let (handler, start) = (held.clone(), held.clone());
        let api = Api::new("a")
            .handle("held", move |_: &Context, _: ()| Ok::<_, Fault>(Arc::strong_count(&handler)));
        let api = api.unwrap().on_start(move || Ok(assert!(Arc::strong_count(&start) > 1)));
        let (arrival, departure) = (held.clone(), held.clone());
        let builder = place.head().serve(api).listening();
        let builder = builder.on_arrival(move |_| assert!(Arc::strong_count(&arrival) > 1));
        let listener = place.listen(builder.on_departure(move |_, _| {
            let left = TakesItsTime { _held: departure.clone() };
            KEPT.with_borrow_mut(|kept| *kept = Some(left));
        }));
        let necks: Vec<_> = (0..3).map(|_| place.visit(&listener)).collect();
        let count = |neck: &Neck| neck.api("a").action("held", ()).timeout(LONG).call::<usize>().unwrap();
        assert!(necks.iter().all(|neck| count(neck) > 1));
        drop(listener);
        assert_eq!(Arc::strong_count(&held), 1);
        drop(necks);
    }
}

/// Red, with the end of the process, when two of them go in one go.
fn p_19_what_panics_as_a_listener_goes_hurts_nobody(place: Where) {
    let api = |name: &str| {
        let touchy = [Touchy, Touchy, Touchy, Touchy, Touchy].map(Arc::new);
        let [in_handler, in_other, in_layer, in_start, in_stop] = touchy;
        let handle = move |_: &Context, n: u64| Ok::<_, Fault>((n, Arc::strong_count(&in_handler)).0);
        let other = move |_: &Context, n: u64| Ok::<_, Fault>((n, Arc::strong_count(&in_other)).0);
        let layer = move |_: &mut LayerCall<'_>| Ok((Leave::nothing(), Arc::strong_count(&in_layer)).0);
        let api = Api::new(name).handle("echo", handle).unwrap().handle("other", other).unwrap().layer(layer);
        let api = api.on_start(move || Ok((Arc::strong_count(&in_start), ()).1));
        api.on_stop(move || drop(Arc::downgrade(&in_stop)))
    };
    let hooks = [Touchy, Touchy, Touchy, Touchy].map(Arc::new);
    let [arrival, departure, layer, other] = hooks;
    let builder = place.head().serve(api("one")).serve(api("two"));
    let builder =
        builder.layer(move |_: &mut LayerCall<'_>| Ok((Leave::nothing(), Arc::strong_count(&layer)).0));
    let builder =
        builder.layer(move |_: &mut LayerCall<'_>| Ok((Leave::nothing(), Arc::strong_count(&other)).0));
    let builder = builder.listening().on_arrival(move |_| drop(Arc::downgrade(&arrival)));
    let listener = place.listen(builder.on_departure(move |_, _| drop(Arc::downgrade(&departure))));
    let neck = place.visit(&listener);
    assert_eq!((call(&neck, "one", 1).unwrap(), call(&neck, "two", 2).unwrap()), (1, 2));
    drop(listener);
    neck.wait().unwrap();
}

#[test]
fn whoever_stands_in_line_at_the_end_is_told_that_it_is_the_end() {
    watched(|| {
        for _ in 0..20 {
            let place = Where::unix();
            let listener = place.listen(place.head().listening());
            let address = place.of(&listener);
            thread::scope(|scope| {
                let knock = || match place.neck().connect(&address) {
                    Ok(_) => {}
                    Err(nape::Error::Start(nape::StartError::Connect { .. })) => {}
                    error @ Err(_) => match refusal(error) {
                        CloseReason::TurnedAway(TurnedAway::GoingAway) | CloseReason::Peer => {}
                        // The listening socket went with this one in its line.
                        CloseReason::Gone | CloseReason::Io(_) | CloseReason::Protocol(_) => {}
                        other => panic!("{other}"),
                    },
                };
                let knocks: Vec<_> = (0..4).map(|_| scope.spawn(knock)).collect();
                listener.close();
                knocks.into_iter().for_each(|knock| knock.join().unwrap());
            });
        }
    });
}

const ADDRESS: &str = "NAPE_TEST_MEET";
const TOKEN: &str = "NAPE_TEST_MEET_TOKEN";
const ALONE: &str = "NAPE_TEST_MEET_ALONE";

/// This test once more, as a process that connects.
fn another_process(address: &Address, token: Option<Token>) -> Child {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["sockets::ends::visitor", "--exact", "--nocapture", "--test-threads=1"]);
    command.env(ADDRESS, address.to_string()).stdout(Stdio::piped());
    command.env(TOKEN, token.map(|token| token.reveal()).unwrap_or_default());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("it has connected")));
    child
}

/// Where that process begins. Without an address it does nothing, and is a test like any other.
#[test]
fn visitor() {
    let Ok(address) = env::var(ADDRESS) else { return };
    let token = env::var(TOKEN).unwrap().parse::<Token>().ok();
    let builder = token.into_iter().fold(Neck::builder(), nape::NeckBuilder::token);
    let neck = builder.serve(echo("visitor")).connect(address).unwrap().start();
    assert_eq!(call(&neck, "head", 1).unwrap(), 1);
    println!("it has connected");
    let _ = neck.wait();
}

fn a_peer_that_is_killed_is_missed_at_once_and_by_itself(place: Where) {
    let (tell, told) = unbounded();
    let gone = move |peer: &nape::Peer, why: &CloseReason| {
        tell.send((peer.id(), why.clone(), Instant::now())).unwrap()
    };
    let listener = place.listen(place.head().serve(echo("head")).listening().on_departure(gone));
    let address = place.of(&listener);
    let mut victim = another_process(&address, place.token);
    let peer = listener.accept(LONG).unwrap();
    if let Some(credentials) = peer.credentials() {
        assert_eq!(credentials.pid, Some(victim.id()));
    }
    let neighbor = place.visit(&listener);
    assert_eq!(call(&peer, "visitor", 3).unwrap(), 3);
    victim.kill().unwrap();
    let killed = Instant::now();
    let (id, why, seen) = told.recv_timeout(LONG).unwrap();
    assert!(id == 1 && matches!(why, CloseReason::Gone), "{why}");
    assert!(seen.saturating_duration_since(killed) < 2 * SOON, "{:?}", seen - killed);
    assert!(matches!(call(&peer, "visitor", 4), Err(CallError::Closed { .. })));
    assert_eq!(call(&neighbor, "head", 5).unwrap(), 5);
    victim.wait().unwrap();
    // Its place is free again.
    let mut again = another_process(&address, place.token);
    drop(listener);
    assert!(again.wait().unwrap().success(), "it ends by itself");
}

/// Descriptors, threads and files of this process.
fn snapshot() -> Vec<String> {
    let entries = |path: &str| fs::read_dir(path).unwrap().flatten().collect::<Vec<_>>();
    let threads = entries("/proc/self/task").into_iter();
    let mut all: Vec<_> =
        threads.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok()).collect();
    let open = entries("/proc/self/fd").into_iter().filter_map(|fd| fs::read_link(fd.path()).ok());
    let kind = |link: std::path::PathBuf| {
        link.display()
            .to_string()
            .trim_end_matches(|c: char| c.is_ascii_digit() || "[]".contains(c))
            .to_owned()
    };
    all.extend(open.map(kind).filter(|link| !link.starts_with("/proc/")));
    all.sort();
    all
}

/// The kernel takes a moment to forget a thread that was joined, and one that is on its way is nothing that stays.
fn at_rest() -> Vec<String> {
    let mut last = snapshot();
    loop {
        thread::sleep(Duration::from_millis(100));
        let now = snapshot();
        if now == last {
            return now;
        }
        last = now;
    }
}

/// In a process of its own, where no other test opens anything meanwhile.
#[test]
fn p_23_nothing_is_left_of_listeners_and_peers() {
    if env::var_os(ALONE).is_none() {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args([
            "sockets::ends::p_23_nothing_is_left_of_listeners_and_peers",
            "--exact",
            "--nocapture",
        ]);
        let output = command.env(ALONE, "1").stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
        return;
    }
    watched(|| {
        rounds(2);
        let before = at_rest();
        rounds(20);
        let begin = Instant::now();
        while snapshot() != before && begin.elapsed() < LONG {
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(snapshot(), before);
    });
}

fn rounds(n: u32) {
    for round in 0..n {
        let place = if round % 2 == 0 { Where::unix() } else { Where::tcp() };
        let listener =
            place.listen(place.head().serve(echo("head")).listening().max_peers(3).on_arrival(|_| ()));
        let address = place.of(&listener);
        let necks: Vec<_> = (0..3).map(|_| place.visit(&listener)).collect();
        drop(place.neck().connect(&address).unwrap_err());
        drop(Neck::builder().token(Token::random().unwrap()).connect(&address).unwrap_err());
        drop(Head::builder().token(Token::random().unwrap()).connect(&address).unwrap_err());
        let peer = listener.accept(LONG).unwrap();
        let pending = peer.api("nobody").action("waits", ()).start::<()>().unwrap();
        assert_eq!(call(&necks[0], "head", 1).unwrap(), 1);
        match round % 4 {
            0 => drop((necks, listener)),
            1 => drop((listener, necks)),
            2 => assert!(listener.shut_down(LONG)),
            _ => {
                let silent = std::net::TcpStream::connect(address.socket_addr().unwrap()).unwrap();
                drop(listener);
                drop(silent);
            }
        }
        drop((pending, peer));
    }
}
