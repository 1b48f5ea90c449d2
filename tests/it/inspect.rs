//! What a side tells of itself, and what it keeps for itself.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use crossbeam_channel::{Receiver, Sender, unbounded};
use nape::{
    Api, Backlog, CallError, Context, Fault, Head, Inspection, Inspector, Missed, Payload, Rejection, Topic,
    inspect::{EventArguments, MethodNumbers, NotServed, PathKind, Stage, TailedEvent},
    layers::LocalOnly,
};

use crate::{
    support::Kind,
    tools::{Gate, LONG, eventually, is_unknown, until},
};

on_every_link! {
    ac_42_the_list_tells_what_is_served_and_how,
    ac_42_a_path_is_described_by_what_would_take_it,
    p_15_what_is_no_path_is_neither_described_nor_tailed,
    ac_95_the_counters_have_their_names,
    what_is_in_flight_is_told_while_every_worker_is_stuck,
    each_path_has_its_numbers_as_long_as_somebody_wants_them,
    panics_and_bad_arguments_are_told_apart,
    events_are_seen_as_they_come,
    a_tail_that_is_not_read_loses_the_oldest_and_says_so,
    a_tail_ends_with_whoever_wanted_it,
    what_is_hidden_is_told_nowhere,
    what_layers_hide_from_others_is_told_to_this_process_alone,
    another_link_is_told_of_under_its_name,
    items_of_a_topic_are_read_without_their_type,
    both_sides_may_be_looked_into,
    the_version_is_that_of_the_process,
}

/// Calls that wait until they are let go, one worker for them.
fn stuck() -> (Api, Receiver<()>, Sender<()>) {
    let (entered, inside) = unbounded();
    let (go, gate) = unbounded::<()>();
    let wait = move |_: &Context, n: u32| {
        entered.send(()).unwrap();
        let _ = gate.recv_timeout(LONG);
        Ok::<_, Fault>(n)
    };
    (Api::new("slow").workers(1).queue(9, nape::WhenFull::Refuse).handle("wait", wait).unwrap(), inside, go)
}

fn math() -> Api {
    let double = |_: &Context, n: u32| Ok::<_, Fault>(2 * n);
    let fail = |_: &Context, (): ()| Err::<(), _>(Fault::new("no"));
    let panics = |_: &Context, (): ()| -> Result<(), Fault> { panic!("on purpose") };
    let note = |_: &Context, _: (u32, String)| Ok::<_, Fault>(());
    Api::new("math")
        .handle("double", double)
        .and_then(|api| api.handle("fail", fail))
        .and_then(|api| api.handle("panics", panics))
        .and_then(|api| api.handle("note", note))
        .unwrap()
}

#[cfg(feature = "macros")]
mod by_trait {
    use super::*;

    #[nape::api("desk")]
    pub trait Desk {
        /// Sends a letter.
        fn send(&self, to: String, pages: u32) -> bool;
        #[event]
        fn ring(&self);
        #[stream]
        fn letters(&self, n: u8) -> impl Iterator<Item = Result<u8, Fault>> + Send + use<Self>;
        fn pile(&self, top: u8, more: nape::Incoming<u8>) -> u8;
    }

    pub struct MyDesk;

    impl Desk for MyDesk {
        fn send(&self, _: String, _: u32) -> bool {
            true
        }

        fn ring(&self) {}

        fn letters(&self, n: u8) -> impl Iterator<Item = Result<u8, Fault>> + Send + use<> {
            (0..n).map(Ok)
        }

        fn pile(&self, top: u8, _: nape::Incoming<u8>) -> u8 {
            top
        }
    }
}

#[cfg(not(feature = "macros"))]
fn ac_42_the_list_tells_what_is_served_and_how(_: Kind) {}

