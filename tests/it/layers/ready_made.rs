//! The layers that are there, and calls that are made again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use nape::{
    Api, CallError, Config, Context, Fault, Head, Neck, Rejection, Responder, WhenFull,
    layers::{CheckToken, CircuitBreaker, ConcurrencyLimit, LocalOnly, RateLimit, Retry, SendToken},
};

use super::{Diary, math, waiting, word};
use crate::{
    support::{HANG, Kind, watched},
    tools::eventually,
};

on_every_link! {
    no_more_calls_pass_than_the_limit,
    no_more_calls_pass_in_a_time_than_the_limit,
    a_breaker_leaves_alone_what_fails,
    a_stream_that_goes_on_keeps_no_circuit_open,
    local_methods_look_unknown_to_others,
    calls_without_the_token_are_denied,
    a_call_that_may_be_repeated_is_made_again_until_it_works,
    no_try_begins_past_the_deadline,
    a_link_that_ends_ends_the_pauses,
    a_call_that_is_given_up_is_not_made_again,
    p_11_calls_that_pause_have_a_bound,
}

fn is_busy(error: &CallError) -> bool {
    matches!(error, CallError::Rejected(Rejection::Busy { .. }))
}

fn no_more_calls_pass_than_the_limit(kind: Kind) {
    let (api, go, has_begun) = waiting();
    let (head, _neck) = kind.serving(api.layer(ConcurrencyLimit::new(2)));
    let it = head.api("it");
    for it in [it.clone(), it.clone().layer(ConcurrencyLimit::new(2))] {
        let two = [(); 2].map(|()| it.action("waits", ()).start::<()>().unwrap());
        (0..2).for_each(|_| has_begun.recv().unwrap());
        assert!(is_busy(&it.action("waits", ()).call::<()>().unwrap_err()));
        (0..2).for_each(|_| go.send(()).unwrap());
        two.into_iter().for_each(|result| result.wait().unwrap());
        go.send(()).unwrap();
        it.action("waits", ()).call::<()>().unwrap();
        has_begun.recv().unwrap();
    }
    let none = it.layer(ConcurrencyLimit::new(0));
    assert!(is_busy(&none.action("waits", ()).call::<()>().unwrap_err()));
}

fn no_more_calls_pass_in_a_time_than_the_limit(kind: Kind) {
    let limit = || RateLimit::new(3, Duration::from_secs(3600));
    let (head, _neck) = kind.serving(math().layer(limit()));
    let free = || Head::in_process().unwrap();
    let (other, neck) = free();
    let _other = neck.serve(math()).unwrap().start();
    for math in [head.api("math"), other.api("math").layer(limit())] {
        let ends: Vec<_> = (0..5).map(|n| math.action("double", n).call::<u64>()).collect();
        assert!(ends[..3].iter().all(Result::is_ok), "{ends:?}");
        assert!(ends[3..].iter().all(|end| end.as_ref().is_err_and(is_busy)), "{ends:?}");
    }
}

fn a_breaker_leaves_alone_what_fails(kind: Kind) {
    let ill = Arc::new(AtomicU32::new(1));
    let (theirs, runs) = (ill.clone(), Arc::new(AtomicU32::new(0)));
    let ran = runs.clone();
    let flaky = move |_: Context, (), answer: Responder<()>| {
        ran.fetch_add(1, Ordering::Relaxed);
        match theirs.load(Ordering::Relaxed) {
            1 => drop(answer),
            _ => answer.answer(()),
        }
    };
    let (head, _neck) = kind.serving(Api::new("it").deferred("flaky", flaky).unwrap());
    let call = |api: &nape::ApiHandle| api.action("flaky", ()).call::<()>();
    let it = head.api("it").layer(CircuitBreaker::new(3, Duration::from_secs(3600)));
    (0..3).for_each(|_| assert!(matches!(call(&it), Err(CallError::NoAnswer))));
    (0..3).for_each(|_| assert!(is_busy(&call(&it).unwrap_err())));
    assert!(is_busy(&it.action("flaky", ()).fire().unwrap_err()));
    assert_eq!(runs.load(Ordering::Relaxed), 3, "nothing has passed");

    // At once it is tried again, and closes.
    let it = head.api("it").layer(CircuitBreaker::new(1, Duration::ZERO));
    assert!(matches!(call(&it), Err(CallError::NoAnswer)));
    assert!(matches!(call(&it), Err(CallError::NoAnswer)));
    ill.store(0, Ordering::Relaxed);
    (0..3).for_each(|_| call(&it).unwrap());
    let strict = CircuitBreaker::new(1, Duration::from_secs(3600)).counting(|error| !is_busy(error));
    let it = head.api("it").layer(strict);
    assert!(it.action("nowhere", ()).call::<()>().is_err());
    assert!(is_busy(&call(&it).unwrap_err()));
}

