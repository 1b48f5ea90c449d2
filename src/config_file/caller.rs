//! Calls with the defaults that a file has for them.

use std::collections::BTreeMap;

use super::schema::{ApiPlan, Defaults, Method};
use crate::{
    api::{Action, ApiHandle},
    sync::Arc,
};

/// What is called, as a file describes it: an [`ApiHandle`] with defaults for each method. Cheap to clone.
///
/// ```
/// use std::time::Duration;
/// use nape::{CallError, Head, config_file::ConfigFile};
///
/// let file = ConfigFile::parse("[apis.words]\nmethods.count = { timeout = '20ms' }")?;
/// let (head, _neck_that_never_starts) = Head::in_process()?;
/// let words = file.caller("words", &head)?;
/// let late = words.action("count", "to be".to_owned()).call::<usize>().unwrap_err();
/// assert!(matches!(late, CallError::TimedOut { after, .. } if after >= Duration::from_millis(20)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Caller {
    handle: ApiHandle,
    retry_safe: bool,
    methods: Arc<BTreeMap<String, Defaults>>,
}

impl Caller {
    pub(super) fn new(handle: ApiHandle, plan: &ApiPlan) -> Caller {
        let handle = plan.defaults.timeout.into_iter().fold(handle, ApiHandle::timeout);
        let of = |method: &Method| Defaults { timeout: method.timeout, retry_safe: method.retry_safe };
        let methods = plan.methods.iter().map(|(path, method)| (path.clone(), of(method)));
        let retry_safe = plan.defaults.retry_safe.unwrap_or_default();
        Caller { handle, retry_safe, methods: Arc::new(methods.collect()) }
    }

    /// A call or an event to `path` below the namespace, which is built but not sent: as
    /// [`ApiHandle::action`] does it, with what the file says of this method, else of the API. What the file does not
    /// name can be called as well.
    pub fn action<A>(&self, path: &str, arguments: A) -> Action<A> {
        let action = self.handle.action(path, arguments);
        let Defaults { timeout, retry_safe } = self.methods.get(path).copied().unwrap_or_default();
        let action = timeout.into_iter().fold(action, Action::timeout);
        if retry_safe.unwrap_or(self.retry_safe) { action.retry_safe() } else { action }
    }

    /// The handle below it, which knows the timeout of the API and nothing of its methods.
    pub fn handle(&self) -> &ApiHandle {
        &self.handle
    }
}
