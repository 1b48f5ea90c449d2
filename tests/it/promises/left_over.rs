//! What the library was given and does not use: when it goes, it may ask the library as well.

use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};
use nape::{
    Api, Backlog, CallError, Config, Context, Endpoint, Fault, Head, LayerCall, Leave, LinkState, Neck,
    Payload, Topic, WhenFull,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{
    support::{Kind, watched},
    tools::{Gate, LONG, is_unknown},
};

on_every_link! {
    p_16_arguments_that_are_refused_may_ask_the_link_when_they_go,
    p_16_what_is_detached_may_ask_when_it_goes,
    p_16_detaching_is_whole_whatever_panics_when_it_goes,
    p_16_a_hook_that_is_replaced_may_ask_when_it_goes,
    p_16_what_nobody_takes_may_call_over_its_link_when_it_goes,
    p_16_an_item_that_is_pushed_out_may_call_over_its_link_when_it_goes,
    p_16_an_answer_that_comes_too_late_may_take_its_time_to_go,
}

/// Arguments that look at their link when they go.
struct Asks(Endpoint, Sender<LinkState>);

impl Serialize for Asks {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_unit()
    }
}

impl Drop for Asks {
    fn drop(&mut self) {
        assert!(!self.0.hang_report().to_string().is_empty());
        self.1.send(self.0.state()).unwrap();
    }
}

/// Red when what is refused is dropped in the machine: then this hangs.
fn p_16_arguments_that_are_refused_may_ask_the_link_when_they_go(kind: Kind) {
    let (tell, told) = unbounded();
    let gone = || told.recv_timeout(LONG).unwrap();
    // There is no room.
    let (head, neck) =
        kind.ends_with(Head::builder().configure(|it: Config| it.send_queue(1)), Neck::builder());
    let asks = || head.api("a").action("x", Asks(head.endpoint().clone(), tell.clone()));
    head.api("a").action("x", ()).fire().unwrap();
    asks().fire().unwrap_err();
    asks().start::<()>().unwrap_err();
    asks().open::<()>().unwrap_err();
    (0..3).for_each(|_| assert_eq!(gone(), LinkState::Starting));
    // It is over.
    drop(neck);
    assert_eq!(head.wait_closed(LONG), LinkState::Closed);
    assert!(matches!(asks().call::<()>(), Err(CallError::Closed { .. })));
    assert!(matches!(asks().start::<()>().unwrap_err(), CallError::Closed { .. }));
    assert!(matches!(asks().fire(), Err(CallError::Closed { .. })));
    assert!(matches!(asks().open::<()>().unwrap_err(), CallError::Closed { .. }));
    (0..4).for_each(|_| assert_eq!(gone(), LinkState::Closed));
}

/// What a function of the user's holds: it looks at its side when it goes, and says so.
struct Held(Endpoint, Sender<usize>);

impl Held {
    fn function(self) -> impl Fn(&Context, Payload) -> Result<Payload, Fault> + Send + Sync + 'static {
        move |_, raw| {
            let _ = &self;
            Ok(raw)
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let number = self.0.arb().list().len();
        // What waits for the locks of the hooks.
        self.0.on_error(|_| ());
        self.0.on_unhandled(|_, raw| Ok(raw));
        self.1.send(number).unwrap();
    }
}

/// Red when one of them is dropped under the lock of the routes: then this hangs.
fn p_16_what_is_detached_may_ask_when_it_goes(kind: Kind) {
    let (tell, told) = unbounded();
    let (head, neck) = kind.ends();
    let held = || Held(neck.endpoint().clone(), tell.clone());
    let predicate = held();
    let takes = move |path: &str| {
        let _ = &predicate;
        path.starts_with("a.some")
    };
    let exact = held();
    let exact = move |_: &Context, ()| {
        let _ = &exact;
        Ok::<_, Fault>(())
    };
    let api = Api::new("a").handle("exact", exact).unwrap().otherwise(held().function()).unwrap();
    let api = api.catch_some("some", takes, held().function()).unwrap();
    let attached = neck.attach(api).unwrap();
    let before = neck.arb().list().len();
    attached.replace_catch_all("", held().function()).unwrap();
    attached.replace_catch_all("", held().function()).unwrap();
    (0..2).for_each(|_| assert_eq!(told.recv_timeout(LONG).unwrap(), before));
    assert!(attached.replace_with("nowhere", nape::Handler::new(held().function())).is_err());
    assert_eq!(told.recv_timeout(LONG).unwrap(), before);
    attached.detach();
    (0..4).for_each(|_| assert_eq!(told.recv_timeout(LONG).unwrap(), 0));
    drop(head);
}

