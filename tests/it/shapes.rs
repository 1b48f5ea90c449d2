//! Two programs with different versions of a trait: what differs is refused by name, and the rest works.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use crossbeam_channel::{Sender, unbounded};
use nape::{Api, CallError, Context, Fault, Head, Neck, Payload, Rejection, Report, Semaphore};

mod streams;

use crate::{
    support::Kind,
    tools::{LONG, only},
};

/// What is served.
mod theirs {
    use nape::Fault;
    use serde::{Deserialize, Serialize};

    #[derive(Clone, Debug, Serialize, Deserialize)]
    pub struct Item {
        pub name: String,
        pub width: u32,
        pub height: u32,
    }

    #[nape::api("shop")]
    pub trait Shop {
        fn price(&self, item: Item) -> u64;
        fn find(&self, id: u64) -> Result<Item, Fault>;
        #[event]
        fn note(&self, text: String, n: u32);
        fn count(&self) -> usize;
        #[nested]
        fn deep(&self) -> impl Deep;
        fn ask(&self, cx: &nape::Context) -> Result<u64, Fault>;
    }

    #[nape::api]
    pub trait Deep {
        fn less(&self, n: u32) -> u32;
        fn same(&self, n: u32) -> u32;
    }
}

/// What is called: an older version of it.
mod ours {
    use nape::Fault;
    use serde::{Deserialize, Serialize};

    #[derive(Clone, Debug, Serialize, Deserialize)]
    pub struct Item {
        pub name: String,
        // In bytes it is the same.
        pub height: u32,
        pub width: u32,
    }

    #[nape::api("shop")]
    pub trait Shop {
        fn price(&self, item: Item) -> u64;
        fn find(&self, id: u64) -> Result<Item, Fault>;
        #[event]
        fn note(&self, text: String, n: u64);
        fn count(&self) -> u64;
        #[nested]
        fn deep(&self) -> impl Deep;
        fn ask(&self, cx: &nape::Context) -> Result<u64, Fault>;
    }

    #[nape::api]
    pub trait Deep {
        fn less(&self, n: (u32, u32)) -> u32;
        fn same(&self, n: u32) -> u32;
    }
}

struct Served(Arc<AtomicUsize>, Sender<String>);

impl theirs::Shop for Served {
    fn price(&self, item: theirs::Item) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed);
        item.width.into()
    }

    fn find(&self, id: u64) -> Result<theirs::Item, Fault> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(theirs::Item { name: id.to_string(), width: 1, height: 2 })
    }

    fn note(&self, text: String, n: u32) {
        self.1.send(format!("{text} {n}")).unwrap();
    }

    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn deep(&self) -> impl theirs::Deep {
        Nested
    }

    /// Calls back what is a method there of another shape.
    fn ask(&self, cx: &Context) -> Result<u64, Fault> {
        let item = ours::Item { name: String::new(), height: 1, width: 2 };
        Ok(ours::ShopClient::on(&cx.endpoint()).price(item).call()?)
    }
}

struct Nested;

impl theirs::Deep for Nested {
    fn less(&self, n: u32) -> u32 {
        n - 1
    }

    fn same(&self, n: u32) -> u32 {
        n
    }
}

fn stage(kind: Kind) -> (Head, Neck, Arc<AtomicUsize>) {
    use theirs::Shop;
    let count = Arc::new(AtomicUsize::new(0));
    let (head, neck) = kind.serving(Served(count.clone(), unbounded().0).into_api());
    head.attach(Served(count.clone(), unbounded().0).into_api()).unwrap();
    (head, neck, count)
}

fn item() -> ours::Item {
    ours::Item { name: "a".into(), height: 1, width: 2 }
}

const PRICE: &str = "shop.price differs: here it is Item { name: text, height: u32, width: u32 } -> u64, \
                     at the other side Item { name: text, width: u32, height: u32 } -> u64";

