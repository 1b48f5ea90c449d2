//! Layers for one way of a link.

use std::fmt;

use crate::{
    api::{Layer, LayerCall, Leave},
    error::CallError,
    wire::Path,
};

/// Keeps a layer to what this side calls, where it is put around
/// [everything of a link](crate::HeadBuilder::layer).
///
/// ```
/// use nape::{Head, layers::{SendToken, WhereCalled}};
///
/// let builder = Head::builder().layer(WhereCalled(SendToken::new("sesame")));
/// ```
#[derive(Clone, Copy)]
pub struct WhereCalled<L>(
    /// The layer.
    pub L,
);

/// Keeps a layer to what this side serves, where it is put around
/// [everything of a link](crate::HeadBuilder::layer).
///
/// ```
/// use nape::{Head, layers::{ConcurrencyLimit, WhereServed}};
///
/// let builder = Head::builder().layer(WhereServed(ConcurrencyLimit::new(64)));
/// ```
#[derive(Clone, Copy)]
pub struct WhereServed<L>(
    /// The layer.
    pub L,
);

impl<L: Layer> Layer for WhereCalled<L> {
    fn enter(&self, call: &mut LayerCall<'_>) -> Result<Leave, CallError> {
        if call.context().is_some() { Ok(Leave::nothing()) } else { self.0.enter(call) }
    }
}

impl<L: Layer> Layer for WhereServed<L> {
    fn enter(&self, call: &mut LayerCall<'_>) -> Result<Leave, CallError> {
        if call.context().is_some() { self.0.enter(call) } else { Ok(Leave::nothing()) }
    }

    fn hides(&self, path: &Path, local: bool) -> bool {
        self.0.hides(path, local)
    }
}

impl<L> fmt::Debug for WhereCalled<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WhereCalled(..)")
    }
}

impl<L> fmt::Debug for WhereServed<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WhereServed(..)")
    }
}
