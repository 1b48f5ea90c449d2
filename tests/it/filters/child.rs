//! A child whose bytes are filtered: it takes its key from the environment.

use std::{env, process::Command, time::Instant};

use nape::{
    CallError, CloseReason, Compression, Config, Error, Head, Key, Neck, ProtocolError, StartError, Wire,
};

use crate::{process::victim, tools::LONG};

on_every_wire_to_a_child! {
    a_child_with_the_same_key_serves_and_dies_as_any_other,
    a_child_with_another_key_is_refused,
}

fn config(key: Key) -> Config {
    Config::new().encryption(key).compression(Compression::Lz4)
}

/// Serves with the key that it is given.
pub fn serve() {
    let key = env::var(KEY).unwrap().parse().unwrap();
    let neck = Neck::builder().config(config(key)).from_env().unwrap();
    let _ = neck.serve(victim::api()).unwrap().run();
}

fn command(key: &Key) -> Command {
    let mut command = victim::command("filtered");
    command.env(KEY, key.reveal());
    command
}

fn a_child_with_the_same_key_serves_and_dies_as_any_other(wire: Wire) {
    let key = Key::random().unwrap();
    let head = Head::builder().config(config(key.clone())).wire(wire).spawn(command(&key)).unwrap();
    let api = head.api("victim").timeout(LONG);
    assert_eq!(api.action("echo", 7u64).call::<u64>().unwrap(), 7);
    let waiting = api.action("wait", ()).start::<()>().unwrap();
    head.kill();
    let Err(CallError::Closed { reason, .. }) = waiting.wait() else { panic!() };
    assert!(matches!(*reason, CloseReason::Died(_)), "{reason:?}");
}

fn a_child_with_another_key_is_refused(wire: Wire) {
    let since = Instant::now();
    let builder = Head::builder().config(config(Key::random().unwrap()).start_timeout(LONG)).wire(wire);
    let Err(Error::Start(StartError::Refused { reason, .. })) =
        builder.spawn(command(&Key::random().unwrap()))
    else {
        panic!()
    };
    assert!(matches!(*reason, CloseReason::Protocol(ProtocolError::WrongKey)), "{reason:?}");
    assert!(since.elapsed() < LONG);
}

const KEY: &str = "NAPE_TEST_KEY";
