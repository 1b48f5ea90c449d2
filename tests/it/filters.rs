//! Filters: a link with them does what any other does, and there is none where the two sides differ.
//!
//! Besides, `on_every_link!` runs all else over a pipe with both of them.

pub mod child;
mod hostile;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use fastrand::Rng;
use nape::{
    Api, Bytes, CallError, CloseReason, Compression, Config, Context, Endpoint, Fault, Head, Incoming, Key,
    LinkState, Neck, ProtocolError, StartError, Token,
};

use crate::{
    support::{Kind, watched},
    tools::{LONG, eventually, nothing_is_under_way},
};

/// What a side does to its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Filters {
    None,
    Lz4,
    Sealed,
    /// With another key.
    Foreign,
    Both,
}

impl Filters {
    const ALL: [Filters; 5] = [Filters::None, Filters::Lz4, Filters::Sealed, Filters::Foreign, Filters::Both];

    fn config(self) -> Config {
        let key = |byte| Key::from_bytes([byte; Key::LEN]);
        let config = Config::new();
        match self {
            Filters::None => config,
            Filters::Lz4 => config.compression(Compression::Lz4),
            Filters::Sealed => config.encryption(key(1)),
            Filters::Foreign => config.encryption(key(2)),
            Filters::Both => config.encryption(key(1)).compression(Compression::Lz4),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Filters::None => "none",
            Filters::Lz4 => "lz4",
            Filters::Sealed | Filters::Foreign => "chacha20-poly1305",
            Filters::Both => "lz4 and chacha20-poly1305",
        }
    }
}

