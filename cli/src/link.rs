//! The link to the program that is looked into.

use std::time::Duration;

use nape::{
    Allow, ApiHandle, CallError, CloseReason, Codec, Config, Endpoint, Error, Head, Neck, Payload,
    ProtocolError, StartError, Token,
};
use serde::de::DeserializeOwned;

use crate::{args::Target, trouble::Trouble};

/// A program that was met: by a Head or by a Neck, whichever it takes.
pub(crate) struct Met {
    end: End,
    pub(crate) address: String,
}

enum End {
    Head(Head),
    Neck(Neck),
}

impl Met {
    /// Nobody says which side listens at an address. So this is a Neck first, as that is the rule, and a Head if
    /// that does not fit.
    pub(crate) fn connect(target: &Target) -> Result<Met, Trouble> {
        let token = token(target)?;
        let end = match as_neck(target, token) {
            Err(error) if wants_the_other_side(&error) => as_head(target, token).map(End::Head),
            neck => neck.map(End::Neck),
        };
        let end = end.map_err(|error| Trouble::not_met(&error))?;
        Ok(Met { end, address: target.address.to_string() })
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        match &self.end {
            End::Head(head) => head.endpoint(),
            End::Neck(neck) => neck.endpoint(),
        }
    }

    /// All paths of it.
    pub(crate) fn root(&self) -> ApiHandle {
        self.endpoint().api("")
    }

    /// Ends the link, and all calls with it.
    pub(crate) fn close(&self) {
        match &self.end {
            End::Head(head) => head.close(),
            End::Neck(neck) => neck.close(),
        }
    }

    /// Calls a method of the inspection. It is called by name, so that a program with another version of the library
    /// answers, too, if its answer fits.
    pub(crate) fn ask<T: DeserializeOwned + 'static>(&self, what: &str) -> Result<T, Trouble> {
        let path = format!("nape.{what}");
        let answer = self.endpoint().api("nape").action(what, ()).call();
        answer.map_err(|error| self.trouble(&error, &path))
    }

    /// Calls any path with JSON; its result is JSON, unless its handler deals in raw bytes.
    pub(crate) fn call(&self, path: &str, arguments: &[u8]) -> Result<Payload, CallError> {
        let payload = Payload::from_bytes(arguments.to_vec());
        self.root().action(path, payload).call()
    }

    pub(crate) fn trouble(&self, error: &CallError, path: &str) -> Trouble {
        Trouble::of_call(error, path, self.endpoint(), &self.address)
    }
}

/// A limit for each call, and JSON.
fn config(target: &Target) -> Config {
    let limit = target.timeout.min(LONGEST_START);
    Config::new().codec(Codec::Json).timeout(target.timeout).start_timeout(limit)
}

fn as_neck(target: &Target, token: Option<Token>) -> Result<Neck, Error> {
    let mut builder = Neck::builder().config(config(target)).allow(allow(target));
    if let Some(token) = token {
        builder = builder.token(token);
    }
    Ok(builder.connect(&target.address)?.start())
}

fn as_head(target: &Target, token: Option<Token>) -> Result<Head, Error> {
    let mut builder = Head::builder().config(config(target)).allow(allow(target));
    if let Some(token) = token {
        builder = builder.token(token);
    }
    builder.connect(&target.address)
}

fn allow(target: &Target) -> Allow {
    if target.uid.is_empty() { Allow::same_user() } else { Allow::users(target.uid.iter().copied()) }
}

/// From the file, else from the environment; never from the command line, which everybody can see.
fn token(target: &Target) -> Result<Option<Token>, Trouble> {
    if let Some(file) = &target.token {
        let wrong = |error| Trouble::usage(format!("--token {}: {error}", file.display()));
        return Token::read(file).map(Some).map_err(wrong);
    }
    match std::env::var("NAPE_TOKEN") {
        Ok(text) if !text.is_empty() => {
            text.trim().parse().map(Some).map_err(|error| Trouble::usage(format!("NAPE_TOKEN: {error}")))
        }
        _ => Ok(None),
    }
}

/// Whether whoever listens there is of the same side.
fn wants_the_other_side(error: &Error) -> bool {
    let Error::Start(StartError::NotMet { reason, .. }) = error else { return false };
    let not_a_peer = ProtocolError::NotAPeer { expected: nape::Side::Head }.code();
    match &**reason {
        CloseReason::Accused { code } => *code == not_a_peer,
        CloseReason::Protocol(error) => error.code() == not_a_peer,
        _ => false,
    }
}

/// A link that says nothing for longer is none.
const LONGEST_START: Duration = Duration::from_secs(60);
