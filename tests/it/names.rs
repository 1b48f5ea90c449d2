//! Names: what a path may be, who has it, and what happens when that changes under load.

use std::{
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use nape::{Api, ApiError, Attached, CallError, Context, Endpoint, Fault, Misuse, Path, PathError};

use crate::{
    support::Kind,
    tools::{Gate, is_unknown},
};

/// A handler that says who it is.
fn says(what: u64) -> impl Fn(&Context, ()) -> Result<u64, Fault> {
    move |_, ()| Ok(what)
}

fn ask(end: &Endpoint, path: &str) -> Result<u64, CallError> {
    end.api(path).action("", ()).call()
}

fn ac_40_a_path_has_one_handler(kind: Kind) {
    let (head, neck) = kind.ends();
    let taken = |path: &str| ApiError::Taken { path: Path::new(path).unwrap() };
    let twice = Api::new("a").handle("b.c", says(1)).unwrap().handle("b.c", says(2));
    assert_eq!(twice.unwrap_err(), taken("a.b.c"));
    let child = Api::new("b").handle("c", says(2)).unwrap();
    assert_eq!(Api::new("a").handle("b.c", says(1)).unwrap().nest(child).unwrap_err(), taken("a.b.c"));

    let api = neck.attach(Api::new("a").handle("b.c", says(1)).unwrap()).unwrap();
    let neck = neck.start();
    assert_eq!(api.handle("b.c", says(2)).unwrap_err(), taken("a.b.c"));
    let other = neck.attach(Api::new("a.b").handle("x", says(3)).unwrap()).unwrap();
    let claimed = ApiError::Claimed { path: Path::new("a.b.c").unwrap(), owner: Path::new("a").unwrap() };
    assert_eq!(other.handle("c", says(4)).unwrap_err(), claimed);
    assert_eq!(ask(&head, "a.b.c").unwrap(), 1, "what was refused changed nothing");
    assert_eq!(ask(&head, "a.b.x").unwrap(), 3);
}

fn ac_40_replace_gives_the_old_handler_back(kind: Kind) {
    let (head, neck) = kind.ends();
    let api = neck.attach(Api::new("a").handle("x", says(1)).unwrap()).unwrap();
    let _neck = neck.start();
    let old = api.replace("x", says(2)).unwrap();
    assert_eq!(ask(&head, "a.x").unwrap(), 2);
    let newer = api.replace_with("x", old).unwrap();
    assert_eq!(ask(&head, "a.x").unwrap(), 1);
    let old = api.remove("x").unwrap();
    assert!(is_unknown(&ask(&head, "a.x"), "a.x"));
    api.add("x", newer).unwrap();
    api.add("y", old).unwrap();
    assert_eq!((ask(&head, "a.x").unwrap(), ask(&head, "a.y").unwrap()), (2, 1));
    // The types of the arguments may change too.
    api.replace("x", |_: &Context, text: String| Ok::<_, Fault>(text.len() as u64)).unwrap();
    assert_eq!(head.api("a").action("x", "four".to_owned()).call::<u64>().unwrap(), 4);
}

fn ac_40_only_its_api_replaces_or_removes_a_handler(kind: Kind) {
    let (head, neck) = kind.ends();
    let _owner = neck.attach(Api::new("a").handle("b.c", says(1)).unwrap()).unwrap();
    let other = neck.attach(Api::new("a.b").handle("x", says(2)).unwrap()).unwrap();
    let _neck = neck.start();
    let missing = |path: &str| ApiError::Missing { path: Path::new(path).unwrap() };
    assert_eq!(other.replace("c", says(3)).unwrap_err(), missing("a.b.c"));
    assert_eq!(other.remove("c").unwrap_err(), missing("a.b.c"));
    assert_eq!(other.remove("nothing").unwrap_err(), missing("a.b.nothing"));
    assert_eq!(other.replace("", says(3)).unwrap_err(), missing("a.b"));
    assert_eq!(ask(&head, "a.b.c").unwrap(), 1);
}

/// A handler that was taken away still answers what it is busy with.
fn ac_40_a_removed_handler_finishes_its_calls(kind: Kind) {
    let (head, neck) = kind.ends();
    let (gate, theirs) = twice(Gate::default());
    let api = Api::new("a").workers(1).handle("x", move |_: &Context, n: u64| {
        theirs.pass();
        Ok::<_, Fault>(n)
    });
    let api = neck.attach(api.unwrap()).unwrap();
    let _neck = neck.start();
    let calls: Vec<_> = (0..5u64).map(|n| head.api("a").action("x", n).start::<u64>().unwrap()).collect();
    gate.await_waiting(1);
    // Behind the others in its queue, so that they are all there when it is answered.
    let last = calls.last().unwrap();
    crate::tools::until("all wait", || api.depth() == (1, 4));
    assert!(!last.is_done());
    drop(api.remove("x").unwrap());
    assert!(is_unknown(&ask(&head, "a.x"), "a.x"));
    gate.open();
    for (n, call) in calls.into_iter().enumerate() {
        assert_eq!(call.wait().unwrap(), n as u64);
    }
}

fn twice<T: Clone>(value: T) -> (T, T) {
    (value.clone(), value)
}

/// Calls from four threads until the change is over; gives their ends.
fn storm(head: &Endpoint, path: &str, change: impl FnOnce()) -> Vec<Result<u64, CallError>> {
    let (over, ready) = (AtomicBool::new(false), Barrier::new(5));
    thread::scope(|scope| {
        let call = || {
            ready.wait();
            let mut ends = Vec::new();
            while !over.load(Ordering::Relaxed) {
                ends.push(ask(head, path));
            }
            ends
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(call)).collect();
        ready.wait();
        change();
        over.store(true, Ordering::Relaxed);
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

fn ac_40_no_call_is_lost_while_a_handler_is_replaced(kind: Kind) {
    let (head, neck) = kind.ends();
    let runs = Arc::new(AtomicU64::new(0));
    let counting = |n: u64| {
        let runs = runs.clone();
        move |_: &Context, ()| {
            runs.fetch_add(1, Ordering::Relaxed);
            Ok::<_, Fault>(n)
        }
    };
    let api = neck.attach(Api::new("a").handle("x", counting(0)).unwrap()).unwrap();
    let _neck = neck.start();
    let ends = storm(&head, "a.x", || {
        for n in 1..=500 {
            drop(api.replace("x", counting(n)).unwrap());
            assert_eq!(ask(&head, "a.x").unwrap(), n, "a call after the change ran the old one");
        }
    });
    let n_ends = ends.len() as u64;
    for end in ends {
        assert!(end.unwrap() <= 500);
    }
    assert_eq!(runs.load(Ordering::Relaxed), n_ends + 500, "each call ran once");
}

fn ac_40_each_call_is_answered_while_a_handler_comes_and_goes(kind: Kind) {
    let (head, neck) = kind.ends();
    let api = neck.attach(Api::new("a").handle("x", says(7)).unwrap()).unwrap();
    let neck = neck.start();
    let ends = storm(&head, "a.x", || {
        for _ in 0..500 {
            let old = api.remove("x").unwrap();
            assert!(is_unknown(&ask(&head, "a.x"), "a.x"));
            api.add("x", old).unwrap();
            assert_eq!(ask(&head, "a.x").unwrap(), 7);
        }
    });
    for end in ends {
        assert!(matches!(end, Ok(7)) || is_unknown(&end, "a.x"), "{end:?}");
    }
    assert_eq!((head.under_way(), neck.under_way()), ((0, 0), (0, 0)));
}

fn ac_40_what_is_detached_cannot_be_changed(kind: Kind) {
    let (head, neck) = kind.ends();
    let api = neck.attach(Api::new("a").handle("x", says(1)).unwrap()).unwrap();
    let neck = neck.start();
    api.detach();
    let detached = ApiError::Detached { namespace: Path::new("a").unwrap() };
    assert_eq!(api.handle("y", says(2)).unwrap_err(), detached);
    assert_eq!(api.replace_catch_all("", |_, payload| Ok(payload)).unwrap_err(), detached);
    assert!(matches!(api.replace("x", says(2)), Err(ApiError::Missing { .. })));
    // Else it would keep paths that it no longer serves.
    let again = Api::new("a").handle("x", says(3)).unwrap().handle("y", says(4)).unwrap();
    let _again: Attached = neck.attach(again.otherwise(|_, payload| Ok(payload)).unwrap()).unwrap();
    assert_eq!((ask(&head, "a.x").unwrap(), ask(&head, "a.y").unwrap()), (3, 4));
    api.detach();
    assert_eq!(ask(&head, "a.x").unwrap(), 3, "a second detach took away what is not its own");
}

fn ac_41_a_path_on_the_parent_is_the_child_s(kind: Kind) {
    let (head, neck) = kind.ends();
    let by_path = Api::new("p").handle("q.r.s", says(1)).unwrap();
    let by_child = Api::new("p2")
        .nest(Api::new("q").nest(Api::new("r").handle("s", says(2)).unwrap()).unwrap())
        .unwrap();
    let by_name = Api::new("p3.q.r").handle("s", says(3)).unwrap();
    let root = Api::new("").handle("p4.q.r.s", says(4)).unwrap();
    let neck =
        [by_path, by_child, by_name, root].into_iter().fold(neck, |neck, api| neck.serve(api).unwrap());
    let neck = neck.start();
    for (n, parent) in [(1, "p"), (2, "p2"), (3, "p3"), (4, "p4")] {
        assert_eq!(head.api(parent).action("q.r.s", ()).call::<u64>().unwrap(), n);
        assert_eq!(head.api(parent).api("q").api("r").action("s", ()).call::<u64>().unwrap(), n);
        assert_eq!(head.api("").action(&format!("{parent}.q.r.s"), ()).call::<u64>().unwrap(), n);
        assert_eq!(head.api(&format!("{parent}.q")).action("r.s", ()).call::<u64>().unwrap(), n);
    }
    let paths: Vec<_> = neck.arb().list().into_iter().map(|listed| listed.path.to_string()).collect();
    assert_eq!(paths, ["p.q.r.s", "p2.q.r.s", "p3.q.r.s", "p4.q.r.s"]);
}

fn names_are_told_apart_by_every_letter(kind: Kind) {
    let (head, neck) = kind.ends();
    let api = Api::new("Ä.a")
        .handle("x", says(1))
        .unwrap()
        .handle("X", says(2))
        .unwrap()
        .handle("x.x", says(3))
        .unwrap()
        .handle("", says(4))
        .unwrap()
        .handle("\u{1f9e0}-_/:#", says(5))
        .unwrap();
    let _neck = neck.serve(api).unwrap().start();
    let paths = ["Ä.a.x", "Ä.a.X", "Ä.a.x.x", "Ä.a", "Ä.a.\u{1f9e0}-_/:#"];
    for (path, n) in paths.into_iter().zip(1..) {
        assert_eq!(ask(&head, path).unwrap(), n);
    }
    for unknown in ["ä.a.x", "Ä", "Ä.a.x.X", "Ä.A", "A.a.x", "Ä.a.xx"] {
        assert!(is_unknown(&ask(&head, unknown), unknown));
    }
}

fn what_cannot_be_a_path_is_refused_on_both_sides(kind: Kind) {
    let (head, neck) = kind.ends();
    let neck = neck.start();
    let long = "x".repeat(Path::MAX_LEN + 1);
    for (bad, why) in [
        ("a..b", "empty"),
        (".a", "empty"),
        ("a.", "empty"),
        (".", "empty"),
        ("a b", "character"),
        ("a\tb", "character"),
        ("a\0b", "character"),
        ("a\u{2003}b", "character"),
        (&*long, "long"),
    ] {
        let refused = Api::new("api").handle(bad, says(1));
        let served = matches!(&refused, Err(ApiError::BadPath(error)) if is_about(error, why));
        assert!(served, "{bad:?}: {refused:?}");
        assert!(matches!(neck.attach(Api::new(bad)), Err(ApiError::BadPath(_))), "{bad:?}");
        let called = ask(&head, bad);
        let refused =
            matches!(&called, Err(CallError::Misuse(Misuse::BadPath(error))) if is_about(error, why));
        assert!(refused, "{bad:?}: {called:?}");
    }
    let root = ask(&head, "");
    assert!(matches!(root, Err(CallError::Misuse(Misuse::BadPath(PathError::Empty)))), "{root:?}");
    assert!(matches!(Api::new("").handle("", says(1)), Err(ApiError::BadPath(PathError::Empty))));
    let too_deep = head.api(&"x".repeat(200)).action(&"y".repeat(55), ()).call::<()>();
    assert!(matches!(too_deep, Err(CallError::Misuse(Misuse::BadPath(PathError::TooLong { .. })))));
    assert_eq!((head.counters().calls, neck.counters().calls_served), (0, 0), "nothing of it was sent");
}

fn is_about(error: &PathError, why: &str) -> bool {
    match error {
        PathError::EmptySegment => why == "empty",
        PathError::TooLong { .. } => why == "long",
        PathError::BadCharacter { .. } => why == "character",
        _ => false,
    }
}

fn the_longest_path_works(kind: Kind) {
    let (head, neck) = kind.ends();
    let longest = ["x".repeat(200), "y".repeat(Path::MAX_LEN - 201)].join(".");
    let neck = neck.serve(Api::new("").handle(&longest, says(1)).unwrap()).unwrap().start();
    assert_eq!(ask(&head, &longest).unwrap(), 1);
    assert_eq!(neck.arb().owner_of(&longest), Some(Path::root()));
    let beside = longest.replacen('x', "z", 1);
    assert!(is_unknown(&ask(&head, &beside), &beside));
}

on_every_link! {
    ac_40_a_path_has_one_handler,
    ac_40_replace_gives_the_old_handler_back,
    ac_40_only_its_api_replaces_or_removes_a_handler,
    ac_40_a_removed_handler_finishes_its_calls,
    ac_40_no_call_is_lost_while_a_handler_is_replaced,
    ac_40_each_call_is_answered_while_a_handler_comes_and_goes,
    ac_40_what_is_detached_cannot_be_changed,
    ac_41_a_path_on_the_parent_is_the_child_s,
    names_are_told_apart_by_every_letter,
    what_cannot_be_a_path_is_refused_on_both_sides,
    the_longest_path_works,
}
