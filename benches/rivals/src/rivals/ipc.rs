//! ipc-channel, and nothing around it.

use std::{
    collections::VecDeque,
    process::Child,
    thread::{self, JoinHandle},
};

use ipc_channel::ipc::{
    self, IpcBytesReceiver, IpcBytesSender, IpcOneShotServer, IpcReceiver, IpcSender, IpcSharedMemory,
    bytes_channel,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    codec::{decode, encode_behind},
    contender::{Body, Callee, Pair, ThreadCall},
    lane::{self, Lane},
    place::Place,
    roles,
    work::{Args, IN_FLIGHT, THREADS, Work},
};

/// The rows by their names, since a callee is told which of them it is.
pub(crate) const READY_MADE: &str = "ipc-channel, ready-made";
pub(crate) const FRESH: &str = "ipc-channel, fresh reply channel";
pub(crate) const SHARED_MEMORY: &str = "ipc-channel, IpcSharedMemory";

/// Two byte channels to a child, made once; several threads have two each.
pub(crate) fn ready_made(place: &Place, work: Work) -> Pair {
    let (child, ends) = meet::<Vec<Ends>>(READY_MADE, place, work);
    let mut lanes = ends.into_iter().map(|(to_callee, from_callee)| Bytes::new(to_callee, from_callee));
    let body = match work {
        Work::Threads => Body::Threads(lanes.map(on_a_thread).collect()),
        work => lane::body(lanes.next().expect("there is one"), work),
    };
    Pair { body, callee: Callee::Process(child) }
}

/// The callee of [`ready_made`]: makes the channels, hands over the caller's ends, and answers, each
/// pair of channels on a thread of its own.
pub(crate) fn serve_ready_made(work: Work, extra: &[String]) {
    let server = IpcSender::<Vec<Ends>>::connect(extra[0].clone()).expect("the caller accepts");
    let n = if work == Work::Threads { THREADS } else { 1 };
    let made = (0..n).map(|_| {
        let (to_callee, requests) = bytes_channel().expect("a socket can be made");
        let (answers, from_callee) = bytes_channel().expect("a socket can be made");
        ((to_callee, from_callee), Bytes::new(answers, requests))
    });
    let (theirs, ours): (Vec<Ends>, Vec<Bytes>) = made.unzip();
    server.send(theirs).expect("the caller receives");
    let serve = |lane| thread::Builder::new().name("callee".into()).spawn(move || lane::answer(lane, work));
    let threads: Vec<JoinHandle<()>> =
        ours.into_iter().map(|lane| serve(lane).expect("a thread can be started")).collect();
    threads.into_iter().for_each(|thread| thread.join().expect("it does not panic"));
}

/// A typed channel to a child, and a new one back for every call.
pub(crate) fn fresh(place: &Place, work: Work) -> Pair {
    let (child, calls) = meet::<IpcSender<FreshCall>>(FRESH, place, work);
    let body = match work {
        Work::InFlight => Body::Batch(Box::new(move |n| fresh_in_flight(&calls, n))),
        Work::Threads => {
            let one = |calls: IpcSender<FreshCall>| -> Box<ThreadCall> {
                Box::new(move |i| send_fresh(&calls, i).recv().ok())
            };
            Body::Threads((0..THREADS).map(|_| one(calls.clone())).collect())
        }
        _ => Body::Call(Box::new(move |i| send_fresh(&calls, i).recv().ok())),
    };
    Pair { body, callee: Callee::Process(child) }
}

/// The callee of [`fresh`].
pub(crate) fn serve_fresh(_: Work, extra: &[String]) {
    let calls = hand_over::<FreshCall>(extra);
    while let Ok((args, answer)) = calls.recv() {
        // Whoever does not wait any longer needs no answer.
        let _ = answer.send(args.answer());
    }
}

/// Bytes in shared memory, whose descriptor goes over ready-made typed channels.
pub(crate) fn shared_memory(place: &Place, work: Work) -> Pair {
    let (child, to_callee) = meet::<IpcSender<Shared>>(SHARED_MEMORY, place, work);
    let (answers, from_callee) = ipc::channel::<Shared>().expect("a socket can be made");
    to_callee.send(Shared::Answers(answers)).expect("the callee is there");
    let body = Body::Echo(Box::new(move |bytes, show| {
        let sent = to_callee.send(Shared::Bytes(IpcSharedMemory::from_bytes(bytes))).is_ok();
        match from_callee.recv() {
            Ok(Shared::Bytes(memory)) if sent => {
                show(&memory);
                true
            }
            _ => false,
        }
    }));
    Pair { body, callee: Callee::Process(child) }
}

