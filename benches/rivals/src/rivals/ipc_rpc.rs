//! ipc-rpc. It loses replies: one that arrives before its waiter is filed becomes a message of its own,
//! and the caller waits until its time is out. Those are counted and do not go into the times.

use std::{
    future::ready,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use ipc_rpc::{ConnectionKey, IpcRpcClient, IpcRpcServer};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::{
    contender::{Callee, Pair},
    futures::{self, Client, Flavor},
    place::Place,
    roles,
    work::{Args, Message, Work},
};

/// The row by its name, since a callee is told which it is.
pub(crate) const NAME: &str = "ipc-rpc";

/// A child, over ipc-channel. It asks for the multi-thread runtime.
pub(crate) fn child(place: &Place, work: Work) -> Pair {
    let runtime = Flavor::MultiThread.runtime();
    let (child, server) = runtime.block_on(async {
        // What comes without having been asked for is a reply that was lost.
        let unasked = |_: Packet| ready(None);
        let (key, server) = IpcRpcServer::initialize_server(unasked).await.expect("a socket can be made");
        let child = roles::callee(place, NAME, work).arg(key.to_string()).spawn();
        server.wait_for_client_to_connect().await.expect("the callee connects");
        (child.expect("this program starts again"), server)
    });
    Pair { body: futures::body(runtime, Rpc(Arc::new(server)), work), callee: Callee::Killed(child) }
}

/// The callee of [`child`].
pub(crate) fn serve(_: Work, extra: &[String]) {
    let key = ConnectionKey::from(extra[0].clone());
    Flavor::MultiThread.runtime().block_on(async {
        let counted = AtomicU64::new(0);
        let answer = move |packet| ready(answer(packet, &counted));
        let client = IpcRpcClient::initialize_client(key, answer).await.expect("the caller is there");
        // The caller ends this process.
        let _ = client.wait_for_server_to_disconnect().await;
    });
}

/// Both sides send the same type.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Packet {
    Message(Message),
    Bytes(ByteBuf),
    Answer(u64),
}

fn answer(packet: Packet, counted: &AtomicU64) -> Option<Packet> {
    match packet {
        Packet::Message(message) => {
            // Handlers run beside each other, so that each adds what it counted.
            let mut n = if let Message::Count = message { counted.load(Relaxed) } else { 0 };
            let answer = message.answer(&mut n);
            if let Message::Event(_) = message {
                counted.fetch_add(n, Relaxed);
            }
            answer.map(Packet::Answer)
        }
        Packet::Bytes(bytes) => Some(Packet::Bytes(bytes)),
        Packet::Answer(_) => None,
    }
}

#[derive(Clone)]
struct Rpc(Arc<IpcRpcServer<Packet>>);

impl Client for Rpc {
    async fn call(&self, args: Args) -> Option<u64> {
        match self.0.send_timeout(Packet::Message(Message::Call(args)), PATIENCE).await {
            Ok(Packet::Answer(answer)) => Some(answer),
            _ => None,
        }
    }

    async fn echo(&self, bytes: ByteBuf) -> Option<ByteBuf> {
        match self.0.send_timeout(Packet::Bytes(bytes), Duration::from_secs(2)).await {
            Ok(Packet::Bytes(bytes)) => Some(bytes),
            _ => None,
        }
    }

    async fn event(&self, args: Args) {
        // It is sent already; nobody waits for the answer that never comes.
        drop(self.0.send_timeout(Packet::Message(Message::Event(args)), PATIENCE));
    }

    async fn counted(&self) -> u64 {
        loop {
            let asked = self.0.send_timeout(Packet::Message(Message::Count), PATIENCE).await;
            if let Ok(Packet::Answer(counted)) = asked {
                return counted;
            }
        }
    }
}

/// When an answer counts as lost.
const PATIENCE: Duration = Duration::from_millis(200);
