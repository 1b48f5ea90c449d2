//! Methods that answer later, by their responders.

use std::thread;

use crossbeam_channel::{Sender, unbounded};
use nape::{Api, CallError, Context, Fault, Responder};
use serde::{Deserialize, Serialize};

use crate::{
    support::Kind,
    tools::{LONG, nothing_is_under_way},
};

on_every_link! {
    ac_65_a_method_with_a_responder_answers_later,
    ac_65_typed_and_by_name_meet,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("no {0}")]
struct No(u32);

#[nape::api("later", workers = 1)]
trait Later {
    /// Twice as much, in a while.
    fn double(&self, cx: &Context, n: u32, answer: Responder<u32>);
    fn joined(&self, one: &str, other: String, answer: nape::Responder<String>);
    fn plain(&self) -> u8;
    #[path = "never.ever"]
    fn never(&self, answer: Responder<()>);
}

struct Mine(Sender<(u32, Responder<u32>, Context)>);

impl Later for Mine {
    fn double(&self, cx: &Context, n: u32, answer: Responder<u32>) {
        self.0.send((n, answer, cx.clone())).unwrap();
    }

    fn joined(&self, one: &str, other: String, answer: Responder<String>) {
        answer.answer(format!("{one}{other}"));
    }

    fn plain(&self) -> u8 {
        7
    }

    fn never(&self, _: Responder<()>) {}
}

fn ac_65_a_method_with_a_responder_answers_later(kind: Kind) {
    let (tell, told) = unbounded();
    let (head, neck) = kind.serving(Mine(tell).into_api());
    let later = LaterClient::on(&head);
    let calls: Vec<_> = (0..4).map(|n| later.double(n).start().unwrap()).collect();
    let held: Vec<_> = (0..4).map(|_| told.recv_timeout(LONG).unwrap()).collect();
    // The one worker is free.
    assert_eq!(later.plain().call().unwrap(), 7);
    assert_eq!(later.joined("a", "b".into()).call().unwrap(), "ab");
    thread::scope(|scope| {
        for (n, answer, cx) in held.into_iter().rev() {
            assert_eq!(cx.path().as_str(), "later.double");
            let respond = move || match n {
                0 => answer.fail(No(n)),
                n => answer.answer(2 * n),
            };
            scope.spawn(respond);
        }
    });
    for (n, call) in (0..4u32).zip(calls) {
        match call.wait() {
            Ok(twice) => assert_eq!(twice, 2 * n),
            Err(error) => assert_eq!(error.fault().and_then(Fault::typed::<No>), Some(No(0))),
        }
    }
    assert!(matches!(later.never().call(), Err(CallError::NoAnswer)));
    let listed = neck.arb().list();
    let double = listed.iter().find(|it| it.path.as_str() == "later.double").unwrap();
    assert_eq!((double.signature.as_str(), double.arguments.len()), ("fn double(n: u32) -> u32", 1));
    assert_eq!(double.doc, "Twice as much, in a while.");
    nothing_is_under_way(&head, &neck);
}

fn ac_65_typed_and_by_name_meet(kind: Kind) {
    let by_name = |_: Context, n: u32, answer: Responder<u32>| answer.answer(3 * n);
    let (head, neck) = kind.serving(Api::new("later").deferred("double", by_name).unwrap());
    assert_eq!(LaterClient::on(&head).double(5).call().unwrap(), 15);
    let (tell, told) = unbounded();
    head.attach(Mine(tell).into_api()).unwrap();
    let call = neck.api("later").action("double", 5u32).start::<u32>().unwrap();
    told.recv_timeout(LONG).unwrap().1.answer(1);
    assert_eq!(call.wait().unwrap(), 1);
    let joined = neck.api("later").action("joined", ("c", "d")).call::<String>();
    assert_eq!(joined.unwrap(), "cd");
    nothing_is_under_way(&head, &neck);
}
