//! Spans of both ends of a link, each in a process of its own, and how they find each other.
//!
//! Without a harness: a process has one subscriber, and this program is both ends.

mod subscriber;

use std::{
    process::{Command, exit},
    sync::{Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use nape::{Api, CallError, Context, Fault, Head, Neck, Responder, Wire, layers::Tracing};
use subscriber::{Seen, install, spans};

const HANG: Duration = Duration::from_secs(120);

fn main() {
    thread::spawn(|| {
        thread::sleep(HANG);
        eprintln!("it hangs");
        exit(101);
    });
    match std::env::args().nth(1).as_deref() {
        Some("child") => child(),
        Some("--list") => {}
        _ => {
            without_a_subscriber();
            install();
            in_one_process();
            for wire in [Wire::Pipe, Wire::Shm, Wire::Ipc] {
                across_processes(wire);
                println!("spans are linked over {wire:?}");
            }
        }
    }
}

/// The Neck, with a subscriber of its own that can be asked.
fn child() {
    install();
    let work = |cx: &Context, n: u32| {
        let _inner = tracing::info_span!("inner", n).entered();
        cx.api("home").action("echo", n).call::<u32>().map_err(Fault::from)
    };
    let fail = |_: &Context, (): ()| Err::<(), _>(Fault::new("no"));
    let count = |_: &Context, n: u32| {
        let item = |n| {
            tracing::info_span!("item", n);
            Ok::<_, Fault>(n)
        };
        Ok::<_, Fault>((0..n).map(item))
    };
    let later = |_: Context, n: u32, answer: Responder<u32>| {
        thread::spawn(move || answer.answer(n));
    };
    let (go, gone) = mpsc::channel::<()>();
    let (go, gone) = (Mutex::new(go), Mutex::new(gone));
    let stuck = move |_: &Context, (): ()| {
        gone.lock().unwrap().recv().unwrap();
        Ok::<_, Fault>(())
    };
    let note = move |_: &Context, (): ()| {
        go.lock().unwrap().send(()).unwrap();
        Ok::<_, Fault>(())
    };
    let api = Api::new("it")
        .handle("work", work)
        .and_then(|api| api.handle("fail", fail))
        .and_then(|api| api.handle("stuck", stuck))
        .and_then(|api| api.stream("count", count))
        .and_then(|api| api.deferred("later", later))
        .and_then(|api| api.handle("note", note))
        .and_then(|api| api.handle("link", |cx: &Context, (): ()| Ok::<_, Fault>(cx.link_id())))
        .and_then(|api| api.handle("spans", |_: &Context, (): ()| Ok::<_, Fault>(spans())))
        .unwrap();
    Neck::builder().layer(Tracing::new()).serve(api).from_env().unwrap().run().unwrap();
}

fn echo() -> Api {
    Api::new("home").handle("echo", |_: &Context, n: u32| Ok::<_, Fault>(n)).unwrap()
}

/// Of these spans the one of this name and path whose field is that.
#[track_caller]
fn one<'a>(spans: &'a [Seen], name: &str, path: &str, after: usize) -> &'a Seen {
    let mut found = spans.iter().skip(after).filter(|seen| seen.name == name && seen.field("path") == path);
    let first = found.next().unwrap_or_else(|| panic!("no {name} of {path} in {spans:#?}"));
    assert!(found.next().is_none(), "several of {path}");
    first
}

#[track_caller]
fn is_linked(caller: &Seen, callee: &Seen, outcome: &str) {
    assert!(!caller.field("call").is_empty() && !caller.field("link").is_empty(), "{caller:?}");
    for field in ["path", "link", "call"] {
        assert_eq!(caller.field(field), callee.field(field), "{field}");
    }
    assert_eq!([caller.field("otel.kind"), callee.field("otel.kind")], ["client", "server"]);
    assert_eq!(caller.field("outcome"), outcome);
}