#[cfg(feature = "macros")]
fn ac_42_the_list_tells_what_is_served_and_how(kind: Kind) {
    use by_trait::{Desk, MyDesk};

    let (head, neck) = kind.ends();
    let topic = Topic::<u8>::new();
    let other = Api::new("other").topic("level", &topic).unwrap().otherwise(|_, raw| Ok(raw)).unwrap();
    let neck = neck.serve(MyDesk.into_api()).unwrap().serve(other).unwrap();
    let _neck = neck.serve(Inspection::new().into_api()).unwrap().start();
    let all = Inspector::on(&head).list().call().unwrap();
    let seen = |path: &str, kind| all.iter().find(|it| it.path == path && it.kind == kind).unwrap().clone();

    let send = seen("desk.send", PathKind::Call);
    assert_eq!(send.signature, "fn send(to: String, pages: u32) -> bool");
    assert_eq!((&*send.doc, &*send.owner, &*send.link), ("Sends a letter.", "desk", ""));
    let arguments: Vec<_> = send.arguments.iter().map(|it| (&*it.name, &*it.type_name)).collect();
    assert_eq!(arguments, [("to", "String"), ("pages", "u32")]);
    assert_eq!(send.shape, "(text, u32) -> bool");
    seen("desk.ring", PathKind::Event);
    seen("desk.letters", PathKind::Stream);
    seen("desk.pile", PathKind::Upload);
    assert_eq!(seen("other.level", PathKind::Topic).signature, "topic of u8");
    seen("other", PathKind::CatchAll);
    // Its own methods, too, with what they do.
    for path in ["list", "describe", "counters", "in_flight", "pools", "methods", "version", "tail"] {
        let own = all.iter().find(|it| it.path == format!("nape.{path}")).unwrap();
        assert!(!own.doc.is_empty() && own.signature.contains(path), "{own:?}");
    }
    assert_eq!(all.len(), 4 + 2 + 8);
}

fn ac_42_a_path_is_described_by_what_would_take_it(kind: Kind) {
    let (head, neck) = kind.ends();
    let rest = Api::new("rest").otherwise(|_, raw| Ok(raw)).unwrap();
    let neck = neck.serve(math()).unwrap().serve(rest).unwrap();
    let _neck = neck.serve(Inspection::new().into_api()).unwrap().start();
    let inspector = Inspector::on(&head);
    assert_eq!(inspector.describe("math.double").call().unwrap().path, "math.double");
    let caught = inspector.describe("rest.of.it").call().unwrap();
    assert_eq!((&*caught.path, caught.kind), ("rest", PathKind::CatchAll));
    let error = inspector.describe("math.triple").call().unwrap_err();
    let missing: NotServed = error.fault().unwrap().typed().unwrap();
    assert_eq!(missing.to_string(), "nothing is served at `math.triple`");
}

/// Whoever asks may send as much as fits into a message.
fn p_15_what_is_no_path_is_neither_described_nor_tailed(kind: Kind) {
    let (head, neck) = kind.serving(Inspection::new().into_api());
    let inspector = Inspector::on(&head);
    for odd in [".".repeat(1 << 20), "a".repeat(1 << 20), "a..b".to_owned()] {
        let error = inspector.describe(odd.clone()).call().unwrap_err();
        let missing: NotServed = error.fault().unwrap().typed().unwrap();
        assert_eq!(missing.path, odd[..odd.len().min(255)]);
        let first =
            inspector.tail(odd).open().map_or_else(Some, |mut tail| tail.next().and_then(Result::err));
        assert!(matches!(first, Some(CallError::Fault(_))), "{first:?}");
    }
    drop(neck);
}

fn ac_95_the_counters_have_their_names(kind: Kind) {
    let (head, neck) = kind.ends();
    let _neck = neck.serve(math()).unwrap().serve(Inspection::new().into_api()).unwrap().start();
    for _ in 0..3 {
        head.api("math").action("double", 1u32).call::<u32>().unwrap();
    }
    let all = Inspector::on(&head).counters().call().unwrap();
    let number = |name: &str| all[0].counters.iter().find(|(other, _)| other == name).unwrap().1;
    // The one that asks is the fourth.
    assert_eq!((number("calls_served"), number("calls"), number("handler_panics")), (4, 0, 0));
    assert_eq!(all[0].counters.len(), head.counters().iter().count());
}

