//! Reads the attribute and the trait, as they stand there.

use proc_macro2::TokenStream;
use syn::{
    Attribute, Error, Expr, ExprLit, Ident, ItemTrait, Lit, LitInt, LitStr, Meta, Path, Result, Token,
    TraitItem, TraitItemFn, ext::IdentExt, parse::ParseStream,
};

use crate::Mistakes;

/// A trait with the attribute on it.
pub(crate) struct Parsed {
    pub(crate) options: Options,
    /// Without its items.
    pub(crate) item: ItemTrait,
    pub(crate) methods: Vec<Method>,
    /// What else stands in the trait.
    pub(crate) others: Vec<TraitItem>,
}

/// What stands in the parentheses of the attribute.
#[derive(Default)]
pub(crate) struct Options {
    pub(crate) namespace: Option<LitStr>,
    pub(crate) timeout: Option<LitStr>,
    pub(crate) workers: Option<LitInt>,
    /// The word itself, where it stands.
    pub(crate) inline: Option<Ident>,
    /// The path of the library, where it is not `::nape`.
    pub(crate) library: Option<Path>,
}

/// A method, and what its attributes say. Those that are ours are no longer on it.
pub(crate) struct Method {
    pub(crate) item: TraitItemFn,
    pub(crate) event: Option<Attribute>,
    pub(crate) nested: Option<Attribute>,
    pub(crate) stream: Option<Attribute>,
    pub(crate) topic: Option<Attribute>,
    pub(crate) path: Option<LitStr>,
    pub(crate) timeout: Option<LitStr>,
    /// The text of its doc comment.
    pub(crate) doc: String,
    /// What counts for all that is made of it: conditions, and that it is deprecated.
    pub(crate) shared: Vec<Attribute>,
    /// Whether its attributes were wrong.
    pub(crate) is_wrong: bool,
}

pub(crate) fn parse(attribute: TokenStream, item: TokenStream, mistakes: &mut Mistakes) -> Result<Parsed> {
    let mut item: ItemTrait = syn::parse2(item)
        .map_err(|error| Error::new(error.span(), format!("#[nape::api] goes on a trait: {error}")))?;
    let options = mistakes.parse(options, attribute).unwrap_or_default();
    let (mut methods, mut others) = (Vec::new(), Vec::new());
    for part in std::mem::take(&mut item.items) {
        match part {
            TraitItem::Fn(part) => methods.push(method(part, mistakes)),
            other => others.push(other),
        }
    }
    Ok(Parsed { options, item, methods, others })
}

/// `"name.space", timeout = "2s", workers = 4, inline, crate = "path"`, each of which may be missing.
fn options(input: ParseStream<'_>) -> Result<Options> {
    let mut options = Options::default();
    if input.peek(Lit) {
        options.namespace = Some(input.parse()?);
    }
    while !input.is_empty() {
        if options.namespace.is_some() || options.any() {
            input.parse::<Token![,]>()?;
            if input.is_empty() {
                break;
            }
        }
        let name = input.call(Ident::parse_any).map_err(|error| Error::new(error.span(), UNKNOWN_OPTION))?;
        if !["timeout", "workers", "inline", "crate"].iter().any(|known| name == known) {
            return Err(Error::new(name.span(), UNKNOWN_OPTION));
        }
        let twice = || Error::new(name.span(), format!("`{name}` stands here twice"));
        if name == "inline" {
            options.inline.replace(name.clone()).map_or(Ok(()), |_| Err(twice()))?;
            continue;
        }
        input.parse::<Token![=]>()?;
        let put = match name.to_string().as_str() {
            "timeout" => options.timeout.replace(input.parse()?).is_none(),
            "workers" => options.workers.replace(input.parse()?).is_none(),
            _ => options.library.replace(input.parse::<LitStr>()?.parse()?).is_none(),
        };
        put.then_some(()).ok_or_else(twice)?;
    }
    Ok(options)
}

impl Options {
    fn any(&self) -> bool {
        self.timeout.is_some() || self.workers.is_some() || self.inline.is_some() || self.library.is_some()
    }
}

fn method(mut item: TraitItemFn, mistakes: &mut Mistakes) -> Method {
    let before = mistakes.n();
    let attributes = std::mem::take(&mut item.attrs);
    let (event, nested, stream, topic, path, timeout) = (None, None, None, None, None, None);
    let (doc, shared) = (String::new(), Vec::new());
    let mut method =
        Method { item, event, nested, stream, topic, path, timeout, doc, shared, is_wrong: false };
    for attribute in attributes {
        method.take(attribute, mistakes);
    }
    method.is_wrong = mistakes.n() > before;
    method
}

impl Method {
    fn take(&mut self, attribute: Attribute, mistakes: &mut Mistakes) {
        let name = attribute.path().get_ident().map(Ident::to_string).unwrap_or_default();
        let twice = match name.as_str() {
            "event" => self.event.replace(plain(attribute.clone(), mistakes)).is_some(),
            "nested" => self.nested.replace(plain(attribute.clone(), mistakes)).is_some(),
            "topic" => self.topic.replace(plain(attribute.clone(), mistakes)).is_some(),
            "path" => put(&mut self.path, &attribute, "#[path = \"other.name\"]", mistakes),
            "timeout" => put(&mut self.timeout, &attribute, "#[timeout = \"2s\"]", mistakes),
            "stream" => self.stream.replace(plain(attribute.clone(), mistakes)).is_some(),
            "doc" => {
                self.add_doc(&attribute);
                self.item.attrs.push(attribute);
                return;
            }
            "cfg" | "deprecated" => {
                self.shared.push(attribute.clone());
                self.item.attrs.push(attribute);
                return;
            }
            "allow" | "expect" | "warn" | "deny" | "forbid" => {
                self.item.attrs.push(attribute);
                return;
            }
            _ => {
                mistakes.add(&attribute, UNKNOWN_ATTRIBUTE);
                false
            }
        };
        if twice {
            mistakes.add(&attribute, format!("`{name}` stands here twice"));
        }
    }

    fn add_doc(&mut self, attribute: &Attribute) {
        if let Some(line) = text(attribute) {
            let (line, break_before) = (line.value(), !self.doc.is_empty());
            self.doc.push_str(if break_before { "\n" } else { "" });
            self.doc.push_str(line.strip_prefix(' ').unwrap_or(&line));
        }
    }
}

/// An attribute that has to stand alone.
fn plain(attribute: Attribute, mistakes: &mut Mistakes) -> Attribute {
    if attribute.meta.require_path_only().is_err() {
        mistakes.add(&attribute, "it takes no arguments");
    }
    attribute
}

/// Takes the text of an attribute; says whether there was one already.
fn put(place: &mut Option<LitStr>, attribute: &Attribute, form: &str, mistakes: &mut Mistakes) -> bool {
    match text(attribute) {
        Some(text) => place.replace(text).is_some(),
        None => {
            mistakes.add(attribute, format!("write {form}"));
            false
        }
    }
}

/// The text of `#[name = "text"]`.
fn text(attribute: &Attribute) -> Option<LitStr> {
    match &attribute.meta {
        Meta::NameValue(pair) => match &pair.value {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.clone()),
            _ => None,
        },
        _ => None,
    }
}

const UNKNOWN_OPTION: &str = "unknown option: write `\"name.space\"` first, then `timeout = \"2s\"`, \
     `workers = 4`, `inline` or `crate = \"path\"`";
const UNKNOWN_ATTRIBUTE: &str = "unknown attribute: a method takes `event`, `nested`, `stream`, `topic`, \
     `path`, `timeout`, doc comments, `cfg`, `deprecated` and the levels of lints";
