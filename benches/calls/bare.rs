//! What there is without nape: channels, and nothing around them.

use std::thread;

use crossbeam_channel::bounded;
use ipc_channel::ipc::{IpcBytesReceiver, IpcBytesSender, IpcOneShotServer, IpcSender, bytes_channel};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    contender::{Args, Callee, Pair},
    place::Place,
};

/// Two ready-made byte channels of ipc-channel to a child, and a plain blocking receive at both ends.
pub(crate) fn ipc(place: &Place) -> Pair {
    let (server, name) = IpcOneShotServer::<Ends>::new().expect("a socket can be made");
    let child = place.callee("bare ipc A").arg(name).spawn().expect("this program can be started again");
    let (_, (to_callee, from_callee)) = server.accept().expect("the callee connects");
    Pair::new(caller(to_callee, from_callee), Callee::Process(child))
}

/// The callee of [`ipc`]: makes the channels, hands over the caller's ends, and answers.
pub(crate) fn serve_ipc(extra: &[String]) {
    let server = IpcSender::<Ends>::connect(extra[0].clone()).expect("the caller accepts");
    let (to_callee, requests) = bytes_channel().expect("a socket can be made");
    let (answers, from_callee) = bytes_channel().expect("a socket can be made");
    server.send((to_callee, from_callee)).expect("the caller receives");
    answer(&requests, &answers);
}

/// The same channels between two threads of one process.
pub(crate) fn ipc_threads(place: &Place) -> Pair {
    let (to_callee, requests) = bytes_channel().expect("a socket can be made");
    let (answers, from_callee) = bytes_channel().expect("a socket can be made");
    let thread = on_a_thread(place, move || answer(&requests, &answers));
    Pair::new(caller(to_callee, from_callee), thread)
}

/// Two bounded crossbeam channels between two threads, which move the values themselves.
pub(crate) fn crossbeam(place: &Place) -> Pair {
    let (to_callee, requests) = bounded::<Args>(1);
    let (answers, from_callee) = bounded::<u64>(1);
    let thread = on_a_thread(place, move || {
        while let Ok(args) = requests.recv() {
            if answers.send(args.answer()).is_err() {
                break;
            }
        }
    });
    let call = move |i| {
        to_callee.send(Args::number(i)).expect("the callee is there");
        from_callee.recv().expect("the callee answers")
    };
    Pair::new(call, thread)
}

/// What a caller over ipc-channel needs.
type Ends = (IpcBytesSender, IpcBytesReceiver);

fn on_a_thread(place: &Place, work: impl FnOnce() + Send + 'static) -> Callee {
    let start = || thread::Builder::new().name("callee".into()).spawn(work);
    Callee::Thread(Some(place.on_callee(start).expect("a thread can be started")))
}

fn caller(to_callee: IpcBytesSender, from_callee: IpcBytesReceiver) -> impl FnMut(u64) -> u64 {
    let mut packet = Vec::new();
    move |i| {
        encode(&Args::number(i), &mut packet);
        to_callee.send(&packet).expect("the callee is there");
        decode(&from_callee.recv().expect("the callee answers"))
    }
}

/// Answers until the caller is gone.
fn answer(requests: &IpcBytesReceiver, answers: &IpcBytesSender) {
    let mut packet = Vec::new();
    while let Ok(request) = requests.recv() {
        encode(&decode::<Args>(&request).answer(), &mut packet);
        if answers.send(&packet).is_err() {
            break;
        }
    }
}

/// Encodes into a buffer that is used again: the least that anybody can do.
pub(crate) fn encode(value: &impl Serialize, packet: &mut Vec<u8>) {
    packet.clear();
    bincode::serde::encode_into_std_write(value, packet, bincode::config::standard())
        .expect("plain values can be encoded");
}

pub(crate) fn decode<T: DeserializeOwned>(packet: &[u8]) -> T {
    bincode::serde::decode_from_slice(packet, bincode::config::standard())
        .expect("it was encoded by `encode`")
        .0
}
