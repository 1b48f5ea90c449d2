//! Asks the other side what it has to tell.

use crate::{
    api::{ApiHandle, Endpoint},
    typed::{
        TypedAction, TypedStream,
        private::{Method, action, stream},
    },
};

use super::{InFlight, LinkCounters, MethodNumbers, NAMESPACE, PathInfo, PoolInfo, TailedEvent, Version};

/// Asks what the other side tells of itself, if it serves an [`Inspection`](super::Inspection); each call is a
/// [`TypedAction`], with its verbs and its timeout. Cheap to clone.
///
/// ```
/// use nape::{Api, Context, Fault, Head, Inspection, Inspector};
///
/// let (head, neck) = Head::in_process()?;
/// let double = |_: &Context, n: u32| Ok::<_, Fault>(2 * n);
/// let neck = neck.serve(Api::new("math").handle("double", double)?)?;
/// let _neck = neck.serve(Inspection::new().into_api())?.start();
///
/// let inspector = Inspector::on(&head);
/// let paths = inspector.list().call()?;
/// assert!(paths.iter().any(|info| info.path == "math.double"));
/// # Ok::<(), nape::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Inspector {
    api: ApiHandle,
}

macro_rules! asks {
    ($($(#[$doc:meta])* $name:ident($($argument:ident: $kind:ty)?) -> $value:ty),* $(,)?) => {
        $($(#[$doc])*
        pub fn $name(&self, $($argument: impl Into<$kind>)?) -> TypedAction<asks!(@type $($kind)?), $value> {
            static METHOD: Method = Method::new();
            action(&self.api, stringify!($name), asks!(@value $($argument)?), &METHOD)
        })*
    };
    (@type) => { () };
    (@type $kind:ty) => { $kind };
    (@value) => { () };
    (@value $argument:ident) => { $argument.into() };
}

impl Inspector {
    /// What the other side of this endpoint tells.
    pub fn on(endpoint: &Endpoint) -> Inspector {
        Inspector { api: endpoint.api(NAMESPACE) }
    }

    asks! {
        /// Everything that is served, in the order of the links and of the paths.
        list() -> Vec<PathInfo>,
        /// What would take a call to `path`: its handler or topic, else the nearest catch-all at or above it, on the
        /// first link that has one. Else it fails with a [`NotServed`](super::NotServed).
        describe(path: String) -> PathInfo,
        /// What was counted.
        counters() -> Vec<LinkCounters>,
        /// Who waits for what, and for how long.
        in_flight() -> Vec<InFlight>,
        /// The workers of each API.
        pools() -> Vec<PoolInfo>,
        /// The numbers of each path, for a table that is drawn again and again.
        methods() -> Vec<MethodNumbers>,
        /// Which program it is.
        version() -> Version,
    }

    /// The events that come from now on to `prefix` and below it, those to all paths if it is empty, as they come.
    /// It lasts until it is dropped.
    ///
    /// The newest 256 wait to be taken; [`TailedEvent::lost`] says how many are missing. The items of a topic are no
    /// events here: subscribe to it.
    pub fn tail(&self, prefix: impl Into<String>) -> TypedStream<String, TailedEvent> {
        static METHOD: Method = Method::new();
        stream(&self.api, "tail", prefix.into(), &METHOD)
    }
}
