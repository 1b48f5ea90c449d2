//! What waits to be sent for one subscription. How much there is of it is not left to the one who subscribed.

use std::collections::VecDeque;

use crate::{link::Link, sync::Arc};

/// Items with their numbers, in a queue that has one place of its own. All others it shares with the other subscriptions
/// of the link.
pub(super) struct Waiting<T> {
    link: Arc<Link>,
    items: VecDeque<(u64, Arc<T>)>,
    limit: usize,
}

impl<T> Waiting<T> {
    /// Of at most so many items, and no more than the side that publishes allows.
    pub(super) fn new(link: Arc<Link>, bound: u32) -> Waiting<T> {
        let limit = link.config().limits.subscription_items.min(bound).max(1) as usize;
        Waiting { link, items: VecDeque::new(), limit }
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether there is no place for one more. Somebody else may take it meanwhile.
    pub(super) fn is_full(&self) -> bool {
        self.items.len() >= self.limit || (!self.items.is_empty() && !self.link.kept_items().has_place())
    }

    /// Adds an item. `false` if there is no place for it.
    pub(super) fn push(&mut self, number: u64, item: Arc<T>) -> bool {
        let has_place =
            self.items.len() < self.limit && (self.items.is_empty() || self.link.kept_items().take_place());
        if has_place {
            self.items.push_back((number, item));
        }
        has_place
    }

    /// Adds an item in the place of the oldest, if there is one.
    pub(super) fn replace_oldest(&mut self, number: u64, item: Arc<T>) -> Option<Arc<T>> {
        let oldest = self.items.pop_front();
        self.items.push_back((number, item));
        oldest.map(|(_, item)| item)
    }

    pub(super) fn pop(&mut self) -> Option<(u64, Arc<T>)> {
        self.give_back(usize::from(self.items.len() > 1));
        self.items.pop_front()
    }

    /// Empties it. What was in it is to be dropped without a lock.
    pub(super) fn take_all(&mut self) -> VecDeque<(u64, Arc<T>)> {
        self.give_back(self.items.len().saturating_sub(1));
        std::mem::take(&mut self.items)
    }

    fn give_back(&self, places: usize) {
        if places > 0 {
            self.link.kept_items().give_back(places);
        }
    }
}
