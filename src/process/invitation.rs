//! What the Head tells its child, and what the child says when it comes.
//!
//! All that a child needs is in one environment variable, `NAPE_NECK`, words with a space between:
//!
//! ```text
//! 1 ipc <token, 32 hex digits> <lifeline> <pid of the Head> <name to connect to>
//! 1 pipe <token, 32 hex digits> <lifeline> <pid of the Head> <socket>
//! 1 shm <token, 32 hex digits> <lifeline> <pid of the Head> <memory>
//! ```
//!
//! `1` is the version of this text, and the name goes to the end, spaces included. Lifeline, socket
//! and memory are descriptors, which the child inherits: `<number>:<device>:<inode>`. The *lifeline* is the
//! reading end of a pipe to which nobody writes: it ends when the Head does. On Windows nothing is inherited,
//! the lifeline is `-`, and the child [brings](super::tied) one along. The socket is the child's end
//! of the wire, and the memory is what both share.
//!
//! The variable cannot be taken out of the environment while other threads may read it, so programs
//! that the child starts inherit it. They do not inherit the descriptors, and device and inode tell
//! them that whatever else has their numbers is not what was meant. The token is not in any argument
//! list, which everybody could read.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{os::FileId, transport::IpcParts, wire::Token};

use super::tied::Brought;

/// The name of the environment variable.
pub(crate) const VARIABLE: &str = "NAPE_NECK";

/// The contents of the environment variable.
#[derive(Debug)]
pub(crate) struct Invitation {
    pub(crate) token: Token,
    /// None where a child inherits nothing.
    pub(crate) lifeline: Option<Handed>,
    pub(crate) head: u32,
    pub(crate) wire: WireEnd,
}

/// Where the child finds its end of the wire.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum WireEnd {
    /// It connects to this name.
    Ipc(String),
    /// It inherits it.
    Pipe(Handed),
    /// It inherits the memory.
    Shm(Handed),
}

/// A descriptor that the child inherits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Handed {
    pub(crate) number: i32,
    pub(crate) file: FileId,
}

impl Handed {
    fn parse(text: &str) -> Option<Handed> {
        let mut numbers = text.splitn(3, ':');
        let number = numbers.next()?.parse().ok()?;
        let device = numbers.next()?.parse().ok()?;
        let inode = numbers.next()?.parse().ok()?;
        Some(Handed { number, file: FileId { device, inode } })
    }
}

impl fmt::Display for Handed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Handed { number, file: FileId { device, inode } } = self;
        write!(f, "{number}:{device}:{inode}")
    }
}

impl WireEnd {
    fn parse(kind: &str, text: &str) -> Option<WireEnd> {
        match kind {
            IPC if !text.is_empty() && !text.contains('\0') => Some(WireEnd::Ipc(text.to_owned())),
            PIPE => Some(WireEnd::Pipe(Handed::parse(text)?)),
            SHM => Some(WireEnd::Shm(Handed::parse(text)?)),
            _ => None,
        }
    }
}

impl Invitation {
    /// As it stands in the environment.
    pub(crate) fn to_text(&self) -> String {
        let Invitation { token, lifeline, head, wire } = self;
        let (kind, end): (_, &dyn fmt::Display) = match wire {
            WireEnd::Ipc(name) => (IPC, name),
            WireEnd::Pipe(socket) => (PIPE, socket),
            WireEnd::Shm(memory) => (SHM, memory),
        };
        let lifeline = lifeline.map_or(NOTHING.to_owned(), |lifeline| lifeline.to_string());
        format!("{VERSION} {kind} {} {lifeline} {head} {end}", token.to_hex())
    }

    /// What the text says; `None` when it is not ours, or of another version.
    pub(crate) fn parse(text: &str) -> Option<Invitation> {
        let mut words = text.splitn(6, ' ');
        if words.next()? != VERSION {
            return None;
        }
        let kind = words.next()?;
        let token = Token::from_hex(words.next()?)?;
        let lifeline = match words.next()? {
            NOTHING => None,
            handed => Some(Handed::parse(handed)?),
        };
        let head = words.next()?.parse().ok()?;
        let wire = WireEnd::parse(kind, words.next()?)?;
        Some(Invitation { token, lifeline, head, wire })
    }
}

