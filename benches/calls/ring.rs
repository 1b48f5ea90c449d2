//! The shared ring without nape above it: what its way of waiting costs by itself.

use std::{io::stdin, os::fd::AsFd, process::Stdio, thread};

use nape::{
    Side,
    transport::{Received, ShmEnds, ShmParts, Transport, shm_pair},
};

use crate::{
    bare::{decode, encode},
    contender::{Args, Callee, Pair},
    place::Place,
};

/// A child at the other end, which gets the memory as its standard input.
pub(crate) fn processes(place: &Place) -> Pair {
    let ends = ShmEnds::new().expect("there is memory");
    let memory = Stdio::from(ends.theirs.into_fd());
    let child = place.callee("bare ring A").stdin(memory).spawn().expect("this program can be started again");
    Pair::new(caller(ends.ours.into_transport().expect("it is our own")), Callee::Process(child))
}

/// The callee of [`processes`].
pub(crate) fn serve(_: &[String]) {
    let memory = stdin().as_fd().try_clone_to_owned().expect("there is a descriptor left");
    answer(ShmParts::from_fd(memory, Side::Neck).expect("the caller made it"));
}

/// A thread at the other end.
pub(crate) fn threads(place: &Place) -> Pair {
    let (ours, theirs) = shm_pair().expect("there is memory");
    let start = || thread::Builder::new().name("callee".into()).spawn(|| answer(theirs));
    let thread = place.on_callee(start).expect("a thread can be started");
    Pair::new(caller(ours), Callee::Thread(Some(thread)))
}

fn caller(mut end: Transport) -> impl FnMut(u64) -> u64 {
    let mut packet = Vec::new();
    move |i| {
        encode(&Args::number(i), &mut packet);
        end.sender.send(&packet).expect("the callee is there");
        match end.receiver.receive(None).expect("the callee answers") {
            Received::Packet(answer) => decode(&answer),
            other => panic!("{other:?}"),
        }
    }
}

/// Answers until the caller is gone.
fn answer(mut end: Transport) {
    let mut packet = Vec::new();
    while let Ok(Received::Packet(request)) = end.receiver.receive(None) {
        encode(&decode::<Args>(&request).answer(), &mut packet);
        if end.sender.send(&packet).is_err() {
            break;
        }
    }
}
