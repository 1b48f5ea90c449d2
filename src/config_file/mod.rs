//! Links and APIs that a file describes: either end is made from it, with the handlers that the program has.
//!
//! ```
//! use nape::{Context, Fault, config_file::{ConfigFile, Handlers}};
//!
//! let file = ConfigFile::parse(r#"
//!     [links.words]
//!     meet = { address = "tcp:127.0.0.1:0", token_file = "/run/user/1000/words.token" }
//!     config = { timeout = "5s", limits.message_bytes = "64 KiB" }
//!     head.serve = ["words"]
//!
//!     [apis.words]
//!     workers = 2
//!     methods = ["count"]
//! "#)?;
//! let count = |_: &Context, text: String| Ok::<_, Fault>(text.split_whitespace().count());
//! let api = file.api("words", &Handlers::new().handle("words.count", count)?)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`guide::configuration`](crate::guide::configuration) has all keys. This module knows no transport and no link: it
//! says what others are to make.

mod caller;
mod error;
mod handlers;
mod reader;
mod schema;

use std::{fmt, fs, path::Path, process::Command, sync::Arc};

use serde::{Deserialize, Deserializer, de::Error as _};

pub use caller::Caller;
pub use error::{BadValue, ConfigError};
pub use handlers::Handlers;

use crate::{
    api::{Api, Endpoint},
    error::Error,
    head::{Head, HeadBuilder},
    listener::{Listener, ListenerBuilder},
    neck::{Neck, NeckBuilder},
    process::Wire,
    socket::{Allow, Token},
    supervisor::{Supervisor, SupervisorBuilder},
    wire::Side,
};
use reader::{Mistake, nearest};
use schema::{Document, LinkPlan, Listens, Meet, Spawn, keys, refused};

/// What a file describes: links and APIs, by name. Whatever could be found wrong without the program is not.
///
/// As a text it is a summary, a line for each link and each API. It can be deserialized from other formats than TOML,
/// with the same checks; errors then have no lines but those of the format.
#[derive(Clone, Debug)]
pub struct ConfigFile(Document);

/// Reads a file, and says in words what it describes: for a command that checks files.
///
/// Does not block for longer than it takes to read it. Makes nothing: neither that a program is there nor that an
/// address is free is looked at.
///
/// # Errors
///
/// [`ConfigError::Read`] and [`ConfigError::Bad`], whose text is one line that says where what is wrong.
///
/// ```
/// let path = std::env::temp_dir().join(format!("check-{}.toml", std::process::id()));
/// std::fs::write(&path, "[apis.words]\nmethods = ['count']\nworker = 2\n")?;
/// let error = nape::config_file::check(&path).unwrap_err().to_string();
/// assert!(error.contains(":3:1: apis.words.worker: found the key `worker`, which is unknown"), "{error}");
/// assert!(error.ends_with("is `workers` meant?"), "{error}");
/// # std::fs::remove_file(path)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn check(path: impl AsRef<Path>) -> Result<String, ConfigError> {
    ConfigFile::read(path).map(|file| file.to_string())
}

impl ConfigFile {
    /// Reads a file. Does not block for longer than that takes.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Read`] when it cannot be read, [`ConfigError::Bad`] when something in it is wrong.
    pub fn read(path: impl AsRef<Path>) -> Result<ConfigFile, ConfigError> {
        let path = path.as_ref();
        let read = |error| ConfigError::Read { path: path.to_owned(), error: Arc::new(error) };
        let text = fs::read_to_string(path).map_err(read)?;
        ConfigFile::parse(&text).map_err(|bad| BadValue { file: Some(path.to_owned()), ..bad }.into())
    }

    /// Takes the text of a file.
    ///
    /// # Errors
    ///
    /// The first value that is wrong, with the line where it stands.
    ///
    /// ```
    /// use nape::config_file::ConfigFile;
    ///
    /// let bad = ConfigFile::parse("[apis.words]\nmethods = ['count']\nworkers = 0").unwrap_err();
    /// assert_eq!(bad.to_string(), "line 3, column 11: apis.words.workers: found 0, expected a number of at least 1");
    /// ```
    pub fn parse(text: &str) -> Result<ConfigFile, BadValue> {
        let document: Result<Document, Mistake> = reader::read(text);
        document.and_then(ConfigFile::checked).map_err(|mistake| BadValue::new(&mistake, Some(text)))
    }

