//! Packets out of a lane, and the waiting for them.

use std::{
    io,
    time::{Duration, Instant},
};

use super::{
    bell::OwnBell,
    lane::{Lane, RingCorrupt},
    patience::{self, Patience},
    ring::Consumer,
    sleep,
};
use crate::{
    os::give_way,
    sync::modelled::Ordering,
    transport::{FrameReceiver, Received},
    wire::FRAME_LIMIT,
};

/// The receiving half.
pub(super) struct ShmReceiver<L: Lane> {
    ring: Consumer<L>,
    own: OwnBell,
    /// A packet of which not all has come.
    begun: Option<Begun>,
    /// A nudge was taken, and is given out when there is no packet left that was there before it.
    nudged: bool,
    /// What was seen once stays, whatever the peer writes there later.
    ended: bool,
    patience: Patience,
    /// Whether it is worth spinning at all.
    soon: bool,
    alarms: FalseAlarms,
    /// About so many bytes of small packets are handed out together.
    joined: usize,
}

/// The part of a packet that has come.
struct Begun {
    packet: Vec<u8>,
    filled: usize,
}

impl<L: Lane> ShmReceiver<L> {
    pub(super) fn new(lane: L, own: OwnBell) -> ShmReceiver<L> {
        ShmReceiver {
            ring: Consumer::new(lane),
            own,
            begun: None,
            nudged: false,
            ended: false,
            patience: Patience::new(),
            soon: true,
            alarms: FalseAlarms::default(),
            joined: JOINED,
        }
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn never_spin(&mut self) {
        self.patience = Patience::none();
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn never_join(&mut self) {
        self.joined = 0;
    }

    pub(super) fn receive_until(&mut self, deadline: Option<Instant>) -> io::Result<Received> {
        match self.look()? {
            Some(found) => Ok(found),
            None => self.wait(deadline),
        }
    }

    /// What there is, if there is something.
    pub(super) fn look(&mut self) -> io::Result<Option<Received>> {
        // Before the ring: what was sent before the nudge or the end is seen in the ring then.
        self.nudged |= self.own.take_nudge();
        self.ended |= self.own.is_ended() || self.ring.lane.control().is_hung_up();
        if let Some(packet) = self.next_packet()? {
            return Ok(Some(Received::Packet(packet)));
        }
        if std::mem::take(&mut self.nudged) {
            return Ok(Some(Received::Nudge));
        }
        Ok(self.ended.then_some(Received::End))
    }

    /// The next packet, if all of it is there, and small ones behind it that are there already. What has come of
    /// one is taken out of the ring in any case.
    fn next_packet(&mut self) -> Result<Option<Vec<u8>>, RingCorrupt> {
        if self.begun.is_none() {
            let Some(header) = self.ring.take_word()? else { return Ok(None) };
            self.begun = Some(Begun { packet: vec![0; length(header)?], filled: 0 });
        }
        let Some(Begun { packet, filled }) = &mut self.begun else { return Ok(None) };
        *filled += self.ring.take(&mut packet[*filled..])?;
        let is_whole = *filled == packet.len();
        let mut whole = self.begun.take_if(|_| is_whole).map(|begun| begun.packet);
        if let Some(packet) = &mut whole {
            self.join_more(packet)?;
        }
        self.ring.release();
        Ok(whole)
    }

    /// Appends the packets that wait behind this one, as long as they are few and small: what comes in one piece
    /// is handled at once, with one look at the clock and the locks of a link.
    fn join_more(&mut self, packet: &mut Vec<u8>) -> Result<(), RingCorrupt> {
        while packet.len() < self.joined
            && let Some(header) = self.ring.take_word()?
        {
            let (start, len) = (packet.len(), length(header)?);
            if len > self.joined {
                self.begun = Some(Begun { packet: vec![0; len], filled: 0 });
                return Ok(());
            }
            packet.resize(start + len, 0);
            let filled = self.ring.take(&mut packet[start..])?;
            if filled < len {
                self.begun = Some(Begun { packet: packet.split_off(start), filled });
                return Ok(());
            }
        }
        Ok(())
    }

    /// Waits for whatever comes first.
    fn wait(&mut self, deadline: Option<Instant>) -> io::Result<Received> {
        let control = self.ring.lane.control();
        let theirs = control.producer.core.load(Ordering::Relaxed);
        let ours = if self.soon { sleep::current_core() } else { 0 };
        let spin = if self.soon { self.patience.spin(ours, theirs) } else { Duration::ZERO };
        // The usual case while calls follow each other, and one that does not even take a look at the clock.
        if !spin.is_zero()
            && patience::spin_once(|| self.has_news())
            && let Some(found) = self.look()?
        {
            self.patience.learn(spin, Duration::ZERO);
            return Ok(found);
        }
        if self.soon
            && self.patience.gives_way(ours, theirs)
            && give_way(1, || self.has_news())
            && let Some(found) = self.look()?
        {
            return Ok(found);
        }
        let began = Instant::now();
        let found = self.spin_and_sleep(began, spin, deadline);
        self.patience.learn(spin, began.elapsed());
        found
    }

    fn spin_and_sleep(
        &mut self,
        began: Instant,
        spin: Duration,
        deadline: Option<Instant>,
    ) -> io::Result<Received> {
        let until = deadline.unwrap_or(began + spin).min(began + spin);
        if !spin.is_zero()
            && patience::spin(until, || self.has_news())
            && let Some(found) = self.look()?
        {
            return Ok(found);
        }
        loop {
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Ok(self.look()?.unwrap_or(Received::Deadline));
            }
            let was_rung = self.own.doze(self.ring.lane.control(), deadline, || self.has_news())?;
            let before = self.ring.n_taken();
            match self.look()? {
                Some(found) => return Ok(found),
                None if was_rung && self.ring.n_taken() == before => self.alarms.count()?,
                None => {}
            }
        }
    }

    /// Whether a look would find something, or a part of something.
    fn has_news(&self) -> bool {
        self.ring.has_news() || self.own.is_rung() || self.ring.lane.control().is_hung_up()
    }
}

impl<L: Lane + Send> FrameReceiver for ShmReceiver<L> {
    fn receive(&mut self, deadline: Option<Instant>) -> io::Result<Received> {
        self.receive_until(deadline)
    }

