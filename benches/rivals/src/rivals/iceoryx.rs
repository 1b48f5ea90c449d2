//! iceoryx2: request-response, and publish-subscribe for events. The receiver looks for news all the time,
//! or is woken by an event of iceoryx2; its listener can miss one, so that nobody waits for longer than a
//! moment and calls that needed that moment are counted as lost.

use std::{
    collections::VecDeque,
    process, thread,
    time::{Duration, Instant},
};

use iceoryx2::{
    pending_response::PendingResponse,
    port::{client::Client, listener::Listener, notifier::Notifier, publisher::Publisher},
    prelude::*,
};

use crate::{
    contender::{Body, Callee, Pair},
    place::Place,
    rivals::iceoryx_bytes,
    roles,
    work::{Args, IN_FLIGHT, TEXT, Work},
};

/// How a receiver learns of news.
#[derive(Clone, Copy)]
pub(crate) enum Waiting {
    Polling,
    EventDriven,
}

/// A child that shares services with us.
pub(crate) fn child(name: &str, waiting: Waiting, place: &Place, work: Work) -> Pair {
    set_log_level(LogLevel::Error);
    let services = format!("nape-rivals-{}", process::id());
    let child = roles::callee(place, name, work)
        .args([&services, place.name()])
        .spawn()
        .expect("this program starts again");
    let node = NodeBuilder::new()
        .signal_handling_mode(SignalHandlingMode::Disabled)
        .create::<ipc::Service>()
        .expect("a node can be made");
    let one_core = place.caller == place.callee;
    let bell = Bell::new(&node, &services, waiting, "to-callee", "to-caller", one_core);
    if work.bytes().is_some() {
        return Pair { body: iceoryx_bytes::body(&node, &services, bell), callee: Callee::Process(child) };
    }
    let caller = Caller::new(&node, &services, bell);
    let body = match work {
        Work::InFlight => Body::Batch(Box::new(move |n| caller.in_flight(n))),
        Work::Events => Body::Batch(Box::new(move |n| caller.events(n))),
        _ => Body::Call(Box::new(move |i| caller.finish(caller.start(Request::call(i))))),
    };
    Pair { body, callee: Callee::Process(child) }
}

/// The callee of [`child`].
pub(crate) fn serve(waiting: Waiting, work: Work, extra: &[String]) {
    set_log_level(LogLevel::Error);
    let node = NodeBuilder::new().create::<ipc::Service>().expect("a node can be made");
    let one_core = extra[1] == "one core";
    let bell = Bell::new(&node, &extra[0], waiting, "to-caller", "to-callee", one_core);
    if work.bytes().is_some() {
        return iceoryx_bytes::serve(&node, &extra[0], bell);
    }
    let news = publish_subscribe(&node, &extra[0]);
    let news = news.subscriber_builder().create().expect("there is room for one");
    let calls = request_response(&node, &extra[0]);
    let calls = calls.server_builder().create().expect("there is room for one");
    let mut counted = 0;
    loop {
        while let Some(event) = news.receive().expect("the caller is connected") {
            counted += u64::from(event.answer() > 0);
        }
        while let Some(request) = calls.receive().expect("the caller is connected") {
            let answer = match request.kind {
                CALL => request.answer(),
                COUNT => counted,
                _ => return,
            };
            request.send_copy(answer).expect("there is room for an answer");
            bell.ring();
        }
        bell.wait();
    }
}

type Service = ipc::Service;
type Pending = PendingResponse<Service, Request, (), u64, ()>;

/// What iceoryx2 moves has no pointers, and so a text has a fixed place.
#[derive(Clone, Copy, Debug, ZeroCopySend)]
#[repr(C)]
struct Request {
    kind: u64,
    a: u64,
    b: u64,
    length: u64,
    text: [u8; 32],
}

const CALL: u64 = 0;
const COUNT: u64 = 1;
const BYE: u64 = 2;

impl Request {
    fn call(i: u64) -> Request {
        let mut text = [0; 32];
        text[..TEXT.len()].copy_from_slice(TEXT.as_bytes());
        Request { kind: CALL, a: i, b: Args::number(i).b, length: TEXT.len() as u64, text }
    }

    fn answer(&self) -> u64 {
        self.a + self.b + self.length
    }
}

fn request_response(
    node: &Node<Service>,
    name: &str,
) -> iceoryx2::service::port_factory::request_response::PortFactory<Service, Request, (), u64, ()> {
    node.service_builder(&service_name(name, "calls"))
        .request_response::<Request, u64>()
        .max_active_requests_per_client(IN_FLIGHT as usize)
        .max_loaned_requests(IN_FLIGHT as usize)
        .open_or_create()
        .expect("both sides ask for the same")
}