    /// All that is wrong with the text of a file, in the order of the lines: for whoever writes it. Nothing if it is
    /// good, and then [`ConfigFile::parse`] takes it.
    ///
    /// Of an array the first mistake is told, and so is of what is no TOML at all. Which APIs a link serves is looked
    /// at when nothing else is wrong with it or with any API.
    ///
    /// ```
    /// use nape::config_file::ConfigFile;
    ///
    /// let wrong = ConfigFile::mistakes("[apis.words]\nmethods = ['count']\nworkers = 0\nqueu = 7");
    /// let keys: Vec<_> = wrong.iter().map(|bad| (bad.place, &*bad.key)).collect();
    /// assert_eq!(keys, [(Some((3, 11)), "apis.words.workers"), (Some((4, 1)), "apis.words.queu")]);
    /// ```
    pub fn mistakes(text: &str) -> Vec<BadValue> {
        let (document, mut mistakes) = reader::read_on::<Document>(text);
        let deeper = document.map(|document| document.mistakes(&mistakes));
        mistakes.extend(deeper.unwrap_or_default());
        let mut bad: Vec<_> = mistakes.iter().map(|mistake| BadValue::new(mistake, Some(text))).collect();
        bad.sort_by_key(|bad| bad.place);
        bad
    }

    fn checked(document: Document) -> Result<ConfigFile, Mistake> {
        match document.mistakes(&[]).into_iter().next() {
            None => Ok(ConfigFile(document)),
            Some(mistake) => Err(mistake),
        }
    }

    /// The names of the links, in order.
    pub fn links(&self) -> impl Iterator<Item = &str> {
        self.0.links.keys().map(String::as_str)
    }

    /// The names of the APIs, in order.
    pub fn apis(&self) -> impl Iterator<Item = &str> {
        self.0.api_names()
    }

    /// The API of this name, with the handlers of the program: to be served over whatever link there is.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Unknown`] when the file has no such API, [`ConfigError::NoHandler`] when the program has no
    /// handler for a method of it.
    pub fn api(&self, name: &str, handlers: &Handlers) -> Result<Api, ConfigError> {
        let plan = self.0.apis.get(name).ok_or_else(|| unknown("API", name, self.apis()))?;
        let mut missing = None;
        let api = plan.build(name, |api, method, handler| match handlers.put(api, method, handler) {
            Ok(true) => Ok(()),
            Ok(false) => {
                let path = match method {
                    Some(method) => {
                        api.namespace.join(method).map_or_else(|_| method.into(), |it| it.to_string())
                    }
                    None => format!("what else is below `{}`", api.namespace),
                };
                missing = Some((path, handler.to_owned()));
                Err(Mistake::new("no handler", handler))
            }
            Err(error) => Err(refused(format!("the handler `{handler}`"), error)),
        });
        api.map_err(|mistake| {
            let mistake = mistake.below(keys(["apis", name]));
            match missing {
                None => BadValue::new(&mistake, None).into(),
                Some((path, handler)) => {
                    let nearest = handlers.nearest(&handler);
                    ConfigError::NoHandler { key: mistake.key(), path, handler, nearest }
                }
            }
        })
    }

    /// What calls the API of this name at the other side of `endpoint`, with the defaults that the file has for it.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Unknown`] when the file has no such API.
    pub fn caller(&self, api: &str, endpoint: &Endpoint) -> Result<Caller, ConfigError> {
        let plan = self.0.apis.get(api).ok_or_else(|| unknown("API", api, self.apis()))?;
        Ok(Caller::new(endpoint.api(plan.namespace(api)), plan))
    }

    /// Makes the Head of a link: spawns its program, or connects to where the Neck listens. Blocks until the Neck is
    /// ready, for at most the [start timeout](crate::Config::start_timeout).
    ///
    /// # Errors
    ///
    /// [`ConfigError::WrongEnd`] when the Head of this link listens; [`ConfigError::Link`] when the link could not be
    /// made; else as for [`ConfigFile::api`].
    pub fn head(&self, link: &str, handlers: &Handlers) -> Result<Head, ConfigError> {
        let plan = self.link(link)?;
        if matches!(&plan.meet, Some(meet) if meet.listens == Listens::Head) {
            return Err(wrong_end(link, "its Head listens, and is made as a listener"));
        }
        if matches!(&plan.spawn, Some(Spawn { restarts: Some(_), .. })) {
            return Err(wrong_end(
                link,
                "its program is started again, and the Head is made as a supervisor",
            ));
        }
        let builder = self.head_builder(link, handlers)?;
        let made = match &plan.meet {
            Some(meet) => builder.connect(&meet.address),
            None => builder.spawn(self.command(link)?),
        };
        made.map_err(failed(link))
    }