fn across_processes(wire: Wire) {
    let before = spans().len();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg("child");
    let head = Head::builder().layer(Tracing::new()).serve(echo()).wire(wire).spawn(command).unwrap();
    let it = head.api("it");
    let outer = tracing::info_span!("outer").entered();
    let outer_id = outer.id().unwrap().into_u64();
    assert_eq!(it.action("work", 7u32).call::<u32>().unwrap(), 7);
    drop(outer);
    assert!(matches!(it.action("fail", ()).call::<()>().unwrap_err(), CallError::Fault(_)));
    let brief = Duration::from_millis(50);
    it.action("stuck", ()).timeout(brief).call::<()>().unwrap_err();
    assert_eq!(it.action("count", 3u32).open::<u32>().unwrap().count(), 3);
    assert_eq!(it.action("later", 4u32).start::<u32>().unwrap().wait().unwrap(), 4);
    it.action("note", ()).fire().unwrap();
    let link = it.action("link", ()).call::<Option<u64>>().unwrap();
    assert!(link.is_some() && link == head.link_id(), "both sides know the link by the same number");
    let link = format!("{:016x}", link.unwrap());

    // Everything has ended there, but the call that asks.
    let end = Instant::now() + HANG / 2;
    let theirs = loop {
        let theirs: Vec<Seen> = it.action("spans", ()).call().unwrap();
        let is_open = |seen: &&Seen| !seen.is_closed && seen.field("path") != "it.spans";
        let noted = theirs.iter().any(|seen| seen.field("path") == "it.note");
        if noted && theirs.iter().find(is_open).is_none() {
            break theirs;
        }
        assert!(Instant::now() < end, "open: {:#?}", theirs.iter().find(is_open));
    };
    let ours = spans();
    let open: Vec<_> = ours.iter().filter(|seen| !seen.is_closed).collect();
    assert!(open.is_empty(), "{open:#?}");

    for (path, outcome) in
        [("work", "ok"), ("fail", "fault"), ("stuck", "timed_out"), ("count", "ok"), ("later", "ok")]
    {
        let path = format!("it.{path}");
        let (caller, callee) = (one(&ours, "nape.call", &path, before), one(&theirs, "nape.serve", &path, 0));
        is_linked(caller, callee, outcome);
        assert_eq!(caller.field("link"), link);
        let namesakes = theirs.iter().filter(|seen| seen.name == "nape.serve");
        let namesakes = namesakes.filter(|seen| seen.field("call") == caller.field("call"));
        assert_eq!(namesakes.count(), 1, "no other call has its name");
        if path != "it.stuck" {
            assert_eq!(callee.field("outcome"), outcome);
        }
    }
    // What the handler opens is below it, and what it calls below that.
    let child_of = |spans: &[Seen], parent: &Seen| -> Vec<Seen> {
        spans.iter().filter(|seen| seen.parent == Some(parent.id)).cloned().collect()
    };
    let work = one(&theirs, "nape.serve", "it.work", 0);
    assert_eq!(one(&ours, "nape.call", "it.work", before).parent, Some(outer_id));
    let [inner] = &child_of(&theirs, work)[..] else { panic!("{theirs:#?}") };
    assert_eq!((&*inner.name, inner.field("n")), ("inner", "7"));
    let [back] = &child_of(&theirs, inner)[..] else { panic!("{theirs:#?}") };
    is_linked(back, one(&ours, "nape.serve", "home.echo", before), "ok");
    // A stream runs in pieces, each inside of its span.
    let items = child_of(&theirs, one(&theirs, "nape.serve", "it.count", 0));
    assert_eq!(items.iter().filter(|seen| seen.name == "item").count(), 3);
    // An event has no name, but a link.
    let note = one(&theirs, "nape.serve", "it.note", 0);
    assert_eq!((note.field("call"), note.field("link"), note.field("outcome")), ("", &*link, "ok"));
    assert_eq!(one(&ours, "nape.call", "it.note", before).field("outcome"), "ok");
}

/// Values move, and the two spans are linked all the same.
fn in_one_process() {
    let before = spans().len();
    let neck = Neck::builder().layer(Tracing::new()).serve(echo());
    let (head, neck) = Head::builder().layer(Tracing::new()).in_process_with(neck).unwrap();
    let neck = neck.start();
    assert_eq!(head.api("home").action("echo", 3u32).call::<u32>().unwrap(), 3);
    assert!(head.link_id().is_some() && head.link_id() == neck.link_id());
    let seen = spans();
    let (caller, callee) =
        (one(&seen, "nape.call", "home.echo", before), one(&seen, "nape.serve", "home.echo", before));
    is_linked(caller, callee, "ok");
    let (other, _neck) = Head::in_process().unwrap();
    assert_ne!(other.link_id(), head.link_id());
}

fn without_a_subscriber() {
    let neck = Neck::builder().layer(Tracing::new()).serve(echo());
    let (head, neck) = Head::builder().layer(Tracing::new()).in_process_with(neck).unwrap();
    let _neck = neck.start();
    assert_eq!(head.api("home").action("echo", 3u32).call::<u32>().unwrap(), 3);
    assert!(spans().is_empty());
}
