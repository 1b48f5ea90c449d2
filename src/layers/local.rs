//! Methods that only this process has.

use crate::{
    api::{Layer, LayerCall, Leave},
    error::CallError,
    wire::{Path, PathError},
};

/// Makes methods look unknown to whoever is not in this process: a caller over any wire gets
/// [`Rejection::NoHandler`](crate::Rejection::NoHandler), as if nothing was there, and its arguments are not even
/// decoded. Only the other end of [`Head::in_process`](crate::Head::in_process) may call them.
///
/// It is for the side that serves, where one program serves the same API to its own threads and to others.
///
/// ```
/// use nape::{Api, Context, Fault, layers::LocalOnly};
///
/// let api = Api::new("store")
///     .handle("get", |_: &Context, key: String| Ok::<_, Fault>(key.len()))?
///     .handle("debug.dump", |_: &Context, ()| Ok::<_, Fault>("all of it".to_owned()))?
///     .layer(LocalOnly::below(["store.debug"])?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct LocalOnly {
    paths: Vec<Path>,
}

impl LocalOnly {
    /// All methods of the API.
    pub fn all() -> LocalOnly {
        LocalOnly { paths: vec![Path::root()] }
    }

    /// The methods at these full paths and below them.
    ///
    /// # Errors
    ///
    /// When one of them cannot be a path.
    pub fn below<'a>(paths: impl IntoIterator<Item = &'a str>) -> Result<LocalOnly, PathError> {
        Ok(LocalOnly { paths: paths.into_iter().map(Path::new).collect::<Result<_, _>>()? })
    }
}

impl Layer for LocalOnly {
    fn enter(&self, _: &mut LayerCall<'_>) -> Result<Leave, CallError> {
        // It was asked whether it hides the method.
        Ok(Leave::nothing())
    }

    fn hides(&self, path: &Path, local: bool) -> bool {
        let is_below = |top: &Path| {
            let rest = path.as_str().strip_prefix(top.as_str());
            top.is_root() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        !local && self.paths.iter().any(is_below)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_names_are_hidden_with_what_is_below_them() {
        let layer = LocalOnly::below(["a.debug"]).unwrap();
        let hides = |path: &str| layer.hides(&Path::new(path).unwrap(), false);
        assert!(hides("a.debug") && hides("a.debug.dump"));
        assert!(!hides("a.debugger") && !hides("a") && !hides("b.a.debug"));
        assert!(!layer.hides(&Path::new("a.debug").unwrap(), true));
        assert!(LocalOnly::all().hides(&Path::new("x").unwrap(), false));
    }
}
