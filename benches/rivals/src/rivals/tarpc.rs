//! tarpc: over a Unix socket with bincode, and over its channel in one process. It has no events.

use futures_util::StreamExt as _;
use serde_bytes::ByteBuf;
use tarpc::{
    client::Config,
    context,
    serde_transport::{self, Transport},
    server::{BaseChannel, Channel as _},
    tokio_serde::formats::Bincode,
    tokio_util::codec::LengthDelimitedCodec,
};
use tokio::net::UnixStream;

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
    let client = {
        let _guard = runtime.enter();
        let transport = over(streams::asynchronous(socket));
        Tarpc(BenchClient::new(Config::default(), transport).spawn())
    };
    Pair { body: futures::body(runtime, client, work), callee: Callee::Killed(child) }
}

/// The callee of [`child`].
pub(crate) fn serve(flavor: Flavor) {
    flavor.runtime().block_on(async {
        let transport = over(streams::asynchronous(streams::from_caller()));
        answer(BaseChannel::with_defaults(transport)).await;
    });
}

/// In one process: the runtime and the service on its threads have the callee's core.
pub(crate) fn channel(flavor: Flavor, place: &Place, work: Work) -> Pair {
    let runtime = place.on_callee(|| flavor.runtime());
    let (ours, theirs) = tarpc::transport::channel::unbounded();
    let client = {
        let _guard = runtime.enter();
        tokio::spawn(answer(BaseChannel::with_defaults(theirs)));
        Tarpc(BenchClient::new(Config::default(), ours).spawn())
    };
    Pair { body: futures::body(runtime, client, work), callee: Callee::Elsewhere(None) }
}

#[tarpc::service]
trait Bench {
    async fn call(args: Args) -> u64;
    async fn echo(bytes: ByteBuf) -> ByteBuf;
}

#[derive(Clone)]
struct Answers;

impl Bench for Answers {
    async fn call(self, _: context::Context, args: Args) -> u64 {
        args.answer()
    }

    async fn echo(self, _: context::Context, bytes: ByteBuf) -> ByteBuf {
        bytes
    }
}

/// Answers until the caller is gone, each request on a task of its own, as tarpc's examples do.
async fn answer<T>(channel: BaseChannel<BenchRequest, BenchResponse, T>)
where
    T: tarpc::Transport<tarpc::Response<BenchResponse>, tarpc::ClientMessage<BenchRequest>> + Send + 'static,
    T::Error: Send + Sync,
{
    let spawn = |request| async {
        tokio::spawn(request);
    };
    channel.execute(Answers.serve()).for_each(spawn).await;
}

/// Frames of any length that a payload may have.
fn over<Item, SinkItem>(socket: UnixStream) -> Transport<UnixStream, Item, SinkItem, Bincode<Item, SinkItem>>
where
    Item: for<'de> serde::Deserialize<'de>,
    SinkItem: serde::Serialize,
{
    let framed = LengthDelimitedCodec::builder().max_frame_length(64 << 20).new_framed(socket);
    serde_transport::new(framed, Bincode::default())
}

#[derive(Clone)]
struct Tarpc(BenchClient);

impl Client for Tarpc {
    async fn call(&self, args: Args) -> Option<u64> {
        self.0.call(context::current(), args).await.ok()
    }

    async fn echo(&self, bytes: ByteBuf) -> Option<ByteBuf> {
        self.0.echo(context::current(), bytes).await.ok()
    }
}