fn what_is_in_flight_is_told_while_every_worker_is_stuck(kind: Kind) {
    let (head, neck) = kind.ends();
    let (api, inside, go) = stuck();
    let neck = neck.serve(api).unwrap().serve(Inspection::new().into_api()).unwrap().start();
    head.attach(math()).unwrap();
    let slow = head.api("slow");
    let first = slow.action("wait", 1u32).start::<u32>().unwrap();
    inside.recv_timeout(LONG).unwrap();
    let second = slow.action("wait", 2u32).timeout(LONG).start::<u32>().unwrap();
    until("both have come", || neck.under_way().1 == 2);

    let inspector = Inspector::on(&head);
    let all = inspector.in_flight().timeout(Duration::from_secs(10)).call().unwrap();
    let it = &all[0];
    assert_eq!((all.len(), &*it.side, &*it.state, it.generation), (1, "neck", "open", 1));
    let waiting: Vec<_> = it.handlers.iter().filter(|it| it.path == "slow.wait").collect();
    assert_eq!((waiting[0].stage, waiting[1].stage), (Stage::Running, Stage::Queued));
    assert!(waiting[0].age_us >= waiting[1].age_us && waiting[0].thread.is_some(), "{waiting:?}");
    let pools = inspector.pools().call().unwrap();
    let pool = pools.iter().find(|pool| pool.namespace == "slow").unwrap();
    assert_eq!((pool.workers, pool.running, pool.waiting, pool.queue), (1, 1, 1, 9));
    assert!(pools.iter().any(|pool| pool.namespace == "nape" && pool.is_inline));
    go.send(()).unwrap();
    go.send(()).unwrap();
    assert_eq!((first.wait().unwrap(), second.wait().unwrap()), (1, 2));
}

fn numbers(head: &Head, path: &str) -> MethodNumbers {
    let all = Inspector::on(head).methods().call().unwrap();
    all.into_iter().find(|it| it.path == path).unwrap()
}

fn each_path_has_its_numbers_as_long_as_somebody_wants_them(kind: Kind) {
    let (head, neck) = kind.ends();
    let api = neck.attach(math()).unwrap();
    let neck = neck.start();
    let double = |n: u32| head.api("math").action("double", n).call::<u32>().unwrap();
    double(1);
    let inspection = neck.attach(Inspection::new().into_api()).unwrap();
    for n in 0..50 {
        assert_eq!(double(n), 2 * n);
    }
    head.api("math").action("note", (1u32, "x".to_owned())).fire().unwrap();
    eventually(|| numbers(&head, "math.note").events == 1);
    let seen = numbers(&head, "math.double");
    // The one before is not among them.
    assert_eq!((seen.calls, seen.events, seen.faults, seen.running), (50, 0, 0, 0));
    assert!(seen.p50_ns <= seen.p99_ns && seen.p99_ns <= seen.longest_ns && seen.longest_ns > 0, "{seen:?}");
    // What comes later is counted as well, and what is given back is as it was given.
    let twice = |_: &Context, n: u32| Ok::<_, Fault>(3 * n);
    let before = api.replace("double", twice).unwrap();
    assert_eq!(double(1), 3);
    assert_eq!(numbers(&head, "math.double").calls, 51);
    api.replace_with("double", before).unwrap();
    assert_eq!(double(1), 2);
    assert_eq!(numbers(&head, "math.double").calls, 52);
    // In flight.
    let (stuck, inside, go) = stuck();
    neck.attach(stuck).unwrap();
    let started = head.api("slow").action("wait", 1u32).start::<u32>().unwrap();
    inside.recv_timeout(LONG).unwrap();
    assert_eq!(numbers(&head, "slow.wait").running, 1);
    go.send(()).unwrap();
    started.wait().unwrap();
    until("it has returned", || numbers(&head, "slow.wait").running == 0);

    inspection.detach();
    assert!(is_unknown(&Inspector::on(&head).methods().call(), "nape.methods"));
    double(1);
    let again = neck.attach(Inspection::new().into_api()).unwrap();
    assert_eq!(numbers(&head, "math.double").calls, 0, "it begins anew");
    again.detach();
    assert_eq!(double(4), 8);
}

