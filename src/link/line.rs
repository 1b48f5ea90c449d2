//! Calls and events that wait to leave, in the order of their making.

use std::collections::VecDeque;

use super::message::Start;
use crate::wire::{Kind, TransactionId};

/// A queue that knows how many bytes and how many events it holds.
#[derive(Debug, Default)]
pub(crate) struct Line {
    starts: VecDeque<Start>,
    bytes: usize,
    events: usize,
}

impl Line {
    pub(crate) fn push(&mut self, start: Start) {
        self.bytes += start.size();
        self.events += usize::from(start.kind == Kind::Event);
        self.starts.push_back(start);
    }

    pub(crate) fn front(&self) -> Option<&Start> {
        self.starts.front()
    }

    pub(crate) fn pop(&mut self) -> Option<Start> {
        let start = self.starts.pop_front()?;
        self.bytes -= start.size();
        self.events -= usize::from(start.kind == Kind::Event);
        Some(start)
    }

    /// Takes a call out. Says whether it was there.
    pub(crate) fn withdraw(&mut self, id: TransactionId) -> bool {
        let at = self.starts.iter().position(|start| start.kind == Kind::Call && start.id == id);
        let start = at.and_then(|at| self.starts.remove(at));
        self.bytes -= start.as_ref().map_or(0, Start::size);
        start.is_some()
    }

    pub(crate) fn drop_calls(&mut self) {
        self.starts.retain(|start| start.kind != Kind::Call);
        self.bytes = self.starts.iter().map(Start::size).sum();
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
}
