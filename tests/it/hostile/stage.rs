//! A Head or a Neck under test, with the other end of its link in the hands of the test.

use std::{
    ops::Deref,
    sync::{
        Once,
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, Receiver},
    },
    thread,
    time::{Duration, Instant},
};

use nape::{
    Api, CloseReason, Config, Context, Endpoint, Fault, Head, LinkState, Neck, ProtocolError,
    transport::{ipc_pair, memory_pair, pipe_pair, shm_pair},
};

use super::raw::{BYE, CALL, Frame, REPLY, Raw, Side, call, text};

/// What the frames travel over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    Memory,
    Ipc,
    Pipe,
    Shm,
}

/// Where a test takes place: the wire, and the side that is under test.
pub(crate) type Place = (Wire, Side);

pub(crate) enum Subject {
    Head(Head),
    Neck(Neck),
}

impl Deref for Subject {
    type Target = Endpoint;

    fn deref(&self) -> &Endpoint {
        match self {
            Subject::Head(head) => head,
            Subject::Neck(neck) => neck,
        }
    }
}

pub(crate) struct Stage {
    pub(crate) raw: Raw,
    pub(crate) subject: Subject,
    closed: Receiver<()>,
}

/// What any single case may take: five times what is promised.
pub(crate) const BOUND: Duration = Duration::from_secs(5);

/// How many panics there were on the threads of the links under test.
static PANICS: AtomicUsize = AtomicUsize::new(0);
pub(crate) const THREADS: &str = "quarry";

pub(crate) fn count_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if thread::current().name().is_some_and(|name| name.starts_with(THREADS)) {
                PANICS.fetch_add(1, Ordering::SeqCst);
            }
            before(panic);
        }));
    });
}

/// What the subject serves besides what a test adds.
pub(crate) fn echo() -> Api {
    Api::new("echo")
        .handle("text", |_: &Context, text: String| Ok::<_, Fault>(text))
        .and_then(|api| api.handle("number", |_: &Context, number: u64| Ok::<_, Fault>(number)))
        .and_then(|api| {
            api.handle("wait", |context: &Context, (): ()| {
                Ok::<_, Fault>(context.cancel_token().wait_timeout(BOUND))
            })
        })
        .unwrap()
}

impl Stage {
    /// Both ends, and nothing was said by the one in our hands.
    pub(crate) fn silent((wire, side): Place, config: Config, api: Api) -> Stage {
        count_panics();
        let (ours, theirs) = match wire {
            Wire::Memory => memory_pair(),
            Wire::Ipc => ipc_pair().unwrap(),
            Wire::Pipe => pipe_pair().unwrap(),
            Wire::Shm => shm_pair().unwrap(),
        };
        let config = config.name(THREADS);
        let subject = match side {
            Side::Head => Subject::Head(Head::builder().config(config).serve(api).over(theirs).unwrap()),
            Side::Neck => {
                Subject::Neck(Neck::builder().config(config).serve(api).over(theirs).unwrap().start())
            }
        };
        let (told, closed) = mpsc::channel();
        subject.on_state(move |state| {
            if state == LinkState::Closed {
                let _ = told.send(());
            }
        });
        Stage { raw: Raw::new(side.other(), ours), subject, closed }
    }

    /// Both sides have greeted and are ready.
    pub(crate) fn new(place: Place) -> Stage {
        Stage::with(place, Config::new(), echo())
    }

    pub(crate) fn with(place: Place, config: Config, api: Api) -> Stage {
        let mut stage = Stage::silent(place, config, api);
        stage.raw.greet();
        stage
    }

    /// Waits for the end of the link, and says why it came.
    pub(crate) fn end(&self) -> CloseReason {
        self.closed.recv_timeout(BOUND).expect("the link is still there");
        (*self.subject.close_reason().expect("a closed link has a reason")).clone()
    }

    /// Whether the link lives through this time.
    pub(crate) fn lives_for(&self, time: Duration) -> bool {
        self.closed.recv_timeout(time).is_err()
    }

    /// Waits for the end of the link over a rule of the protocol, and gives it.
    pub(crate) fn broken(&self) -> ProtocolError {
        match self.end() {
            CloseReason::Protocol(error) => error,
            other => panic!("it ended in another way: {other:?}"),
        }
    }

    /// The same, when the subject has a moment to say goodbye: it names the rule.
    pub(crate) fn broken_and_told(&mut self) -> ProtocolError {
        let error = self.broken();
        let bye = self.raw.next_of(BYE);
        assert_eq!(bye.code(), error.code());
        assert_eq!(self.raw.rest(), [], "nothing comes behind a goodbye");
        error
    }

    /// What has come in part does no harm, and is forgotten when nothing more can come.
    pub(crate) fn waits_for_the_rest(&mut self) {
        assert!(self.lives_for(Duration::from_millis(20)));
        self.raw.hang_up();
        let reason = self.end();
        let dropped = CloseReason::Protocol(ProtocolError::ClosedBeforeHello);
        assert!(
            matches!(reason, CloseReason::Gone) || reason.to_string() == dropped.to_string(),
            "{reason:?}"
        );
    }

    /// Calls the subject.
    pub(crate) fn call(&mut self, counter: u64, path: &str, arguments: &[u8]) -> u64 {
        let id = self.raw.side.id(counter);
        assert!(self.raw.send(CALL, 0, id, &call(path, arguments)));
        id
    }

    /// Good calls in both directions.
    pub(crate) fn works(&mut self) {
        let id = self.call(900, "echo.text", &text("still here"));
        let reply = self.raw.next_of(REPLY);
        assert_eq!(reply, Frame { kind: REPLY, flags: 0, id, body: text("still here") });
        let result = self.subject.api("raw").action("inc", 7u64).start::<u64>().unwrap();
        let asked = self.raw.next_of(CALL);
        assert_eq!(asked.body[20..], [&[7], &b"raw.inc"[..], &[7]].concat());
        assert!(self.raw.send(REPLY, 0, asked.id, &[8]));
        assert_eq!(result.wait().unwrap(), 8);
        assert_eq!(self.subject.close_reason().map(|reason| reason.to_string()), None);
    }

    /// Takes everything down. Nothing may panic, hang or be left under way.
    pub(crate) fn leave(mut self) {
        let start = Instant::now();
        self.raw.hang_up();
        let endpoint = self.subject.endpoint_of();
        drop(self.subject);
        assert!(start.elapsed() < BOUND, "closing took {:?}", start.elapsed());
        assert_eq!(endpoint.under_way(), (0, 0));
        nobody_panicked();
    }
}

pub(crate) fn nobody_panicked() {
    assert_eq!(PANICS.load(Ordering::SeqCst), 0, "a thread of the library panicked");
}

impl Subject {
    fn endpoint_of(&self) -> Endpoint {
        match self {
            Subject::Head(head) => head.endpoint().clone(),
            Subject::Neck(neck) => neck.endpoint().clone(),
        }
    }
}

/// A link that has nothing to do with any of it.
pub(crate) struct Bystander(Head, Neck);

impl Bystander {
    pub(crate) fn new() -> Bystander {
        let (head, neck) = Head::builder().in_process_encoded(Neck::builder().serve(echo())).unwrap();
        Bystander(head, neck.start())
    }

    pub(crate) fn works(&self) {
        assert_eq!(self.0.api("echo").action("number", 5u64).call::<u64>().unwrap(), 5);
        assert_eq!(self.1.state(), LinkState::Open);
    }
}
