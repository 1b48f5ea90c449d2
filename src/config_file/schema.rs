//! What may stand in a file, and what must not stand there together.

use std::{collections::BTreeMap, fmt, marker::PhantomData, path::PathBuf, time::Duration};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Unexpected, Visitor},
};

use super::reader::{Mistake, Step};
use crate::{
    api::{Api, ApiArb, Context, Handler, WhenFull},
    config::{Config, Timeout, read},
    error::ApiError,
    process::Wire,
    socket::Address,
    supervisor::Restarts,
    wire::{Fault, Payload, Side},
};

/// All of it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct Document {
    pub(super) links: BTreeMap<String, LinkPlan>,
    pub(super) apis: BTreeMap<String, ApiPlan>,
}

/// How two ends come together, and what each serves.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct LinkPlan {
    pub(super) spawn: Option<Spawn>,
    pub(super) meet: Option<Meet>,
    pub(super) config: Option<Config>,
    pub(super) head: End,
    pub(super) neck: End,
}

/// A program that the Head starts.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct Spawn {
    pub(super) program: PathBuf,
    #[serde(default)]
    pub(super) arguments: Vec<String>,
    #[serde(default)]
    pub(super) directory: Option<PathBuf>,
    #[serde(default)]
    pub(super) environment: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) wire: Wire,
    /// There if it is started again.
    #[serde(default)]
    pub(super) restarts: Option<RestartPlan>,
}

/// When a program is started again. What is missing is as [`Restarts`] has it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct RestartPlan {
    when: When,
    limit: Option<Within>,
    backoff: Option<Backoff>,
    #[serde(deserialize_with = "some_crashes")]
    poisonous_after: Option<u32>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum When {
    Never,
    #[default]
    OnCrash,
    Always,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table with `restarts` and `window`")]
struct Within {
    #[serde(deserialize_with = "read::count::<_, _, 0, 4294967295>")]
    restarts: u32,
    #[serde(deserialize_with = "read::time")]
    window: Duration,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table with `first` and `longest`")]
struct Backoff {
    #[serde(deserialize_with = "read::time")]
    first: Duration,
    #[serde(deserialize_with = "read::time")]
    longest: Duration,
}

impl RestartPlan {
    pub(super) fn restarts(&self) -> Restarts {
        let mut restarts = match self.when {
            When::Never => Restarts::never(),
            When::OnCrash => Restarts::on_crash(),
            When::Always => Restarts::always(),
        };
        if let Some(Within { restarts: most, window }) = self.limit {
            restarts = restarts.limit(most, window);
        }
        if let Some(Backoff { first, longest }) = self.backoff {
            restarts = restarts.backoff(first, longest);
        }
        self.poisonous_after.into_iter().fold(restarts, Restarts::poisonous_after)
    }
}

/// Where two programs meet that run already.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct Meet {
    #[serde(deserialize_with = "address")]
    pub(super) address: Address,
    #[serde(default)]
    pub(super) listens: Listens,
    #[serde(default, deserialize_with = "at_least_one")]
    pub(super) max_peers: Option<usize>,
    #[serde(default)]
    pub(super) token_file: Option<PathBuf>,
    #[serde(default)]
    pub(super) users: Option<Vec<u32>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Listens {
    #[default]
    Head,
    Neck,
}

/// What one end has of its own.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct End {
    pub(super) config: Option<Config>,
    pub(super) serve: Vec<String>,
}

/// What is served, and how it is called.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct ApiPlan {
    pub(super) namespace: Option<String>,
    #[serde(deserialize_with = "at_least_one")]
    pub(super) workers: Option<usize>,
    #[serde(deserialize_with = "at_least_one")]
    pub(super) queue: Option<usize>,
    pub(super) when_full: Option<WhenFull>,
    pub(super) inline: bool,
    pub(super) defaults: Defaults,
    #[serde(deserialize_with = "methods")]
    pub(super) methods: BTreeMap<String, Method>,
    pub(super) otherwise: Option<String>,
}