/// What panics when it goes.
#[derive(Serialize)]
struct Bad;

impl Drop for Bad {
    fn drop(&mut self) {
        // As a panic, but without the noise on stderr.
        std::panic::resume_unwind(Box::new("it goes"));
    }
}

/// Red when what panics is dropped in the midst of it; when two are dropped together, the process ends.
fn p_16_detaching_is_whole_whatever_panics_when_it_goes(kind: Kind) {
    let (head, neck) = kind.ends();
    let bad = Bad;
    let takes = move |_: &str| {
        let _ = &bad;
        true
    };
    let raw = || {
        let bad = Bad;
        move |_: &Context, raw: Payload| {
            let _ = &bad;
            Ok::<_, Fault>(raw)
        }
    };
    let api = Api::new("a").otherwise(raw()).unwrap().catch_some("some", takes, raw()).unwrap();
    let api = api.handle("one", raw()).unwrap().handle("two", raw()).unwrap();
    let attached = neck.attach(api.catch_some("more", |_| true, raw()).unwrap()).unwrap();
    let neck = neck.start();
    assert_eq!(head.api("a").action("more.x", 7u64).timeout(LONG).call::<u64>().unwrap(), 7);
    attached.detach();
    assert!(neck.arb().list().is_empty());
    assert!(is_unknown(&head.api("a").action("some.x", ()).timeout(LONG).call::<()>(), "a.some.x"));
    // Those that are served when the link goes, and who hears of it.
    neck.attach(Api::new("b").handle("one", raw()).unwrap().handle("two", raw()).unwrap()).unwrap();
    for _ in 0..2 {
        let bad = Bad;
        neck.on_state(move |_| _ = &bad);
    }
    drop((head, neck));
}

/// Red when they go together: the second panic would be the end of the process.
#[test]
fn p_18_values_that_panic_when_a_link_goes_with_them_end_no_process() {
    watched(|| {
        let (head, neck) = Kind::Channel.ends();
        (0..3).for_each(|_| head.api("a").action("never", Bad).fire().unwrap());
        // They wait until the Neck starts.
        drop(neck);
        assert_eq!(head.wait_closed(LONG), LinkState::Closed);
        assert_eq!(head.counters().events_unsent, 3);
    });
}

/// Red when they go together: the second panic would be the end of the process.
#[test]
fn p_18_layers_that_panic_when_they_go_together_end_no_process() {
    watched(|| {
        let layer = || {
            let bad = Bad;
            move |_: &mut LayerCall<'_>| {
                let _ = &bad;
                Ok(Leave::nothing())
            }
        };
        let echo = |_: &Context, n: u64| Ok::<_, Fault>(n);
        let api = Api::new("a").handle("echo", echo).unwrap().layer(layer()).layer(layer());
        let builder = Head::builder().layer(layer()).layer(layer());
        let (head, neck) = Kind::Encoded.ends_with(builder, Neck::builder().layer(layer()).layer(layer()));
        let attached = neck.attach(api).unwrap();
        let neck = neck.start();
        let handle = head.api("a").layer(layer()).layer(layer());
        assert_eq!(handle.action("echo", 1u64).call::<u64>().unwrap(), 1);
        drop(handle);
        attached.detach();
        drop((head, neck));
    });
}

/// Red when the one before is dropped under the lock of the next: then this hangs.
fn p_16_a_hook_that_is_replaced_may_ask_when_it_goes(kind: Kind) {
    let (tell, told) = unbounded();
    let (head, neck) = kind.ends();
    for end in [head.endpoint(), neck.endpoint()] {
        let held = || Held(end.clone(), tell.clone());
        let hook = held();
        end.on_error(move |_| {
            let _ = &hook;
        });
        end.on_error(|_| ());
        assert_eq!(told.recv_timeout(LONG).unwrap(), 0);
        end.on_unhandled(held().function());
        end.on_unhandled(|_, raw| Ok(raw));
        assert_eq!(told.recv_timeout(LONG).unwrap(), 0);
    }
}

