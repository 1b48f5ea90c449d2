//! remoc: remote traits over a Unix socket, and its remote channel for events.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use remoc::{
    Cfg, Connect, codec,
    prelude::*,
    rtc::{CallError, Client as _},
};
use serde_bytes::ByteBuf;

use crate::{
    contender::{Callee, Pair},
    futures::{self, Client, Flavor},
    place::Place,
    rivals::streams,
    work::{Args, Work},
};

/// A child, over a socket.
pub(crate) fn child(name: &str, flavor: Flavor, place: &Place, work: Work) -> Pair {
    let runtime = flavor.runtime();
    let (child, socket) = streams::child(name, place, work);
    let client = runtime.block_on(async {
        let (incoming, outgoing) = streams::asynchronous(socket).into_split();
        let connected = Connect::io(Cfg::default(), incoming, outgoing);
        let mut bench: BenchClient = connected.consume().await.expect("the callee provides it");
        bench.set_max_request_size(LARGEST);
        bench.set_max_response_size(LARGEST);
        let events = bench.events().await.expect("the callee answers");
        Remoc { bench, events }
    });
    Pair { body: futures::body(runtime, client, work), callee: Callee::Killed(child) }
}

/// The callee of [`child`].
pub(crate) fn serve(flavor: Flavor) {
    flavor.runtime().block_on(async {
        let (incoming, outgoing) = streams::asynchronous(streams::from_caller()).into_split();
        let answers = Arc::new(Answers { counted: Arc::default() });
        let (server, mut client) = BenchServerShared::<_, codec::Default>::new(answers);
        // What the callee accepts travels with the client.
        client.set_max_request_size(LARGEST);
        let connected = Connect::io(Cfg::default(), incoming, outgoing);
        connected.provide(client).await.expect("the caller consumes it");
        // It ends with an error when the caller is gone.
        let _ = server.serve().await;
    });
}

/// Above the largest payload, which the limits by default are not.
const LARGEST: usize = 64 << 20;

#[rtc::remote]
trait Bench {
    async fn call(&self, args: Args) -> Result<u64, CallError>;
    async fn events(&self) -> Result<rch::mpsc::Sender<Args>, CallError>;
    async fn counted(&self) -> Result<u64, CallError>;
    async fn echo(&self, bytes: ByteBuf) -> Result<ByteBuf, CallError>;
}

struct Answers {
    counted: Arc<AtomicU64>,
}

impl Bench for Answers {
    async fn call(&self, args: Args) -> Result<u64, CallError> {
        Ok(args.answer())
    }

    async fn events(&self) -> Result<rch::mpsc::Sender<Args>, CallError> {
        let (sender, mut receiver) = rch::mpsc::channel::<Args, codec::Default>();
        let counted = self.counted.clone();
        tokio::spawn(async move {
            while let Ok(Some(args)) = receiver.recv().await {
                counted.fetch_add(u64::from(args.answer() > 0), Relaxed);
            }
        });
        Ok(sender)
    }

    async fn counted(&self) -> Result<u64, CallError> {
        Ok(self.counted.load(Relaxed))
    }

    async fn echo(&self, bytes: ByteBuf) -> Result<ByteBuf, CallError> {
        Ok(bytes)
    }
}

#[derive(Clone)]
struct Remoc {
    bench: BenchClient,
    events: rch::mpsc::Sender<Args>,
}

impl Client for Remoc {
    async fn call(&self, args: Args) -> Option<u64> {
        self.bench.call(args).await.ok()
    }

    async fn echo(&self, bytes: ByteBuf) -> Option<ByteBuf> {
        self.bench.echo(bytes).await.ok()
    }

    async fn event(&self, args: Args) {
        // What can be waited for beyond is the transmission of this one event.
        drop(self.events.send(args).await.expect("the callee receives"));
    }

    async fn counted(&self) -> u64 {
        self.bench.counted().await.expect("the callee answers")
    }
}