/// Makes a test of each function for each kind of link that moves bytes.
macro_rules! on_every_wire {
    ($($test:ident),* $(,)?) => {
        mod encoded { $(#[test] fn $test() { super::watched(|| super::$test(super::Kind::Encoded)) })* }
        mod ipc { $(#[test] fn $test() { super::watched(|| super::$test(super::Kind::Ipc)) })* }
        mod pipe { $(#[test] fn $test() { super::watched(|| super::$test(super::Kind::Pipe)) })* }
        mod shm { $(#[test] fn $test() { super::watched(|| super::$test(super::Kind::Shm)) })* }
        mod tcp { $(#[test] fn $test() { super::watched(|| super::$test(super::Kind::Tcp)) })* }
    };
}

on_every_wire! {
    all_that_a_link_does_works_with_filters,
    filters_that_differ_are_refused_at_the_hello,
}

fn ends(kind: Kind, head: Filters, neck: Filters, limit: Duration) -> (Head, Neck) {
    let builder = Head::builder().config(head.config().start_timeout(limit)).serve(api("host"));
    let (head, neck) = kind.ends_with(builder, Neck::builder().config(neck.config().start_timeout(limit)));
    (head, neck.serve(api("guest")).unwrap().start())
}

fn api(name: &str) -> Api {
    Api::new(name)
        .handle("echo", |_: &Context, bytes: Bytes| Ok::<_, Fault>(bytes))
        .unwrap()
        .handle("back", |cx: &Context, n: u32| -> Result<u32, Fault> {
            let other = if cx.path().as_str().starts_with("host") { "guest" } else { "host" };
            Ok(if n == 0 { 0 } else { cx.api(other).action("back", n - 1).call::<u32>()? + 1 })
        })
        .unwrap()
        .handle("fail", |_: &Context, text: String| -> Result<(), Fault> { Err(Fault::new(text)) })
        .unwrap()
        .stream("count", |_: &Context, n: u32| Ok::<_, Fault>((0..n).map(Ok::<_, Fault>)))
        .unwrap()
        .upload("sum", |_: &Context, (): (), items: Incoming<u32>| -> Result<u32, Fault> {
            let mut sum = 0;
            for item in items {
                sum += item?;
            }
            Ok(sum)
        })
        .unwrap()
}

/// Calls both ways and into each other, faults, events, streams, large messages.
fn use_all_of_it(head: &Head, neck: &Neck, large: usize) {
    for (end, api) in [(head.endpoint(), "guest"), (neck.endpoint(), "host")] {
        let api = end.api(api).timeout(LONG);
        assert_eq!(api.action("back", 8u32).call::<u32>().unwrap(), 8);
        for len in [0, 1, 300, 60_000, 61_440, 100_000] {
            for bytes in [noise(len), vec![7; len]] {
                let sent = Bytes::from(bytes);
                assert_eq!(api.action("echo", sent.clone()).call::<Bytes>().unwrap(), sent);
            }
        }
        let Err(CallError::Fault(fault)) = api.action("fail", "why".to_owned()).call::<()>() else {
            panic!()
        };
        assert_eq!(fault.message(), "why");
        let counted = api.action("count", 3000u32).open::<u32>().unwrap();
        assert!(counted.map(Result::unwrap).eq(0..3000));
        let mut upload = api.action("sum", ()).upload::<u32, u32>().unwrap();
        (0..3000).for_each(|n| upload.send(n).unwrap());
        assert_eq!(upload.finish().unwrap(), (0..3000).sum::<u32>());
        (0..100).for_each(|_| api.action("back", 0u32).fire().unwrap());
    }
    let text = b"the same words again and again. ".repeat(large / 32);
    let sent = Bytes::from(text);
    let api = head.api("guest").timeout(LONG);
    assert_eq!(api.action("echo", sent.clone()).call::<Bytes>().unwrap(), sent);
    nothing_is_under_way(head, neck);
}

fn noise(len: usize) -> Vec<u8> {
    let mut random = Rng::with_seed(len as u64);
    (0..len).map(|_| random.u8(..)).collect()
}

fn all_that_a_link_does_works_with_filters(kind: Kind) {
    // Nothing of it is optimized otherwise.
    let most = if cfg!(debug_assertions) { 1 << 20 } else { (16 << 20) - 1024 };
    for (filters, large) in [(Filters::Lz4, 1 << 20), (Filters::Sealed, 1 << 17), (Filters::Both, most)] {
        let (head, neck) = ends(kind, filters, filters, LONG);
        assert_eq!(head.wait_open(LONG), LinkState::Open, "{:?}", head.close_reason());
        use_all_of_it(&head, &neck, large);
        let waiting = head.api("guest").action("back", 0u32).start::<u32>().unwrap();
        assert_eq!(waiting.wait().unwrap(), 0);
        head.close();
        let reason = ended(&neck);
        assert!(matches!(*reason, CloseReason::Peer), "{filters:?}: a goodbye, and not {reason:?}");
    }
}

/// Why a link has ended.
fn ended(end: &Endpoint) -> Arc<CloseReason> {
    eventually(|| end.state() == LinkState::Closed);
    end.close_reason().unwrap()
}

/// What each side has to say where the filters differ.
fn refusal(ours: Filters, theirs: Filters) -> ProtocolError {
    match (ours, theirs) {
        (Filters::Sealed, Filters::Foreign) | (Filters::Foreign, Filters::Sealed) => ProtocolError::WrongKey,
        _ => ProtocolError::FiltersDiffer { ours: ours.name(), theirs: theirs.name() },
    }
}

fn filters_that_differ_are_refused_at_the_hello(kind: Kind) {
    let all = Filters::ALL;
    let pairs = all.iter().flat_map(|ours| all.iter().map(move |theirs| (*ours, *theirs)));
    for (ours, theirs) in pairs.filter(|(ours, theirs)| ours != theirs) {
        let since = Instant::now();
        let (head, neck) = ends(kind, ours, theirs, LONG);
        let call = head.api("guest").action("back", 0u32).timeout(LONG).call::<u32>();
        assert!(matches!(call, Err(CallError::Closed { .. })), "{ours:?} with {theirs:?}: {call:?}");
        assert!(since.elapsed() < LONG / 2, "it did not wait for a timeout");
        for (end, ours, theirs) in [(head.endpoint(), ours, theirs), (neck.endpoint(), theirs, ours)] {
            let reason = ended(end);
            let CloseReason::Protocol(error) = &*reason else {
                panic!("{ours:?} with {theirs:?}: {reason:?}")
            };
            assert_eq!(*error, refusal(ours, theirs));
            let text = error.to_string();
            assert!(
                text.contains("key") || text.contains(ours.name()) && text.contains(theirs.name()),
                "{text}"
            );
        }
    }
}

/// Whoever connects is told, and the listener serves others as before.
#[test]
fn filters_count_at_a_door_as_well() {
    watched(|| {
        let token = Token::random().unwrap();
        let head =
            |filters: Filters| Head::builder().config(filters.config()).token(token).serve(api("host"));
        let neck =
            |filters: Filters| Neck::builder().config(filters.config()).token(token).serve(api("guest"));
        let listener = neck(Filters::Both).listen("tcp:127.0.0.1:0").unwrap();
        let met = head(Filters::Both).connect(listener.address().clone()).unwrap();
        for wrong in [Filters::None, Filters::Lz4, Filters::Sealed, Filters::Foreign] {
            let error = head(wrong).connect(listener.address().clone()).unwrap_err();
            let nape::Error::Start(StartError::NotMet { reason, .. }) = error else { panic!("{error:?}") };
            let CloseReason::Protocol(error) = &*reason else { panic!("{wrong:?}: {reason:?}") };
            assert_eq!(*error, refusal(wrong, Filters::Both));
        }
        let call = || met.api("guest").action("back", 1u32).call::<u32>().unwrap();
        assert_eq!(call(), 1);
        let other = head(Filters::Both).connect(listener.address().clone()).unwrap();
        assert_eq!(other.api("guest").action("back", 2u32).call::<u32>().unwrap(), 2);
        assert_eq!(call(), 1);
    });
}

/// In one process nothing travels.
#[test]
fn filters_mean_nothing_where_values_move() {
    let (head, neck) = ends(Kind::Channel, Filters::Sealed, Filters::Lz4, LONG);
    assert_eq!(head.api("guest").action("back", 3u32).call::<u32>().unwrap(), 3);
    drop((head, neck));
}

#[test]
fn a_key_is_never_shown() {
    let config = Filters::Sealed.config();
    assert!(format!("{config:?}").contains("Key(..)"), "{config:?}");
    assert_ne!(Key::random().unwrap().reveal(), Key::random().unwrap().reveal());
}
