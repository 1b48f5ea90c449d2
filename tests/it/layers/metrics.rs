//! Numbers for a recorder.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ::metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use nape::{Api, ApiHandle, Bytes, Context, Fault, Head, Neck, Payload, layers::Metrics};

use super::{math, waiting};
use crate::{
    support::Kind,
    tools::{Gate, LONG, eventually, until},
};

on_every_link! {
    calls_are_counted_on_both_sides_by_path_and_outcome,
    what_is_under_way_is_told_while_it_is,
    bytes_are_counted_where_they_travel,
    many_paths_have_no_numbers_of_their_own,
    p_16_a_recorder_may_make_calls_while_it_is_asked,
}

/// What a recorder has, by names and labels.
fn page(handle: &PrometheusHandle) -> BTreeMap<String, f64> {
    let page = handle.render();
    let lines = page.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let entry = |line: &str| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        let labels = name.split_once('{').map(|(name, labels)| {
            let mut labels: Vec<_> = labels.trim_end_matches('}').split(',').collect();
            labels.sort_unstable();
            format!("{name} {}", labels.join(" ").replace('"', ""))
        });
        (labels.unwrap_or(name.to_owned()), value.parse().unwrap())
    };
    lines.map(entry).collect()
}

/// A layer and what it has recorded.
fn layer() -> (Metrics, PrometheusHandle) {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    (Metrics::to(recorder), handle)
}

/// Both sides, each with numbers of its own.
fn measured(kind: Kind, api: Api) -> (Head, Neck, [PrometheusHandle; 2]) {
    let ((ours, called), (theirs, served)) = (layer(), layer());
    let (head, neck) = kind.ends_with(Head::builder().layer(ours), Neck::builder().layer(theirs).serve(api));
    (head, neck.start(), [called, served])
}

fn calls_are_counted_on_both_sides_by_path_and_outcome(kind: Kind) {
    let fail = |_: &Context, (): ()| Err::<(), _>(Fault::new("no"));
    let count = |_: &Context, n: u64| Ok::<_, Fault>((0..n).map(Ok::<_, Fault>));
    let gate = Gate::default();
    let theirs = gate.clone();
    let slow = move |_: &Context, (): ()| {
        theirs.pass();
        Ok::<_, Fault>(())
    };
    let api = math().handle("fail", fail).unwrap().stream("count", count).unwrap();
    let (head, _neck, [called, served]) = measured(kind, api.handle("slow", slow).unwrap());
    let math = head.api("math");
    (0..5).for_each(|n| assert_eq!(math.action("double", n).call::<u64>().unwrap(), 2 * n));
    math.action("fail", ()).call::<()>().unwrap_err();
    math.action("slow", ()).timeout(Duration::from_millis(20)).call::<()>().unwrap_err();
    gate.open();
    math.action("nowhere", ()).call::<()>().unwrap_err();
    assert_eq!(math.action("count", 3u64).open::<u64>().unwrap().count(), 3);
    math.action("double", 1u64).fire().unwrap();
    for (page_of, way) in [(&called, "called"), (&served, "served")] {
        let number = |name: &str| page(page_of).get(&name.replace("WAY", way)).copied();
        let calls = |path: &str, outcome: &str| {
            number(&format!("nape_calls_total outcome={outcome} path=math.{path} way=WAY"))
        };
        eventually(|| number("nape_events_total outcome=ok path=math.double way=WAY") == Some(1.0));
        eventually(|| calls("count", "ok") == Some(1.0));
        assert_eq!([calls("double", "ok"), calls("double", "fault")], [Some(5.0), None], "{way}");
        assert_eq!([calls("fail", "ok"), calls("fail", "fault")], [None, Some(1.0)], "{way}");
        eventually(|| number("nape_in_flight path=math.slow way=WAY") == Some(0.0));
        assert_eq!(number("nape_in_flight path=math.double way=WAY"), Some(0.0));
        assert_eq!(number("nape_call_seconds_count path=math.double way=WAY"), Some(5.0));
        let slow = number("nape_call_seconds_sum path=math.slow way=WAY").unwrap();
        // The call comes to the other side when some of its time is over.
        let least = if way == "called" { 0.019 } else { f64::MIN_POSITIVE };
        assert!((least..60.0).contains(&slow), "{slow} s, {way}");
        // What no handler takes is seen where it is called alone.
        let unknown = calls("nowhere", "rejected");
        assert_eq!(unknown, (way == "called").then_some(1.0));
    }
    assert_eq!(page(&called).get("nape_calls_total outcome=timed_out path=math.slow way=called"), Some(&1.0));
    // The text says what it is about.
    assert!(called.render().contains("# HELP nape_calls_total "), "{}", called.render());
}