fn panics_and_bad_arguments_are_told_apart(kind: Kind) {
    let (head, neck) = kind.ends();
    let _neck = neck.serve(math()).unwrap().serve(Inspection::new().into_api()).unwrap().start();
    let math = head.api("math");
    math.action("fail", ()).call::<()>().unwrap_err();
    math.action("panics", ()).call::<()>().unwrap_err();
    math.action("double", "a text".to_owned()).call::<u32>().unwrap_err();
    let of = |path| {
        let seen = numbers(&head, path);
        (seen.calls, seen.faults, seen.rejections)
    };
    assert_eq!(of("math.fail"), (1, 1, 0));
    assert_eq!(of("math.panics"), (1, 1, 0));
    assert_eq!(of("math.double"), (1, 0, 1));
}

/// Fires until the tail has seen one: from then on it sees all.
fn sees(head: &Head, tail: &mut impl Iterator<Item = Result<TailedEvent, CallError>>) {
    let (stop, stopped) = unbounded::<()>();
    let log = head.api("log");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while stopped.recv_timeout(Duration::from_millis(5)).is_err() {
                log.action("first", ()).fire().unwrap();
            }
        });
        assert_eq!(tail.next().unwrap().unwrap().path, "log.first");
        stop.send(()).unwrap();
    });
}

fn log() -> Api {
    Api::new("log").workers(1).queue(10_000, nape::WhenFull::Refuse).otherwise(|_, raw| Ok(raw)).unwrap()
}

