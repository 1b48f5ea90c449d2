//! The table against a list in which one looks for everything.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Op {
    Issue,
    Begin(Option<u64>),
    Sent(usize),
    End(usize),
    Answered(usize),
    Expire(u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        1 => Just(Op::Issue),
        4 => proptest::option::of(0..50u64).prop_map(Op::Begin),
        3 => (0..40usize).prop_map(Op::Sent),
        2 => (0..40usize).prop_map(Op::End),
        3 => (0..40usize).prop_map(Op::Answered),
        2 => (0..20u64).prop_map(Op::Expire),
    ]
}

/// What the naive list knows of a call, at the place of its counter less one.
#[derive(Clone, Debug)]
struct Entry {
    waiter: u32,
    timer: Option<u64>,
    sent: bool,
}

/// The manager and the list, and a clock in milliseconds.
struct Both {
    side: Side,
    table: TransactionManager<u32>,
    list: Vec<Option<Entry>>,
    start: Instant,
    now: u64,
}

impl Both {
    fn at(&self, millis: u64) -> Instant {
        self.start + Duration::from_millis(millis)
    }

    fn run(&mut self, op: &Op) {
        match *op {
            Op::Issue => {
                self.table.issue();
                self.list.push(None);
            }
            Op::Begin(after) => self.begin(after),
            Op::Sent(index) => {
                self.table.mark_sent(self.id(index));
                if let Some(Some(entry)) = self.list.get_mut(index) {
                    entry.sent = true;
                }
            }
            Op::End(index) => {
                let ended = self.table.end(self.id(index)).map(|pending| pending.waiter);
                assert_eq!(ended, self.take(index).map(|entry| entry.waiter));
            }
            Op::Answered(index) => self.answered(index),
            Op::Expire(millis) => self.expire(millis),
        }
    }

    fn id(&self, index: usize) -> TransactionId {
        TransactionId::new(self.side, index as u64 + 1)
    }

    fn take(&mut self, index: usize) -> Option<Entry> {
        self.list.get_mut(index)?.take()
    }

    fn begin(&mut self, after: Option<u64>) {
        let (waiter, timer) = (self.list.len() as u32, after.map(|after| self.now + after));
        let id = self.table.begin(waiter, timer.map(|millis| self.at(millis)));
        assert_eq!(id, self.id(self.list.len()));
        self.list.push(Some(Entry { waiter, timer, sent: false }));
    }

    fn answered(&mut self, index: usize) {
        let bits = self.id(index).to_bits();
        let result = self.table.answered(bits).map(|found| found.map(|(_, pending)| pending.waiter));
        let expected = match self.list.get(index) {
            None => Err(ProtocolError::UnknownId(bits)),
            Some(Some(entry)) if !entry.sent => Err(ProtocolError::UnknownId(bits)),
            Some(_) => Ok(self.take(index).map(|entry| entry.waiter)),
        };
        assert_eq!(result, expected);
    }

    fn expire(&mut self, millis: u64) {
        self.now += millis;
        let mut late: Vec<(u64, u32)> = Vec::new();
        for entry in &mut self.list {
            let due = entry.as_ref().and_then(|entry| entry.timer).filter(|timer| *timer <= self.now);
            late.extend(due.and_then(|timer| entry.take().map(|entry| (timer, entry.waiter))));
        }
        late.sort_unstable();
        let now = self.at(self.now);
        let expired = std::iter::from_fn(|| self.table.expire(now)).map(|(_, pending)| pending.waiter);
        assert_eq!(expired.collect::<Vec<_>>(), late.iter().map(|(_, waiter)| *waiter).collect::<Vec<_>>());
    }

    fn compare(&self) {
        let open: Vec<&Entry> = self.list.iter().flatten().collect();
        assert_eq!(self.table.len(), open.len());
        let next = open.iter().filter_map(|entry| entry.timer).min();
        assert_eq!(self.table.next_timer(), next.map(|millis| self.at(millis)));
        for (index, entry) in self.list.iter().enumerate() {
            let found = self.table.get(self.id(index)).map(|pending| (pending.waiter, pending.sent));
            assert_eq!(found, entry.as_ref().map(|entry| (entry.waiter, entry.sent)));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn the_table_does_what_a_list_does(
        side in prop_oneof![Just(Side::Head), Just(Side::Neck)],
        ops in proptest::collection::vec(op(), 0..80),
    ) {
        let table = TransactionManager::new(side);
        let mut both = Both { side, table, list: Vec::new(), start: Instant::now(), now: 0 };
        for op in &ops {
            both.run(op);
            both.compare();
        }
        let drained: Vec<u32> = both.table.drain().iter().map(|pending| pending.waiter).collect();
        let left: Vec<u32> = both.list.iter().flatten().map(|entry| entry.waiter).collect();
        prop_assert_eq!(drained, left);
        prop_assert_eq!((both.table.len(), both.table.next_timer()), (0, None));
    }
}

#[test]
fn an_id_of_the_other_side_is_no_call_of_ours() {
    let mut table = TransactionManager::new(Side::Head);
    let ours = table.begin(1, None);
    table.mark_sent(ours);
    let theirs = TransactionId::new(Side::Neck, ours.counter());
    assert!(table.get(theirs).is_none());
    assert_eq!(table.answered(theirs.to_bits()).err(), Some(ProtocolError::UnknownId(theirs.to_bits())));
    assert_eq!(table.answered(0).err(), Some(ProtocolError::UnknownId(0)));
    assert_eq!(table.len(), 1);
}
