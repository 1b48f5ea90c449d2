//! What a Head and its child can talk over.

/// What a Head and the child that it spawns talk over.
///
/// The child need not know: [`Neck::from_env`](crate::Neck::from_env) takes what its Head has chosen, so
/// that the same program runs on each. A program that the child starts in turn inherits nothing of the link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "config-file", derive(serde::Deserialize), serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum Wire {
    /// ipc-channel: for programs that you trust, since it believes what its peer announces. Both must be
    /// built with the same version of it. The child connects to a name in the temporary directory, which
    /// has to be writable for that.
    #[default]
    Ipc,
    /// A pair of stream sockets, one of which the child inherits: for any program, a hostile one as well.
    /// It hurts its own connection and nothing else. There is no name to which another process could
    /// connect, and none to remove. Choose it for what parses files from elsewhere or runs the code of
    /// others, and where the temporary directory cannot be used. On Windows it is refused with
    /// [`StartError::Setup`](crate::StartError::Setup).
    Pipe,
    /// Memory that both share, for the shortest time and the highest rate: for any program, as the pipe, and
    /// without a name as well. While calls follow each other and each side has a core, no system call is
    /// made. It costs half a megabyte for each child. Linux only: elsewhere it is refused with
    /// [`StartError::Setup`](crate::StartError::Setup).
    Shm,
}