fn events_are_seen_as_they_come(kind: Kind) {
    let (head, neck) = kind.ends();
    let neck = neck.serve(log()).unwrap().serve(math()).unwrap();
    let _neck = neck.serve(Inspection::new().into_api()).unwrap().start();
    let mut tail = Inspector::on(&head).tail("log").open().unwrap();
    sees(&head, &mut tail);
    // Calls are no events, and others are not below the prefix.
    head.api("log").action("a", 1u8).call::<Payload>().unwrap();
    head.api("math").action("note", (7u32, "x".to_owned())).fire().unwrap();
    head.api("log").action("a.b", (7u32, "x".to_owned())).fire().unwrap();
    let event = tail.find(|event| event.as_ref().unwrap().path != "log.first").unwrap().unwrap();
    assert_eq!((&*event.link, &*event.path, event.lost), ("", "log.a.b", 0));
    match event.arguments {
        // A value that moves says what it is.
        EventArguments::Json(text) => {
            assert!(kind.is_json() || !kind.encodes());
            assert_eq!(text, r#"[7,"x"]"#);
        }
        EventArguments::Binary(bytes) => {
            assert!(kind.encodes());
            assert_eq!(bytes.into_vec(), [7, 1, b'x']);
        }
        other => assert!(!cfg!(feature = "json") && !kind.encodes(), "{other:?}"),
    }
    head.api("log").action("large", vec![7u8; 50_000]).fire().unwrap();
    let event = tail.find(|event| event.as_ref().unwrap().path != "log.first").unwrap().unwrap();
    assert!(matches!(event.arguments, EventArguments::Large(n) if n >= 50_000) || !cfg!(feature = "json"));
}

fn a_tail_that_is_not_read_loses_the_oldest_and_says_so(kind: Kind) {
    let (head, neck) = kind.ends();
    let neck = neck.serve(log()).unwrap().serve(Inspection::new().into_api()).unwrap().start();
    let mut tail = Inspector::on(&head).tail("log").open().unwrap();
    sees(&head, &mut tail);
    let before = neck.counters().events_served;
    for n in 0..3000u32 {
        crate::tools::patiently(|| head.api("log").action("n", n).fire());
    }
    until("all have come", || neck.counters().events_served >= before + 3000);
    head.api("log").action("n", 0u32).call::<Payload>().unwrap();
    head.api("log").action("last", ()).fire().unwrap();
    let (mut seen, mut lost) = (0, 0);
    for event in tail {
        let event = event.unwrap();
        lost += event.lost;
        seen += u64::from(event.path == "log.n");
        if event.path == "log.last" {
            break;
        }
    }
    // A few more of the first may have come.
    assert!(lost > 0 && (3000..3100).contains(&(seen + lost)), "{seen} seen, {lost} lost");
}

fn a_tail_ends_with_whoever_wanted_it(kind: Kind) {
    let (head, neck) = kind.ends();
    let neck = neck.serve(log()).unwrap().serve(Inspection::new().into_api()).unwrap().start();
    let inspector = Inspector::on(&head);
    let running = || {
        let pools = inspector.pools().call().unwrap();
        pools.iter().find(|pool| pool.namespace == "nape").unwrap().running
    };
    let open = |_| {
        let mut tail = inspector.tail("log").open().unwrap();
        sees(&head, &mut tail);
        tail
    };
    let mut tails: Vec<_> = (0..8).map(open).collect();
    assert!(running() >= 8);
    let one_more = inspector.tail("log").open().unwrap().next();
    let Some(Err(CallError::Fault(fault))) = one_more else { panic!("{one_more:?}") };
    assert_eq!(fault.message(), "8 tails are open already");
    // The others are seen to all the same.
    tails.iter_mut().for_each(|tail| sees(&head, tail));
    drop(tails);
    until("none is left", || running() <= 1);
    // Nor does one keep a link from its end.
    let _tail = inspector.tail("log").open().unwrap();
    drop(neck);
}

fn items_of_a_topic_are_read_without_their_type(kind: Kind) {
    let topic = Topic::<u64>::new();
    let (head, _neck) = kind.serving(Api::new("news").topic("ticks", &topic).unwrap());
    let refused = head.subscribe::<String>("news.ticks", Backlog::latest()).unwrap_err();
    assert!(matches!(refused, CallError::Rejected(Rejection::Mismatch { .. })), "{refused:?}");
    let mut numbers = head.subscribe_untyped::<u64>("news.ticks", Backlog::default()).unwrap();
    let mut texts = head.subscribe_untyped::<String>("news.ticks", Backlog::default()).unwrap();
    topic.publish(7);
    assert_eq!(numbers.next_timeout(LONG).unwrap(), Some(7));
    let missed = texts.next_timeout(LONG).unwrap_err();
    assert!(matches!(missed, Missed::Decode(_)), "{missed:?}");
    let unknown = head.subscribe_untyped::<u64>("news.tocks", Backlog::latest());
    assert!(is_unknown(&unknown, "news.tocks.subscribe"), "{unknown:?}");
}

/// One API of which nothing is to be seen, and one with a method and a branch that are not.
fn with_secrets() -> [Api; 3] {
    let fine = |_: &Context, n: u32| Ok::<_, Fault>(n);
    let store = Api::new("store").handle("get", fine).unwrap().handle("debug.get", fine).unwrap();
    let store = store.otherwise(|_: &Context, raw: Payload| Ok::<_, Fault>(raw)).unwrap();
    let core = Api::new("core").handle("get", fine).unwrap();
    [log(), store.layer(LocalOnly::below(["store.debug"]).unwrap()), core.layer(LocalOnly::all())]
}

fn what_layers_hide_from_others_is_told_to_this_process_alone(kind: Kind) {
    let is_near = matches!(kind, Kind::Channel);
    let (head, neck) = kind.ends();
    let inspection = Inspection::new();
    let neck = with_secrets().into_iter().fold(neck, |neck, api| neck.serve(api).unwrap());
    let neck = neck.serve(inspection.clone().into_api()).unwrap().start();

    // Another link of this process, of which others are told: what is hidden there is called and seen to run.
    let (near, far) = Head::in_process().unwrap();
    let (entered, inside) = unbounded();
    let gate = Gate::default();
    let theirs = gate.clone();
    let wait = move |_: &Context, (): ()| {
        entered.send(()).unwrap();
        theirs.pass();
        Ok::<_, Fault>(())
    };
    let vault = Api::new("vault").handle("wait", wait.clone()).unwrap().handle("note", wait).unwrap();
    let far = far.serve(vault.layer(LocalOnly::all())).unwrap().start();
    inspection.watch("vault", &far);
    let mut tail = Inspector::on(&head).tail("").open().unwrap();
    sees(&head, &mut tail);
    let waits = near.api("vault").action("wait", ()).start::<()>().unwrap();
    near.api("vault").action("note", ()).fire().unwrap();
    (0..2).for_each(|_| inside.recv_timeout(LONG).unwrap());
    head.api("log").action("last", ()).fire().unwrap();
    let seen = tail.map(|event| event.unwrap().path).take_while(|path| path != "log.last");
    let seen: Vec<_> = seen.filter(|path| path != "log.first").collect();
    assert_eq!(seen, if is_near { vec!["vault.note".to_owned()] } else { Vec::new() });

    let inspector = Inspector::on(&head);
    head.api("store").action("debug.get", 1u32).call::<u32>().ok();
    let told = [
        format!("{:?}", inspector.list().call().unwrap()),
        format!("{:?}", inspector.methods().call().unwrap()),
        format!("{:?}", inspector.in_flight().call().unwrap()),
        format!("{:?}", inspector.pools().call().unwrap()),
    ];
    let names = |text: &str| ["store.debug.get", "core", "vault.wait"].map(|name| text.contains(name));
    let every = told.each_ref().map(|text| names(text));
    // Pools have no methods, and of this link only the calls in flight that there are.
    let near = [[true; 3], [true; 3], [false, false, true], [false, true, false]];
    assert_eq!(every, if is_near { near } else { [[false; 3]; 4] }, "{told:?}");
    assert!(told[0].contains("store.get") && told[1].contains("store.get") && told[3].contains("store"));

    // What is below a catch-all is unknown all the same, as it is to a call.
    for path in ["store.debug.get", "store.debug.other", "core.get", "vault.wait"] {
        match inspector.describe(path).call() {
            Ok(_) => assert!(is_near, "{path}"),
            Err(CallError::Fault(fault)) => {
                assert!(!is_near && fault.typed::<NotServed>().is_some_and(|it| it.path == path), "{path}");
            }
            Err(error) => panic!("{path}: {error}"),
        }
    }
    assert_eq!(inspector.describe("store.other").call().unwrap().kind, PathKind::CatchAll);
    // Its own program sees what it serves.
    assert!(neck.arb().list().iter().any(|listed| listed.path.as_str() == "core.get"));
    gate.open();
    waits.wait().unwrap();
}

fn what_is_hidden_is_told_nowhere(kind: Kind) {
    let (head, neck) = kind.ends();
    let (api, inside, go) = stuck();
    let neck = neck.serve(api).unwrap().serve(math()).unwrap().serve(log()).unwrap();
    let inspection = Inspection::new().hide("slow").hide("math.fail").hide("log");
    let _neck = neck.serve(inspection.into_api()).unwrap().start();
    let started = head.api("slow").action("wait", 1u32).start::<u32>().unwrap();
    inside.recv_timeout(LONG).unwrap();
    let inspector = Inspector::on(&head);
    let told = [
        format!("{:?}", inspector.list().call().unwrap()),
        format!("{:?}", inspector.methods().call().unwrap()),
        format!("{:?}", inspector.in_flight().call().unwrap()),
        format!("{:?}", inspector.pools().call().unwrap()),
    ];
    for text in told {
        assert!(!text.contains("slow") && !text.contains("math.fail") && !text.contains("log"), "{text}");
    }
    for path in ["slow.wait", "math.fail", "log.x"] {
        assert!(inspector.describe(path).call().is_err());
    }
    assert!(inspector.describe("math.double").call().is_ok());
    // A segment is not hidden because another one begins like it.
    assert!(inspector.list().call().unwrap().iter().any(|it| it.path == "math.panics"));
    go.send(()).unwrap();
    assert_eq!(started.wait().unwrap(), 1, "it may be called");
}

fn another_link_is_told_of_under_its_name(kind: Kind) {
    let (worker, far) = kind.ends();
    let far = far.serve(math()).unwrap().start();
    let made = std::sync::Arc::new(AtomicU32::new(0));
    let theirs = made.clone();
    let make = move |_: &Context, (): ()| Ok::<_, Fault>(theirs.fetch_add(1, Ordering::SeqCst));
    worker.attach(Api::new("home").handle("make", make).unwrap()).unwrap();
    let inspection = Inspection::new();
    inspection.watch("worker", &worker);
    let (head, neck) = kind.ends();
    let _neck = neck.serve(inspection.clone().into_api()).unwrap().start();
    assert_eq!(far.api("home").action("make", ()).call::<u32>().unwrap(), 0);
    let inspector = Inspector::on(&head);
    let home = inspector.describe("home.make").call().unwrap();
    assert_eq!((&*home.link, &*home.path), ("worker", "home.make"));
    let seen = numbers(&head, "home.make");
    assert_eq!((&*seen.link, seen.calls), ("worker", 1));
    // One that is gone is told of no more, and neither is one that is not watched.
    let links = || inspector.in_flight().call().unwrap().into_iter().map(|it| it.link).collect::<Vec<_>>();
    assert_eq!(links(), ["", "worker"]);
    inspection.unwatch("worker");
    assert_eq!(links(), [""]);
    assert_eq!(far.api("home").action("make", ()).call::<u32>().unwrap(), 1);
}

fn both_sides_may_be_looked_into(kind: Kind) {
    let (head, neck) = kind.ends();
    head.attach(math()).unwrap();
    head.attach(Inspection::new().into_api()).unwrap();
    let neck = neck.start();
    let inspector = Inspector::on(&neck);
    assert!(inspector.list().call().unwrap().iter().any(|it| it.path == "math.double"));
    assert_eq!(inspector.version().call().unwrap().side, "head");
    // Who does not serve it tells nothing.
    assert!(is_unknown(&Inspector::on(&head).list().call(), "nape.list"));
}

fn the_version_is_that_of_the_process(kind: Kind) {
    let (head, neck) = kind.ends();
    let _neck = neck.serve(Inspection::new().into_api()).unwrap().start();
    let version = Inspector::on(&head).version().call().unwrap();
    assert_eq!((version.pid, &*version.library), (std::process::id(), env!("CARGO_PKG_VERSION")));
    assert_eq!(version.codec, if kind.is_json() { "JSON" } else { "binary" });
    assert!(version.program.contains("it-"), "{}", version.program);
}

#[cfg(feature = "json")]
#[test]
fn a_client_without_our_types_reads_it_as_json() {
    crate::support::watched(|| {
        let (head, neck) = Kind::Json.ends();
        let _neck = neck.serve(math()).unwrap().serve(Inspection::new().into_api()).unwrap().start();
        let ask = |method: &str, arguments: &str| {
            let raw = Payload::from_bytes(arguments.as_bytes().to_vec());
            let answer: Payload = head.api("nape").action(method, raw).call().unwrap();
            String::from_utf8(answer.into_bytes()).unwrap()
        };
        let described = ask("describe", r#""math.double""#);
        assert_eq!(
            described,
            r#"{"link":"","path":"math.double","owner":"math","kind":"call","signature":"","arguments":[],"doc":"","shape":""}"#
        );
        assert!(ask("counters", "").starts_with(r#"[{"link":"","counters":[["calls",0],"#));
        assert!(ask("list", "null").contains(r#""kind":"stream""#));
    });
}