    /// Makes the Head of a link whose program is started again, as its `spawn.restarts` says. Blocks as
    /// [`ConfigFile::head`] does.
    ///
    /// # Errors
    ///
    /// [`ConfigError::WrongEnd`] when the link has no `spawn.restarts`; else as for [`ConfigFile::head`].
    pub fn supervisor(&self, link: &str, handlers: &Handlers) -> Result<Supervisor, ConfigError> {
        let builder = self.supervisor_builder(link, handlers)?;
        builder.spawn(self.command(link)?).map_err(failed(link))
    }

    /// What [`ConfigFile::supervisor`] makes the supervisor with: for
    /// [hooks](SupervisorBuilder::on_transition). It is to spawn the [command](ConfigFile::command) of the link.
    ///
    /// # Errors
    ///
    /// As for [`ConfigFile::supervisor`].
    pub fn supervisor_builder(
        &self,
        link: &str,
        handlers: &Handlers,
    ) -> Result<SupervisorBuilder, ConfigError> {
        let Some(Spawn { restarts: Some(restarts), .. }) = &self.link(link)?.spawn else {
            return Err(wrong_end(link, "it has no `spawn.restarts`"));
        };
        Ok(self.head_builder(link, handlers)?.supervise(restarts.restarts()))
    }

    /// The program of a link, with its arguments, directory and environment: for who spawns it with a builder.
    ///
    /// # Errors
    ///
    /// [`ConfigError::WrongEnd`] when the link is none to a child.
    pub fn command(&self, link: &str) -> Result<Command, ConfigError> {
        let Some(spawn) = &self.link(link)?.spawn else {
            return Err(wrong_end(link, "its ends meet, and no program is spawned"));
        };
        let mut command = Command::new(&spawn.program);
        command.args(&spawn.arguments).envs(&spawn.environment);
        if let Some(directory) = &spawn.directory {
            command.current_dir(directory);
        }
        Ok(command)
    }

    /// Makes the Neck of a link: finds the Head that spawned this process, or connects to where it listens. To be
    /// [started](Neck::start) or [run](Neck::run). Blocks until the Head has greeted, for at most the
    /// [start timeout](crate::Config::start_timeout).
    ///
    /// # Errors
    ///
    /// [`ConfigError::WrongEnd`] when the Neck of this link listens; else as for [`ConfigFile::head`].
    pub fn neck(&self, link: &str, handlers: &Handlers) -> Result<Neck, ConfigError> {
        let plan = self.link(link)?;
        if matches!(&plan.meet, Some(meet) if meet.listens == Listens::Neck) {
            return Err(wrong_end(link, "its Neck listens, and is made as a listener"));
        }
        let builder = self.neck_builder(link, handlers)?;
        let made = match &plan.meet {
            None => builder.from_env(),
            Some(meet) => builder.connect(&meet.address),
        };
        made.map_err(failed(link))
    }

    /// Waits for others to connect, at the end of the link that listens. If the link has a file for the token, a new
    /// token is written into it, once nobody else can listen at the address. Does not block.
    ///
    /// # Errors
    ///
    /// [`ConfigError::WrongEnd`] when the link is one to a child; [`ConfigError::Token`] when the token cannot be
    /// written; else as for [`ConfigFile::head`].
    pub fn listener(&self, link: &str, handlers: &Handlers) -> Result<Listener, ConfigError> {
        let plan = self.link(link)?;
        let builder = self.listener_builder(link, handlers)?;
        let meet = plan.meet.as_ref().expect("there is a builder only for those that meet");
        let listener = builder.listen(&meet.address).map_err(failed(link))?;
        if let (Some(path), Some(token)) = (&meet.token_file, listener.token()) {
            token.write(path).map_err(bad_token(link, path))?;
        }
        Ok(listener)
    }

    /// What [`ConfigFile::head`] makes the Head with: for hooks, and other means to meet.
    ///
    /// # Errors
    ///
    /// As for [`ConfigFile::api`], and [`ConfigError::Token`] when it needs one that cannot be read.
    pub fn head_builder(&self, link: &str, handlers: &Handlers) -> Result<HeadBuilder, ConfigError> {
        let plan = self.link(link)?;
        let mut builder = Head::builder().config(plan.config(Side::Head));
        for name in &plan.head.serve {
            builder = builder.serve(self.api(name, handlers)?);
        }
        if let Some(Meet { users: Some(users), .. }) = &plan.meet {
            builder = builder.allow(Allow::users(users.iter().copied()));
        }
        if let Some(token) = token(link, plan, Listens::Head)? {
            builder = builder.token(token);
        }
        Ok(builder.wire(plan.spawn.as_ref().map_or(Wire::default(), |spawn| spawn.wire)))
    }

