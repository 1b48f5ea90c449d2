//! zbus, peer to peer over a Unix socket. An event is a method call that asks for no reply.

use std::{
    future::pending,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use serde_bytes::ByteBuf;
use zbus::{Connection, Guid, connection::Builder, interface, proxy, proxy::CacheProperties};

use crate::{
    contender::{Callee, Pair},
    futures::{self, Client, Flavor},
    place::Place,
    rivals::streams,
    work::{Args, Work},
};

/// The row by its name, since a callee is told which it is.
pub(crate) const NAME: &str = "zbus peer to peer";

/// A child, over a socket.
pub(crate) fn child(place: &Place, work: Work) -> Pair {
    let runtime = Flavor::MultiThread.runtime();
    let (child, socket) = streams::child(NAME, place, work);
    let client = runtime.block_on(async {
        let connection = Builder::unix_stream(socket).p2p().build().await.expect("the callee greets");
        let builder = BenchProxy::builder(&connection).cache_properties(CacheProperties::No);
        Zbus { bench: builder.build().await.expect("a proxy can be made"), _connection: connection }
    });
    Pair { body: futures::body(runtime, client, work), callee: Callee::Killed(child) }
}

/// The callee of [`child`].
pub(crate) fn serve(_: Work, _: &[String]) {
    Flavor::MultiThread.runtime().block_on(async {
        let socket = Builder::unix_stream(streams::from_caller());
        let served = socket.server(Guid::generate()).p2p().serve_at(PATH, Answers::default());
        let _connection = served.build().await.expect("the caller greets");
        pending::<()>().await;
    });
}

const PATH: &str = "/bench";

#[proxy(interface = "org.nape.Bench", default_path = "/bench", default_service = "org.nape.Bench")]
trait Bench {
    fn call(&self, a: u64, b: u64, text: &str) -> zbus::Result<u64>;
    #[zbus(no_reply)]
    fn event(&self, a: u64, b: u64, text: &str) -> zbus::Result<()>;
    fn counted(&self) -> zbus::Result<u64>;
    fn echo(&self, bytes: ByteBuf) -> zbus::Result<ByteBuf>;
}

#[derive(Default)]
struct Answers {
    counted: AtomicU64,
}

#[interface(name = "org.nape.Bench")]
impl Answers {
    fn call(&self, a: u64, b: u64, text: String) -> u64 {
        Args { a, b, text }.answer()
    }

    fn event(&self, a: u64, b: u64, text: String) {
        self.counted.fetch_add(u64::from(Args { a, b, text }.answer() > 0), Relaxed);
    }

    fn counted(&self) -> u64 {
        self.counted.load(Relaxed)
    }

    fn echo(&self, bytes: ByteBuf) -> ByteBuf {
        bytes
    }
}

#[derive(Clone)]
struct Zbus {
    bench: BenchProxy<'static>,
    _connection: Connection,
}

impl Client for Zbus {
    async fn call(&self, Args { a, b, text }: Args) -> Option<u64> {
        self.bench.call(a, b, &text).await.ok()
    }

    async fn echo(&self, bytes: ByteBuf) -> Option<ByteBuf> {
        self.bench.echo(bytes).await.ok()
    }

    async fn event(&self, Args { a, b, text }: Args) {
        self.bench.event(a, b, &text).await.expect("the callee is there");
    }

    async fn counted(&self) -> u64 {
        self.bench.counted().await.expect("the callee answers")
    }
}
