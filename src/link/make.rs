//! How a link is made: over a wire, or of both ends in one process.

use std::{
    io,
    time::{Duration, Instant},
};

use super::{
    Core, Dispatch, Framed, Gate, Link, LinkId, LinkState, Slot, Wiring, direct::Carrier, id, in_turn::Turn,
    keeper::Keeper, kept::KeptItems, lead::StandBy, load::Packet, role::Role, state::State,
};
use crate::{
    config::Config,
    counters::Tally,
    os::{Attendant, Origin},
    sync::{Apart, Arc, AtomicBool, AtomicU8, AtomicUsize, Condvar, Mutex, OwnMutex, Weak},
    transport::Transport,
    wire::{Codec, Side, Tokens},
    workers::{Crew, Job, Lane},
};

/// What a link is made of besides its wire.
pub(crate) struct LinkParts {
    pub(crate) side: Side,
    pub(crate) config: Config,
    pub(crate) listeners: Arc<Lane<Job>>,
    pub(crate) dispatch: Arc<dyn Dispatch>,
    pub(crate) tally: Arc<Tally>,
}

impl Link {
    /// A link over `transport`. It greets at once; [`Link::say_ready`] lets calls in. With a limit it
    /// breaks off when it is not greeted in time.
    ///
    /// # Errors
    ///
    /// When a thread or a descriptor cannot be made.
    pub(crate) fn over(
        parts: LinkParts,
        transport: Transport,
        tokens: impl Into<Tokens>,
        attendant: Option<Box<dyn Attendant>>,
        greet_within: Option<Duration>,
    ) -> io::Result<Arc<Link>> {
        let greet_by = greet_within.and_then(|limit| Instant::now().checked_add(limit));
        let tokens = tokens.into().numbered(id::random());
        let mut state = State::new(parts.side, &parts.config, transport.window, tokens, greet_by);
        let mut transport = state.filter(transport, &parts.config)?;
        transport.sender.be_patient_for(parts.config.write_stall.limit().unwrap_or(Duration::MAX));
        // Whoever reads watches the clock for it, where a transport can do that.
        let patience = greet_by.filter(|_| transport.wakes_at_deadlines);
        let wiring = Wiring::Framed(Box::new(Framed {
            role: Role::new(transport.receiver, patience),
            batch: Mutex::default(),
            sender: OwnMutex::new(Some(transport.sender)),
            nudge: Mutex::new(Some(transport.nudge)),
            look_around: AtomicBool::new(false),
            owed: Mutex::default(),
            owes: AtomicBool::new(false),
            wakes_at_deadlines: transport.wakes_at_deadlines,
        }));
        let kept = attendant.is_some() || (greet_by.is_some() && patience.is_none());
        let link = Link::assemble(parts, state, wiring, attendant);
        if kept {
            link.keeper.wake(&link)?;
        }
        link.flush(link.core.lock());
        if let Err(error) = link.call_reader() {
            link.stillborn();
            return Err(error);
        }
        Ok(link)
    }

    /// Both ends of a link within this process. Values move over it; nothing is encoded.
    pub(crate) fn direct(head: LinkParts, neck: LinkParts) -> (Arc<Link>, Arc<Link>) {
        let [head, neck] = [head, neck].map(|parts| {
            let state = State::greeted(parts.side, &parts.config);
            Link::assemble(parts, state, Wiring::Direct(Box::default()), None)
        });
        let [to_neck, to_head] = [Arc::new(Gate::default()), Arc::new(Gate::default())];
        let number = id::random();
        [&head, &neck].iter().for_each(|end| end.id.set(number));
        head.join_to(&neck, &to_neck, &to_head);
        neck.join_to(&head, &to_head, &to_neck);
        (head, neck)
    }

    pub(super) fn assemble(
        parts: LinkParts,
        state: State<Arc<Slot>>,
        wiring: Wiring,
        attendant: Option<Box<dyn Attendant>>,
    ) -> Arc<Link> {
        let codec = AtomicU8::new(state.codec().map_or(0, Codec::number));
        let core = Core {
            state,
            stage: LinkState::Starting,
            reason: None,
            dying: None,
            cut_off: false,
            mute: None,
            near: 0,
            answering: 0,
            awaiting_room: 0,
            sending: false,
            carrier: Carrier::default(),
            turn: Turn::default(),
            batching: false,
            gathering: false,
            last_start: None,
            last_item: None,
            gathered: 0,
            items_due: None,
            spare: Packet::default(),
            armed: None,
            kept: false,
        };
        let name = parts.config.name.clone();
        let framed = matches!(wiring, Wiring::Framed(_));
        Arc::new_cyclic(|weak: &Weak<Link>| {
            let crew = if framed { Crew::with_idle(name, StandBy(weak.clone())) } else { Crew::new(name) };
            Link {
                weak: weak.clone(),
                side: parts.side,
                origin: Origin::here(),
                codec,
                id: LinkId::default(),
                core: Apart(Mutex::new(core)),
                changed: Condvar::new(),
                settled: Condvar::new(),
                wiring,
                crew,
                keeper: Keeper::new(attendant),
                callbacks: Lane::new(parts.config.limits.callback_workers),
                unrefused: Lane::new(1),
                kept_items: KeptItems::new(parts.config.limits.topic_items),
                words: Lane::new(1),
                listeners: parts.listeners,
                dispatch: parts.dispatch,
                tally: parts.tally,
                completing: AtomicUsize::new(0),
                left_alone: AtomicBool::new(false),
                lacks_thread: AtomicBool::new(false),
                config: parts.config,
            }
        })
    }
}
