//! Whether the other side still answers and still reads: a pure machine on a time that it is told.
//!
//! Time in which this process itself did not run says nothing about the other side. So a wait is cut into
//! steps, and a look that comes late counts as one step, however late it is.

use std::time::{Duration, Instant};

use super::{outbox::Draft, state::State};
use crate::{
    config::Config,
    error::{CloseReason, Silence},
    wire::Kind,
};

#[derive(Debug)]
pub(crate) struct Pulse {
    /// How long the other side may be silent before it is asked, and how long it may then take.
    beat: Option<(Duration, Duration)>,
    /// How long it may read nothing while something waits for it.
    write_stall: Option<Duration>,
    /// When anything came last.
    heard: Option<Instant>,
    asked: Option<Patience>,
    stuck: Option<Patience>,
    pings: u64,
}

/// A wait in steps.
#[derive(Debug)]
struct Patience {
    step: Duration,
    taken: u32,
    /// When the next one is over.
    next: Instant,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Diagnosis {
    Fine,
    /// Ask, with this id.
    Ask(u64),
    Unresponsive(Silence, Duration),
}

impl Pulse {
    pub(crate) fn new(config: &Config) -> Pulse {
        let (beat, write_stall) = (config.heartbeat, config.write_stall.limit());
        Pulse { beat, write_stall, heard: None, asked: None, stuck: None, pings: 0 }
    }

    /// Nothing is looked at.
    pub(crate) fn none() -> Pulse {
        Pulse { beat: None, write_stall: None, heard: None, asked: None, stuck: None, pings: 0 }
    }

    /// Something came.
    pub(crate) fn hear(&mut self, now: Instant) {
        if self.beat.is_some() {
            self.heard = Some(now);
            self.asked = None;
        }
    }

    /// The other side has read something.
    pub(crate) fn move_on(&mut self) {
        self.stuck = None;
    }

    /// Whether [`Pulse::get_stuck`] wants to know that something waits and nothing may leave.
    pub(crate) fn is_unaware(&self) -> bool {
        self.stuck.is_none() && self.write_stall.is_some()
    }

    /// Something waits, and nothing may leave until the other side reads.
    pub(crate) fn get_stuck(&mut self, now: Instant) {
        self.stuck = self.write_stall.map(|limit| Patience::new(limit, now));
    }

    /// When to look next.
    pub(crate) fn due(&self) -> Option<Instant> {
        let beat = match &self.asked {
            Some(asked) => Some(asked.next),
            None => self.heard.zip(self.beat).and_then(|(at, (interval, _))| at.checked_add(interval)),
        };
        beat.into_iter().chain(self.stuck.as_ref().map(|stuck| stuck.next)).min()
    }

    /// Looks. `waits`: something still does, for which there is no room.
    pub(crate) fn look(&mut self, now: Instant, waits: bool) -> Diagnosis {
        if !waits {
            self.stuck = None;
        }
        if let (Some(stuck), Some(limit)) = (&mut self.stuck, self.write_stall)
            && stuck.is_over(now)
        {
            return Diagnosis::Unresponsive(Silence::Read, limit);
        }
        let Some((interval, limit)) = self.beat else { return Diagnosis::Fine };
        match &mut self.asked {
            Some(asked) => match asked.is_over(now) {
                true => Diagnosis::Unresponsive(Silence::Answer, limit),
                false => Diagnosis::Fine,
            },
            None if self.heard.is_some_and(|at| now.saturating_duration_since(at) >= interval) => {
                self.asked = Some(Patience::new(limit, now));
                self.pings += 1;
                Diagnosis::Ask(self.pings)
            }
            _ => Diagnosis::Fine,
        }
    }
}

/// What the link as a machine makes of it.
impl<W: Clone> State<W> {
    /// Something has come from the other side.
    pub(crate) fn hear(&mut self, now: Instant) {
        self.pulse.hear(now);
    }

    /// When to look next whether the other side is well.
    pub(crate) fn pulse_due(&self) -> Option<Instant> {
        self.pulse.due().filter(|_| !self.is_closed())
    }

    /// Whether something has come to wait just now that can leave only when the other side reads.
    pub(crate) fn is_newly_stuck(&self) -> bool {
        self.pulse.is_unaware() && !self.is_closed() && self.outbox.is_stuck()
    }

    /// From now on it has to read in time. Says when to look.
    pub(crate) fn get_stuck(&mut self, now: Instant) -> Option<Instant> {
        self.pulse.get_stuck(now);
        self.pulse_due()
    }

    /// Looks whether the other side is well, asks it if that is not clear, and says why the link ends if it is
    /// not.
    pub(crate) fn feel_pulse(&mut self, now: Instant) -> Option<CloseReason> {
        if self.is_closed() {
            return None;
        }
        match self.pulse.look(now, self.outbox.is_stuck()) {
            Diagnosis::Fine => None,
            Diagnosis::Ask(id) => {
                self.outbox.push_control(Draft::bare(Kind::Ping, id));
                None
            }
            Diagnosis::Unresponsive(what, after) => Some(CloseReason::Unresponsive { what, after }),
        }
    }
}

impl Patience {
    fn new(limit: Duration, now: Instant) -> Patience {
        let step = limit / STEPS;
        Patience { step, taken: 0, next: after(now, step) }
    }