/// The callee of [`shared_memory`]. It copies the bytes, since an answer is made and not passed on.
pub(crate) fn serve_shared_memory(_: Work, extra: &[String]) {
    let requests = hand_over::<Shared>(extra);
    let Ok(Shared::Answers(answers)) = requests.recv() else { return };
    while let Ok(Shared::Bytes(memory)) = requests.recv() {
        if answers.send(Shared::Bytes(IpcSharedMemory::from_bytes(&memory))).is_err() {
            break;
        }
    }
}

/// What a caller over ready-made channels needs.
type Ends = (IpcBytesSender, IpcBytesReceiver);
/// A call and where its answer goes.
type FreshCall = (Args, IpcSender<u64>);

#[derive(serde::Serialize, serde::Deserialize)]
enum Shared {
    Answers(IpcSender<Shared>),
    Bytes(IpcSharedMemory),
}

/// Starts a child and gets what it hands over.
fn meet<T: Serialize + DeserializeOwned>(name: &str, place: &Place, work: Work) -> (Child, T) {
    let (server, address) = IpcOneShotServer::<T>::new().expect("a socket can be made");
    let child = roles::callee(place, name, work).arg(address).spawn().expect("this program starts again");
    let (_, given) = server.accept().expect("the callee connects");
    (child, given)
}

/// Makes a channel and hands its sender to the caller.
fn hand_over<T: Serialize + DeserializeOwned>(extra: &[String]) -> IpcReceiver<T> {
    let server = IpcSender::<IpcSender<T>>::connect(extra[0].clone()).expect("the caller accepts");
    let (sender, receiver) = ipc::channel().expect("a socket can be made");
    server.send(sender).expect("the caller receives");
    receiver
}

fn on_a_thread(mut lane: Bytes) -> Box<ThreadCall> {
    Box::new(move |i| lane::call(&mut lane, i))
}

fn send_fresh(calls: &IpcSender<FreshCall>, i: u64) -> IpcReceiver<u64> {
    let (answer, receiver) = ipc::channel().expect("a socket can be made");
    calls.send((Args::number(i), answer)).expect("the callee is there");
    receiver
}

fn fresh_in_flight(calls: &IpcSender<FreshCall>, n: u64) -> u64 {
    let mut pending = VecDeque::new();
    let check = |(i, answer): (u64, IpcReceiver<u64>)| {
        assert_eq!(answer.recv().expect("the callee answers"), Args::expected(i), "a wrong answer");
    };
    for i in 0..n {
        pending.push_back((i, send_fresh(calls, i)));
        if pending.len() as u64 == IN_FLIGHT {
            pending.pop_front().into_iter().for_each(check);
        }
    }
    pending.into_iter().for_each(check);
    0
}

/// Messages over two byte channels.
struct Bytes {
    sender: IpcBytesSender,
    receiver: IpcBytesReceiver,
    packet: Vec<u8>,
}

impl Bytes {
    fn new(sender: IpcBytesSender, receiver: IpcBytesReceiver) -> Bytes {
        Bytes { sender, receiver, packet: Vec::new() }
    }
}

impl<Out: Serialize, In: DeserializeOwned> Lane<Out, In> for Bytes {
    fn send(&mut self, message: Out) -> bool {
        self.packet.clear();
        encode_behind(&message, &mut self.packet);
        self.sender.send(&self.packet).is_ok()
    }

    fn receive(&mut self) -> Option<In> {
        self.receiver.recv().ok().map(|packet| decode(&packet))
    }

    fn send_bytes(&mut self, bytes: &[u8]) -> bool {
        self.sender.send(bytes).is_ok()
    }

    fn receive_bytes(&mut self, show: &dyn Fn(&[u8])) -> bool {
        self.receiver.recv().map(|bytes| show(&bytes)).is_ok()
    }

    fn echo_bytes(&mut self) -> bool {
        self.receiver.recv().is_ok_and(|bytes| self.sender.send(&bytes).is_ok())
    }
}
