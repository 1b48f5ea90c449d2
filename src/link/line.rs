//! Calls and events that wait to leave, in the order of their making.

use std::collections::VecDeque;

use super::{
    load::Load,
    message::{Cargo, Start},
};
use crate::wire::{Codec, Kind, TransactionId};

/// A queue that knows how many bytes and how many events it holds.
#[derive(Debug, Default)]
pub(crate) struct Line {
    starts: VecDeque<Start>,
    bytes: usize,
    events: usize,
    /// How many have left it.
    events_left: u64,
}

impl Line {
    pub(crate) fn push(&mut self, start: Start) {
        self.bytes += start.held();
        self.events += usize::from(start.kind == Kind::Event);
        self.starts.push_back(start);
    }

    /// What waits in both codecs takes this one.
    pub(crate) fn settle(&mut self, codec: Codec) {
        for start in &mut self.starts {
            let cargo = std::mem::replace(&mut start.cargo, Cargo::Bytes(Load::default()));
            start.cargo = cargo.settle(Some(codec));
        }
        self.bytes = self.starts.iter().map(Start::held).sum();
    }

    pub(crate) fn front(&self) -> Option<&Start> {
        self.starts.front()
    }

    pub(crate) fn pop(&mut self) -> Option<Start> {
        let start = self.starts.pop_front()?;
        self.bytes -= start.held();
        self.events -= usize::from(start.kind == Kind::Event);
        self.events_left += u64::from(start.kind == Kind::Event);
        Some(start)
    }

    /// Takes a call out.
    pub(crate) fn withdraw(&mut self, id: TransactionId) -> Option<Start> {
        let at = self.starts.iter().position(|start| start.kind.is_call() && start.id == id);
        let start = at.and_then(|at| self.starts.remove(at))?;
        self.bytes -= start.held();
        Some(start)
    }

    /// Takes all calls out.
    pub(crate) fn take_calls(&mut self) -> Vec<Start> {
        let starts = std::mem::take(&mut self.starts).into_iter();
        let (calls, events): (Vec<_>, Vec<_>) = starts.partition(|start| start.kind.is_call());
        self.starts = events.into();
        self.bytes = self.starts.iter().map(Start::held).sum();
        calls
    }

    pub(crate) fn into_starts(self) -> impl Iterator<Item = Start> {
        self.starts.into_iter()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.starts.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn events(&self) -> usize {
        self.events
    }

    pub(crate) fn events_left(&self) -> u64 {
        self.events_left
    }
}