fn publish_subscribe(
    node: &Node<Service>,
    name: &str,
) -> iceoryx2::service::port_factory::publish_subscribe::PortFactory<Service, Request, ()> {
    node.service_builder(&service_name(name, "news"))
        .publish_subscribe::<Request>()
        .subscriber_max_buffer_size(1024)
        .enable_safe_overflow(false)
        .open_or_create()
        .expect("both sides ask for the same")
}

pub(crate) fn service_name(name: &str, what: &str) -> ServiceName {
    format!("{name}/{what}").as_str().try_into().expect("it is short")
}

struct Caller {
    client: Client<Service, Request, (), u64, ()>,
    publisher: Publisher<Service, Request, ()>,
    bell: Bell,
}

impl Caller {
    fn new(node: &Node<Service>, services: &str, bell: Bell) -> Caller {
        let calls = request_response(node, services);
        // The callee makes this last.
        while calls.dynamic_config().number_of_servers() == 0 {
            thread::sleep(Duration::from_millis(1));
        }
        let publisher = publish_subscribe(node, services)
            .publisher_builder()
            .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
            .create()
            .expect("there is room for one");
        Caller { client: calls.client_builder().create().expect("there is room for one"), publisher, bell }
    }

    fn start(&self, request: Request) -> Pending {
        let pending = self.client.send_copy(request).expect("there is room for it");
        self.bell.ring();
        pending
    }

    /// The answer, or `None` if it took somebody else than the listener to find it.
    fn finish(&self, pending: Pending) -> Option<u64> {
        let mut missed = false;
        loop {
            if let Some(answer) = pending.receive().expect("the callee is connected") {
                return if missed { None } else { Some(*answer) };
            }
            missed |= !self.bell.wait();
        }
    }

    fn in_flight(&self, n: u64) -> u64 {
        let mut pending = VecDeque::new();
        let mut lost = 0;
        let mut check = |(i, answer): (u64, Pending)| match self.finish(answer) {
            Some(answer) => assert_eq!(answer, Args::expected(i), "a wrong answer"),
            None => lost += 1,
        };
        for i in 0..n {
            pending.push_back((i, self.start(Request::call(i))));
            if pending.len() as u64 == IN_FLIGHT {
                pending.pop_front().into_iter().for_each(&mut check);
            }
        }
        pending.into_iter().for_each(check);
        lost
    }

    /// Each rings the bell: the sender cannot know whether the receiver is awake.
    fn events(&self, n: u64) -> u64 {
        let count = || loop {
            if let Some(counted) = self.finish(self.start(Request { kind: COUNT, ..Request::call(0) })) {
                return counted;
            }
        };
        let before = count();
        for i in 0..n {
            self.publisher.send_copy(Request::call(i)).expect("the callee is connected");
            self.bell.ring();
        }
        while count() - before < n {}
        0
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        // Killed, the callee would leave its files behind. It has to see this while it is pending.
        let bye = self.start(Request { kind: BYE, ..Request::call(0) });
        while bye.is_connected() {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// What wakes the other side, and what it wakes us with.
pub(crate) struct Bell {
    events: Option<(Notifier<Service>, Listener<Service>)>,
    one_core: bool,
}

impl Bell {
    fn new(
        node: &Node<Service>,
        services: &str,
        waiting: Waiting,
        theirs: &str,
        ours: &str,
        one_core: bool,
    ) -> Bell {
        let events = match waiting {
            Waiting::Polling => None,
            Waiting::EventDriven => {
                let event = |what| {
                    let service = node.service_builder(&service_name(services, what)).event();
                    service.open_or_create().expect("both sides ask for the same")
                };
                let listener = event(ours).listener_builder().create().expect("there is room for one");
                let notifier = event(theirs).notifier_builder().create().expect("there is room for one");
                Some((notifier, listener))
            }
        };
        Bell { events, one_core }
    }

    /// Wakes the other side, if it sleeps.
    pub(crate) fn ring(&self) {
        if let Some((notifier, _)) = &self.events {
            notifier.notify().expect("the other side is connected");
        }
    }

    /// Waits for news. False when nothing rang in all that time.
    pub(crate) fn wait(&self) -> bool {
        match &self.events {
            Some((_, listener)) => {
                let began = Instant::now();
                let rung = listener.timed_wait(|_| (), PATIENCE).expect("the other side is connected");
                // It comes back without any, too, before its time.
                rung > 0 || began.elapsed() < PATIENCE
            }
            None if self.one_core => {
                // Who spins keeps the other side from the core.
                thread::yield_now();
                true
            }
            None => {
                std::hint::spin_loop();
                true
            }
        }
    }
}

/// When a wake-up counts as lost. Nothing that is measured takes so long.
const PATIENCE: Duration = Duration::from_millis(50);
