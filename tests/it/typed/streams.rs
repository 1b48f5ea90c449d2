//! Streams in a trait: the ends are arguments, and what is made is an iterator.

use std::sync::Mutex;

use nape::{CallError, Context, Duplex, Endpoint, Fault, Incoming, Outgoing, Rejection, Upload};
use serde::{Deserialize, Serialize};

use crate::support::Kind;

on_every_link! { streams_of_a_trait, by_name_and_by_trait, mistakes_of_the_method_arrive }

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    name: String,
    size: u64,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("no {0}")]
pub struct Missing(String);

#[nape::api("store", workers = 1)]
pub trait Store {
    /// Everything under a name.
    #[stream]
    fn scan(
        &self,
        cx: &Context,
        under: &str,
    ) -> Result<impl Iterator<Item = Result<Entry, Missing>> + Send + use<Self>, Missing>;
    #[stream]
    #[path = "count.up"]
    fn count(&self) -> impl Iterator<Item = Result<u32, Fault>> + Send + use<Self>;
    /// Puts entries in.
    fn put(&self, under: String, entries: Incoming<Entry>) -> Result<u64, Missing>;
    #[timeout = "5s"]
    fn total(&self, sizes: Incoming<u64>) -> u64;
    #[stream]
    fn lookup(
        &self,
        cx: &Context,
        names: Incoming<String>,
        found: Outgoing<Option<Entry>>,
    ) -> Result<(), Fault>;
}

#[derive(Default)]
pub struct MyStore(Mutex<Vec<Entry>>);

impl Store for MyStore {
    fn scan(
        &self,
        cx: &Context,
        under: &str,
    ) -> Result<impl Iterator<Item = Result<Entry, Missing>> + Send + use<>, Missing> {
        assert_eq!(cx.path().as_str(), "store.scan");
        if under == "nothing" {
            return Err(Missing(under.into()));
        }
        let under = under.to_owned();
        let all = self.0.lock().unwrap().clone();
        let found = all.into_iter().filter(move |entry| entry.name.starts_with(&under));
        Ok(found.map(|entry| if entry.size == 0 { Err(Missing(entry.name)) } else { Ok(entry) }))
    }

    fn count(&self) -> impl Iterator<Item = Result<u32, Fault>> + Send + use<> {
        (0..).map(Ok)
    }

    fn put(&self, under: String, entries: Incoming<Entry>) -> Result<u64, Missing> {
        let mut all = self.0.lock().unwrap();
        for entry in entries {
            let Entry { name, size } = entry.map_err(|error| Missing(error.to_string()))?;
            all.push(Entry { name: format!("{under}/{name}"), size });
        }
        Ok(all.len() as u64)
    }

    fn total(&self, sizes: Incoming<u64>) -> u64 {
        sizes.map(Result::unwrap).sum()
    }

    fn lookup(
        &self,
        cx: &Context,
        names: Incoming<String>,
        mut found: Outgoing<Option<Entry>>,
    ) -> Result<(), Fault> {
        assert!(!cx.is_event());
        for name in names {
            let name = name?;
            let entry = self.0.lock().unwrap().iter().find(|entry| entry.name == name).cloned();
            found.send(entry)?;
        }
        Ok(())
    }
}

fn entry(name: &str, size: u64) -> Entry {
    Entry { name: name.into(), size }
}

