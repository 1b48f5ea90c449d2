//! What is put around calls, on either side: it sees each call once on its way in, and once when it has ended.
//!
//! Knows nothing of what the layers do.

use std::{
    borrow::Cow,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Instant,
};

use super::Context;
use crate::{
    error::CallError,
    link::{Link, LinkId, Observer},
    sync::{Arc, OnceLock, hold_nothing},
    wire::{Codec, Fault, FaultKind, Path, Payload, TransactionId},
    workers::{discard, discard_all, forget_panic, panic_text},
};

/// Something that is put around calls: on the side that serves by [`Api::layer`](crate::Api::layer), on the side
/// that calls by [`ApiHandle::layer`](crate::ApiHandle::layer).
///
/// It sees each call once when it comes, may read and rewrite its arguments or refuse it, and leaves a
/// [`Leave`], which sees once how the call has ended. Calls pass several layers in the order in which they were
/// added, and their ends in reverse. So one object is before, after and around a call, however long that takes and
/// whoever waits for it: no thread is held meanwhile. [The guide](crate::guide::layers) has the details of each verb.
///
/// A function of a [`LayerCall`] is a layer. A layer must not block: it runs on the thread that makes the call, or
/// that serves it. A panic in it ends the call as a [`Fault`] of the kind [`FaultKind::Panicked`].
///
/// ```
/// use std::time::Instant;
///
/// use nape::{Api, CallError, Context, Fault, Head, LayerCall, Leave, Rejection};
///
/// let api = Api::new("math").handle("double", |_: &Context, n: u64| Ok::<_, Fault>(2 * n))?;
/// let api = api
///     // The first one is the outermost.
///     .layer(|call: &mut LayerCall<'_>| {
///         let (path, began) = (call.path().clone(), Instant::now());
///         Ok(Leave::with(move |outcome| println!("{path}: {:?}, {outcome:?}", began.elapsed())))
///     })
///     .layer(|call: &mut LayerCall<'_>| match call.bytes().len() {
///         0..100 => Ok(Leave::nothing()),
///         _ => Err(CallError::Rejected(Rejection::Denied { path: call.path().clone() })),
///     });
///
/// let (head, neck) = Head::in_process()?;
/// let _neck = neck.serve(api)?.start();
/// assert_eq!(head.api("math").action("double", 4u64).call::<u64>()?, 8);
/// # Ok::<(), nape::Error>(())
/// ```
pub trait Layer: Send + Sync + 'static {
    /// Sees a call that comes. What it leaves sees how the call ends.
    ///
    /// # Errors
    ///
    /// An error ends the call with it: nothing further in sees the call, and the layers further out see that end.
    fn enter(&self, call: &mut LayerCall<'_>) -> Result<Leave, CallError>;

    /// Whether the method looks to a caller as if it was not there; `local` callers are in the same process, on
    /// a link that moves values. It is for the side that serves, and asked before anything else that could tell
    /// the caller of the method; it may be asked several times for one call. By default nothing is hidden.
    fn hides(&self, path: &Path, local: bool) -> bool {
        let _ = (path, local);
        false
    }
}

impl<F> Layer for F
where
    F: Fn(&mut LayerCall<'_>) -> Result<Leave, CallError> + Send + Sync + 'static,
{
    fn enter(&self, call: &mut LayerCall<'_>) -> Result<Leave, CallError> {
        self(call)
    }
}

/// A call or an event on its way in, as a [`Layer`] sees it.
pub struct LayerCall<'a> {
    pub(super) path: &'a Path,
    pub(super) context: Option<&'a Context>,
    pub(super) deadline: Option<Instant>,
    pub(super) kind: CallKind,
    pub(super) payload: &'a mut Payload,
    pub(super) codec: Codec,
}

/// What is passing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallKind {
    Call,
    Event,
    Stream,
}

impl LayerCall<'_> {
    /// The full path.
    pub fn path(&self) -> &Path {
        self.path
    }

    /// The arguments as they travel. Between the two ends of one process they are the value itself until somebody
    /// looks: this encodes it. A value that cannot be encoded has no bytes.
    ///
    /// They are in the codec of the link: binary, unless one of the sides asks for JSON. A side that leaves the choice
    /// to the other knows it once that one has greeted ([`Endpoint::wait_open`](crate::Endpoint::wait_open)), and
    /// takes it for binary before.
    pub fn bytes(&self) -> Cow<'_, [u8]> {
        self.payload.bytes_in(self.codec)
    }

    /// Puts other arguments in the place of those that came, as they travel.
    pub fn set_bytes(&mut self, bytes: Vec<u8>) {
        *self.payload = Payload::from_bytes(bytes);
    }

    /// How many bytes the arguments have; `None` where they are a value that nobody has encoded so far: on the side
    /// that calls, and between the two ends of one process.
    pub fn size(&self) -> Option<usize> {
        self.payload.size()
    }

    /// When the caller gives up; `None` if never.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Whether nobody waits for an answer. Then the end is that of the handler, or of the sending, and its value
    /// is empty.
    pub fn is_event(&self) -> bool {
        self.kind == CallKind::Event
    }

    /// Whether items follow, which layers do not see.
    pub fn is_stream(&self) -> bool {
        self.kind == CallKind::Stream
    }

    /// What the handler will know of the call; `None` on the side that calls.
    pub fn context(&self) -> Option<&Context> {
        self.context
    }
}

