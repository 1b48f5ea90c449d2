//! Work over anything whose calls are futures of tokio.

use std::{future::Future, time::Duration};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use serde_bytes::ByteBuf;
use tokio::runtime::{Builder, Runtime};

use crate::{
    contender::{Body, ThreadCall},
    work::{Args, IN_FLIGHT, THREADS, Work},
};

/// Which of tokio's runtimes.
#[derive(Clone, Copy)]
pub(crate) enum Flavor {
    CurrentThread,
    MultiThread,
}

/// What a contender can do for its caller.
pub(crate) trait Client: Clone + Send + 'static {
    /// A small call; `None` when its answer was lost.
    fn call(&self, args: Args) -> impl Future<Output = Option<u64>> + Send;
    /// Bytes there and back; `None` when they were lost.
    fn echo(&self, bytes: ByteBuf) -> impl Future<Output = Option<ByteBuf>> + Send;

    /// Sends a message without an answer.
    fn event(&self, _: Args) -> impl Future<Output = ()> + Send {
        async { panic!("it has no events") }
    }

    /// How many of them have arrived.
    fn counted(&self) -> impl Future<Output = u64> + Send {
        async { panic!("it has no events") }
    }
}

impl Flavor {
    /// A runtime that stays until the process ends: some contenders have threads that would keep it from
    /// shutting down.
    pub(crate) fn runtime(self) -> &'static Runtime {
        let mut builder = match self {
            Flavor::CurrentThread => Builder::new_current_thread(),
            Flavor::MultiThread => Builder::new_multi_thread(),
        };
        // By default it would be one for each core, which is this many on the smallest machine.
        let runtime = builder.worker_threads(2).enable_all().build().expect("threads can be started");
        Box::leak(Box::new(runtime))
    }
}

/// What the caller does. The calls are made from outside of the runtime, as a program does that is not
/// written around one.
pub(crate) fn body(runtime: &'static Runtime, client: impl Client, work: Work) -> Body {
    match work {
        Work::Call | Work::Silence => {
            Body::Call(Box::new(move |i| runtime.block_on(client.call(Args::number(i)))))
        }
        Work::InFlight => Body::Batch(Box::new(move |n| runtime.block_on(in_flight(&client, n)))),
        Work::Events => Body::Batch(Box::new(move |n| runtime.block_on(events(&client, n)))),
        Work::Threads => Body::Threads((0..THREADS).map(|_| on_a_thread(runtime, client.clone())).collect()),
        Work::Echo1 | Work::Echo16 => Body::Echo(Box::new(move |bytes, show| {
            let came = runtime.block_on(client.echo(ByteBuf::from(bytes)));
            came.iter().for_each(|bytes| show(bytes));
            came.is_some()
        })),
    }
}

fn on_a_thread(runtime: &'static Runtime, client: impl Client) -> Box<ThreadCall> {
    Box::new(move |i| runtime.block_on(client.call(Args::number(i))))
}

async fn in_flight(client: &impl Client, n: u64) -> u64 {
    let mut pending = FuturesUnordered::new();
    let mut lost = 0;
    let mut check = |(i, answer): (u64, Option<u64>)| match answer {
        Some(answer) => assert_eq!(answer, Args::expected(i), "a wrong answer"),
        None => lost += 1,
    };
    for i in 0..n {
        pending.push(async move { (i, client.call(Args::number(i)).await) });
        if pending.len() as u64 == IN_FLIGHT {
            pending.next().await.into_iter().for_each(&mut check);
        }
    }
    while let Some(answer) = pending.next().await {
        check(answer);
    }
    lost
}

async fn events(client: &impl Client, n: u64) -> u64 {
    let before = client.counted().await;
    for i in 0..n {
        client.event(Args::number(i)).await;
    }
    let all = async { while client.counted().await - before < n {} };
    match tokio::time::timeout(Duration::from_secs(5), all).await {
        Ok(()) => 0,
        Err(_) => n - (client.counted().await - before),
    }
}