    fn is_over(&mut self, now: Instant) -> bool {
        if now >= self.next {
            self.taken += 1;
            self.next = after(now, self.step);
        }
        self.taken >= STEPS
    }
}

/// A time too long to be counted is as good as a day, after which it is looked at again.
fn after(now: Instant, step: Duration) -> Instant {
    now.checked_add(step).unwrap_or(now + Duration::from_secs(86_400))
}

/// Of our own missed time, one part in so many counts against the other side.
const STEPS: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn pulse() -> (Pulse, Instant) {
        let config = Config::new().heartbeat(SECOND, 4 * SECOND).write_stall(8 * SECOND);
        let mut pulse = Pulse::new(&config);
        assert_eq!(pulse.due(), None, "it has not even greeted");
        let now = Instant::now();
        pulse.hear(now);
        (pulse, now)
    }

    /// Looks whenever it is due, until there is something to do.
    fn until_news(pulse: &mut Pulse, waits: bool) -> (Diagnosis, Instant) {
        loop {
            let at = pulse.due().unwrap();
            match pulse.look(at, waits) {
                Diagnosis::Fine => {}
                news => return (news, at),
            }
        }
    }

    #[test]
    fn p_31_silence_is_asked_and_then_given_up() {
        let (mut pulse, start) = pulse();
        assert_eq!(pulse.look(start + SECOND / 2, false), Diagnosis::Fine);
        assert_eq!(until_news(&mut pulse, false), (Diagnosis::Ask(1), start + SECOND));
        let end = Diagnosis::Unresponsive(Silence::Answer, 4 * SECOND);
        assert_eq!(until_news(&mut pulse, false), (end, start + 5 * SECOND));
    }

    /// Red when what comes is not taken note of.
    #[test]
    fn p_31_whatever_comes_is_an_answer() {
        let (mut pulse, mut now) = pulse();
        for ping in 1..10 {
            let (news, at) = until_news(&mut pulse, false);
            assert_eq!(news, Diagnosis::Ask(ping));
            now = at + 3 * SECOND;
            assert_eq!(pulse.look(now, false), Diagnosis::Fine);
            pulse.hear(now);
            assert_eq!(pulse.due(), Some(now + SECOND));
        }
        // A side that never stops to send is never asked.
        for _ in 0..100 {
            now += SECOND / 2;
            pulse.hear(now);
            assert_eq!(pulse.look(now, false), Diagnosis::Fine);
        }
    }

    #[test]
    fn p_31_time_that_we_missed_ourselves_does_not_count() {
        let (mut pulse, start) = pulse();
        // Stopped before it asked, and then after that again and again.
        let mut now = start + 1000 * SECOND;
        assert_eq!(pulse.look(now, false), Diagnosis::Ask(1));
        for _ in 0..3 {
            now += 1000 * SECOND;
            assert_eq!(pulse.look(now, false), Diagnosis::Fine);
        }
        pulse.hear(now);
        assert_eq!(pulse.look(now, false), Diagnosis::Fine);
    }

    #[test]
    fn p_17_a_peer_that_reads_nothing_is_given_up() {
        let (mut pulse, start) = pulse();
        assert!(pulse.is_unaware());
        pulse.get_stuck(start);
        assert!(!pulse.is_unaware());
        // It answers pings, and it reads nothing: its reader would do both.
        let (end, now) = loop {
            let now = pulse.due().unwrap();
            pulse.hear(now);
            match pulse.look(now, true) {
                Diagnosis::Fine => {}
                end => break (end, now),
            }
        };
        assert_eq!((end, now), (Diagnosis::Unresponsive(Silence::Read, 8 * SECOND), start + 8 * SECOND));
    }

    #[test]
    fn p_17_a_peer_that_reads_slowly_is_not() {
        let (mut pulse, mut now) = pulse();
        for _ in 0..10 {
            pulse.get_stuck(now);
            now += 7 * SECOND;
            pulse.hear(now);
            assert_eq!(pulse.look(now, true), Diagnosis::Fine);
            pulse.move_on();
        }
        pulse.get_stuck(now);
        assert_eq!(pulse.look(now + 100 * SECOND, false), Diagnosis::Ask(1), "nothing waits any more");
        assert!(pulse.is_unaware());
    }

    #[test]
    fn nothing_is_looked_at_unless_it_was_asked_for() {
        let mut pulse = Pulse::new(&Config::new().write_stall(crate::config::Timeout::Never));
        pulse.hear(Instant::now());
        assert_eq!((pulse.due(), pulse.is_unaware()), (None, false));
    }
}
