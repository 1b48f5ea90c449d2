//! What is refused before it comes to a handler, and who asks the layers about it.

use super::{Handler, endpoint::Inner, task::Target};
use crate::{
    error::Rejection,
    link::{Errand, Incoming, Link, Slot},
    sync::Arc,
    workers::{Admission, Job, run_elsewhere},
};

impl Inner {
    /// Refuses what was sent to a method of other shapes, before anything of it is decoded.
    pub(super) fn refuse_shape(
        self: &Arc<Inner>,
        link: &Arc<Link>,
        incoming: Incoming,
        target: Arc<Target>,
        ancestor: Option<&Arc<Slot>>,
    ) -> Option<Errand> {
        if !target.handler.is_layered() {
            let errand = self.judge_shape(link, incoming, &target.handler, ancestor);
            target.let_go(link);
            return errand;
        }
        // A layer may hide the path: that is code of the user's, and this thread may be the one that reads.
        let (inner, theirs, ancestor) = (self.clone(), link.clone(), ancestor.cloned());
        let refuse = move || {
            let errand = inner.judge_shape(&theirs, incoming, &target.handler, ancestor.as_ref());
            errand.into_iter().for_each(|errand| theirs.submit_errand(errand));
        };
        self.refuse_aside(link, Box::new(refuse));
        None
    }

    /// Says why such a call is refused. Asks layers.
    fn judge_shape(
        self: &Arc<Inner>,
        link: &Arc<Link>,
        incoming: Incoming,
        handler: &Handler,
        ancestor: Option<&Arc<Slot>>,
    ) -> Option<Errand> {
        let shape = handler.shape.as_ref()?;
        if handler.serve.hides(&incoming.path, link.is_near()) {
            let why = Rejection::NoHandler { path: incoming.path.clone() };
            return self.unhandled(link, incoming, why, ancestor);
        }
        let (path, own) = (incoming.path.clone(), shape.text.as_str().into());
        let (inner, other) = (self.clone(), link.clone());
        Errand::aside(link, incoming, move |incoming| match incoming.id {
            // The caller adds what it has.
            Some(id) => {
                let why = Rejection::Mismatch { path, ours: "".into(), theirs: own };
                other.fail(id, &incoming.cancel, why.into());
            }
            None => {
                let theirs = format!("of the number {:016x}", incoming.shape).into();
                let why = Rejection::Mismatch { path, ours: own, theirs };
                inner.drop_event(&other, &incoming.path, why.into());
            }
        })
    }

    /// Refuses a call on a thread that may run user code. As many calls wait for that as may be unanswered.
    pub(super) fn refuse_aside(self: &Arc<Inner>, link: &Link, refusal: Job) {
        if let Admission::Run(first) = self.refusals.admit(refusal, usize::MAX) {
            let inner = self.clone();
            link.submit(Box::new(move || {
                let mut next = Some(first);
                while let Some(refusal) = next {
                    run_elsewhere(refusal);
                    next = inner.refusals.next();
                }
            }));
        }
    }
}
