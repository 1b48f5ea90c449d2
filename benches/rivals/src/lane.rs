//! Work over anything that sends messages one way and answers the other.

use crate::{
    contender::Body,
    work::{Args, IN_FLIGHT, Message, Work},
};

/// One end of a connection: what leaves it and what arrives.
pub(crate) trait Lane<Out, In> {
    /// Says whether the other end is still there.
    fn send(&mut self, message: Out) -> bool;
    /// Blocks; `None` when the other end is gone.
    fn receive(&mut self) -> Option<In>;
    /// Raw bytes, as they are.
    fn send_bytes(&mut self, bytes: &[u8]) -> bool;
    /// Shows the bytes that came; false when the other end is gone.
    fn receive_bytes(&mut self, show: &dyn Fn(&[u8])) -> bool;
    /// Sends the bytes that come back as they are; false when the other end is gone.
    fn echo_bytes(&mut self) -> bool;
}

/// What the caller does over one lane.
pub(crate) fn body(mut lane: impl Lane<Message, u64> + 'static, work: Work) -> Body {
    match work {
        Work::Call | Work::Silence => Body::Call(Box::new(move |i| call(&mut lane, i))),
        Work::InFlight => Body::Batch(Box::new(move |n| in_flight(&mut lane, n))),
        Work::Events => Body::Batch(Box::new(move |n| events(&mut lane, n))),
        Work::Echo1 | Work::Echo16 => {
            Body::Echo(Box::new(move |bytes, show| lane.send_bytes(bytes) && lane.receive_bytes(show)))
        }
        Work::Threads => panic!("one lane cannot be shared"),
    }
}

/// One call.
pub(crate) fn call(lane: &mut impl Lane<Message, u64>, i: u64) -> Option<u64> {
    lane.send(Message::Call(Args::number(i)));
    lane.receive()
}

/// What the callee does: answers until the caller is gone.
pub(crate) fn answer(mut lane: impl Lane<u64, Message>, work: Work) {
    if work.bytes().is_some() {
        while lane.echo_bytes() {}
        return;
    }
    let mut counted = 0;
    while let Some(message) = lane.receive() {
        if let Some(answer) = message.answer(&mut counted)
            && !lane.send(answer)
        {
            break;
        }
    }
}

/// Answers come in the order of the calls here.
fn in_flight(lane: &mut impl Lane<Message, u64>, n: u64) -> u64 {
    for i in 0..n {
        lane.send(Message::Call(Args::number(i)));
        if i >= IN_FLIGHT - 1 {
            assert_eq!(lane.receive(), Some(Args::expected(i + 1 - IN_FLIGHT)), "a wrong answer");
        }
    }
    for i in n.saturating_sub(IN_FLIGHT - 1)..n {
        assert_eq!(lane.receive(), Some(Args::expected(i)), "a wrong answer");
    }
    0
}

/// Nothing is lost on the way, so that one question behind the events is enough.
fn events(lane: &mut impl Lane<Message, u64>, n: u64) -> u64 {
    let mut count = || {
        lane.send(Message::Count);
        lane.receive().expect("the callee answers")
    };
    let before = count();
    for i in 0..n {
        lane.send(Message::Event(Args::number(i)));
    }
    lane.send(Message::Count);
    let after = lane.receive().expect("the callee answers");
    n - (after - before)
}
