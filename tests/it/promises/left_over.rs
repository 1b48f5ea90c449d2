//! What the library was given and does not use: when it goes, it may ask the library as well.

use crossbeam_channel::{Sender, unbounded};
use nape::{CallError, Config, Endpoint, Head, LinkState, Neck};
use serde::{Serialize, Serializer};

use crate::{support::Kind, tools::LONG};

on_every_link! {
    p_16_arguments_that_are_refused_may_ask_the_link_when_they_go,
}

/// Arguments that look at their link when they go.
struct Asks(Endpoint, Sender<LinkState>);

impl Serialize for Asks {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_unit()
    }
}

impl Drop for Asks {
    fn drop(&mut self) {
        assert!(!self.0.hang_report().to_string().is_empty());
        self.1.send(self.0.state()).unwrap();
    }
}

/// Red when what is refused is dropped in the machine: then this hangs.
fn p_16_arguments_that_are_refused_may_ask_the_link_when_they_go(kind: Kind) {
    let (tell, told) = unbounded();
    let gone = || told.recv_timeout(LONG).unwrap();
    // There is no room.
    let (head, neck) =
        kind.ends_with(Head::builder().configure(|it: Config| it.send_queue(1)), Neck::builder());
    let asks = || head.api("a").action("x", Asks(head.endpoint().clone(), tell.clone()));
    head.api("a").action("x", ()).fire().unwrap();
    asks().fire().unwrap_err();
    asks().start::<()>().unwrap_err();
    asks().open::<()>().unwrap_err();
    (0..3).for_each(|_| assert_eq!(gone(), LinkState::Starting));
    // It is over.
    drop(neck);
    assert_eq!(head.wait_closed(LONG), LinkState::Closed);
    assert!(matches!(asks().call::<()>(), Err(CallError::Closed { .. })));
    assert!(matches!(asks().start::<()>().unwrap_err(), CallError::Closed { .. }));
    assert!(matches!(asks().fire(), Err(CallError::Closed { .. })));
    assert!(matches!(asks().open::<()>().unwrap_err(), CallError::Closed { .. }));
    (0..4).for_each(|_| assert_eq!(gone(), LinkState::Closed));
}
