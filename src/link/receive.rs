//! What each kind of frame does to the machine.

use std::time::{Duration, Instant};

use super::{
    budget::{OF_A_CALL, OF_A_STREAM},
    inbox::{Body, Frame, Joined},
    message::{Incoming, Lost},
    outbox::Draft,
    state::{Action, State},
    stream::Ends,
    token::CancelToken,
};
use crate::{
    config::most_refusals,
    error::{CallError, CloseReason, Rejection},
    wire::{
        Bye, CallHead, Codec, EventHead, Fault, FaultRecord, Header, Hello, Hold, Kind, OpenHead, Path,
        Payload, ProtocolError, TransactionId,
    },
};

/// Takes one frame whose header is in order.
pub(super) fn frame<W: Clone>(
    state: &mut State<W>,
    header: &Header,
    frame: Frame<'_>,
    now: Instant,
    actions: &mut Vec<Action<W>>,
) -> Result<(), ProtocolError> {
    // Who is turned away at the door is told so without a greeting.
    if !state.greeted && !matches!(header.kind, Kind::Hello | Kind::Bye) {
        return Err(ProtocolError::BadHello("something else came before it"));
    }
    if !matches!(header.kind, Kind::Hello | Kind::Bye) {
        state.note_record(actions);
    }
    if matches!(header.kind, Kind::Call | Kind::Open | Kind::Event) && !header.flags.continues {
        check_start(state, header)?;
    }
    if matches!(header.kind, Kind::Reply | Kind::Fault) {
        // At the first part already: nothing is kept for a call that was never made.
        state.calls.answerable(header.id)?;
    }
    match state.inbox.take(header, frame, now)? {
        Joined::Nothing => Ok(()),
        Joined::Whole(body) => message(state, header, body, now, actions),
        Joined::Refused(seen) => no_room(state, header, seen, now, actions),
    }
}

fn message<W: Clone>(
    state: &mut State<W>,
    header: &Header,
    body: Body,
    now: Instant,
    actions: &mut Vec<Action<W>>,
) -> Result<(), ProtocolError> {
    match header.kind {
        Kind::Hello => hello(state, &body, actions),
        Kind::Ready => ready(state, actions),
        Kind::Call => call(state, header.id, body, None, now, actions),
        Kind::Open => {
            let head = OpenHead::read(body.bytes())?;
            let body = Body { start: body.start + OpenHead::LEN, ..body };
            call(state, header.id, body, Some(head), now, actions)
        }
        Kind::Event => event(state, body, actions),
        Kind::Reply => answer(state, header.id, actions, |_| {
            let Body { buffer, start, hold } = body;
            Ok(Ok(Payload::held_by(buffer, start, hold)))
        }),
        Kind::Fault => answer(state, header.id, actions, |state| {
            let codec = state.codec.unwrap_or_default();
            FaultRecord::read(body.bytes()).map(|record| Err(received(record, codec, body.hold)))
        }),
        Kind::Cancel => cancel(state, header.id, now, actions),
        Kind::Credit => Ok(()),
        Kind::StreamItem => state.handle_items(header.id, body, now, actions),
        Kind::StreamEnd => state.handle_end(header.id, now, actions),
        Kind::StreamQuota => state.handle_quota(header.id, &body, now, actions),
        Kind::StreamStop => state.handle_stop(header.id, now, actions),
        Kind::Ping => ping(state, header.id, now),
        Kind::Pong => state.budget.pay("pongs", now),
        Kind::GoAway => go_away(state, now, actions),
        Kind::Bye => bye(state, &body, actions),
    }
}

/// What becomes of a message for which there is no room. What has been seen of it may end anywhere.
fn no_room<W: Clone>(
    state: &mut State<W>,
    header: &Header,
    seen: Body,
    now: Instant,
    actions: &mut Vec<Action<W>>,
) -> Result<(), ProtocolError> {
    let detail = state.inbox.ledger().is_full();
    match header.kind {
        Kind::Call | Kind::Open => {
            let head = if header.kind == Kind::Open { OpenHead::LEN } else { 0 };
            let seen = CallHead::read(seen.bytes().get(head..).unwrap_or_default());
            let path = seen.ok().and_then(|(head, _)| state.recent_paths.path(head.path).ok());
            let path = path.unwrap_or_else(Path::root);
            refuse(state, header.id, Rejection::Busy { path, detail: detail.into() })?;
        }
        Kind::Event => {
            let is_whole = !header.flags.more && !header.flags.continues;
            lose_event(state, seen, is_whole, detail, actions);
            if is_whole {
                // It has cost no more than one that is handled.
                return Ok(());
            }
        }
        Kind::Reply | Kind::Fault => {
            let text = format!("its answer came, and there was no room for it: {detail}");
            return answer(state, header.id, actions, |_| Ok(Err(Fault::new(text).into())));
        }
        Kind::StreamItem => {
            let text = format!("items came, and there was no room for them: {detail}");
            return state.lose_items(header.id, Fault::new(text), now, actions);
        }
        _ => {}
    }
    state.budget.pay("messages beyond the room for them", now)
}

