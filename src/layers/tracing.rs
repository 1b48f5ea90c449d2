//! A span for each call.

use tracing::{
    Level, Span,
    field::{Empty, display},
    span,
};

use super::outcome;
use crate::{
    api::{Context, Layer, LayerCall, LayerEnd, Leave},
    error::CallError,
    wire::TransactionId,
};

/// Opens a span for each call and event that passes, on either side: with the feature `tracing`, for whoever
/// subscribes to the spans of this program.
///
/// | | where it is called | where it is served |
/// |---|---|---|
/// | name | `nape.call` | `nape.serve` |
/// | `path` | the full path | the same |
/// | `link` | the [number of the link](crate::Endpoint::link_id), in hexadecimal digits | the same |
/// | `call` | the [name of the call](crate::TransactionId) on its link, such as `Head#7`; an event has none | the same |
/// | `otel.kind` | `client` | `server` |
/// | `outcome` | how it has ended: `ok`, `fault`, `rejected`, `timed_out`, `cancelled`, `closed` ... | the same |
///
/// `link` and `call` together are the same in the span of the caller and in that of the callee, whichever
/// processes the two are in, and in no other span: so the one names the other. Where a call is made `link`
/// and `call` are recorded when it ends, since before it has no name. The span of a call is a child of the
/// one that is entered where it is made; that of the callee is entered around its handler, so that what the
/// handler opens, and the calls that it makes, are below it.
///
/// All spans have the level `INFO` and the target `nape`. With no subscriber, or one that does not want them,
/// nothing is made or recorded; what is left is that of [any layer](crate::guide::layers#what-they-cost). Put
/// it around [a whole link](crate::HeadBuilder::layer), [an API](crate::Api::layer) or [a
/// handle](crate::ApiHandle::layer).
///
/// ```
/// use nape::{Head, Neck, layers::Tracing};
///
/// let (head, neck) = Head::builder()
///     .layer(Tracing::new())
///     .in_process_with(Neck::builder().layer(Tracing::new()))?;
/// # Ok::<(), nape::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Tracing(());

impl Tracing {
    /// The layer.
    pub fn new() -> Tracing {
        Tracing(())
    }
}

impl Layer for Tracing {
    fn enter(&self, call: &mut LayerCall<'_>) -> Result<Leave, CallError> {
        let Some(context) = call.context() else { return Ok(called(call)) };
        Ok(served(call, context))
    }
}

fn called(call: &LayerCall<'_>) -> Leave {
    let span = span!(
        target: "nape", Level::INFO, "nape.call",
        path = %call.path(), link = Empty, call = Empty, otel.kind = "client", outcome = Empty,
    );
    if span.is_disabled() {
        return Leave::nothing();
    }
    Leave::with_end(move |end| {
        name(&span, end.link_id(), end.transaction());
        finish(&span, end);
    })
}

fn served(call: &LayerCall<'_>, context: &Context) -> Leave {
    let span = span!(
        target: "nape", Level::INFO, "nape.serve",
        path = %call.path(), link = Empty, call = Empty, otel.kind = "server", outcome = Empty,
    );
    if span.is_disabled() {
        return Leave::nothing();
    }
    // At once: what is logged inside of it is to be found by them.
    name(&span, context.link_id(), context.transaction());
    let handler = span.clone();
    Leave::with_end(move |end| finish(&span, end)).around(move |run| handler.in_scope(run))
}

fn name(span: &Span, link: Option<u64>, transaction: Option<TransactionId>) {
    if let Some(link) = link {
        span.record("link", display(format_args!("{link:016x}")));
    }
    if let Some(transaction) = transaction {
        span.record("call", display(transaction));
    }
}

fn finish(span: &Span, end: &mut LayerEnd<'_>) {
    span.record("outcome", outcome::word(end.outcome()));
}
