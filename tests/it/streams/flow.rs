//! How far a stream runs ahead of who takes it, and what it holds meanwhile.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use nape::{Api, Config, Context, Fault, Head, Incoming, Neck, Next, Outgoing, TrySendError};

use crate::{soak::rounds, support::Kind, tools::LONG};

on_every_link! {
    ac_81_who_stops_to_take_pauses_who_makes,
    ac_81_who_stops_to_take_pauses_who_sends,
    ac_81_bytes_count_too,
    p_13_streams_that_stand_still_hold_nothing_up,
    p_13_a_long_stream_gives_way_to_calls,
    a_paused_stream_outlives_its_api,
    ac_07_calls_within_streams,
    items_that_follow_slowly_come_one_by_one,
    a_stream_may_take_as_long_as_it_likes,
}

/// Numbers without an end, of which it counts how many were made.
fn endless(made: &Arc<AtomicUsize>) -> Api {
    let made = made.clone();
    let api = Api::new("s").workers(1).stream("endless", move |_: &Context, size: usize| {
        let made = made.clone();
        Ok::<_, Fault>((0..).map(move |n: u64| {
            made.fetch_add(1, Ordering::SeqCst);
            Ok::<_, Fault>((n, vec![0u8; size]))
        }))
    });
    api.unwrap().handle("double", |_: &Context, n: u32| Ok::<_, Fault>(2 * n)).unwrap()
}

fn limited(kind: Kind, config: Config, api: Api) -> (Head, Neck) {
    let (head, neck) = kind.ends_with(Head::builder().config(config.clone()), Neck::builder().config(config));
    (head, neck.serve(api).unwrap().start())
}

