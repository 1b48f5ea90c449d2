//! Where the library runs code of its users: all of it may use the library, and none of it may hang.

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use crossbeam_channel::unbounded;
use nape::{Api, CallError, Context, Endpoint, Fault, LayerCall, Leave, Misuse, Semaphore, layers::Retry};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{
    support::Kind,
    tools::{LONG, nothing_is_under_way},
};

on_every_link! {
    p_08_an_error_hook_is_told_that_it_may_not_block,
    p_16_user_code_may_ask_the_library_from_everywhere,
    ac_15_a_permit_comes_back_when_arguments_panic,
}

/// A value that uses the links of its test wherever the library touches it.
#[derive(Debug)]
struct Nosy(u64);

static LINKS: Mutex<Option<HashMap<u64, Vec<Endpoint>>>> = Mutex::new(None);
static NUMBERS: AtomicU64 = AtomicU64::new(0);

fn links(number: u64) -> Vec<Endpoint> {
    LINKS.lock().unwrap().as_ref().and_then(|all| all.get(&number).cloned()).unwrap_or_default()
}

impl Nosy {
    /// Whatever takes a lock in there.
    fn ask(&self) {
        for end in links(self.0) {
            let text = end.hang_report().to_string();
            assert!(!text.is_empty());
            let _ = (end.counters(), end.under_way(), end.state());
            let _ = end.api("a").action("nobody", 1u64).fire();
            // It is cancelled at once.
            drop(end.api("a").action("nobody", 1u64).start::<u64>());
        }
    }
}

impl Serialize for Nosy {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.ask();
        self.0.serialize(to)
    }
}

impl<'de> Deserialize<'de> for Nosy {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Nosy, D::Error> {
        let nosy = Nosy(u64::deserialize(from)?);
        nosy.ask();
        Ok(nosy)
    }
}

impl Drop for Nosy {
    fn drop(&mut self) {
        self.ask();
    }
}

/// Red when a lock of the link is held over code of the user: then this hangs.
fn p_16_user_code_may_ask_the_library_from_everywhere(kind: Kind) {
    let pass = |_: &Context, nosy: Nosy| {
        nosy.ask();
        Ok::<_, Fault>(nosy)
    };
    let refuse = |_: &Context, _: Nosy| -> Result<Nosy, Fault> { Err(Fault::new("no")) };
    let api = Api::new("a").handle("pass", pass).unwrap().handle("refuse", refuse).unwrap();
    let (head, neck) = kind.serving(api);
    let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
    let both = vec![head.endpoint().clone(), neck.endpoint().clone()];
    LINKS.lock().unwrap().get_or_insert_default().insert(number, both);
    let a = head.api("a");
    let nosy = |path| a.action(path, Nosy(number)).timeout(LONG);
    for _ in 0..20 {
        assert_eq!(nosy("pass").call::<Nosy>().unwrap().0, number);
        assert!(nosy("refuse").call::<Nosy>().is_err());
        assert_eq!(nosy("pass").start::<Nosy>().unwrap().wait().unwrap().0, number);
        // Dropped by the library, at different times.
        drop(nosy("pass").start::<Nosy>().unwrap());
        nosy("pass").fire().unwrap();
        let (tell, told) = unbounded();
        let callback = move |outcome: Result<Nosy, CallError>| {
            outcome.as_ref().unwrap().ask();
            tell.send(()).unwrap();
        };
        nosy("pass").then(callback).unwrap();
        told.recv_timeout(LONG).unwrap();
    }
    nothing_is_under_way(&head, &neck);
    let kept = LINKS.lock().unwrap().as_mut().and_then(|all| all.remove(&number));
    drop(kept);
}

/// Red when the hook is run as any other callback.
fn p_08_an_error_hook_is_told_that_it_may_not_block(kind: Kind) {
    let echo = |_: &Context, n: u64| Ok::<_, Fault>(n);
    let (head, _neck) = kind.serving(Api::new("a").handle("echo", echo).unwrap());
    let (tell, told) = unbounded();
    let a = head.api("a");
    head.on_error(move |_| {
        tell.send([a.action("echo", 1u64).call::<u64>(), a.action("echo", 1u64).timeout(LONG).call::<u64>()])
            .unwrap();
    });
    // As a panic, but without the noise on stderr.
    let panics = |_: Result<u64, CallError>| std::panic::resume_unwind(Box::new("a callback that panics"));
    head.api("a").action("echo", 1u64).then(panics).unwrap();
    for outcome in told.recv_timeout(LONG).unwrap() {
        assert!(matches!(outcome, Err(CallError::Misuse(Misuse::WouldDeadlock { .. }))), "{outcome:?}");
    }
}

/// Arguments that cannot be encoded in the worst way.
struct Panics;

impl Serialize for Panics {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panic!("no such thing")
    }
}

/// Red when the permit of a call that has not set out is left to whoever ends it.
fn ac_15_a_permit_comes_back_when_arguments_panic(kind: Kind) {
    let (head, _neck) = kind.serving(Api::new("m"));
    let semaphore = Semaphore::new(0);
    let plain = head.api("m");
    let layered = plain.clone().layer(|_: &mut LayerCall<'_>| Ok(Leave::nothing()));
    let repeated = plain.clone().retry(Retry::new());
    for handle in [plain, layered, repeated] {
        let action = || handle.action("x", Panics).timeout(LONG).retry_safe().releasing(&semaphore);
        let verbs: [&dyn Fn(); 6] = [
            &|| drop(action().call::<()>()),
            &|| drop(action().start::<()>()),
            &|| drop(action().then(|_: Result<(), CallError>| ())),
            &|| drop(action().fire()),
            &|| drop(action().open::<()>()),
            &|| drop(action().upload::<(), ()>()),
        ];
        for (at, verb) in verbs.iter().enumerate() {
            // Within a process nothing is encoded here, and the call ends otherwise.
            let _ = catch_unwind(AssertUnwindSafe(verb));
            assert!(semaphore.acquire_timeout(LONG), "verb {at}: nobody releases it");
        }
    }
    assert_eq!(semaphore.permits(), 0, "each once");
}