fn a_stream_that_goes_on_keeps_no_circuit_open(kind: Kind) {
    let fails = |_: Context, (), answer: Responder<()>| drop(answer);
    let fine = |_: &Context, ()| Ok::<_, Fault>(());
    let on_and_on = |_: &Context, ()| Ok::<_, Fault>((0u64..).map(Ok::<_, Fault>));
    let api = Api::new("it").deferred("fails", fails).unwrap().handle("fine", fine).unwrap();
    let (head, _neck) = kind.serving(api.stream("on_and_on", on_and_on).unwrap());
    let broken = |rest| {
        let it = head.api("it").layer(CircuitBreaker::new(1, rest));
        assert!(matches!(it.action("fails", ()).call::<()>(), Err(CallError::NoAnswer)));
        it
    };
    let it = broken(Duration::ZERO);
    let mut items = it.action("on_and_on", ()).open::<u64>().unwrap();
    assert_eq!(items.next().unwrap().unwrap(), 0);
    // While it lives another one tries.
    it.action("fine", ()).call::<()>().unwrap();
    it.action("fine", ()).call::<()>().unwrap();
    assert_eq!(items.next().unwrap().unwrap(), 1);

    let it = broken(Duration::MAX);
    assert!(
        it.action("on_and_on", ())
            .open::<u64>()
            .and_then(|mut items| items.next().unwrap())
            .is_err_and(|e| is_busy(&e))
    );
    assert!(is_busy(&it.action("fine", ()).call::<()>().unwrap_err()));
}

fn local_methods_look_unknown_to_others(kind: Kind) {
    let fine = |_: &Context, n: u64| Ok::<_, Fault>(n);
    let count = |_: &Context, n: u64| Ok::<_, Fault>((0..n).map(Ok::<_, Fault>));
    let (entered, has_entered) = mpsc::sync_channel(8);
    let (go, gone) = mpsc::sync_channel::<()>(8);
    let gone = std::sync::Mutex::new(gone);
    let slow = move |_: &Context, ()| {
        entered.send(()).unwrap();
        let _ = gone.lock().unwrap().recv();
        Ok::<_, Fault>(())
    };
    let api = Api::new("store").handle("get", fine).unwrap().handle("debug.get", fine).unwrap();
    let api = api.stream("debug.count", count).unwrap().handle("slow", slow).unwrap();
    let api = api.workers(1).queue(1, WhenFull::Refuse);
    let (head, _neck) = kind.serving(api.layer(LocalOnly::below(["store.debug"]).unwrap()));
    let store = head.api("store");
    assert_eq!(store.action("get", 3u64).call::<u64>().unwrap(), 3);
    if matches!(kind, Kind::Channel) {
        assert_eq!(store.action("debug.get", 3u64).call::<u64>().unwrap(), 3);
        assert_eq!(store.action("debug.count", 3u64).open::<u64>().unwrap().count(), 3);
        return;
    }
    let unknown = |error: &CallError| matches!(error, CallError::Rejected(Rejection::NoHandler { .. }));
    let nothing = store.action("nothing", 3u64).call::<u64>().unwrap_err().to_string();
    let expected = nothing.replace("nothing", "debug.get");
    let says_so = |error: CallError| assert_eq!(error.to_string(), expected);
    says_so(store.action("debug.get", 3u64).call::<u64>().unwrap_err());
    says_so(store.action("debug.get", "bad").call::<u64>().unwrap_err());
    says_so(store.action("debug.get", ()).open::<u64>().unwrap().next().unwrap().unwrap_err());
    assert!(unknown(&store.action("debug.count", 3u64).call::<u64>().unwrap_err()));
    assert!(unknown(&store.action("debug.count", 3u64).open::<u64>().unwrap().next().unwrap().unwrap_err()));
    // A queue that is full says no more.
    let runs = store.action("slow", ()).start::<()>().unwrap();
    has_entered.recv().unwrap();
    let waits = store.action("slow", ()).start::<()>().unwrap();
    assert!(is_busy(&store.action("get", 1u64).call::<u64>().unwrap_err()));
    says_so(store.action("debug.get", 3u64).call::<u64>().unwrap_err());
    drop(go);
    runs.wait().unwrap();
    waits.wait().unwrap();
}

