//! What a side says in its hello of the filters of its transport, and what waits until both have agreed on them.

use std::io;

use super::{
    outbox::Draft,
    state::{Action, State},
};
use crate::{
    config::Config,
    sync::Arc,
    transport::{Session, Transport, filtered},
    wire::{Codec, FilterSet, Hello, Kind, ProtocolError},
};

/// The part of the machine that is about filters. Without any, it is empty.
#[derive(Debug, Default)]
pub(super) struct Filtering {
    session: Option<Arc<Session>>,
    /// What was said before the other side had greeted. It would go past the filters.
    waiting: Vec<Kind>,
    /// What the hello of the other side says, as long as it may be one of before that somebody plays again: what shows
    /// the key to this link is a record that opens.
    unproven: Option<(Codec, u64)>,
}

impl<W: Clone> State<W> {
    /// Puts the filters of this side around its transport, if it has any, and greets accordingly. Before anything has
    /// left.
    ///
    /// # Errors
    ///
    /// When the system has no random bytes.
    pub(crate) fn filter(&mut self, transport: Transport, config: &Config) -> io::Result<Transport> {
        let Some(session) = Session::new(config, self.side)?.map(Arc::new) else { return Ok(transport) };
        let hello = Hello::ours(self.side, self.tokens.ours).choosing(self.codecs);
        let hello = hello.numbered(self.tokens.number);
        self.outbox.replace_control(Draft::with(Kind::Hello, 0, |body| session.greet(hello, body)));
        let transport = filtered(transport, &session);
        self.filtering.session = Some(session);
        Ok(transport)
    }

    /// Takes what the hello of the other side says of filters. From here on they are at work in both directions.
    pub(super) fn agree_on_filters(&mut self, theirs: &Hello, body: &[u8]) -> Result<(), ProtocolError> {
        let Filtering { session, waiting, .. } = &mut self.filtering;
        let ours = session.as_ref().map_or(FilterSet::default(), |session| session.filters());
        ours.agree(FilterSet::of(theirs.features))?;
        session.as_ref().map_or(Ok(()), |session| session.agree(body))?;
        if waiting.is_empty() && session.as_ref().is_some_and(|session| session.filters().has_seal()) {
            // The other side waits for a record, and this one may say nothing for long.
            self.outbox.push_control(Draft::bare(Kind::Pong, 0));
        }
        waiting.drain(..).for_each(|kind| self.outbox.push_control(Draft::bare(kind, 0)));
        Ok(())
    }

    /// The other side has greeted, and this is what the link speaks: told now, or once it has shown the key.
    pub(super) fn note_greeting(&mut self, codec: Codec, number: u64, actions: &mut Vec<Action<W>>) {
        let session = &self.filtering.session;
        if session.as_ref().is_some_and(|session| session.filters().has_seal()) {
            self.filtering.unproven = Some((codec, number));
        } else {
            actions.push(Action::Greeted(codec, number));
        }
    }

    /// Takes note of a frame that only comes in a record, where there is a key.
    pub(super) fn note_record(&mut self, actions: &mut Vec<Action<W>>) {
        if let Some((codec, number)) = self.filtering.unproven.take() {
            actions.push(Action::Greeted(codec, number));
        }
    }

    /// Whether the other side has greeted, and has shown that it has the key, if there is one.
    pub(crate) fn is_greeted(&self) -> bool {
        self.greeted && self.filtering.unproven.is_none()
    }

    /// Says something without a body, once it can be said.
    pub(super) fn say_when_agreed(&mut self, kind: Kind) {
        let agreed = self.filtering.session.as_ref().is_none_or(|session| session.is_agreed());
        if agreed {
            self.outbox.push_control(Draft::bare(kind, 0));
        } else {
            self.filtering.waiting.push(kind);
        }
    }
}