impl fmt::Debug for LayerCall<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LayerCall")
            .field("path", self.path)
            .field("kind", &self.kind)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

/// How a call has ended, as what a [`Layer`] has left sees it.
pub struct LayerEnd<'a> {
    outcome: &'a mut Result<Payload, CallError>,
    name: Option<&'a Name>,
}

/// What a call is known by on both sides.
#[derive(Clone, Debug)]
pub(crate) struct Name {
    pub(crate) link: LinkId,
    pub(crate) transaction: Option<TransactionId>,
}

impl LayerEnd<'_> {
    /// Its value as it travels, or its error. May be changed as in [`Leave::with`].
    pub fn outcome(&mut self) -> &mut Result<Payload, CallError> {
        self.outcome
    }

    /// The name of the call on its link, which is the same on both sides: that of the last attempt, if there were
    /// several. `None` for an event, for a call that has not set out, and for a stream that is over before whoever
    /// opens it has been told its name.
    pub fn transaction(&self) -> Option<TransactionId> {
        self.name?.transaction
    }

    /// The [number of the link](crate::Endpoint::link_id) that it took, which is the same on both sides. `None` if it
    /// has taken none.
    pub fn link_id(&self) -> Option<u64> {
        self.name?.link.get()
    }
}

impl fmt::Debug for LayerEnd<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LayerEnd").field("outcome", self.outcome).field("name", &self.name).finish()
    }
}

type AtEnd = Box<dyn FnOnce(&mut LayerEnd<'_>) + Send>;
type Around = Arc<dyn Fn(&mut dyn FnMut()) + Send + Sync>;

/// What a [`Layer`] leaves behind for the end of the call that it has seen.
#[must_use = "it is what sees the end of the call"]
pub struct Leave {
    at_end: Option<AtEnd>,
    around: Option<Around>,
}

impl Leave {
    /// The end is of no interest.
    pub fn nothing() -> Leave {
        Leave { at_end: None, around: None }
    }

    /// Calls `see` with how the call ends, exactly once, and lets it change that: its value as it travels, or the
    /// error. What is written into the end of an event changes nothing for who has fired it, and no more does what the
    /// side that calls writes into that of a stream.
    ///
    /// It runs on the thread that ends the call: on the side that serves, the one that answers; on the side that calls,
    /// the caller itself if it blocks, polls or cancels, else a thread of the library. It must not block: its call waits
    /// for it, and no other.
    pub fn with(see: impl FnOnce(&mut Result<Payload, CallError>) + Send + 'static) -> Leave {
        Leave::with_end(|end| see(end.outcome))
    }

    /// As [`Leave::with`], for who wants to know by which name the call went, too.
    ///
    /// ```
    /// use nape::{LayerCall, Leave};
    ///
    /// let log = |call: &mut LayerCall<'_>| {
    ///     let path = call.path().clone();
    ///     Ok(Leave::with_end(move |end| println!("{path}: {:x?} {:?}", end.link_id(), end.transaction())))
    /// };
    /// # let _ = nape::Head::builder().layer(log);
    /// ```
    pub fn with_end(see: impl FnOnce(&mut LayerEnd<'_>) + Send + 'static) -> Leave {
        Leave { at_end: Some(Box::new(see)), around: None }
    }

    /// Has `run` called around what the handler does on the thread that serves the call: for what belongs to a
    /// thread, such as a span that is entered. It is given the rest, which it must call once. Those of layers further
    /// out are around those further in.
    ///
    /// A stream that makes items runs in pieces, and `run` is around each; what a deferred handler does once it has
    /// returned is behind it. On the side that calls it means nothing.
    ///
    /// ```
    /// use nape::{LayerCall, Leave};
    ///
    /// let named = |_: &mut LayerCall<'_>| {
    ///     Ok(Leave::nothing().around(|handler| {
    ///         let began = std::time::Instant::now();
    ///         handler();
    ///         println!("{:?} of this thread", began.elapsed());
    ///     }))
    /// };
    /// # let _ = nape::Head::builder().layer(named);
    /// ```
    pub fn around(self, run: impl Fn(&mut dyn FnMut()) + Send + Sync + 'static) -> Leave {
        Leave { around: Some(Arc::new(run)), ..self }
    }
}

impl fmt::Debug for Leave {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.at_end.is_some() { "Leave(..)" } else { "Leave(nothing)" })
    }
}

/// Layers from the outermost in.
#[derive(Clone, Default)]
pub(crate) struct Layers(Vec<Arc<dyn Layer>>);

impl Layers {
    /// Adds one inside of all others.
    pub(crate) fn add(&mut self, layer: impl Layer) {
        self.0.push(Arc::new(layer));
    }

