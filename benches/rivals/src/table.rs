//! Who takes part.

use nape::{Head, Wire};

use crate::{
    contender::Contender,
    futures::Flavor::{CurrentThread, MultiThread},
    rivals::{
        iceoryx::{self, Waiting},
        ipc, ipc_rpc, ours, remoc, ring, tarpc, threads,
        wires::{self, Wait},
        zbus,
    },
    work::Work,
};

/// Everything that can be measured. How to add a row stands in `README.md`.
pub(crate) const CONTENDERS: &[Contender] = &[
    Contender {
        name: "nape ipc",
        works: &Work::ALL,
        connect: |place, work| ours::child("nape ipc", Head::builder(), place, work),
        serve: Some(ours::serve),
    },
    Contender {
        name: "nape pipe",
        works: &Work::ALL,
        connect: |place, work| ours::child("nape pipe", Head::builder().wire(Wire::Pipe), place, work),
        serve: Some(ours::serve),
    },
    Contender {
        name: "nape shm",
        works: &Work::ALL,
        connect: |place, work| ours::child("nape shm", Head::builder().wire(Wire::Shm), place, work),
        serve: Some(ours::serve),
    },
    Contender {
        name: "nape ipc, answers together",
        works: &[Work::InFlight],
        connect: |place, work| ours::child("nape ipc, answers together", Head::builder(), place, work),
        serve: Some(ours::serve_together),
    },
    Contender {
        name: "nape pipe, answers together",
        works: &[Work::InFlight],
        connect: |place, work| {
            ours::child("nape pipe, answers together", Head::builder().wire(Wire::Pipe), place, work)
        },
        serve: Some(ours::serve_together),
    },
    Contender { name: "nape encoded (threads)", works: &Work::ALL, connect: ours::encoded, serve: None },
    Contender { name: "nape channel (threads)", works: &Work::ALL, connect: ours::channel, serve: None },
    Contender {
        name: "bare pipes, blocking",
        works: Work::ONE_LANE,
        connect: |place, work| wires::pipes("bare pipes, blocking", Wait::Blocking, place, work),
        serve: Some(|work, _| wires::serve(Wait::Blocking, work)),
    },
    Contender {
        name: "bare pipes, poll",
        works: Work::ONE_LANE,
        connect: |place, work| wires::pipes("bare pipes, poll", Wait::Polling, place, work),
        serve: Some(|work, _| wires::serve(Wait::Polling, work)),
    },
    Contender {
        name: "bare socketpair, blocking",
        works: Work::ONE_LANE,
        connect: |place, work| wires::sockets("bare socketpair, blocking", Wait::Blocking, place, work),
        serve: Some(|work, _| wires::serve(Wait::Blocking, work)),
    },
    Contender {
        name: "bare socketpair, poll",
        works: Work::ONE_LANE,
        connect: |place, work| wires::sockets("bare socketpair, poll", Wait::Polling, place, work),
        serve: Some(|work, _| wires::serve(Wait::Polling, work)),
    },
    Contender { name: ring::NAME, works: Work::ONE_LANE, connect: ring::child, serve: Some(ring::serve) },
    Contender {
        name: ipc::READY_MADE,
        works: &Work::ALL,
        connect: ipc::ready_made,
        serve: Some(ipc::serve_ready_made),
    },
    Contender {
        name: "ipc-channel, once more",
        works: &Work::ALL,
        connect: ipc::ready_made,
        serve: None, // Its callee is that of the row before.
    },
    Contender {
        name: ipc::FRESH,
        works: Work::EVERY_CALL,
        connect: ipc::fresh,
        serve: Some(ipc::serve_fresh),
    },
    Contender {
        name: ipc::SHARED_MEMORY,
        works: Work::ECHOES,
        connect: ipc::shared_memory,
        serve: Some(ipc::serve_shared_memory),
    },
    Contender {
        name: "iceoryx2, polling",
        works: Work::ONE_LANE,
        connect: |place, work| iceoryx::child("iceoryx2, polling", Waiting::Polling, place, work),
        serve: Some(|work, extra| iceoryx::serve(Waiting::Polling, work, extra)),
    },
    Contender {
        name: "iceoryx2, event-driven",
        works: Work::ONE_LANE,
        connect: |place, work| iceoryx::child("iceoryx2, event-driven", Waiting::EventDriven, place, work),
        serve: Some(|work, extra| iceoryx::serve(Waiting::EventDriven, work, extra)),
    },
    Contender {
        name: ipc_rpc::NAME,
        works: &Work::ALL,
        connect: ipc_rpc::child,
        serve: Some(ipc_rpc::serve),
    },
    Contender {
        name: "tarpc, current-thread",
        works: Work::NO_EVENTS,
        connect: |place, work| tarpc::child("tarpc, current-thread", CurrentThread, place, work),
        serve: Some(|_, _| tarpc::serve(CurrentThread)),
    },
    Contender {
        name: "tarpc, multi-thread",
        works: Work::NO_EVENTS,
        connect: |place, work| tarpc::child("tarpc, multi-thread", MultiThread, place, work),
        serve: Some(|_, _| tarpc::serve(MultiThread)),
    },
    Contender {
        name: "remoc, current-thread",
        works: &Work::ALL,
        connect: |place, work| remoc::child("remoc, current-thread", CurrentThread, place, work),
        serve: Some(|_, _| remoc::serve(CurrentThread)),
    },
    Contender {
        name: "remoc, multi-thread",
        works: &Work::ALL,
        connect: |place, work| remoc::child("remoc, multi-thread", MultiThread, place, work),
        serve: Some(|_, _| remoc::serve(MultiThread)),
    },
    Contender { name: zbus::NAME, works: &Work::ALL, connect: zbus::child, serve: Some(zbus::serve) },
    Contender {
        name: "crossbeam-channel (threads)",
        works: Work::IN_PROCESS,
        connect: threads::crossbeam,
        serve: None,
    },
    Contender {
        name: "tarpc channel (threads)",
        works: Work::EVERY_CALL,
        connect: |place, work| tarpc::channel(MultiThread, place, work),
        serve: None,
    },
];

/// The contender of that name.
pub(crate) fn named(name: &str) -> &'static Contender {
    CONTENDERS.iter().find(|it| it.name == name).unwrap_or_else(|| panic!("no contender `{name}`"))
}