fn streams_of_a_trait(kind: Kind) {
    let (head, _neck) = kind.serving(MyStore::default().into_api());
    let store = StoreClient::on(&head);
    let mut put: Upload<Entry, u64> = store.put("a".into()).open().unwrap();
    for n in 1..=500 {
        put.send(entry(&n.to_string(), n)).unwrap();
    }
    assert_eq!(put.finish().unwrap(), 500);
    let items: Incoming<Entry> = store.scan("a/10").open().unwrap();
    let names: Vec<_> = items.map(|item| item.unwrap().name).collect();
    assert!(names.starts_with(&["a/10".into(), "a/100".into()]), "{names:?}");
    assert_eq!(names.len(), 11);
    let counted: Vec<u32> = store.count().open().unwrap().take(100).map(Result::unwrap).collect();
    assert!(counted.into_iter().eq(0..100));
    let mut total = store.total().open().unwrap();
    total.send(40).unwrap();
    total.send(2).unwrap();
    assert_eq!(total.finish().unwrap(), 42);
    let mut lookup: Duplex<String, Option<Entry>, ()> = store.lookup().open().unwrap();
    for name in ["a/7", "b/7"] {
        lookup.send(name.into()).unwrap();
    }
    assert_eq!(lookup.next().unwrap().unwrap(), Some(entry("a/7", 7)));
    assert_eq!(lookup.next().unwrap().unwrap(), None);
    lookup.end();
    assert!(lookup.next().is_none());
    lookup.finish().unwrap();
}

fn by_name_and_by_trait(kind: Kind) {
    if kind.is_json() {
        // A struct is no tuple there.
        return;
    }
    let (head, _neck) = kind.serving(MyStore::default().into_api());
    let by_name = head.api("store");
    let mut put = by_name.action("put", "x").upload::<Entry, u64>().unwrap();
    put.send(entry("y", 3)).unwrap();
    assert_eq!(put.finish().unwrap(), 1);
    let found = by_name.action("scan", "x".to_owned()).open::<(String, u64)>().unwrap();
    assert_eq!(found.collect::<Result<Vec<_>, _>>().unwrap(), [("x/y".into(), 3)]);
    assert_eq!(by_name.action("count.up", ()).open::<u32>().unwrap().nth(7).unwrap().unwrap(), 7);
    assert!(matches!(
        by_name.action("scan", "x").call::<()>(),
        Err(CallError::Rejected(Rejection::BadArguments { .. }))
    ));
}

fn mistakes_of_the_method_arrive(kind: Kind) {
    let (head, _neck) = kind.serving(MyStore::default().into_api());
    let store = StoreClient::on(&head);
    let missing = |error: CallError| error.fault().and_then(Fault::typed::<Missing>);
    let error = store.scan("nothing").open().unwrap().next().unwrap().unwrap_err();
    assert_eq!(missing(error), Some(Missing("nothing".into())));
    let mut put = store.put("a".into()).open().unwrap();
    put.send(entry("1", 1)).unwrap();
    put.send(entry("0", 0)).unwrap();
    put.finish().unwrap();
    let mut items = store.scan("a").open().unwrap();
    assert_eq!(items.next().unwrap().unwrap(), entry("a/1", 1));
    assert_eq!(missing(items.next().unwrap().unwrap_err()), Some(Missing("a/0".into())));
    assert!(items.next().is_none());
}

#[test]
fn ac_42_streams_are_listed() {
    let (head, neck) = Kind::Channel.serving(MyStore::default().into_api());
    let listed: Vec<_> = neck.arb().list().into_iter().map(|it| (it.signature, it.arguments.len())).collect();
    let expected = [
        ("#[stream] fn count() -> impl Iterator<Item = Result<u32, Fault>> + Send + use<Self>", 0),
        ("fn lookup(names: Incoming<String>, found: Outgoing<Option<Entry>>) -> Result<(), Fault>", 2),
        ("fn put(under: String, entries: Incoming<Entry>) -> Result<u64, Missing>", 2),
        (
            "#[stream] fn scan(under: &str) -> \
             Result<impl Iterator<Item = Result<Entry, Missing>> + Send + use<Self>, Missing>",
            1,
        ),
        ("fn total(sizes: Incoming<u64>) -> u64", 1),
    ];
    assert!(listed.iter().map(|(text, n)| (&**text, *n)).eq(expected), "{listed:#?}");
    let _: &Endpoint = &head;
}
