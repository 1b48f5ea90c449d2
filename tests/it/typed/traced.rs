//! Types that do something else while their method finds out what they look like.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use serde::{Deserialize, Deserializer, Serialize};

use crate::{
    support::{Kind, watched},
    tools::Gate,
};

#[nape::api("traced")]
trait Traced {
    fn slow(&self, it: Slow) -> u8;
    fn calls(&self, it: Calls) -> u8;
}

struct Mine;

impl Traced for Mine {
    fn slow(&self, it: Slow) -> u8 {
        it.0
    }

    fn calls(&self, it: Calls) -> u8 {
        it.0
    }
}

/// Stays at a gate when it is decoded, once.
#[derive(Serialize)]
struct Slow(u8);

static GATE: OnceLock<Gate> = OnceLock::new();
static STAYS: AtomicBool = AtomicBool::new(false);

impl<'de> Deserialize<'de> for Slow {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Slow, D::Error> {
        if STAYS.swap(false, Ordering::SeqCst) {
            GATE.get_or_init(Gate::default).pass();
        }
        u8::deserialize(from).map(Slow)
    }
}

/// Red when whoever calls waits until another thread has looked at the types.
#[test]
fn p_16_types_that_take_their_time_hold_up_nobody_who_calls_the_same_method() {
    watched(|| {
        // Nothing is decoded here but to see what it looks like.
        let (head, _neck) = Kind::Channel.serving(Mine.into_api());
        STAYS.store(true, Ordering::SeqCst);
        let gate = GATE.get_or_init(Gate::default);
        let traced = TracedClient::on(&head);
        thread::scope(|scope| {
            let waits = scope.spawn(|| traced.slow(Slow(1)).call());
            gate.await_waiting(1);
            assert_eq!(traced.slow(Slow(2)).call().unwrap(), 2);
            gate.open();
            assert_eq!(waits.join().unwrap().unwrap(), 1);
        });
    });
}

/// Makes a call of the method that takes it when it is decoded.
#[derive(Serialize)]
struct Calls(u8);

static CLIENT: OnceLock<TracedClient> = OnceLock::new();
static CALLED: AtomicUsize = AtomicUsize::new(0);

impl<'de> Deserialize<'de> for Calls {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Calls, D::Error> {
        if let Some(client) = CLIENT.get() {
            assert_eq!(client.calls(Calls(3)).call().unwrap(), 3);
            CALLED.fetch_add(1, Ordering::SeqCst);
        }
        u8::deserialize(from).map(Calls)
    }
}

/// Red when it looks at them again and again, or waits for itself.
#[test]
fn p_16_types_may_call_the_method_that_looks_at_them() {
    watched(|| {
        let (head, _neck) = Kind::Channel.serving(Mine.into_api());
        let client = CLIENT.get_or_init(|| TracedClient::on(&head));
        assert_eq!(client.calls(Calls(4)).call().unwrap(), 4);
        assert!(CALLED.load(Ordering::SeqCst) > 0);
    });
}
