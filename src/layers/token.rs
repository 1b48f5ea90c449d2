//! Calls that show a secret.

use std::fmt;

use crate::{
    api::{Layer, LayerCall, Leave},
    error::{CallError, Rejection},
};

/// Puts a secret before the arguments of each call: for the side that calls, where the other one has a
/// [`CheckToken`]. Values are encoded for it within one process, too.
///
/// It must be the innermost layer, nearest to the wire, and [`CheckToken`] the outermost: the layers between the two
/// see the arguments as they are. On the wire it stands as it is: whoever can read that needs an encrypted one.
///
/// ```
/// use nape::{Api, Context, Fault, Head, layers::{CheckToken, SendToken}};
///
/// let (head, neck) = Head::in_process()?;
/// let api = Api::new("door").handle("open", |_: &Context, n: u8| Ok::<_, Fault>(n))?;
/// let _neck = neck.serve(api.layer(CheckToken::new("sesame")))?.start();
///
/// let door = head.api("door");
/// assert!(door.action("open", 1u8).call::<u8>().is_err());
/// assert_eq!(door.layer(SendToken::new("sesame")).action("open", 1u8).call::<u8>()?, 1);
/// # Ok::<(), nape::Error>(())
/// ```
pub struct SendToken(Vec<u8>);

impl SendToken {
    /// With this secret.
    ///
    /// # Panics
    ///
    /// When it is longer than 255 bytes.
    pub fn new(token: impl Into<Vec<u8>>) -> SendToken {
        SendToken(checked(token.into()))
    }
}

impl Layer for SendToken {
    fn enter(&self, call: &mut LayerCall<'_>) -> Result<Leave, CallError> {
        let arguments = call.bytes();
        let mut bytes = Vec::with_capacity(1 + self.0.len() + arguments.len());
        // Checked when it was made.
        bytes.push(self.0.len() as u8);
        bytes.extend_from_slice(&self.0);
        bytes.extend_from_slice(&arguments);
        call.set_bytes(bytes);
        Ok(Leave::nothing())
    }
}

/// Refuses each call that does not show one of its secrets, as [denied](Rejection::Denied), and takes the secret
/// away from the arguments of the others: for the side that serves, where callers have a [`SendToken`]. Events are
/// dropped and reported. Secrets are compared in a time that says nothing about them but their length.
pub struct CheckToken(Vec<Vec<u8>>);

impl CheckToken {
    /// Whoever has this secret may call.
    ///
    /// # Panics
    ///
    /// When it is longer than 255 bytes.
    pub fn new(token: impl Into<Vec<u8>>) -> CheckToken {
        CheckToken(vec![checked(token.into())])
    }

    /// Whoever has this one may call, too: while one takes the place of another, for example.
    ///
    /// # Panics
    ///
    /// When it is longer than 255 bytes.
    pub fn or(mut self, token: impl Into<Vec<u8>>) -> CheckToken {
        self.0.push(checked(token.into()));
        self
    }

    fn knows(&self, shown: &[u8]) -> bool {
        let is_it = |token: &Vec<u8>| {
            let differ = token.iter().zip(shown).fold(0, |differ, (a, b)| differ | (a ^ b));
            token.len() == shown.len() && std::hint::black_box(differ) == 0
        };
        // All of them, whichever it is.
        self.0.iter().fold(false, |known, token| known | is_it(token))
    }
}

impl Layer for CheckToken {
    fn enter(&self, call: &mut LayerCall<'_>) -> Result<Leave, CallError> {
        let rest = {
            let bytes = call.bytes();
            let shown = bytes.split_first().and_then(|(len, rest)| rest.split_at_checked(usize::from(*len)));
            shown.filter(|(shown, _)| self.knows(shown)).map(|(_, rest)| rest.to_vec())
        };
        let Some(rest) = rest else {
            return Err(Rejection::Denied { path: call.path().clone() }.into());
        };
        call.set_bytes(rest);
        Ok(Leave::nothing())
    }
}

fn checked(token: Vec<u8>) -> Vec<u8> {
    assert!(token.len() <= 255, "a token of {} bytes is longer than 255", token.len());
    token
}

impl fmt::Debug for SendToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SendToken(..)")
    }
}

impl fmt::Debug for CheckToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CheckToken(..)")
    }
}
