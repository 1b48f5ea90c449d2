//! Whoever connects and is no peer: it hurts nobody, and learns nothing.

use std::{
    io::{Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use nape::{Api, Config, Context, Fault, Listener, Token};

use super::{Where, at_every_address, call, echo};
use crate::{
    raw_end::{BYE, CALL, HELLO, READY, frame, hello},
    tools::{LONG, eventually},
};

at_every_address! {
    d_04_an_http_client_is_hung_up_on_at_once_and_told_nothing,
    d_01_whoever_says_nothing_goes_when_the_time_is_over,
    d_66_many_who_say_nothing_or_little_keep_nobody_out,
    row_45_a_thousand_who_connect_and_go_do_no_harm,
    p_36_who_has_no_token_is_shown_none,
    p_36_nobody_is_served_before_the_hook_has_judged_it,
}

/// A connection with nothing of ours at its end.
enum Raw {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Raw {
    fn connect(listener: &Listener) -> Raw {
        match listener.address().socket_addr() {
            Some(at) => Raw::Tcp(TcpStream::connect(at).unwrap()),
            None => Raw::Unix(UnixStream::connect(listener.address().path().unwrap()).unwrap()),
        }
    }

    fn say(&mut self, bytes: &[u8]) {
        // The other side may have hung up.
        let _ = match self {
            Raw::Unix(stream) => stream.write_all(bytes),
            Raw::Tcp(stream) => stream.write_all(bytes),
        };
    }

    /// Everything that comes until the other side hangs up.
    fn hear(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        // A reset is a way to hang up as well.
        let _ = match self {
            Raw::Unix(stream) => stream.read_to_end(&mut all),
            Raw::Tcp(stream) => stream.read_to_end(&mut all),
        };
        all
    }
}

fn listener(place: &Where, start_timeout: Duration) -> Listener {
    let config = Config::new().start_timeout(start_timeout);
    place.listen(place.head().config(config).serve(echo("head")).listening().max_peers(2))
}

#[track_caller]
fn still_serves(place: &Where, listener: &Listener) {
    let neck = place.visit(listener);
    assert_eq!(call(&neck, "head", 1).unwrap(), 1);
    drop(neck);
    eventually(|| listener.peers().is_empty());
}

fn d_04_an_http_client_is_hung_up_on_at_once_and_told_nothing(place: Where) {
    // Were it only the time that ends it, this would take longer than the watchdog waits.
    let listener = listener(&place, 100 * LONG);
    let honest = place.visit(&listener);
    for bytes in [&b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..], b"GET ", &[0; 64], &[0xff; 4]] {
        let mut stranger = Raw::connect(&listener);
        stranger.say(bytes);
        assert_eq!(stranger.hear(), b"");
    }
    assert_eq!(call(&honest, "head", 1).unwrap(), 1);
    drop(honest);
    still_serves(&place, &listener);
    assert_eq!(listener.n_turned_away(), 4);
}

fn d_01_whoever_says_nothing_goes_when_the_time_is_over(place: Where) {
    let limit = Duration::from_millis(100);
    let listener = listener(&place, limit);
    let begin = Instant::now();
    let mut strangers: Vec<_> = (0..5).map(|_| Raw::connect(&listener)).collect();
    strangers[1].say(&[53]);
    strangers[2].say(&[53, 0, 0, 0, 1]);
    strangers.iter_mut().for_each(|stranger| assert_eq!(stranger.hear(), b""));
    assert!(begin.elapsed() >= limit, "{:?}", begin.elapsed());
    assert_eq!(listener.n_turned_away(), 5);
    still_serves(&place, &listener);
}

fn d_66_many_who_say_nothing_or_little_keep_nobody_out(place: Where) {
    let listener = listener(&place, 100 * LONG);
    let mut strangers: Vec<_> = (0..200).map(|_| Raw::connect(&listener)).collect();
    strangers.iter_mut().step_by(3).for_each(|stranger| stranger.say(&[53, 0, 0]));
    // They are in nobody's way, and take no place of a peer.
    still_serves(&place, &listener);
    assert!(listener.n_turned_away() >= 200 - 64, "{}", listener.n_turned_away());
    strangers.iter_mut().for_each(|stranger| stranger.say(&[0]));
    still_serves(&place, &listener);
    // The first of them have made way.
    assert_eq!(strangers[0].hear(), b"");
}

fn row_45_a_thousand_who_connect_and_go_do_no_harm(place: Where) {
    let listener = listener(&place, 100 * LONG);
    let honest = place.visit(&listener);
    for round in 0..1000 {
        let mut stranger = Raw::connect(&listener);
        if round % 2 == 0 {
            stranger.say(&[53, 0, 0, 0]);
        }
        drop(stranger);
        if round % 100 == 0 {
            assert_eq!(call(&honest, "head", round).unwrap(), round);
        }
    }
    drop(honest);
    still_serves(&place, &listener);
}

fn p_36_who_has_no_token_is_shown_none(place: Where) {
    let token = Token::random().unwrap();
    let listener = place.head().token(token).listen(&place.address).unwrap();
    let mut hello = frame(HELLO, 0, (0, 0), &hello());
    let mut stranger = Raw::connect(&listener);
    stranger.say(&hello);
    let told = stranger.hear();
    // A bye with the number of the rule, and nothing else.
    assert_eq!((told.len(), told[4], &told[24..]), (26, BYE, &[5, 0][..]));
    // With the first half it is shown the second one.
    hello[24 + 16..24 + 32].copy_from_slice(&secret(&token.reveal()[..32]));
    let mut peer = Raw::connect(&listener);
    peer.say(&hello);
    eventually(|| listener.peers().len() == 1);
    listener.close();
    let told = peer.hear();
    let shown = |half: &str| told.windows(16).any(|window| window == secret(half));
    assert!(shown(&token.reveal()[32..]) && !shown(&token.reveal()[..32]));
}

/// The bytes of one half of a token.
fn secret(text: &str) -> Vec<u8> {
    (0..16).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
}

/// It greets, is ready and calls in one go, and waits for no answer of whoever listens.
fn p_36_nobody_is_served_before_the_hook_has_judged_it(place: Where) {
    let served = Arc::new(AtomicUsize::new(0));
    let (counts, seen) = (served.clone(), served.clone());
    let touch = move |_: &Context, ()| Ok::<_, Fault>(counts.fetch_add(1, Ordering::SeqCst));
    let api = Api::new("head").handle("touch", touch).unwrap();
    let judge = move |peer: &nape::Peer| {
        eventually(|| peer.close_reason().is_some() || seen.load(Ordering::SeqCst) > 0);
        peer.close();
    };
    let listener = place.listen(place.head().serve(api).listening().on_arrival(judge));
    let mut greeting = hello();
    if let Some(token) = place.token {
        greeting[16..32].copy_from_slice(&secret(&token.reveal()[..32]));
    }
    let touch = [&[0; 8][..], &[0xff; 8], &[0; 4], b"\x0ahead.touch"].concat();
    let all = [(HELLO, 0, greeting), (READY, 0, Vec::new()), (CALL, 1 << 63 | 1, touch)];
    let mut stranger = Raw::connect(&listener);
    stranger.say(&all.map(|(kind, id, body)| frame(kind, id, (0, 0), &body)).concat());
    let told = stranger.hear();
    assert!(told.ends_with(&[19, 0]), "{told:?}");
    eventually(|| listener.peers().is_empty());
    assert_eq!(served.load(Ordering::SeqCst), 0);
}

/// In a process of its own, which runs out of descriptors.
#[test]
fn p_20_without_descriptors_those_who_connect_wait() {
    const ALONE: &str = "NAPE_TEST_MEET_FEW";
    if std::env::var_os(ALONE).is_none() {
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.args(["sockets::strangers::p_20_without_descriptors_those_who_connect_wait", "--exact"]);
        let output = command.env(ALONE, "1").stdin(std::process::Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
        return;
    }
    crate::support::watched(|| {
        let few = rustix::process::Rlimit { current: Some(64), maximum: Some(64) };
        rustix::process::setrlimit(rustix::process::Resource::Nofile, few).unwrap();
        let place = Where::unix();
        let listener = listener(&place, 100 * LONG);
        let honest = place.visit(&listener);
        let path = place.address.path().unwrap();
        let strangers: Vec<_> = std::iter::from_fn(|| UnixStream::connect(path).ok()).collect();
        assert!(strangers.len() > 10, "{}", strangers.len());
        assert_eq!(call(&honest, "head", 1).unwrap(), 1);
        drop(strangers);
        assert_eq!(call(&honest, "head", 2).unwrap(), 2);
        drop(honest);
        still_serves(&place, &listener);
    });
}