    /// These, and those inside of them.
    pub(super) fn around(&self, inner: &Layers) -> Layers {
        Layers(self.0.iter().chain(&inner.0).cloned().collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of them hides the method from a caller.
    pub(super) fn hide(&self, path: &Path, local: bool) -> bool {
        // One that panics says nothing for it.
        let hides = |layer: &Arc<dyn Layer>| caught(|| layer.hides(path, local)).unwrap_or(true);
        self.0.iter().any(hides)
    }

    /// Takes a call in. When one of them refuses it, those outside of that have seen the end.
    pub(super) fn enter(&self, call: &mut LayerCall<'_>) -> Result<Leaves, CallError> {
        self.enter_with(&Layers::default(), call)
    }

    /// The same for these, and then those inside of them.
    pub(super) fn enter_with(&self, inner: &Layers, call: &mut LayerCall<'_>) -> Result<Leaves, CallError> {
        let mut leaves = Leaves::with_room(self.0.len() + inner.0.len());
        for layer in self.0.iter().chain(&inner.0) {
            match caught(|| layer.enter(call)).unwrap_or_else(Err) {
                Ok(leave) => {
                    leaves.at_end.extend(leave.at_end);
                    leaves.around.0.extend(leave.around);
                }
                Err(error) => {
                    let mut end = Err(error);
                    leaves.run(&mut end);
                    // A layer may make a value of it, which nobody could tell from that of a handler.
                    return Err(end.err().unwrap_or(CallError::NoAnswer));
                }
            }
        }
        Ok(leaves)
    }
}

impl Drop for Layers {
    fn drop(&mut self) {
        discard_all(self.0.drain(..));
    }
}

impl fmt::Debug for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Layers({})", self.0.len())
    }
}

/// What the layers have left, from the outermost in. Dropped before the end, it is told that nobody waits.
pub(crate) struct Leaves {
    at_end: Vec<AtEnd>,
    around: Arounds,
    name: Option<Name>,
    /// The name of a call that is told who has them, and then sets out.
    told: Option<Arc<OnceLock<Name>>>,
}

impl Leaves {
    fn with_room(layers: usize) -> Leaves {
        Leaves { at_end: Vec::with_capacity(layers), around: Arounds::default(), name: None, told: None }
    }

    /// Under which name the call has set out now.
    pub(super) fn set_out(&mut self, link: &Link, transaction: Option<TransactionId>) {
        self.name = Some(Name { link: link.id.clone(), transaction });
    }

    /// Where to write the name, if these are to be given away before it is known.
    pub(super) fn place_for_name(&mut self) -> Arc<OnceLock<Name>> {
        self.told.get_or_insert_default().clone()
    }

    /// What is to be around the handler, from the outermost in.
    pub(super) fn take_around(&mut self) -> Arounds {
        std::mem::take(&mut self.around)
    }

    /// Shows them the end, from the innermost out.
    pub(super) fn run(mut self, outcome: &mut Result<Payload, CallError>) {
        self.run_all(outcome);
    }

    fn run_all(&mut self, outcome: &mut Result<Payload, CallError>) {
        let told = self.told.take();
        let name = self.name.as_ref().or_else(|| told.as_ref()?.get());
        while let Some(see) = self.at_end.pop() {
            if let Err(error) = caught(|| see(&mut LayerEnd { outcome, name })) {
                discard(std::mem::replace(outcome, Err(error)));
            }
        }
    }
}

/// What layers have put around a handler, from the outermost in. It is the user's, and goes when the end of the call is
/// still to be told: a panic on the way is nobody's.
#[derive(Default)]
pub(super) struct Arounds(Vec<Around>);

impl Arounds {
    /// Most layers put nothing there.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Runs what a handler does inside of them.
    pub(super) fn run(&self, handler: &mut dyn FnMut()) {
        run_inside(&self.0, handler);
    }
}

impl Drop for Arounds {
    fn drop(&mut self) {
        discard_all(self.0.drain(..));
    }
}

fn run_inside(around: &[Around], run: &mut dyn FnMut()) {
    match around.split_first() {
        None => run(),
        Some((first, rest)) => first(&mut || run_inside(rest, run)),
    }
}

impl Observer for Leaves {
    fn see(self: Box<Leaves>, end: Result<(), CallError>) {
        self.run(&mut end.map(|()| Payload::from_bytes(Vec::new())));
    }
}

impl Drop for Leaves {
    fn drop(&mut self) {
        if !self.at_end.is_empty() {
            let mut end = Err(CallError::Cancelled);
            self.run_all(&mut end);
            discard(end);
        }
    }
}

impl fmt::Debug for Leaves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Leaves({})", self.at_end.len())
    }
}

/// Runs code of a layer; its panic is the end of the call.
fn caught<R>(code: impl FnOnce() -> R) -> Result<R, CallError> {
    hold_nothing();
    catch_unwind(AssertUnwindSafe(code)).map_err(|panic| {
        let text = format!("a layer panicked: {}", panic_text(&*panic));
        forget_panic(panic);
        Fault::of(FaultKind::Panicked, text, "").into()
    })
}