fn hello<W: Clone>(
    state: &mut State<W>,
    body: &Body,
    actions: &mut Vec<Action<W>>,
) -> Result<(), ProtocolError> {
    if state.greeted {
        return Err(ProtocolError::UnexpectedHello);
    }
    let theirs = Hello::read(body.bytes(), state.side.other(), &state.tokens.theirs)?;
    let codec = state.codecs.agree(&theirs)?;
    state.agree_on_filters(&theirs, body.bytes())?;
    state.greeted = true;
    state.agree_on(codec);
    state.note_greeting(codec, state.tokens.number ^ theirs.number, actions);
    Ok(())
}

fn ready<W: Clone>(state: &mut State<W>, actions: &mut Vec<Action<W>>) -> Result<(), ProtocolError> {
    if state.peer_ready {
        return Err(ProtocolError::OutOfPlace("a second ready"));
    }
    state.handle_ready();
    actions.push(Action::PeerReady);
    Ok(())
}

fn go_away<W: Clone>(
    state: &mut State<W>,
    now: Instant,
    actions: &mut Vec<Action<W>>,
) -> Result<(), ProtocolError> {
    if !state.handle_go_away() {
        return state.budget.pay("go-aways", now);
    }
    actions.push(Action::PeerGoingAway);
    Ok(())
}

/// Checks at its first frame whether a call or an event may come, and its id.
fn check_start<W>(state: &mut State<W>, header: &Header) -> Result<(), ProtocolError> {
    // Before, a hook may still judge the peer, and not everything need be attached.
    if !state.ready {
        return Err(ProtocolError::OutOfPlace("a call before this side is ready"));
    }
    let id = TransactionId::from_bits(header.id).filter(|id| id.side() != state.side);
    let id = id.ok_or(ProtocolError::BadId(header.id))?;
    let open = |kind| state.inbox.is_open(kind, header.id);
    // Of a call that is answered, neither the items nor the answer may have left altogether.
    let leaving = state.outbox.outlets.contains(header.id) || state.outbox.is_cutting_answer(header.id);
    let in_use = state.served.contains_key(&id) || leaving;
    if in_use || open(Kind::Call) || open(Kind::Open) || open(Kind::Event) {
        return Err(ProtocolError::DuplicateId(header.id));
    }
    state.last_seen = state.last_seen.max(id.counter());
    Ok(())
}

fn call<W: Clone>(
    state: &mut State<W>,
    bits: u64,
    body: Body,
    opening: Option<OpenHead>,
    now: Instant,
    actions: &mut Vec<Action<W>>,
) -> Result<(), ProtocolError> {
    let (head, len) = CallHead::read(body.bytes())?;
    let path = state.recent_paths.path(head.path).map_err(ProtocolError::BadPath)?;
    let incoming = Incoming {
        id: TransactionId::from_bits(bits),
        path,
        parent: head.parent,
        deadline: head.remaining.and_then(|micros| now.checked_add(Duration::from_micros(micros))),
        attempt: head.attempt,
        shape: head.shape,
        cancel: CancelToken::default(),
        caller: None,
        ends: Ends::default(),
        here: false,
        payload: Payload::from_tail(Vec::new(), 0),
    };
    if state.ending {
        // The last words are on their way, and say more to the caller than a refusal.
        return Ok(());
    }
    if let Some(why) = refusal(state, &incoming, head.remaining) {
        let beyond = matches!(why, Rejection::Busy { .. });
        refuse(state, bits, why)?;
        if beyond {
            return state.budget.pay("calls beyond the limit", now);
        }
        state.budget.earn(OF_A_CALL);
        return Ok(());
    }
    state.budget.earn(if opening.is_some() { OF_A_STREAM } else { OF_A_CALL });
    let start = body.start + len;
    let payload = Payload::held_by(body.buffer, start, body.hold);
    let mut incoming = Incoming { payload, ..incoming };
    if let (Some(id), Some(head)) = (incoming.id, opening) {
        incoming.ends = state.serve_stream(id, head, &incoming);
    }
    let ancestor = state.serve(&incoming, now);
    actions.push(Action::Dispatch(incoming, ancestor));
    Ok(())
}

/// Why a call is not even shown to the APIs.
fn refusal<W>(state: &State<W>, incoming: &Incoming, remaining: Option<u64>) -> Option<Rejection> {
    if state.going_away {
        return Some(Rejection::ShuttingDown);
    }
    if remaining == Some(0) {
        return Some(Rejection::Expired);
    }
    // An answer that the other side has not read is one that it waits for.
    let unanswered = state.served.len() + state.outbox.n_answers();
    (unanswered >= state.served_limit).then(|| Rejection::Busy {
        path: incoming.path.clone(),
        detail: format!("{} calls are unanswered, which is the limit of the link", state.served_limit).into(),
    })
}