    /// What [`ConfigFile::neck`] makes the Neck with.
    ///
    /// # Errors
    ///
    /// As for [`ConfigFile::head_builder`].
    pub fn neck_builder(&self, link: &str, handlers: &Handlers) -> Result<NeckBuilder, ConfigError> {
        let plan = self.link(link)?;
        let mut builder = Neck::builder().config(plan.config(Side::Neck));
        for name in &plan.neck.serve {
            builder = builder.serve(self.api(name, handlers)?);
        }
        if let Some(Meet { users: Some(users), .. }) = &plan.meet {
            builder = builder.allow(Allow::users(users.iter().copied()));
        }
        if let Some(token) = token(link, plan, Listens::Neck)? {
            builder = builder.token(token);
        }
        Ok(builder)
    }

    /// What [`ConfigFile::listener`] makes the listener with. Its token is then to be written by whoever listens.
    ///
    /// # Errors
    ///
    /// As for [`ConfigFile::listener`].
    pub fn listener_builder(&self, link: &str, handlers: &Handlers) -> Result<ListenerBuilder, ConfigError> {
        let plan = self.link(link)?;
        let Some(meet) = &plan.meet else {
            return Err(wrong_end(link, "it is a link to a child, and nobody listens"));
        };
        let builder = match meet.listens {
            Listens::Head => self.head_builder(link, handlers)?.listening(),
            Listens::Neck => self.neck_builder(link, handlers)?.listening(),
        };
        Ok(meet.max_peers.into_iter().fold(builder, ListenerBuilder::max_peers))
    }

    fn link(&self, name: &str) -> Result<&LinkPlan, ConfigError> {
        self.0.links.get(name).ok_or_else(|| unknown("link", name, self.links()))
    }
}

impl<'de> Deserialize<'de> for ConfigFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ConfigFile, D::Error> {
        ConfigFile::checked(Document::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl fmt::Display for ConfigFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let served = |names: &[String]| if names.is_empty() { "nothing".into() } else { names.join(", ") };
        for (name, plan) in &self.0.links {
            match (&plan.spawn, &plan.meet) {
                (Some(spawn), _) => write!(f, "link {name}: the Head spawns {}", spawn.program.display())?,
                (None, Some(Meet { listens: Listens::Head, address, .. })) => {
                    write!(f, "link {name}: the Head listens at {address}")?;
                }
                (None, Some(Meet { address, .. })) => {
                    write!(f, "link {name}: the Neck listens at {address}")?
                }
                (None, None) => write!(f, "link {name}")?,
            }
            writeln!(
                f,
                "; the Head serves {}, the Neck {}",
                served(&plan.head.serve),
                served(&plan.neck.serve)
            )?;
        }
        for (name, plan) in &self.0.apis {
            let (namespace, n) = (plan.namespace(name), plan.methods.len());
            let below = if namespace.is_empty() { "the root".into() } else { format!("`{namespace}`") };
            let rest = if plan.otherwise.is_some() { " and the rest" } else { "" };
            writeln!(f, "API {name}: {n} method{}{rest} below {below}", if n == 1 { "" } else { "s" })?;
        }
        Ok(())
    }
}

/// What both sides know: a new one for who listens, that of the file for who connects.
fn token(link: &str, plan: &LinkPlan, end: Listens) -> Result<Option<Token>, ConfigError> {
    let Some(Meet { token_file: Some(path), listens, .. }) = &plan.meet else { return Ok(None) };
    let token = if *listens == end { Token::random() } else { Token::read(path) };
    token.map(Some).map_err(bad_token(link, path))
}

fn bad_token<'a>(link: &'a str, path: &'a Path) -> impl Fn(std::io::Error) -> ConfigError + 'a {
    move |error| ConfigError::Token { link: link.into(), path: path.into(), error: Arc::new(error) }
}

fn failed(link: &str) -> impl Fn(Error) -> ConfigError {
    move |error| ConfigError::Link { link: link.into(), error }
}

fn wrong_end(link: &str, why: &'static str) -> ConfigError {
    ConfigError::WrongEnd { link: link.into(), why }
}

fn unknown<'a>(kind: &'static str, name: &str, known: impl Iterator<Item = &'a str>) -> ConfigError {
    ConfigError::Unknown { kind, name: name.into(), nearest: nearest(name, known).map(str::to_owned) }
}
