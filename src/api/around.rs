//! Layers on the side that calls.

use serde::Serialize;

use super::{
    Action, ApiHandle, Layer, Retry,
    action::To,
    endpoint::Inner,
    layer::{CallKind, LayerCall, Layers, Leaves},
};
use crate::{
    error::CallError,
    sync::Arc,
    wire::{Codec, Path, PathError, Payload},
};

/// What stands around the calls of a handle.
#[derive(Clone, Debug, Default)]
pub(super) struct Around {
    layers: Layers,
    /// Those of the link, inside of them.
    of_link: Layers,
    retry: Option<Retry>,
}

impl Around {
    /// Nothing but what the link has around every call; `None` if that is nothing.
    pub(super) fn of_link(layers: &Layers) -> Option<Arc<Around>> {
        let of_link = layers.clone();
        (!layers.is_empty()).then(|| Arc::new(Around { of_link, ..Around::default() }))
    }
}

/// Where a call with something around it goes.
#[derive(Debug)]
pub(super) struct WayAround {
    pub(super) endpoint: Arc<Inner>,
    pub(super) path: Result<Path, PathError>,
    pub(super) around: Arc<Around>,
}

/// What is left of the layers once a call has passed them.
#[derive(Debug, Default)]
pub(crate) struct Rest {
    pub(super) leaves: Option<Leaves>,
    pub(super) retry: Option<Retry>,
}

impl ApiHandle {
    /// The same with a [`Layer`] around its calls, events and streams, inside of those that it has. The handles
    /// that are made of it have it, too: the client of a trait gets one by its `over`.
    ///
    /// Where a handle has no layers, calls are none the dearer for them.
    ///
    /// ```
    /// use nape::{Api, CallError, Context, Fault, Head, LayerCall, Leave};
    ///
    /// let (head, neck) = Head::in_process()?;
    /// let api = Api::new("math").handle("half", |_: &Context, n: u64| match n % 2 {
    ///     0 => Ok(n / 2),
    ///     _ => Err(Fault::new("odd")),
    /// })?;
    /// let _neck = neck.serve(api)?.start();
    ///
    /// let math = head.api("math").layer(|call: &mut LayerCall<'_>| {
    ///     let path = call.path().clone();
    ///     Ok(Leave::with(move |outcome| {
    ///         if let Err(error) = outcome {
    ///             eprintln!("{path}: {error}");
    ///         }
    ///     }))
    /// });
    /// assert!(math.action("half", 3u64).call::<u64>().is_err());
    /// # Ok::<(), nape::Error>(())
    /// ```
    pub fn layer(self, layer: impl Layer) -> ApiHandle {
        self.with_around(|around| around.layers.add(layer))
    }

    /// The same with calls that are [safe to repeat](Action::retry_safe) made again when they fail. It stands
    /// inside of all [layers](ApiHandle::layer), which see each call once. A second one takes the place of the first.
    /// See [`Retry`] for an example.
    pub fn retry(self, retry: Retry) -> ApiHandle {
        self.with_around(|around| around.retry = Some(retry))
    }
}

impl<A: Serialize + Send + 'static> Action<A> {
    /// Takes a call through its layers, if it has any: what comes back has none.
    ///
    /// # Errors
    ///
    /// With which one of them has refused it.
    #[cold]
    pub(super) fn pass(self, kind: CallKind) -> Result<(Action<Payload>, Rest), CallError> {
        let path = self.checked_path().inspect_err(|_| self.release())?;
        let deadline = self.own_deadline(&path).inspect_err(|_| self.release())?;
        let codec = self.codec();
        let Action { to, arguments, timeout, semaphore, shape, retry_safe } = self;
        let (endpoint, around) = match to {
            To::Around(way) => (way.endpoint.clone(), way.around.clone()),
            To::Away { endpoint, .. } => (endpoint, Arc::default()),
            To::Here(shortcut) => (shortcut.endpoint.clone(), Arc::default()),
        };
        let mut payload = Payload::moved(arguments);
        let mut call = LayerCall { path: &path, context: None, deadline, kind, payload: &mut payload, codec };
        let entered = around.layers.enter_with(&around.of_link, &mut call);
        let mut entered = entered.inspect_err(|_| super::action::release(&semaphore))?;
        // It is for the side that serves.
        drop(entered.take_around());
        let is_layered = !(around.layers.is_empty() && around.of_link.is_empty());
        let leaves = is_layered.then_some(entered);
        let retry = around.retry.clone().filter(|_| retry_safe && kind == CallKind::Call);
        let to = To::Away { endpoint, path: Ok(path) };
        Ok((Action { to, arguments: payload, timeout, semaphore, shape, retry_safe }, Rest { leaves, retry }))
    }

    /// The codec of the link that there is.
    fn codec(&self) -> Codec {
        self.to.endpoint().link().map_or_else(|_| Codec::default(), |link| link.codec())
    }
}

/// Shows the layers how a call ends that comes no further.
pub(super) fn left<T>(leaves: Option<Leaves>, error: CallError) -> Result<T, CallError> {
    let mut outcome = Err(error);
    leaves.into_iter().for_each(|leaves| leaves.run(&mut outcome));
    // A value made of the error is none that the caller could get: it has been told of no call.
    outcome.and(Err(CallError::NoAnswer))
}