/// Waits until a count stands still, and gives it.
fn settled(count: &AtomicUsize) -> usize {
    let mut before = (usize::MAX, Instant::now());
    loop {
        let now = count.load(Ordering::SeqCst);
        if now != before.0 {
            before = (now, Instant::now());
        } else if now > 0 && before.1.elapsed() > Duration::from_millis(50) {
            return now;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Red when a sender does not look at its credit.
fn ac_81_who_stops_to_take_pauses_who_makes(kind: Kind) {
    for window in [1usize, 2, 16, 64] {
        let made = Arc::default();
        let (head, _neck) = limited(kind, Config::new().stream_items(window as u32), endless(&made));
        let mut items = head.api("s").action("endless", 0usize).open::<(u64, Vec<u8>)>().unwrap();
        assert_eq!(settled(&made), window);
        for n in 0..1000 {
            assert_eq!(items.next().unwrap().unwrap().0, n);
            let ahead = made.load(Ordering::SeqCst) - n as usize - 1;
            assert!(ahead <= window, "{ahead} are ahead, of {window}");
        }
        let ahead = settled(&made) - 1000;
        assert!((window.div_ceil(2)..=window).contains(&ahead), "{ahead} are ahead, of {window}");
    }
}

fn ac_81_who_stops_to_take_pauses_who_sends(kind: Kind) {
    let (go, may_go) = mpsc::sync_channel::<usize>(0);
    let may_go = std::sync::Mutex::new(may_go);
    let take = move |_: &Context, (): (), mut items: Incoming<u32>| {
        let may_go = may_go.lock().unwrap();
        let mut taken = 0;
        for n in may_go.iter() {
            taken += items.by_ref().take(n).map(Result::unwrap).count();
        }
        Ok::<_, Fault>(taken + items.count())
    };
    let (head, _neck) = kind.serving(Api::new("s").upload("take", take).unwrap());
    let mut items = head.api("s").action("take", ()).upload::<u32, usize>().unwrap();
    // It has begun as soon as there is room for one.
    items.send(0).unwrap();
    let fill = |items: &mut nape::Upload<u32, usize>| {
        (1u32..)
            .take_while(|n| match items.try_send(*n) {
                Ok(()) => true,
                Err(TrySendError::Full(back)) => {
                    assert_eq!(back, *n);
                    false
                }
                Err(over) => panic!("{over}"),
            })
            .count()
    };
    assert_eq!(fill(&mut items), 63);
    let (began, moment) = (Instant::now(), Duration::from_millis(20));
    assert!(matches!(items.send_timeout(7, moment), Err(TrySendError::Full(7))));
    assert!(began.elapsed() >= moment);
    go.send(40).unwrap();
    items.send_timeout(1, LONG).unwrap();
    let more = fill(&mut items);
    assert!((30..40).contains(&more), "{more}");
    drop(go);
    assert_eq!(items.finish().unwrap(), 65 + more);
}

fn ac_81_bytes_count_too(kind: Kind) {
    if kind.is_json() {
        // Items have other sizes there.
        return;
    }
    if !kind.encodes() {
        return;
    }
    let made = Arc::default();
    let (head, _neck) = limited(kind, Config::new().stream_bytes(100_000), endless(&made));
    let items = head.api("s").action("endless", 30_000usize).open::<(u64, Vec<u8>)>().unwrap();
    assert_eq!(settled(&made), 4);
    for (n, item) in items.take(100).enumerate() {
        assert_eq!(item.unwrap(), (n as u64, vec![0; 30_000]));
        assert!(made.load(Ordering::SeqCst) - n <= 6);
    }
}

fn p_13_streams_that_stand_still_hold_nothing_up(kind: Kind) {
    for _ in 0..rounds().unwrap_or(1) {
        let made = Arc::default();
        let (head, neck) = kind.serving(endless(&made));
        let api = head.api("s");
        let open = || api.action("endless", 100usize).open::<(u64, Vec<u8>)>().unwrap();
        let mut stalled: Vec<_> = (0..50).map(|_| open()).collect();
        let mut moving: Vec<_> = (0..50).map(|_| open()).collect();
        for n in 0..200 {
            for items in &mut moving {
                assert_eq!(items.next().unwrap().unwrap().0, n);
            }
        }
        assert_eq!(api.action("double", 21u32).call::<u32>().unwrap(), 42);
        assert_eq!(head.counters().items_dropped, 0);
        drop(moving);
        assert!(neck.n_threads() <= 8, "{} threads", neck.n_threads());
        // They go on where they were.
        for items in &mut stalled {
            for n in 0..100 {
                assert_eq!(items.next().unwrap().unwrap().0, n);
            }
        }
    }
}

fn p_13_a_long_stream_gives_way_to_calls(kind: Kind) {
    let made = Arc::default();
    let (head, _neck) = kind.serving(endless(&made));
    let items = head.api("s").action("endless", 0usize).open::<(u64, Vec<u8>)>().unwrap();
    let (stop, stopped) = mpsc::channel::<()>();
    let (flow, flows) = mpsc::channel();
    let taker = thread::spawn(move || {
        let goes_on = |_: &_| {
            let _ = flow.send(());
            stopped.try_recv() != Err(mpsc::TryRecvError::Disconnected)
        };
        items.take_while(goes_on).count()
    });
    let api = head.api("s");
    for n in 0..100 {
        // Beside items that come, and not before them.
        flows.recv_timeout(crate::tools::LONG).unwrap();
        assert_eq!(api.action("double", n).call::<u32>().unwrap(), 2 * n);
    }
    drop(stop);
    assert!(taker.join().unwrap() > 0);
}

fn a_paused_stream_outlives_its_api(kind: Kind) {
    let made = Arc::default();
    let (head, neck) = kind.ends();
    let neck = neck.start();
    let attached = neck.attach(endless(&made)).unwrap();
    let mut items = head.api("s").action("endless", 0usize).open::<(u64, Vec<u8>)>().unwrap();
    assert_eq!(settled(&made), 64);
    attached.detach();
    for n in 0..500 {
        assert_eq!(items.next().unwrap().unwrap().0, n);
    }
    assert!(head.api("s").action("double", 1u32).call::<u32>().is_err());
}

/// One worker a side: who waits for an item makes the answers to the calls that descend from it.
fn ac_07_calls_within_streams(kind: Kind) {
    let back = |cx: &Context, n: u32| {
        let api = cx.api("here");
        Ok::<_, Fault>((0..n).map(move |n| Ok::<u32, Fault>(api.action("double", n).call::<u32>()?)))
    };
    let up = |cx: &Context, n: u32, items: Incoming<u32>| {
        let add = cx.api("here").action("double", n).call::<u32>()?;
        let sum = items.map(Result::unwrap).sum::<u32>();
        Ok::<_, Fault>(add + sum)
    };
    let both = |cx: &Context, (): (), items: Incoming<u32>, mut out: Outgoing<u32>| {
        for item in items {
            out.send(cx.api("here").action("double", item?).call::<u32>()?)?;
        }
        Ok::<_, Fault>(())
    };
    let there = Api::new("there").workers(1).stream("back", back).unwrap();
    let there = there.upload("up", up).unwrap().duplex("both", both).unwrap();
    let here =
        Api::new("here").workers(1).handle("double", |_: &Context, n: u32| Ok::<_, Fault>(2 * n)).unwrap();
    let here = here
        .handle("all", |cx: &Context, n: u32| {
            let items = cx.api("there").action("back", n).open::<u32>()?;
            let sum = items.map(Result::unwrap).sum::<u32>();
            let mut up = cx.api("there").action("up", n).upload::<u32, u32>()?;
            for n in 0..100 {
                up.send(n)?;
            }
            let up = up.finish()?;
            let mut both = cx.api("there").action("both", ()).duplex::<u32, u32, ()>()?;
            let mut last = 0;
            for n in 0..10 {
                both.send(n)?;
                last = both.next().unwrap()?;
            }
            both.finish()?;
            Ok::<_, Fault>((sum, up, last))
        })
        .unwrap();
    let (head, neck) = kind.ends_with(Head::builder().serve(here), Neck::builder());
    let neck = neck.serve(there).unwrap().start();
    let all = neck.api("here").action("all", 200u32).call::<(u32, u32, u32)>().unwrap();
    assert_eq!(all, (39_800, 400 + 4950, 18));
    drop(head);
}

fn items_that_follow_slowly_come_one_by_one(kind: Kind) {
    let (item, items) = mpsc::channel::<u32>();
    let items = std::sync::Mutex::new(Some(items));
    let api = Api::new("s").stream("fed", move |_: &Context, (): ()| {
        let items = items.lock().unwrap().take().unwrap();
        Ok::<_, Fault>(items.into_iter().map(Ok::<_, Fault>))
    });
    let (head, _neck) = kind.serving(api.unwrap());
    let mut fed = head.api("s").action("fed", ()).open::<u32>().unwrap();
    for n in 0..200 {
        // One, or several quickly and then none for as long as they are not taken.
        for n in 0..n % 5 {
            item.send(n).unwrap();
        }
        for n in 0..n % 5 {
            assert_eq!(fed.next_timeout(Duration::from_secs(5)).unwrap(), Next::Item(n));
        }
    }
    drop(item);
    assert!(fed.next().is_none());
}

fn a_stream_may_take_as_long_as_it_likes(kind: Kind) {
    let made = Arc::default();
    let watched = Head::builder().config(Config::new().watchdog(Duration::from_millis(20)));
    let (head, neck) = kind.ends_with(watched, Neck::builder());
    let never = |_: nape::Context, (): (), answer: nape::Responder<()>| std::mem::forget(answer);
    let api = endless(&made).deferred("never", never).unwrap();
    let _neck = neck.serve(api).unwrap().start();
    let (told, tell) = mpsc::channel();
    head.on_error(move |report| drop(told.send(format!("{report:?}"))));
    let _items = head.api("s").action("endless", 0usize).open::<(u64, Vec<u8>)>().unwrap();
    let _call = head.api("s").action("never", ()).start::<()>().unwrap();
    // The stream is older than the call, which is told of.
    let report = tell.recv_timeout(Duration::from_secs(30)).unwrap();
    assert!(report.contains("SlowCall") && report.contains("s.never"), "{report}");
    let seen = head.hang_report().callers;
    assert_eq!(seen.iter().map(|caller| caller.is_stream).collect::<Vec<_>>(), [true, false]);
}