fn a_method_that_differs_is_refused_with_both_shapes(kind: Kind) {
    let (head, _neck, count) = stage(kind);
    let shop = ours::ShopClient::on(&head);
    let error = shop.price(item()).call().unwrap_err();
    assert!(matches!(&error, CallError::Rejected(Rejection::Mismatch { .. })), "{error:?}");
    assert_eq!(error.to_string(), PRICE);
    assert_eq!(error.executed(), nape::Executed::No);
    // However it is called, first and later.
    for _ in 0..3 {
        assert_eq!(shop.price(item()).start().unwrap().wait().unwrap_err().to_string(), PRICE);
        let (tell, told) = unbounded();
        shop.price(item()).then(move |outcome| tell.send(outcome).unwrap()).unwrap();
        assert_eq!(only(&told).unwrap_err().to_string(), PRICE);
        assert_eq!(shop.price(item()).ignore_errors().call().unwrap_err().to_string(), PRICE);
        let done = Semaphore::new(0);
        let call = shop.price(item()).releasing(&done).start().unwrap();
        done.acquire();
        assert_eq!(call.wait().unwrap_err().to_string(), PRICE);
    }
    // A result that differs is refused as well, before the handler does what it does.
    let error = shop.find(7).call().unwrap_err().to_string();
    assert!(error.starts_with("shop.find differs: here it is u64 -> Item { name: text, height"), "{error}");
    let error = shop.deep().less((1, 2)).call().unwrap_err().to_string();
    assert_eq!(error, "shop.deep.less differs: here it is (u32; 2) -> u32, at the other side u32 -> u32");
    assert_eq!(count.load(Ordering::Relaxed), 0, "no handler ran");
}

fn the_rest_of_the_api_works(kind: Kind) {
    let (head, _neck, count) = stage(kind);
    let shop = ours::ShopClient::on(&head);
    assert!(shop.price(item()).call().is_err());
    count.store(5, Ordering::Relaxed);
    assert_eq!(shop.count().call().unwrap(), 5, "usize and u64 are the same on the wire");
    assert_eq!(shop.deep().same(3).call().unwrap(), 3);
}

fn an_event_that_differs_is_dropped_and_told_where_it_came(kind: Kind) {
    let (head, neck, _) = stage(kind);
    let (tell, told) = unbounded();
    neck.on_error(move |report| tell.send(report.clone()).unwrap());
    ours::ShopClient::on(&head).note("a".into(), 7).fire().unwrap();
    match told.recv_timeout(LONG).unwrap() {
        Report::EventDropped { path, error } => {
            assert_eq!(path.as_str(), "shop.note");
            let text = error.to_string();
            assert!(text.starts_with("shop.note differs: here it is (text, u32) -> (), at"), "{text}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(neck.counters().events_dropped, 1);
}

fn in_a_handler_it_is_a_failure_like_any_other(kind: Kind) {
    let (head, _neck, _) = stage(kind);
    let error = theirs::ShopClient::on(&head).ask().call().unwrap_err();
    let inner = error.fault().and_then(Fault::call_error).unwrap();
    assert_eq!(inner.to_string(), PRICE);
}

fn by_name_nothing_is_checked(kind: Kind) {
    if kind.is_json() {
        // What looks alike in binary does not there.
        return;
    }
    let (head, neck, _) = stage(kind);
    // A call by name to the method of a trait ...
    let price: u64 = head.api("shop").action("price", item()).call().unwrap();
    assert_eq!(price, 1, "height was taken for width");
    // ... and the client of a trait with what is served by name, or caught.
    let api = Api::new("names")
        .handle("price", |_: &Context, item: theirs::Item| Ok::<_, Fault>(u64::from(item.height)));
    let caught = |_: &Context, _: Payload| Ok(Payload::from_bytes(vec![9]));
    neck.attach(api.unwrap().otherwise(caught).unwrap()).unwrap();
    let names = ours::ShopClient::over(head.api("names"));
    assert_eq!(names.price(item()).call().unwrap(), 2);
    assert_eq!(names.count().call().unwrap(), 9);
    // One that is replaced by name is not checked any more.
    let more = neck.attach(Api::new("more").nest(served()).unwrap()).unwrap();
    let less = ours::ShopClient::over(head.api("more.shop")).deep();
    assert!(less.less((1, 2)).call().is_err());
    more.replace("shop.deep.less", |_: &Context, n: (u32, u32)| Ok::<_, Fault>(n.1)).unwrap();
    assert_eq!(less.less((1, 2)).call().unwrap(), 2);
}

fn served() -> Api {
    use theirs::Shop;
    Served(Arc::default(), unbounded().0).into_api()
}

on_every_link! {
    a_method_that_differs_is_refused_with_both_shapes,
    the_rest_of_the_api_works,
    an_event_that_differs_is_dropped_and_told_where_it_came,
    in_a_handler_it_is_a_failure_like_any_other,
    by_name_nothing_is_checked,
}
