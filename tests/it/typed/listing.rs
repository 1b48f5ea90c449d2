//! What a list tells of the methods of a trait.

use nape::{Api, Context, Fault, Listed};

use super::{MyThumbs, Thumbs};
use crate::support::Kind;

on_every_link! {
    ac_42_a_list_has_the_methods_and_nothing_else,
    ac_42_what_is_served_by_name_has_no_signature,
}

fn listed(all: &[Listed], path: &str) -> Listed {
    all.iter().find(|listed| listed.path == path).unwrap().clone()
}

fn ac_42_a_list_has_the_methods_and_nothing_else(kind: Kind) {
    let (tell, _told) = crossbeam_channel::unbounded();
    let (_head, neck) = kind.serving(MyThumbs(tell).into_api());
    let all = neck.arb().list();
    let paths: Vec<_> = all.iter().map(|listed| listed.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "thumbs.aliased",
            "thumbs.cache.clear",
            "thumbs.cache.disk.free",
            "thumbs.cache.impatient",
            "thumbs.cache.patient",
            "thumbs.fallible",
            "thumbs.make",
            "thumbs.nothing",
            "thumbs.of_whom",
            "thumbs.one",
            "thumbs.panics",
            "thumbs.quality",
            "thumbs.r.e.named",
            "thumbs.second.cache.clear",
            "thumbs.second.cache.disk.free",
            "thumbs.second.cache.impatient",
            "thumbs.second.cache.patient",
            "thumbs.slow",
            "thumbs.text",
            "thumbs.whose",
        ]
    );
    let make = listed(&all, "thumbs.make");
    assert_eq!(make.signature, "fn make(path: PathBuf, size: u32) -> Result<Thumb, ThumbError>");
    assert_eq!(make.doc, "Renders a thumbnail.\n\nOf any size but none.");
    let arguments: Vec<_> = make.arguments.iter().map(|it| (&*it.name, &*it.type_name)).collect();
    assert_eq!(arguments, [("path", "PathBuf"), ("size", "u32")]);
    let signature = |path| listed(&all, path).signature;
    assert_eq!(signature("thumbs.nothing"), "fn nothing()");
    assert_eq!(signature("thumbs.one"), "fn one(map: BTreeMap<String, Vec<(u8, Option<i64>)>>) -> usize");
    assert_eq!(
        signature("thumbs.text"),
        "fn text(text: &str, path: &Path, list: &[u32], thumb: &Thumb) -> (usize, bool, u32, Thumb)"
    );
    assert_eq!(signature("thumbs.r.e.named"), "fn renamed(type: u8) -> u8");
    assert_eq!(signature("thumbs.fallible"), "#[event] fn fallible(percent: u8, why: &str)");
    assert_eq!(signature("thumbs.aliased"), "fn aliased(size: u32) -> alias::Result<u32>");
    assert_eq!(signature("thumbs.cache.disk.free"), "fn free(factor: u64) -> (u64, String)");
    assert!(all.iter().all(|listed| listed.owner == "thumbs" && !listed.catch_all));
}

fn ac_42_what_is_served_by_name_has_no_signature(kind: Kind) {
    let api = Api::new("a").handle("b", |_: &Context, ()| Ok::<_, Fault>(())).unwrap();
    let (_head, neck) = kind.serving(api.otherwise(|_, raw| Ok(raw)).unwrap());
    for listed in neck.arb().list() {
        assert!(listed.signature.is_empty() && listed.arguments.is_empty() && listed.doc.is_empty());
    }
    let (tell, _told) = crossbeam_channel::unbounded();
    let thumbs = neck.attach(MyThumbs(tell).into_api()).unwrap();
    thumbs.replace("make", |_: &Context, ()| Ok::<_, Fault>(())).unwrap();
    assert_eq!(listed(&neck.arb().list(), "thumbs.make").signature, "", "it is another one now");
}