fn refuse<W>(state: &mut State<W>, bits: u64, why: Rejection) -> Result<(), ProtocolError> {
    if state.outbox.n_answers() >= most_refusals(state.served_limit) {
        return Err(ProtocolError::Flood("calls whose answers are not read"));
    }
    let record = CallError::Rejected(why).to_record(state.codec.unwrap_or_default());
    state.outbox.push_answer(Draft::with(Kind::Fault, bits, |body| record.write(body)));
    Ok(())
}

fn event<W>(state: &mut State<W>, body: Body, actions: &mut Vec<Action<W>>) -> Result<(), ProtocolError> {
    let (head, len) = EventHead::read(body.bytes())?;
    let path = state.recent_paths.path(head.path).map_err(ProtocolError::BadPath)?;
    let (shape, start) = (head.shape, body.start + len);
    let payload = Payload::held_by(body.buffer, start, body.hold);
    actions.push(Action::Dispatch(Incoming::event(path, shape, payload), None));
    Ok(())
}

/// An event for which there is no room. Some are taken all the same, by whoever keeps nothing of them.
fn lose_event<W>(
    state: &mut State<W>,
    seen: Body,
    is_whole: bool,
    detail: Box<str>,
    actions: &mut Vec<Action<W>>,
) {
    let head = EventHead::read(seen.bytes()).ok();
    let head = head.and_then(|(head, len)| Some((state.recent_paths.path(head.path).ok()?, head.shape, len)));
    let is_whole = is_whole && head.is_some();
    let (path, shape, len) = head.unwrap_or_else(|| (Path::root(), 0, 0));
    let why = Rejection::Busy { path: path.clone(), detail: detail.into() };
    let event = Incoming::event(path, shape, Payload::from_tail(seen.buffer, seen.start + len));
    actions.push(Action::EventLost(Box::new(Lost { event, is_whole, why })));
}

fn answer<W: Clone>(
    state: &mut State<W>,
    bits: u64,
    actions: &mut Vec<Action<W>>,
    outcome: impl FnOnce(&State<W>) -> Result<Result<Payload, CallError>, ProtocolError>,
) -> Result<(), ProtocolError> {
    let outcome = outcome(state)?;
    actions.push(match state.handle_answer(bits)? {
        Some(waiter) => Action::Complete(waiter, outcome),
        None => Action::LateReply,
    });
    Ok(())
}

/// A failure as a peer may report it: only what can come from its side of the link.
fn received(record: FaultRecord, codec: Codec, hold: Option<Hold>) -> CallError {
    match CallError::from_record(record, codec) {
        CallError::Fault(fault) => CallError::Fault(fault.held_by(hold)),
        end @ (CallError::Rejected(_) | CallError::NoAnswer) => end,
        // A peer cannot tell us that our own deadline passed or that our link is closed.
        other => CallError::Fault(other.into()),
    }
}

fn cancel<W: Clone>(
    state: &mut State<W>,
    bits: u64,
    now: Instant,
    actions: &mut Vec<Action<W>>,
) -> Result<(), ProtocolError> {
    state.budget.pay("cancels", now)?;
    // Should the call be on its way still, no more of it comes.
    state.inbox.discard(Kind::Call, bits);
    state.inbox.discard(Kind::Open, bits);
    let id = TransactionId::from_bits(bits).filter(|id| id.side() != state.side);
    if let Some((token, ends)) = id.and_then(|id| state.handle_cancel(id)) {
        actions.push(Action::Cancelled(token, ends));
    }
    Ok(())
}

fn ping<W>(state: &mut State<W>, id: u64, now: Instant) -> Result<(), ProtocolError> {
    state.budget.pay("pings", now)?;
    if state.outbox.n_pongs() >= MAX_PONGS {
        return Err(ProtocolError::Flood("pings that are not read"));
    }
    state.outbox.push_control(Draft::bare(Kind::Pong, id));
    Ok(())
}

fn bye<W: Clone>(
    state: &mut State<W>,
    body: &Body,
    actions: &mut Vec<Action<W>>,
) -> Result<(), ProtocolError> {
    let reason = match Bye::read(body.bytes())?.code {
        0 if !state.greeted => return Err(ProtocolError::BadHello("something else came before it")),
        0 => CloseReason::Peer,
        code => CloseReason::told_by(code),
    };
    state.handle_bye();
    actions.push(Action::Close(reason));
    Ok(())
}

/// How many answers to pings may wait for a peer that does not read them.
const MAX_PONGS: usize = 64;