#[cfg(feature = "macros")]
mod typed {
    use super::*;

    mod ours {
        #[nape::api("debug")]
        pub trait Debug {
            fn dump(&self, n: u64) -> u64;
        }
    }

    mod theirs {
        #[nape::api("debug")]
        pub trait Debug {
            fn dump(&self, text: String) -> String;
        }
    }

    #[test]
    fn a_method_that_is_hidden_does_not_tell_its_shape() {
        struct It;
        impl theirs::Debug for It {
            fn dump(&self, text: String) -> String {
                text
            }
        }
        watched(|| {
            let api = theirs::Debug::into_api(It).layer(LocalOnly::all());
            let (head, _neck) = Kind::Pipe.serving(api);
            let error = ours::DebugClient::on(&head).dump(1).call().unwrap_err();
            assert!(matches!(error, CallError::Rejected(Rejection::NoHandler { .. })), "{error:?}");
        });
    }
}

fn calls_without_the_token_are_denied(kind: Kind) {
    let (head, _neck) = kind.serving(math().layer(CheckToken::new("sesame").or(vec![1, 2, 3])));
    // From then on it is known how values travel.
    head.wait_open(HANG);
    let math = head.api("math");
    let double = |token: Option<&[u8]>| {
        let math = match token {
            Some(token) => math.clone().layer(SendToken::new(token)),
            None => math.clone(),
        };
        math.action("double", 21u64).call::<u64>()
    };
    assert_eq!(double(Some(b"sesame")).unwrap(), 42);
    assert_eq!(double(Some(&[1, 2, 3])).unwrap(), 42);
    for wrong in [None, Some(&b""[..]), Some(b"sesam"), Some(b"sesame "), Some(b"sesamf"), Some(&[0; 255])] {
        assert_eq!(word(&double(wrong).unwrap_err()), "denied", "{wrong:?}");
    }
    assert_eq!(word(&math.action("double", ()).call::<u64>().unwrap_err()), "denied");
}

/// Fails so many times, and tells which attempt it serves.
fn flaky(failures: u32) -> (Api, Arc<AtomicU32>) {
    let runs = Arc::new(AtomicU32::new(0));
    let theirs = runs.clone();
    let flaky = move |cx: &Context, text: String| {
        let run = theirs.fetch_add(1, Ordering::Relaxed);
        assert_eq!(text, "the same");
        if run < failures { Err(Fault::new("not yet")) } else { Ok(cx.attempt()) }
    };
    (Api::new("it").handle("flaky", flaky).unwrap(), runs)
}

fn quick() -> Retry {
    let faults = |error: &CallError| matches!(error, CallError::Fault(_));
    Retry::new().tries(4).pauses(Duration::from_millis(1), Duration::from_millis(4)).when(faults)
}

fn a_call_that_may_be_repeated_is_made_again_until_it_works(kind: Kind) {
    let diary = Diary::default();
    let text = || "the same".to_owned();
    for layered in [false, true] {
        let (api, runs) = flaky(3);
        let (head, _neck) = kind.serving(api);
        let mut it = head.api("it").retry(quick());
        if layered {
            it = it.layer(diary.layer("h"));
        }
        let again = || runs.store(0, Ordering::Relaxed);
        assert_eq!(it.action("flaky", text()).retry_safe().call::<u32>().unwrap(), 3);
        again();
        assert_eq!(it.action("flaky", text()).retry_safe().start::<u32>().unwrap().wait().unwrap(), 3);
        again();
        let result = it.action("flaky", text()).retry_safe().start::<u32>().unwrap();
        assert_eq!(super::block_on(result).unwrap(), 3);
        again();
        let (sender, receiver) = mpsc::sync_channel(1);
        let callback = move |end: Result<u32, CallError>| drop(sender.send(end));
        it.action("flaky", text()).retry_safe().then(callback).unwrap();
        assert_eq!(receiver.recv_timeout(HANG).unwrap().unwrap(), 3);
        let seen = diary.take();
        assert_eq!(seen, ["h in", "h out"].repeat(if layered { 4 } else { 0 }), "once each");

        again();
        assert_eq!(word(&it.action("flaky", text()).call::<u32>().unwrap_err()), "not yet");
        assert_eq!(runs.load(Ordering::Relaxed), 1, "it was not said that it may");
        again();
        let it = it.retry(quick().tries(3));
        assert_eq!(word(&it.action("flaky", text()).retry_safe().call::<u32>().unwrap_err()), "not yet");
        assert_eq!(runs.load(Ordering::Relaxed), 3);
        diary.take();
    }
}