/// What holds for calls that say nothing else.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct Defaults {
    pub(super) timeout: Option<Timeout>,
    pub(super) retry_safe: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct Method {
    pub(super) handler: Option<String>,
    pub(super) timeout: Option<Timeout>,
    pub(super) retry_safe: Option<bool>,
}

impl Document {
    /// What no single value is wrong about, leaving out what is `known` to be wrong anyway.
    pub(super) fn mistakes(&self, known: &[Mistake]) -> Vec<Mistake> {
        let is_known = |steps: &[Step]| known.iter().any(|mistake| mistake.is_below(steps));
        let mut found = Vec::new();
        for (name, api) in &self.apis {
            let steps = keys(["apis", name]);
            if !is_known(&steps) {
                found.extend(api.validate(name).err().map(|mistake| mistake.below(steps)));
            }
        }
        // A link names APIs, and one that is left out is not missing.
        let links = self.links.iter().filter(|_| !is_known(&keys(["apis"])));
        for (name, link) in links {
            let steps = keys(["links", name]);
            if !is_known(&steps) {
                found.extend(link.mistakes(self).map(|mistake| mistake.below(steps.clone())));
            }
        }
        found
    }

    pub(super) fn api_names(&self) -> impl Iterator<Item = &str> {
        self.apis.keys().map(String::as_str)
    }
}

impl LinkPlan {
    pub(super) fn end(&self, side: Side) -> &End {
        match side {
            Side::Head => &self.head,
            Side::Neck => &self.neck,
        }
    }

    /// The one of the end stands instead of that of the link.
    pub(super) fn config(&self, side: Side) -> Config {
        self.end(side).config.clone().or_else(|| self.config.clone()).unwrap_or_default()
    }

    fn mistakes(&self, document: &Document) -> impl Iterator<Item = Mistake> {
        let way = match (&self.spawn, &self.meet) {
            (Some(_), None) => None,
            (None, Some(meet)) => meet.validate().err().map(|mistake| mistake.below(keys(["meet"]))),
            (None, None) => Some(Mistake::new("neither `spawn` nor `meet`", "one of them")),
            (Some(_), Some(_)) => {
                Some(Mistake::new("both `spawn` and `meet`", "one of them").below(keys(["meet"])))
            }
        };
        let of_end = |(end, name): (&End, _)| {
            end.validate(document).err().map(|mistake| mistake.below(keys([name, "serve"])))
        };
        way.into_iter().chain([(&self.head, "head"), (&self.neck, "neck")].into_iter().filter_map(of_end))
    }
}

impl Meet {
    fn validate(&self) -> Result<(), Mistake> {
        if self.address.socket_addr().is_none() {
            return Ok(());
        }
        if self.users.is_some() {
            let expected = "no such key: over TCP nobody knows the user of a peer";
            return Err(Mistake::new("a list of users", expected).below(keys(["users"])));
        }
        if self.token_file.is_none() {
            let expected = "the path of a file: over TCP both sides must know a token";
            return Err(Mistake::new("nothing", expected).below(keys(["token_file"])));
        }
        Ok(())
    }
}

impl End {
    /// That each name is one of an API, and that these fit together.
    fn validate(&self, document: &Document) -> Result<(), Mistake> {
        let arb = ApiArb::default();
        for (index, name) in self.serve.iter().enumerate() {
            let at = |mistake: Mistake| mistake.below([Step::Index(index)]);
            let Some(plan) = document.apis.get(name) else {
                return Err(at(Mistake::unknown(name, "API", document.api_names())));
            };
            // One that is wrong itself has said so.
            let Ok(api) = plan.build(name, |api, method, _| stand_in(api, method)) else { continue };
            arb.attach(api).map_err(|error| at(refused(format!("the API `{name}`"), error)))?;
        }
        Ok(())
    }
}

impl ApiPlan {
    pub(super) fn namespace<'a>(&'a self, name: &'a str) -> &'a str {
        self.namespace.as_deref().unwrap_or(name)
    }

