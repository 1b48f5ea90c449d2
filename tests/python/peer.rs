//! The program at the other end: what it serves, and how it calls back.

use std::{
    error::Error,
    io::{self, Read},
    process::abort,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use nape::{
    Address, Api, ApiError, CallError, Context, Fault, Head, Incoming, Listener, Neck, Outgoing, Payload,
    Responder,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Listens until stdin ends, and says on stdout where.
pub fn listen(side: &str, address: &str, token: Option<&str>) -> Result<(), Box<dyn Error>> {
    let address: Address = address.parse()?;
    let listener = match side {
        "head" => {
            served()?.into_iter().fold(Head::builder(), |head, api| head.serve(api)).listen(&address)?
        }
        _ => served()?.into_iter().fold(Neck::builder(), |neck, api| neck.serve(api)).listen(&address)?,
    };
    if let (Some(path), Some(token)) = (token, listener.token()) {
        token.write(path)?;
    }
    println!("{}", listener.address());
    until_stdin_ends(&listener)
}

fn until_stdin_ends(listener: &Listener) -> Result<(), Box<dyn Error>> {
    io::stdin().read_to_end(&mut Vec::new())?;
    listener.close();
    Ok(())
}

/// An error that travels as a value.
#[derive(Debug, Serialize, Deserialize, thiserror::Error)]
#[error("no room for {wanted}")]
struct Full {
    wanted: u32,
}

/// What every test calls.
pub fn served() -> Result<[Api; 3], ApiError> {
    Ok([calls()?, streams()?, back()?])
}

#[derive(Debug, thiserror::Error)]
#[error("outside")]
struct Outside(#[source] Inside);

#[derive(Debug, thiserror::Error)]
#[error("inside")]
struct Inside;

fn calls() -> Result<Api, ApiError> {
    let noted = Arc::new(Mutex::new(Vec::new()));
    let (notes, cancelled) = (noted.clone(), Arc::new(AtomicUsize::new(0)));
    let n_cancelled = cancelled.clone();
    let begun = Arc::new(AtomicUsize::new(0));
    let n_begun = begun.clone();
    Api::new("t")
        .workers(64)
        .queue(2000, nape::WhenFull::Refuse)
        .handle("echo", |_: &Context, raw: Payload| Ok::<_, Fault>(raw))?
        .handle("add", |_: &Context, (a, b): (i64, i64)| Ok::<_, Fault>(a + b))?
        .handle("len", |_: &Context, text: String| Ok::<_, Fault>(text.len()))?
        .handle("repeat", |_: &Context, (text, n): (String, usize)| Ok::<_, Fault>(text.repeat(n)))?
        .handle("full", |_: &Context, wanted: u32| Err::<(), _>(Full { wanted }))?
        .handle("chain", |_: &Context, (): ()| Err::<(), Fault>(Outside(Inside).into()))?
        .handle("panic", |_: &Context, text: String| -> Result<(), Fault> { panic!("{text}") })?
        .deferred("silent", |_: Context, (): (), answer: Responder<()>| drop(answer))?
        .handle("slow", move |cx: &Context, millis: u64| {
            n_begun.fetch_add(1, Ordering::SeqCst);
            if cx.cancel_token().wait_timeout(Duration::from_millis(millis)) {
                n_cancelled.fetch_add(1, Ordering::SeqCst);
            }
            Ok::<_, Fault>(millis)
        })?
        .handle("begun", move |_: &Context, (): ()| Ok::<_, Fault>(begun.load(Ordering::SeqCst)))?
        .handle("cancelled", move |_: &Context, (): ()| Ok::<_, Fault>(cancelled.load(Ordering::SeqCst)))?
        .handle("left", |cx: &Context, (): ()| {
            Ok::<_, Fault>(cx.remaining().map(|left| u64::try_from(left.as_micros()).unwrap_or(u64::MAX)))
        })?
        .handle("note", move |_: &Context, what: Value| {
            noted.lock().push(what);
            Ok::<_, Fault>(())
        })?
        .handle("notes", move |_: &Context, (): ()| Ok::<_, Fault>(std::mem::take(&mut *notes.lock())))?
        .handle("codec", |cx: &Context, (): ()| Ok::<_, Fault>(format!("{:?}", cx.codec())))?
        .handle("die", |_: &Context, (): ()| -> Result<(), Fault> { abort() })
}

fn streams() -> Result<Api, ApiError> {
    let made = Arc::new(AtomicUsize::new(0));
    let n_made = made.clone();
    Api::new("s")
        .workers(4)
        .stream("count", |_: &Context, to: u64| Ok::<_, Fault>((0..to).map(Ok::<_, Fault>)))?
        .stream("fail", |_: &Context, after: u32| {
            Ok::<_, Fault>((0..=after).map(move |n| if n < after { Ok(n) } else { Err(Full { wanted: n }) }))
        })?
        .stream("refuse", |_: &Context, (): ()| {
            Err::<std::iter::Empty<Result<u8, Fault>>, _>(Full { wanted: 0 })
        })?
        .stream("endless", move |_: &Context, size: usize| {
            let made = n_made.clone();
            Ok::<_, Fault>(std::iter::repeat_with(move || {
                made.fetch_add(1, Ordering::SeqCst);
                Ok::<_, Fault>("x".repeat(size))
            }))
        })?
        .handle("made", move |_: &Context, (): ()| Ok::<_, Fault>(made.load(Ordering::SeqCst)))?
        .upload("sum", |_: &Context, first: u64, more: Incoming<u64>| {
            more.map(|n| n.map_err(Fault::from)).sum::<Result<u64, Fault>>().map(|sum| sum + first)
        })?
        .upload("lens", |_: &Context, (): (), more: Incoming<String>| {
            more.map(|text| Ok(text?.len())).collect::<Result<Vec<usize>, Fault>>()
        })?
        .upload("three", |_: &Context, (): (), more: Incoming<u64>| {
            more.take(3).map(|n| n.map_err(Fault::from)).sum::<Result<u64, Fault>>()
        })?
        .duplex("chat", |_: &Context, name: String, lines: Incoming<String>, mut out: Outgoing<String>| {
            out.send(format!("hello {name}"))?;
            let mut n = 0;
            for line in lines {
                out.send(line?.to_uppercase())?;
                n += 1;
            }
            out.send("bye".into())?;
            Ok::<usize, Fault>(n)
        })
}

/// What calls the client, and says what came of it.
fn back() -> Result<Api, ApiError> {
    Api::new("back")
        .workers(4)
        .handle("nested", |cx: &Context, (path, value): (String, Value)| {
            Ok::<Value, Fault>(cx.api("").action(&path, value).call()?)
        })?
        .handle("depth", |cx: &Context, depth: u32| -> Result<u32, Fault> {
            if depth == 0 { Ok(0) } else { Ok(1 + cx.api("py").action("depth", depth - 1).call::<u32>()?) }
        })?
        .deferred(
            "call",
            |cx: Context, (path, value, millis): (String, Value, u64), answer: Responder<Value>| {
                elsewhere(answer, move || {
                    let action =
                        cx.endpoint().api("").action(&path, value).timeout(Duration::from_millis(millis));
                    told(action.call::<Value>())
                });
            },
        )?
        .deferred("many", |cx: Context, (path, n): (String, u64), answer: Responder<Value>| {
            elsewhere(answer, move || {
                let api = cx.endpoint().api("");
                let all = (0..n).map(|n| api.action(&path, n).start::<u64>()).collect::<Result<Vec<_>, _>>();
                let sum =
                    all.and_then(|all| all.into_iter().map(nape::AsyncResult::wait).sum::<Result<u64, _>>());
                told(sum.map(|sum| json!(sum)))
            });
        })?
        .handle("fire", |cx: &Context, (path, value, n): (String, Value, usize)| {
            for _ in 0..n {
                cx.endpoint().api("").action(&path, value.clone()).fire()?;
            }
            Ok::<_, Fault>(())
        })?
        .deferred("drop", |cx: Context, path: String, answer: Responder<Value>| {
            elsewhere(answer, move || {
                let started = cx.endpoint().api("").action(&path, ()).start::<Value>();
                told(started.map(|started| {
                    // This is answered when the handler of the other has begun.
                    let begun = cx.endpoint().api("py").action("begun", ()).call::<bool>();
                    drop(started);
                    json!(begun.is_ok())
                }))
            });
        })?
        .deferred(
            "take",
            |cx: Context, (path, value, n): (String, Value, usize), answer: Responder<Value>| {
                elsewhere(answer, move || {
                    let items = cx.endpoint().api("").action(&path, value).open::<Value>();
                    told(items.map(|items| {
                        let taken: Vec<Value> = items.take(n).map(told).collect();
                        json!(taken)
                    }))
                });
            },
        )?
        .deferred("give", |cx: Context, (path, items): (String, Vec<Value>), answer: Responder<Value>| {
            elsewhere(answer, move || told(give(&cx, &path, items)));
        })?
        .deferred("both", |cx: Context, (path, items): (String, Vec<Value>), answer: Responder<Value>| {
            elsewhere(answer, move || told(both(&cx, &path, items)));
        })
}

fn give(cx: &Context, path: &str, items: Vec<Value>) -> Result<Value, CallError> {
    let mut upload = cx.endpoint().api("").action(path, ()).upload::<Value, Value>()?;
    for item in items {
        upload.send(item)?;
    }
    upload.finish()
}

fn both(cx: &Context, path: &str, items: Vec<Value>) -> Result<Value, CallError> {
    let duplex = cx.endpoint().api("").action(path, ()).duplex::<Value, Value, Value>()?;
    let (mut out, incoming, answer) = duplex.split();
    let sender = thread::spawn(move || items.into_iter().try_for_each(|item| out.send(item)));
    let came = incoming.collect::<Result<Vec<Value>, _>>()?;
    sender.join().expect("it does not panic")?;
    Ok(json!([came, answer.wait()?]))
}

/// On a thread of its own, so that the calls in there descend from none.
fn elsewhere(answer: Responder<Value>, work: impl FnOnce() -> Value + Send + 'static) {
    thread::spawn(move || answer.answer(work()));
}

/// How a call ended, for the tests of the client to look at.
pub fn told(outcome: Result<Value, CallError>) -> Value {
    let error = match outcome {
        Ok(value) => return json!({ "ok": value }),
        Err(error) => error,
    };
    let name = format!("{error:?}");
    let name = name.split([' ', '(', '{']).next().unwrap_or_default();
    let fault = error.fault().map(|fault| {
        json!({
            "kind": format!("{:?}", fault.kind()),
            "message": fault.message(),
            "type": fault.type_name(),
            "chain": fault.chain().collect::<Vec<_>>(),
            "typed": fault.typed::<Value>(),
            "inner": fault.call_error().map(|inner| told(Err(inner))),
        })
    });
    let detail = match &error {
        CallError::Rejected(why) => format!("{why:?}"),
        other => other.to_string(),
    };
    json!({ "error": name, "detail": detail, "fault": fault })
}