/// What calls over its link when it goes, and says what came of that.
struct Calls(Option<(Endpoint, Sender<Result<u64, CallError>>)>);

/// A copy has nobody to call.
impl Clone for Calls {
    fn clone(&self) -> Calls {
        Calls(None)
    }
}

impl Serialize for Calls {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(7)
    }
}

impl<'de> Deserialize<'de> for Calls {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Calls, D::Error> {
        u64::deserialize(from).map(|_| Calls(None))
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        if let Some((end, told)) = self.0.take() {
            // Nobody listens any more at the end of a test.
            let _ = told.send(end.api("echo").action("it", 1u64).timeout(LONG).call());
        }
    }
}

fn echo() -> Api {
    Api::new("echo").handle("it", |_: &Context, n: u64| Ok::<_, Fault>(n)).unwrap()
}

#[track_caller]
fn all_called(told: &Receiver<Result<u64, CallError>>, n: usize) {
    (0..n).for_each(|_| assert_eq!(told.recv_timeout(2 * LONG).unwrap().unwrap(), 1));
}

/// Red when it goes on the thread that hands over what its side sends, before that has done with it.
fn p_16_what_nobody_takes_may_call_over_its_link_when_it_goes(kind: Kind) {
    let (gate, (tell, told)) = (Gate::default(), unbounded());
    let theirs = gate.clone();
    let wait = move |_: &Context, _: Payload| {
        theirs.pass();
        Ok::<_, Fault>(())
    };
    let full = Api::new("full").workers(1).queue(0, WhenFull::Refuse).handle("wait", wait).unwrap();
    let (head, neck) = kind.ends();
    let neck = neck.serve(echo()).unwrap().serve(full).unwrap().start();
    let calls = || Calls(Some((head.endpoint().clone(), tell.clone())));
    head.api("nowhere").action("x", calls()).fire().unwrap();
    assert!(head.api("nowhere").action("x", calls()).start::<()>().unwrap().wait().is_err());
    all_called(&told, 2);
    let running = head.api("full").action("wait", ()).start::<()>().unwrap();
    gate.await_waiting(1);
    head.api("full").action("wait", calls()).fire().unwrap();
    assert!(head.api("full").action("wait", calls()).start::<()>().unwrap().wait().is_err());
    all_called(&told, 2);
    gate.open();
    running.wait().unwrap();
    drop(neck);
}

/// The same for items of a topic.
fn p_16_an_item_that_is_pushed_out_may_call_over_its_link_when_it_goes(kind: Kind) {
    let (topic, (tell, told)) = (Topic::new(), unbounded());
    let (head, neck) = kind.ends();
    head.attach(echo()).unwrap();
    let neck = neck.serve(Api::new("news").topic("items", &topic).unwrap()).unwrap().start();
    let news = head.subscribe::<Calls>("news.items", Backlog::drop_oldest(4)).unwrap();
    for _ in 0..20 {
        topic.publish(Calls(Some((neck.endpoint().clone(), tell.clone()))));
    }
    all_called(&told, 20 - 4);
    drop(news);
}

/// What stands at a gate when it goes.
struct Stays(Gate);

impl Serialize for Stays {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_unit()
    }
}

impl Drop for Stays {
    fn drop(&mut self) {
        self.0.pass();
    }
}

/// Red when the thread on which it goes has said before that it takes the next call.
fn p_16_an_answer_that_comes_too_late_may_take_its_time_to_go(kind: Kind) {
    let (gate, over) = (Gate::default(), Gate::default());
    let (stays, is_over) = (gate.clone(), over.clone());
    let late = move |_: &Context, ()| {
        is_over.pass();
        Ok::<_, Fault>(Stays(stays.clone()))
    };
    let (head, neck) = kind.ends();
    let neck = neck.serve(Api::new("a").handle("late", late).unwrap()).unwrap();
    let neck = neck.serve(echo()).unwrap().start();
    let late = head.api("a").action("late", ()).timeout(Duration::from_millis(20));
    assert!(matches!(late.call::<()>(), Err(CallError::TimedOut { .. })));
    over.open();
    gate.await_waiting(1);
    assert_eq!(head.api("echo").action("it", 1u64).timeout(LONG).call::<u64>().unwrap(), 1);
    gate.open();
    drop(neck);
}