/// The first and only message over the name: the child brings the Head's end of the connection.
#[derive(Serialize, Deserialize)]
pub(crate) struct Arrival {
    pub(crate) protocol: String,
    pub(crate) pid: u32,
    pub(crate) token: String,
    pub(crate) parts: IpcParts,
    pub(super) brought: Brought,
}

impl Arrival {
    pub(super) fn new(token: Token, parts: IpcParts, brought: Brought) -> Arrival {
        let protocol = PROTOCOL.to_owned();
        Arrival { protocol, pid: std::process::id(), token: token.to_hex(), parts, brought }
    }

    /// Whether this is what a Neck says.
    pub(crate) fn is_ours(&self) -> bool {
        self.protocol == PROTOCOL
    }

    /// Whether it comes from somebody who has read the invitation.
    pub(crate) fn carries(&self, token: &Token) -> bool {
        Token::from_hex(&self.token).is_some_and(|theirs| token.matches(&theirs))
    }
}

const VERSION: &str = "1";
/// In the place of a lifeline.
const NOTHING: &str = "-";
const IPC: &str = "ipc";
const PIPE: &str = "pipe";
const SHM: &str = "shm";
const PROTOCOL: &str = "nape 1";

#[cfg(test)]
mod tests {
    use super::*;

    fn invitations() -> [Invitation; 3] {
        let name = "/tmp/with a space/socket".to_owned();
        let socket = Handed { number: 8, file: FileId { device: 9, inode: 10 } };
        [WireEnd::Ipc(name), WireEnd::Pipe(socket), WireEnd::Shm(socket)].map(|wire| Invitation {
            token: Token([0xa5; 16]),
            lifeline: Some(Handed { number: 7, file: FileId { device: 14, inode: u64::MAX } }),
            head: 4711,
            wire,
        })
    }

    #[test]
    fn an_invitation_reads_as_it_was_written() {
        for written in invitations() {
            let text = written.to_text();
            let read = Invitation::parse(&text).expect("it is well formed");
            assert_eq!(read.to_text(), text);
            assert_eq!((read.wire, read.lifeline, read.head), (written.wire, written.lifeline, 4711));
            assert!(read.token.matches(&Token([0xa5; 16])));
        }
    }

    #[test]
    fn no_part_of_an_invitation_is_one() {
        for (invitation, last) in invitations().into_iter().zip(["/tmp/with a space/socket", "10", "10"]) {
            let text = invitation.to_text();
            for end in 0..=text.len() - last.len() {
                assert!(Invitation::parse(&text[..end]).is_none(), "{}", &text[..end]);
            }
        }
    }

    #[test]
    fn strange_words_are_no_invitation() {
        let hex = Token([1; 16]).to_hex();
        for text in [
            format!("2 ipc {hex} 7:1:2 3 /x"),
            format!("1 shm {hex} 7:1:2 3 /x"),
            format!("1 ipc {hex}0 7:1:2 3 /x"),
            format!("1 ipc {hex} 7:1 3 /x"),
            format!("1 ipc {hex} 7:1:2:4 3 /x"),
            format!("1 ipc {hex} 7:1:-2 3 /x"),
            format!("1 ipc {hex} 99999999999:1:2 3 /x"),
            format!("1 ipc {hex} 7:1:2 -3 /x"),
            format!("1 ipc {hex} 7:1:2 3 /x\0y"),
            format!("1  ipc {hex} 7:1:2 3 /x"),
            format!("1 pipe {hex} 7:1:2 3 /x"),
            format!("1 pipe {hex} 7:1:2 3 8:1"),
            format!("1 pipe {hex} 7:1:2 3 8:1:2 "),
        ] {
            assert!(Invitation::parse(&text).is_none(), "{text:?}");
        }
    }
}