fn what_is_under_way_is_told_while_it_is(kind: Kind) {
    let (api, go, has_begun) = waiting();
    let (head, _neck, [called, served]) = measured(kind, api);
    let name = |way: &str| format!("nape_in_flight path=it.waits way={way}");
    let call = head.api("it").action("waits", ()).start::<()>().unwrap();
    has_begun.recv().unwrap();
    assert_eq!(page(&called).get(&name("called")), Some(&1.0));
    assert_eq!(page(&served).get(&name("served")), Some(&1.0));
    go.send(()).unwrap();
    call.wait().unwrap();
    assert_eq!(page(&called).get(&name("called")), Some(&0.0));
    until("its handler has ended", || page(&served).get(&name("served")) == Some(&0.0));
}

fn bytes_are_counted_where_they_travel(kind: Kind) {
    let echo = |_: &Context, bytes: Bytes| Ok::<_, Fault>(bytes);
    let (head, _neck, [called, served]) = measured(kind, Api::new("it").handle("echo", echo).unwrap());
    let sent = Bytes::from(&[7; 5000][..]);
    assert_eq!(head.api("it").action("echo", sent.clone()).call::<Bytes>().unwrap(), sent);
    let bytes = |handle: &PrometheusHandle, part: &str, way: &str| {
        page(handle).get(&format!("nape_bytes_total part={part} path=it.echo way={way}")).copied()
    };
    let numbers = [
        bytes(&called, "arguments", "called"),
        bytes(&called, "result", "called"),
        bytes(&served, "arguments", "served"),
        bytes(&served, "result", "served"),
    ];
    match numbers {
        [None, None, None, None] => assert!(!kind.encodes()),
        [None, Some(back), Some(there), Some(result)] => {
            assert!(kind.encodes() && there == back && back == result && there >= 5000.0, "{numbers:?}");
        }
        _ => panic!("{numbers:?}"),
    }
}

fn many_paths_have_no_numbers_of_their_own(kind: Kind) {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let neck = Neck::builder().layer(Metrics::to(recorder).most_paths(3));
    let neck =
        neck.serve(Api::new("any").otherwise(|_: &Context, raw: Payload| Ok::<_, Fault>(raw)).unwrap());
    let (head, neck) = kind.ends_with(Head::builder(), neck);
    let _neck = neck.start();
    for n in 0..20u8 {
        let path = format!("p{}", n % 10);
        assert_eq!(head.api("any").action(&path, n).call::<u8>().unwrap(), n);
    }
    let page = page(&handle);
    let calls: BTreeMap<_, _> =
        page.iter().filter(|(name, _)| name.starts_with("nape_calls_total")).collect();
    assert_eq!(calls.len(), 4, "{calls:?}");
    assert_eq!(calls.values().map(|n| **n).sum::<f64>(), 20.0);
    let others = calls.iter().find(|(name, _)| name.contains("path=(others)")).unwrap();
    assert_eq!(**others.1, 14.0);
}

/// A recorder that calls over the very handle that it records, once for each thing that it is asked for.
#[derive(Clone, Default)]
struct Calls(Arc<(OnceLock<ApiHandle>, [AtomicBool; 3])>);

impl Calls {
    fn call(&self, asked_for: usize) {
        let (math, asked) = &*self.0;
        if !asked[asked_for].swap(true, Ordering::SeqCst) {
            assert_eq!(math.get().unwrap().action("double", 4u64).timeout(LONG).call::<u64>().unwrap(), 8);
        }
    }
}

impl Recorder for Calls {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        self.call(0);
        Counter::noop()
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        self.call(1);
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        self.call(2);
        Histogram::noop()
    }
}

/// Red when the layer asks the recorder under a lock of its own: then this hangs.
fn p_16_a_recorder_may_make_calls_while_it_is_asked(kind: Kind) {
    let (head, _neck) = kind.serving(math());
    let recorder = Calls::default();
    let math = head.api("math").layer(Metrics::to(recorder.clone()));
    recorder.0.0.set(math.clone()).unwrap();
    assert_eq!(math.action("double", 1u64).timeout(LONG).call::<u64>().unwrap(), 2);
    assert!(recorder.0.1.iter().all(|asked| asked.load(Ordering::SeqCst)));
}