    /// The API without handlers, to which `add` then adds each method and, as `None`, the rest. It is given the
    /// name of the handler.
    pub(super) fn build(
        &self,
        name: &str,
        mut add: impl FnMut(&mut Api, Option<&str>, &str) -> Result<(), Mistake>,
    ) -> Result<Api, Mistake> {
        let namespace = self.namespace(name);
        let mut api = Api::new(namespace);
        if let Some(error) = &api.bad {
            return Err(refused(format!("{namespace:?}"), error.clone()).below(keys(["namespace"])));
        }
        (api.workers, api.inline) = (self.workers.unwrap_or(api.workers), self.inline);
        (api.bound, api.when_full) =
            (self.queue.unwrap_or(api.bound), self.when_full.unwrap_or(api.when_full));
        for (path, method) in &self.methods {
            let at = |mistake: Mistake| mistake.below(keys(["methods", path]));
            let full =
                api.namespace.join(path).map_err(|error| at(refused(format!("{path:?}"), error.into())))?;
            let handler = method.handler.as_deref().unwrap_or(full.as_str());
            add(&mut api, Some(path), handler).map_err(at)?;
        }
        if let Some(handler) = &self.otherwise {
            add(&mut api, None, handler).map_err(|mistake| mistake.below(keys(["otherwise"])))?;
        }
        Ok(api)
    }

    fn validate(&self, name: &str) -> Result<(), Mistake> {
        self.build(name, |api, method, _| stand_in(api, method))?;
        if self.methods.is_empty() && self.otherwise.is_none() {
            return Err(Mistake::new("no method", "`methods` or `otherwise`"));
        }
        Ok(())
    }
}

/// What an API says to what it is made of.
pub(super) fn refused(found: String, error: ApiError) -> Mistake {
    Mistake::new(found, format!("another one: {error}"))
}

/// Steps into tables.
pub(super) fn keys<'a>(keys: impl IntoIterator<Item = &'a str>) -> Vec<Step> {
    keys.into_iter().map(|key| Step::Key(key.to_owned())).collect()
}

fn stand_in(api: &mut Api, method: Option<&str>) -> Result<(), Mistake> {
    let handler = Handler::new(|_: &Context, raw: Payload| Ok::<_, Fault>(raw));
    let scope = if method.is_some() { crate::api::Scope::Exact } else { crate::api::Scope::CatchAll };
    let path = method.unwrap_or_default();
    api.insert(path, scope, handler).map_err(|error| refused(format!("{path:?}"), error))
}

fn some_crashes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    read::count::<_, _, 1, 4_294_967_295>(deserializer).map(Some)
}

fn at_least_one<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    read::count::<_, _, 1, { u64::MAX }>(deserializer).map(Some)
}

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Address, D::Error> {
    struct Text;

    impl Visitor<'_> for Text {
        type Value = Address;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an address such as \"unix:/run/app.sock\" or \"tcp:127.0.0.1:4711\"")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Address, E> {
            let why =
                |error| format!("an address such as \"unix:/run/app.sock\" or \"tcp:[::1]:80\": {error}");
            text.parse().map_err(|error| Error::invalid_value(Unexpected::Str(text), &why(error).as_str()))
        }
    }

    deserializer.deserialize_str(Text)
}

/// Names in an array, or a table with more about each.
fn methods<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, Method>, D::Error> {
    struct Methods(PhantomData<Method>);

    impl<'de> Visitor<'de> for Methods {
        type Value = BTreeMap<String, Method>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an array of names, or a table")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut names: A) -> Result<Self::Value, A::Error> {
            let mut methods = BTreeMap::new();
            while let Some(name) = names.next_element::<String>()? {
                methods.insert(name, Method::default());
            }
            Ok(methods)
        }

        fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
            let mut methods = BTreeMap::new();
            while let Some((name, method)) = entries.next_entry::<String, Method>()? {
                methods.insert(name, method);
            }
            Ok(methods)
        }
    }

    deserializer.deserialize_any(Methods(PhantomData))
}