    fn try_receive(&mut self) -> io::Result<Option<Received>> {
        self.look()
    }

    fn expect_soon(&mut self, soon: bool) {
        self.soon = soon;
    }
}

impl<L: Lane> Drop for ShmReceiver<L> {
    fn drop(&mut self) {
        self.ring.lane.control().turn_deaf();
    }
}

/// Wake-ups for nothing. An honest peer now and then wakes somebody who has just seen everything; one that
/// does nothing else would have us run in circles for it.
#[derive(Debug, Default)]
struct FalseAlarms {
    n: u32,
    since: Option<Instant>,
}

impl FalseAlarms {
    fn count(&mut self) -> Result<(), RingCorrupt> {
        self.n += 1;
        let since = *self.since.get_or_insert_with(Instant::now);
        if self.n < MOST_FALSE_ALARMS {
            return Ok(());
        }
        if since.elapsed() < PER {
            return Err(RingCorrupt("it wakes us for nothing all the time"));
        }
        *self = FalseAlarms::default();
        Ok(())
    }
}

/// The length that a packet's first word stands for.
fn length(header: u64) -> Result<usize, RingCorrupt> {
    let len = usize::try_from(header).unwrap_or(usize::MAX);
    if (1..=FRAME_LIMIT).contains(&len) {
        Ok(len)
    } else {
        Err(RingCorrupt("a packet has an impossible length"))
    }
}

/// With more, a batch would keep its last call waiting for longer than it saves.
const JOINED: usize = 2048;
/// So many wake-ups for nothing in less than this time are too many.
const MOST_FALSE_ALARMS: u32 = 1000;
const PER: Duration = Duration::from_secs(1);
