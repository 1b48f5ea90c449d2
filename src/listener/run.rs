//! The thread at the door: hears who has connected, and lets in those who are peers.
//!
//! Nobody there is waited for: whoever is slow to greet is listened to beside the others, and goes when the time
//! is over, or when too many stand there.

use std::{
    collections::VecDeque,
    io::{self, ErrorKind},
    sync::Arc,
    time::{Duration, Instant},
};

use super::table::{Shared, Stage};
use crate::{
    error::TurnedAway,
    logging::say,
    os::{self, fd::AsFd},
    socket::{Caller, Door, Heard, Token},
    wire::ProtocolError,
};

/// Somebody who has connected and has not greeted so far.
struct Waiting {
    caller: Caller,
    /// When that must have happened.
    due: Option<Instant>,
}

struct Hall<'a> {
    shared: &'a Arc<Shared>,
    door: Option<Door>,
    /// In the order in which they came.
    waiting: VecDeque<Waiting>,
    /// There was no descriptor for another one: until when nobody is accepted.
    pause: Option<Instant>,
}

/// Runs until the listener is gone and the last peer as well.
pub(super) fn run(shared: &Arc<Shared>, door: Door) {
    let mut hall = Hall { shared, door: Some(door), waiting: VecDeque::new(), pause: None };
    loop {
        shared.see_off_the_gone();
        let stage = shared.stage();
        if stage > Stage::Open {
            hall.shut();
        }
        if stage >= Stage::Quitting && shared.is_empty() {
            break;
        }
        if let Err(error) = hall.turn() {
            say!(Warn, "a listener cannot wait: {error}");
            std::thread::sleep(PAUSE);
        }
    }
}

impl Hall<'_> {
    /// Waits for something to happen, and sees to it.
    fn turn(&mut self) -> io::Result<()> {
        let now = Instant::now();
        self.pause = self.pause.filter(|until| *until > now);
        let open = self.door.as_ref().filter(|_| self.pause.is_none());
        let mut descriptors = vec![self.shared.gone.bell.as_fd()];
        descriptors.extend(self.waiting.iter().map(|one| one.caller.as_fd()));
        descriptors.extend(open.map(AsFd::as_fd));
        let due = self.waiting.iter().filter_map(|one| one.due).chain(self.pause).min();
        let ready = os::wait_for_any(&descriptors, due)?;
        if ready[0] {
            self.shared.gone.bell.drain();
        }
        let knocked = open.is_some() && ready.last().is_some_and(|ready| *ready);
        self.hear(&ready[1..]);
        if knocked {
            self.accept();
        }
        Ok(())
    }

    /// Listens to those who have said something, and lets those go who have had their time.
    fn hear(&mut self, ready: &[bool]) {
        let now = Instant::now();
        let before = std::mem::take(&mut self.waiting);
        for (one, ready) in before.into_iter().zip(ready) {
            let late = one.due.is_some_and(|due| due <= now);
            match self.hear_one(one, *ready) {
                Some(one) if late => {
                    self.shared.count_turned_away();
                    if one.caller.is_nape() {
                        one.caller.turn_away(ProtocolError::BadHello("").code());
                    }
                    say!(Debug, "somebody has connected and does not greet");
                }
                Some(one) => self.waiting.push_back(one),
                None => {}
            }
        }
    }

    /// Gives back who has more to say.
    fn hear_one(&self, mut one: Waiting, ready: bool) -> Option<Waiting> {
        if !ready {
            return Some(one);
        }
        let token = Token::of_listener(self.shared.terms.token).theirs;
        match one.caller.listen(self.shared.side.other(), &token) {
            Heard::Part => return Some(one),
            Heard::Greeting => self.shared.let_in(one.caller),
            // Whoever merely looked whether somebody is here.
            Heard::Gone => {}
            Heard::Wrong(error) => {
                self.shared.count_turned_away();
                // What speaks something else would not understand it.
                if one.caller.is_nape() {
                    one.caller.turn_away(error.code());
                }
                say!(Debug, "somebody has connected who is no peer: {error}");
            }
        }
        None
    }

    fn accept(&mut self) {
        let Some(door) = &self.door else { return };
        for _ in 0..AT_A_TIME {
            let caller = match door.accept() {
                Ok(caller) => caller,
                Err(error) => {
                    match error.kind() {
                        ErrorKind::WouldBlock => {}
                        // Gone before it was accepted.
                        ErrorKind::ConnectionAborted => continue,
                        _ => {
                            say!(Warn, "cannot accept one who has connected: {error}");
                            self.pause = Instant::now().checked_add(PAUSE);
                        }
                    }
                    return;
                }
            };
            if caller.credentials().is_some_and(|peer| !self.shared.terms.allow.lets_in(&peer)) {
                self.shared.count_turned_away();
                caller.turn_away(TurnedAway::NotAllowed.code());
                continue;
            }
            // Many who say nothing must not keep out those who would. A peer greets at once.
            if self.waiting.len() >= MOST_WAITING {
                self.shared.count_turned_away();
                self.waiting.pop_front();
            }
            let due = Instant::now().checked_add(self.shared.config.start_timeout);
            // It may have greeted already.
            self.waiting.extend(self.hear_one(Waiting { caller, due }, true));
        }
    }

    /// Lets nobody in any more.
    fn shut(&mut self) {
        let Some(door) = self.door.take() else { return };
        // Those who stand in line are told as well.
        self.waiting.extend(
            std::iter::from_fn(|| door.accept().ok())
                .take(MOST_WAITING)
                .map(|caller| Waiting { caller, due: None }),
        );
        drop(door);
        for one in self.waiting.drain(..) {
            one.caller.turn_away(TurnedAway::GoingAway.code());
        }
        self.shared.enter(Stage::DoorGone);
    }
}

/// How many may have connected without a greeting. The oldest of them makes way for one more.
const MOST_WAITING: usize = 64;
/// How many are accepted before the others are listened to.
const AT_A_TIME: usize = 16;
/// How long to wait for a descriptor.
const PAUSE: Duration = Duration::from_millis(50);
