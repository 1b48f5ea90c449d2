//! What the histories call: handlers of every kind, each of which says that it has begun.

use std::{sync::Mutex, thread, time::Duration};

use fastrand::Rng;
use nape::{Api, Bytes, Context, Fault, Responder};

use super::book::Book;

/// What a call may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Answers at once.
    Echo,
    /// Takes up to three milliseconds.
    Slow,
    /// Is answered by another thread.
    Later,
    /// Is never answered.
    Never,
    /// Fails.
    Fail,
    /// Panics.
    Panic,
    /// Calls back for its answer.
    Back,
    /// The same as `Echo` with more than fits into a frame.
    Large,
}

pub const METHODS: [Method; 8] = [
    Method::Echo,
    Method::Slow,
    Method::Later,
    Method::Never,
    Method::Fail,
    Method::Panic,
    Method::Back,
    Method::Large,
];

impl Method {
    pub fn path(self) -> &'static str {
        match self {
            Method::Echo | Method::Large => "echo",
            Method::Slow => "slow",
            Method::Later => "later",
            Method::Never => "never",
            Method::Fail => "fail",
            Method::Panic => "panic",
            Method::Back => "back",
        }
    }

    /// What the call with this number takes along.
    pub fn argument(self, number: u64) -> Bytes {
        let len = if self == Method::Large { 150_000 } else { 8 };
        let mut bytes = vec![number as u8; len];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        bytes.into()
    }
}

/// What a call gets for its argument.
pub fn answer_to(argument: &[u8]) -> Bytes {
    argument.iter().rev().map(|byte| byte ^ 0x5a).collect::<Vec<u8>>().into()
}

type Asked = (u64, Bytes);

pub fn api(book: &Book) -> Api {
    let kept = Mutex::new(Vec::new());
    let (hand_over, later) = crossbeam_channel::unbounded::<(Responder<Bytes>, Bytes)>();
    thread::spawn(move || later.into_iter().for_each(|(answer, bytes)| answer.answer(answer_to(&bytes))));
    let noting = || {
        let book = book.clone();
        move |number| book.note(number)
    };
    let (echo, slow, late, never) = (noting(), noting(), noting(), noting());
    let (fail, panics, back) = (noting(), noting(), noting());
    Api::new("history")
        .workers(4)
        .handle("echo", move |_: &Context, (number, bytes): Asked| {
            Ok::<_, Fault>((echo(number), answer_to(&bytes)).1)
        })
        .unwrap()
        .handle("slow", move |_: &Context, (number, bytes): Asked| {
            slow(number);
            thread::sleep(Duration::from_micros(Rng::with_seed(number).u64(..3000)));
            Ok::<_, Fault>(answer_to(&bytes))
        })
        .unwrap()
        .deferred("later", move |_: Context, (number, bytes): Asked, answer: Responder<Bytes>| {
            late(number);
            hand_over.send((answer, bytes)).unwrap();
        })
        .unwrap()
        .deferred("never", move |_: Context, (number, _): Asked, answer: Responder<Bytes>| {
            never(number);
            kept.lock().unwrap().push(answer);
        })
        .unwrap()
        .handle("fail", move |_: &Context, (number, _): Asked| -> Result<Bytes, Fault> {
            fail(number);
            Err(Fault::new(format!("no {number}")))
        })
        .unwrap()
        .handle("panic", move |_: &Context, (number, _): Asked| -> Result<Bytes, Fault> {
            panics(number);
            // As a panic, but without the noise on stderr.
            std::panic::resume_unwind(Box::new(format!("no {number}")))
        })
        .unwrap()
        .handle("back", move |cx: &Context, (number, bytes): Asked| -> Result<Bytes, Fault> {
            back(number);
            Ok(cx.api("host").action("answer", bytes).call()?)
        })
        .unwrap()
}

/// What the other side calls back for.
pub fn host() -> Api {
    Api::new("host").handle("answer", |_: &Context, bytes: Bytes| Ok::<_, Fault>(answer_to(&bytes))).unwrap()
}