fn no_try_begins_past_the_deadline(kind: Kind) {
    let (api, runs) = flaky(u32::MAX);
    let (head, _neck) = kind.serving(api);
    let retry = quick().tries(usize::MAX).pauses(Duration::from_millis(1), Duration::from_secs(60));
    let it = head.api("it").retry(retry).timeout(Duration::from_millis(300));
    let started = Instant::now();
    let error = it.action("flaky", "the same".to_owned()).retry_safe().call::<u32>().unwrap_err();
    // How the last one ended, unless that was cut short.
    assert!(["not yet", "late"].contains(&&*word(&error)), "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    let ran = runs.load(Ordering::Relaxed);
    assert!((2..=9).contains(&ran), "{ran} times");
}

/// Begins a call whose second try is far away.
fn pausing(head: &Head) -> nape::AsyncResult<u32> {
    let far = Duration::from_secs(3000);
    let it = head.api("it").retry(quick().pauses(far, far)).timeout(nape::Timeout::Never);
    it.action("flaky", "the same".to_owned()).retry_safe().start::<u32>().unwrap()
}

fn a_link_that_ends_ends_the_pauses(kind: Kind) {
    for ours in [true, false] {
        let (api, runs) = flaky(u32::MAX);
        let (head, neck) = kind.serving(api);
        let result = pausing(&head);
        while runs.load(Ordering::Relaxed) == 0 || head.under_way().0 > 0 {
            std::thread::yield_now();
        }
        if ours {
            drop(head);
            assert_eq!(word(&result.wait().unwrap_err()), "closed");
        } else {
            drop(neck);
            assert_eq!(word(&result.wait().unwrap_err()), "closed");
            drop(head);
        }
    }
}

/// Red when nobody counts those that pause, or when those that were given up keep their places.
fn p_11_calls_that_pause_have_a_bound(kind: Kind) {
    let (api, _) = flaky(u32::MAX);
    let (head, neck) = kind.ends_with(Head::builder().config(Config::new().send_queue(4)), Neck::builder());
    let _neck = neck.serve(api).unwrap().start();
    // One after the other, until each has ended or pauses.
    let begin = |many: usize| {
        let begin = |_| {
            let result = pausing(&head);
            eventually(|| head.under_way().0 == 0);
            result
        };
        (0..many).map(begin).collect::<Vec<_>>()
    };
    let calls = begin(10);
    let n_done = |calls: &[nape::AsyncResult<u32>]| calls.iter().filter(|call| call.is_done()).count();
    eventually(|| n_done(&calls) == 6);
    let (over, mut calls): (Vec<_>, Vec<_>) = calls.into_iter().partition(|call| call.is_done());
    over.into_iter().for_each(|call| assert_eq!(word(&call.wait().unwrap_err()), "not yet"));
    // Whoever blocks takes nobody's place, and needs none.
    let it = head.api("it").retry(quick());
    let (before, blocks) = (head.counters().calls, it.action("flaky", "the same".to_owned()).retry_safe());
    assert_eq!(word(&blocks.call::<u32>().unwrap_err()), "not yet");
    assert_eq!(head.counters().calls, before + 4);
    calls.pop().unwrap().cancel();
    calls.extend(begin(2));
    eventually(|| n_done(&calls) == 1);
}

fn a_call_that_is_given_up_is_not_made_again(kind: Kind) {
    let (api, runs) = flaky(u32::MAX);
    let (head, _neck) = kind.serving(api);
    let result = pausing(&head);
    while runs.load(Ordering::Relaxed) == 0 || head.under_way().0 > 0 {
        std::thread::yield_now();
    }
    result.cancel();
    assert_eq!(word(&result.wait().unwrap_err()), "cancelled");
}
