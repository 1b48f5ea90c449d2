//! Streams with a child that dies: what it had sent comes, and behind it how it died.

use std::{
    sync::{Mutex, mpsc},
    time::{Duration, Instant},
};

use nape::{Api, Context, Exit, Fault, Head, Wire};

use super::{death, five_times, victim};
use crate::{soak::rounds, support::HANG};

on_every_wire_to_a_child! {
    p_03_items_that_were_sent_before_the_death_are_delivered,
    ac_83_the_death_of_a_child_ends_whoever_waits_for_room,
}

/// A Head whose child says when it has made its items.
fn head(wire: Wire) -> (Head, mpsc::Receiver<()>) {
    let (say, made) = mpsc::channel();
    let say = Mutex::new(say);
    let host = Api::new("host").handle("made", move |_: &Context, (): ()| {
        say.lock().unwrap().send(()).unwrap();
        Ok::<_, Fault>(())
    });
    let head = Head::builder().wire(wire).serve(host.unwrap());
    (head.spawn(victim::command("serve")).unwrap(), made)
}

fn p_03_items_that_were_sent_before_the_death_are_delivered(wire: Wire) {
    for n in [0u32, 1, 50].into_iter().cycle().take(rounds().unwrap_or(3) as usize) {
        let (head, made) = head(wire);
        let mut items = head.api("victim").action("make", n).open::<u32>().unwrap();
        made.recv_timeout(HANG).unwrap();
        head.kill();
        for wanted in 0..n {
            assert_eq!(items.next().unwrap().unwrap(), wanted);
        }
        let error = items.next().unwrap().unwrap_err();
        assert_eq!(death(&error).exit, Exit::Signal(9));
        assert!(items.next().is_none());
    }
}

fn ac_83_the_death_of_a_child_ends_whoever_waits_for_room(wire: Wire) {
    let (head, made) = head(wire);
    let mut items = head.api("victim").action("take-none", ()).upload::<u32, ()>().unwrap();
    made.recv_timeout(HANG).unwrap();
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            loop {
                if let Err(error) = items.send(1) {
                    return (error, Instant::now());
                }
            }
        });
        let killed = Instant::now();
        head.kill();
        let (error, freed) = sender.join().unwrap();
        assert_eq!(death(&error).exit, Exit::Signal(9));
        let took = freed.saturating_duration_since(killed);
        assert!(took < five_times(100).max(Duration::from_millis(1)), "{took:?}");
    });
}
