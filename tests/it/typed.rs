//! Traits that two programs share: values, errors, events and nested APIs with their types.

mod hygiene;
mod later;
mod listing;
mod streams;
mod topics;
mod traced;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use crossbeam_channel::{Sender, unbounded};
use nape::{Api, ApiError, CallError, Context, Executed, Fault, FaultKind, Rejection, Report, Semaphore};
use serde::{Deserialize, Serialize};

use crate::{
    support::{HANG, Kind},
    tools::{LONG, eventually, nothing_is_under_way, only},
};

on_every_link! {
    ac_01_values_of_every_shape_arrive,
    ac_01_arguments_by_reference_are_owned_on_the_way,
    ac_02_timeouts_of_the_call_the_method_and_the_trait,
    ac_11_what_is_set_on_a_call_changes_no_other,
    ac_15_a_call_releases_a_semaphore,
    ac_21_the_error_of_a_method_arrives_as_its_type,
    ac_22_a_panic_in_a_method_is_a_fault,
    ac_25_ignored_errors_are_nothing,
    ac_30_events_arrive_in_order_and_their_errors_go_to_the_hook,
    ac_42_what_a_condition_takes_away_is_not_there,
    ac_51_two_methods_that_meet_are_refused_when_attaching,
    ac_60_workers_stand_at_the_trait,
    both_sides_serve_and_call_back,
    nested_apis_go_to_any_depth,
    the_started_call_and_the_callback_know_their_type,
    typed_and_dynamic_meet,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Thumb {
    name: String,
    size: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("{0} is no size")]
pub struct ThumbError(u32);

mod alias {
    pub(super) type Result<T> = std::result::Result<T, super::ThumbError>;
}

/// Thumbnails.
#[nape::api("thumbs", workers = 1)]
pub trait Thumbs {
    /// Renders a thumbnail.
    ///
    /// Of any size but none.
    fn make(&self, path: PathBuf, size: u32) -> Result<Thumb, ThumbError>;
    fn nothing(&self);
    fn aliased(&self, size: u32) -> alias::Result<u32>;
    fn one(&self, map: BTreeMap<String, Vec<(u8, Option<i64>)>>) -> usize;
    fn text(&self, text: &str, path: &Path, list: &[u32], thumb: &Thumb) -> (usize, bool, u32, Thumb);
    #[path = "r.e.named"]
    fn renamed(&self, r#type: u8) -> u8;
    fn of_whom(&self, cx: &Context) -> (String, bool);
    fn whose(&self, cx: &Context, n: u32) -> Result<(String, u32), Fault>;
    #[timeout = "20ms"]
    fn slow(&self, cx: &Context) -> bool;
    #[event]
    fn quality(&self, percent: u8);
    #[event]
    fn fallible(&self, cx: &Context, percent: u8, why: &str) -> Result<(), ThumbError>;
    fn panics(&self, text: String) -> u8;
    #[nested]
    fn cache(&self) -> impl Cache + use<Self>;
    #[nested]
    #[path = "second.cache"]
    fn other_cache(&self) -> impl Cache;
}

#[nape::api(timeout = "30ms")]
pub trait Cache {
    fn clear(&self) -> u32;
    #[timeout = "never"]
    fn patient(&self) -> bool;
    fn impatient(&self, cx: &Context) -> bool;
    #[nested]
    fn disk(&self) -> impl Disk;
}

#[nape::api("disk")]
pub trait Disk {
    fn free(&self, cx: &Context, factor: u64) -> (u64, String);
}

struct MyThumbs(Sender<u8>);

struct MyCache(u32);

struct MyDisk(u64);

impl Thumbs for MyThumbs {
    fn make(&self, path: PathBuf, size: u32) -> Result<Thumb, ThumbError> {
        let thumb = Thumb { name: path.display().to_string(), size };
        if size == 0 { Err(ThumbError(size)) } else { Ok(thumb) }
    }

    fn nothing(&self) {}

    fn aliased(&self, size: u32) -> alias::Result<u32> {
        if size == 0 { Err(ThumbError(size)) } else { Ok(size) }
    }

    fn one(&self, map: BTreeMap<String, Vec<(u8, Option<i64>)>>) -> usize {
        map.values().map(Vec::len).sum()
    }

    fn text(&self, text: &str, path: &Path, list: &[u32], thumb: &Thumb) -> (usize, bool, u32, Thumb) {
        (text.len(), path.is_absolute(), list.iter().sum(), thumb.clone())
    }

    fn renamed(&self, r#type: u8) -> u8 {
        r#type
    }

    fn of_whom(&self, cx: &Context) -> (String, bool) {
        (cx.path().to_string(), cx.is_event())
    }

    fn whose(&self, cx: &Context, n: u32) -> Result<(String, u32), Fault> {
        Ok((cx.path().to_string(), u32::try_from(u64::from(n) * 2)?))
    }

    fn slow(&self, cx: &Context) -> bool {
        cx.cancel_token().wait_timeout(LONG)
    }

    fn quality(&self, percent: u8) {
        self.0.send(percent).unwrap();
    }

    fn fallible(&self, cx: &Context, percent: u8, why: &str) -> Result<(), ThumbError> {
        assert!(cx.is_event() && why == "why");
        Err(ThumbError(percent.into()))
    }

    fn panics(&self, text: String) -> u8 {
        panic!("{text}")
    }

    fn cache(&self) -> impl Cache + use<> {
        MyCache(7)
    }

    fn other_cache(&self) -> impl Cache {
        MyCache(8)
    }
}

impl Cache for MyCache {
    fn clear(&self) -> u32 {
        self.0
    }

    fn patient(&self) -> bool {
        std::thread::sleep(Duration::from_millis(60));
        true
    }

    fn impatient(&self, cx: &Context) -> bool {
        cx.cancel_token().wait_timeout(LONG)
    }

    fn disk(&self) -> impl Disk {
        MyDisk(u64::from(self.0))
    }
}

impl Disk for MyDisk {
    fn free(&self, cx: &Context, factor: u64) -> (u64, String) {
        (self.0 * factor, cx.path().to_string())
    }
}

/// Both ends, the client, and what comes of events.
macro_rules! serving {
    ($kind:ident, $head:ident, $neck:ident, $thumbs:ident, $told:ident) => {
        let (tell, $told) = unbounded();
        let ($head, $neck) = $kind.serving(MyThumbs(tell).into_api());
        let $thumbs = ThumbsClient::on(&$head);
        let _ = (&$neck, &$told, &$thumbs);
    };
}

fn ac_01_values_of_every_shape_arrive(kind: Kind) {
    serving!(kind, head, neck, thumbs, told);
    assert_eq!(thumbs.make("a/b".into(), 3).call().unwrap(), Thumb { name: "a/b".into(), size: 3 });
    thumbs.nothing().call().unwrap();
    assert_eq!(thumbs.aliased(4).call().unwrap(), 4);
    let map = BTreeMap::from([("x".to_owned(), vec![(1, None), (2, Some(-3))])]);
    assert_eq!(thumbs.one(map).call().unwrap(), 2);
    assert_eq!(thumbs.renamed(5).call().unwrap(), 5);
    assert_eq!(thumbs.of_whom().call().unwrap(), ("thumbs.of_whom".to_owned(), false));
    assert_eq!(thumbs.whose(4).call().unwrap(), ("thumbs.whose".to_owned(), 8));
    nothing_is_under_way(&head, &neck);
}

fn ac_01_arguments_by_reference_are_owned_on_the_way(kind: Kind) {
    serving!(kind, head, neck, thumbs, told);
    let thumb = Thumb { name: "n".into(), size: 1 };
    let started = {
        let (text, list) = ("four".to_owned(), vec![1, 2, 3]);
        thumbs.text(&text, Path::new("/x"), &list, &thumb).start().unwrap()
    };
    assert_eq!(started.wait().unwrap(), (4, true, 6, thumb));
}

fn ac_02_timeouts_of_the_call_the_method_and_the_trait(kind: Kind) {
    serving!(kind, head, neck, thumbs, told);
    let timed_out = |outcome: Result<bool, CallError>, path: &str, at_least: u64| match outcome {
        Err(CallError::TimedOut { path: at, after, .. }) => {
            assert_eq!(at.as_str(), path);
            assert!(after >= Duration::from_millis(at_least) && after < LONG, "{after:?}");
        }
        other => panic!("{other:?}"),
    };
    timed_out(thumbs.slow().call(), "thumbs.slow", 20);
    timed_out(thumbs.slow().timeout(Duration::from_millis(50)).call(), "thumbs.slow", 50);
    timed_out(thumbs.cache().impatient().call(), "thumbs.cache.impatient", 30);
    assert!(thumbs.cache().patient().call().unwrap(), "its own is more than that of its trait");
    timed_out(thumbs.cache().impatient().timeout(Duration::ZERO).call(), "thumbs.cache.impatient", 0);
    // A handle has its own timeout, and that of a method is nearer.
    let cache = CacheClient::over(head.api("thumbs.cache").timeout(Duration::from_millis(1)));
    timed_out(cache.impatient().call(), "thumbs.cache.impatient", 1);
    assert!(cache.patient().call().unwrap());
}

fn ac_11_what_is_set_on_a_call_changes_no_other(kind: Kind) {
    serving!(kind, head, neck, thumbs, told);
    let zero = thumbs.make("a".into(), 1).timeout(Duration::ZERO).call();
    assert!(matches!(zero, Err(CallError::TimedOut { executed: Executed::No, .. })));
    assert!(thumbs.make("a".into(), 1).call().is_ok());
    assert!(thumbs.make("a".into(), 1).retry_safe().call().is_ok());
    assert!(thumbs.clone().make("a".into(), 1).timeout(nape::Timeout::Never).call().is_ok());
}

fn ac_15_a_call_releases_a_semaphore(kind: Kind) {
    serving!(kind, head, neck, thumbs, told);
    let done = Semaphore::new(0);
    let call = thumbs.aliased(4).releasing(&done).start().unwrap();
    drop(thumbs.make("a".into(), 1).releasing(&done).start().unwrap());
    thumbs.quality(1).releasing(&done).fire().unwrap();
    (0..3).for_each(|_| done.acquire());
    assert_eq!(call.wait().unwrap(), 4);
}

fn ac_21_the_error_of_a_method_arrives_as_its_type(kind: Kind) {
    serving!(kind, head, neck, thumbs, told);
    let typed = |error: CallError| error.fault().and_then(Fault::typed::<ThumbError>);
    assert_eq!(typed(thumbs.make("a".into(), 0).call().unwrap_err()), Some(ThumbError(0)));
    assert_eq!(typed(thumbs.aliased(0).call().unwrap_err()), Some(ThumbError(0)));
    assert_eq!(typed(thumbs.aliased(0).start().unwrap().wait().unwrap_err()), Some(ThumbError(0)));
    let error = thumbs.whose(u32::MAX).call().unwrap_err();
    assert_eq!(error.fault().unwrap().kind(), FaultKind::Error, "a fault of its own, made by `?`");
    let wrong = head.api("thumbs").action("aliased", "text".to_owned()).call::<u32>();
    assert!(matches!(
        wrong,
        Err(CallError::Rejected(Rejection::BadArguments { .. })) | Err(CallError::Fault(_))
    ));
}

fn ac_22_a_panic_in_a_method_is_a_fault(kind: Kind) {
    serving!(kind, head, neck, thumbs, told);
    let error = thumbs.panics("on purpose".into()).call().unwrap_err();
    let fault = error.fault().unwrap();
    assert_eq!((fault.kind(), fault.message()), (FaultKind::Panicked, "on purpose"));
    assert_eq!(thumbs.aliased(4).call().unwrap(), 4);
}

fn ac_25_ignored_errors_are_nothing(kind: Kind) {
    serving!(kind, head, neck, thumbs, told);
    assert_eq!(thumbs.slow().ignore_errors().call().unwrap(), None);
    assert_eq!(thumbs.aliased(2).ignore_errors().call().unwrap(), Some(2));
    assert!(thumbs.aliased(0).ignore_errors().call().is_err(), "what the other side says is told");
    drop(neck);
    eventually(|| thumbs.aliased(2).ignore_errors().call().unwrap().is_none());
    assert!(thumbs.quality(1).fire().is_err());
    thumbs.quality(1).ignore_errors().fire().unwrap();
}

fn ac_30_events_arrive_in_order_and_their_errors_go_to_the_hook(kind: Kind) {
    serving!(kind, head, neck, thumbs, told);
    let (report, reported) = unbounded();
    neck.on_error(move |it| report.send(it.clone()).unwrap());
    (0..100).for_each(|n| thumbs.quality(n).fire().unwrap());
    for n in 0..100 {
        assert_eq!(told.recv_timeout(HANG), Ok(n));
    }
    thumbs.fallible(9, "why").fire().unwrap();
    match reported.recv_timeout(HANG).unwrap() {
        Report::EventFailed { path, error } => {
            assert_eq!(path, "thumbs.fallible");
            assert_eq!(error.fault().and_then(Fault::typed), Some(ThumbError(9)));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(head.counters().calls, 0);
}

/// What one trait cannot know: another one is nested where it has a path.
#[nape::api("meet")]
trait Meeting {
    #[path = "disk.free"]
    fn own(&self);
    #[nested]
    fn disk(&self) -> impl Disk;
}

struct MyMeeting;

impl Meeting for MyMeeting {
    fn own(&self) {}

    fn disk(&self) -> impl Disk {
        MyDisk(1)
    }
}

fn ac_51_two_methods_that_meet_are_refused_when_attaching(kind: Kind) {
    let (head, neck) = kind.ends();
    let taken = ApiError::Taken { path: nape::Path::new("meet.disk.free").unwrap() };
    assert_eq!(neck.attach(MyMeeting.into_api()).unwrap_err(), taken);
    assert_eq!(Api::new("a").nest(MyMeeting.into_api()).unwrap_err(), taken);
    assert!(neck.arb().list().is_empty());
    drop(head);
}

#[nape::api("wide", workers = 2)]
trait Wide {
    fn meet(&self) -> bool;
}

impl Wide for std::sync::Barrier {
    fn meet(&self) -> bool {
        self.wait().is_leader()
    }
}

fn ac_60_workers_stand_at_the_trait(kind: Kind) {
    let (head, _neck) = kind.serving(std::sync::Barrier::new(2).into_api());
    let wide = WideClient::on(&head);
    let calls = [wide.meet().start().unwrap(), wide.meet().start().unwrap()];
    let leaders = calls.into_iter().map(|call| call.wait().unwrap());
    assert_eq!(leaders.filter(|leads| *leads).count(), 1);
}

/// Conditions hold for everything that is made of a method.
#[nape::api("partly")]
trait Partly {
    fn there(&self) -> u8;
    #[cfg(any())]
    #[path = "there"]
    fn not_there(&self, never: NoSuchType) -> NoSuchType;
    #[nested]
    #[cfg(any())]
    fn no_api(&self) -> impl NoSuchTrait;
    #[cfg(target_os = "linux")]
    #[deprecated = "as an example"]
    fn old(&self, n: u8) -> u8;
}

impl Partly for u8 {
    fn there(&self) -> u8 {
        *self
    }

    fn old(&self, n: u8) -> u8 {
        self + n
    }
}

#[allow(deprecated)]
fn ac_42_what_a_condition_takes_away_is_not_there(kind: Kind) {
    let (head, neck) = kind.serving(3u8.into_api());
    let partly = PartlyClient::on(&head);
    assert_eq!((partly.there().call().unwrap(), partly.old(4).call().unwrap()), (3, 7));
    assert_eq!(neck.arb().list().len(), 2);
}

#[nape::api("ping")]
trait Ping {
    fn down(&self, cx: &Context, n: u32) -> Result<u32, Fault>;
}

#[derive(Default)]
struct Both(AtomicU32);

impl Ping for Both {
    fn down(&self, cx: &Context, n: u32) -> Result<u32, Fault> {
        self.0.fetch_add(1, Ordering::Relaxed);
        match n {
            0 => Ok(0),
            n => Ok(PingClient::on(&cx.endpoint()).down(n - 1).call()? + 1),
        }
    }
}

fn both_sides_serve_and_call_back(kind: Kind) {
    let (head, neck) = kind.serving(Both::default().into_api().workers(1));
    head.attach(Both::default().into_api().workers(1)).unwrap();
    assert_eq!(PingClient::on(&head).down(10).call().unwrap(), 10);
    assert_eq!(PingClient::on(&neck).down(11).call().unwrap(), 11);
}

fn nested_apis_go_to_any_depth(kind: Kind) {
    serving!(kind, head, neck, thumbs, told);
    assert_eq!(thumbs.cache().clear().call().unwrap(), 7);
    assert_eq!(thumbs.other_cache().clear().call().unwrap(), 8);
    let free = thumbs.other_cache().disk().free(2).call().unwrap();
    assert_eq!(free, (16, "thumbs.second.cache.disk.free".to_owned()));
    // A trait that is nested can be served alone, too, at its own namespace or elsewhere.
    neck.attach(MyDisk(3).into_api()).unwrap();
    neck.attach(Api::new("else.where").nest(MyDisk(4).into_api()).unwrap()).unwrap();
    assert_eq!(DiskClient::on(&head).free(1).call().unwrap(), (3, "disk.free".to_owned()));
    let elsewhere = DiskClient::over(head.api("else.where.disk"));
    assert_eq!(elsewhere.free(1).call().unwrap(), (4, "else.where.disk.free".to_owned()));
}

fn the_started_call_and_the_callback_know_their_type(kind: Kind) {
    serving!(kind, head, neck, thumbs, told);
    let started = Instant::now();
    let mut call = thumbs.make("a".into(), 2).start().unwrap();
    let thumb = call.wait_timeout(HANG).unwrap().unwrap();
    assert_eq!(thumb.size, 2);
    let (tell, told) = unbounded();
    thumbs.make("a".into(), 3).then(move |outcome| tell.send(outcome.unwrap().size).unwrap()).unwrap();
    assert_eq!(only(&told), 3);
    assert!(started.elapsed() < HANG);
}

fn typed_and_dynamic_meet(kind: Kind) {
    serving!(kind, head, neck, thumbs, told);
    // By name to a trait: nothing is `()`, one argument is itself, several are a tuple.
    let api = head.api("thumbs");
    api.action("nothing", ()).call::<()>().unwrap();
    assert_eq!(api.action("r.e.named", 9u8).call::<u8>().unwrap(), 9);
    let thumb: Thumb = api.action("make", (PathBuf::from("x"), 4u32)).call().unwrap();
    assert_eq!(thumb.size, 4);
    api.action("quality", 30u8).fire().unwrap();
    assert_eq!(told.recv_timeout(HANG), Ok(30));
    // And from the client of a trait to handlers by name.
    let by_name = Api::new("thumbs")
        .handle("make", |_: &Context, (path, size): (PathBuf, u32)| {
            Ok::<_, Fault>(Thumb { name: format!("by name {}", path.display()), size })
        })
        .unwrap()
        .handle("aliased", |_: &Context, n: u32| Err::<u32, _>(ThumbError(n)))
        .unwrap()
        .handle("nothing", |_: &Context, ()| Ok::<_, Fault>("more than nothing".to_owned()))
        .unwrap();
    head.attach(by_name).unwrap();
    let thumbs = ThumbsClient::on(&neck);
    assert_eq!(thumbs.make("x".into(), 1).call().unwrap().name, "by name x");
    let error = thumbs.aliased(6).call().unwrap_err();
    assert_eq!(error.fault().and_then(Fault::typed), Some(ThumbError(6)));
    // A reply of another type is an error, and no panic.
    assert!(matches!(thumbs.nothing().call(), Err(CallError::Decode(_))));
}
