//! Says what is wrong with a trait, and turns what is right into what the code is made of.

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::{
    Attribute, FnArg, GenericArgument, Ident, LitStr, Pat, PatType, PathArguments, ReceiverKind, ReturnType,
    Safety, Signature, TraitItem, Type, TypeImplTrait, TypeParamBound, ext::IdentExt, spanned::Spanned,
};

use crate::{
    Mistakes,
    parse::{Method, Parsed},
    streams::{self, Items},
    text,
};

/// All that is right in a trait.
pub(crate) struct Checked {
    pub(crate) namespace: String,
    pub(crate) timeout: Option<Timeout>,
    pub(crate) methods: Vec<Served>,
}

/// What a timeout says.
#[derive(Clone, Copy)]
pub(crate) enum Timeout {
    Micros(u64),
    Never,
}

/// A method that can be served and called.
pub(crate) struct Served {
    pub(crate) name: Ident,
    pub(crate) path: String,
    pub(crate) timeout: Option<Timeout>,
    pub(crate) takes_context: bool,
    pub(crate) arguments: Vec<Argument>,
    /// Behind them: where items come from, and where items go.
    pub(crate) items: Items,
    pub(crate) verb: Verb,
    pub(crate) signature: String,
    pub(crate) doc: String,
    pub(crate) shared: Vec<Attribute>,
}

/// What a method gives, and to whom.
pub(crate) enum Verb {
    Call {
        result: Returned,
    },
    Event {
        result: Returned,
    },
    /// It answers later, by its last argument.
    Deferred {
        answer: Argument,
    },
    Nested {
        api: syn::Path,
    },
    /// The iterator that it returns, perhaps in a `Result`, and one of its items.
    Stream {
        result: Returned,
        item: Returned,
    },
    Upload {
        result: Returned,
    },
    Duplex {
        result: Returned,
    },
    Topic {
        item: Type,
    },
}

/// What a method returns.
pub(crate) enum Returned {
    Plain(TokenStream),
    /// A `Result`, as it is written, and its two types where both are written.
    Fallible(TokenStream, Option<[TokenStream; 2]>),
}

pub(crate) struct Argument {
    pub(crate) name: Ident,
    /// Its type, without the reference.
    pub(crate) kind: Type,
    pub(crate) by_reference: bool,
}

pub(crate) fn check(parsed: &Parsed, mistakes: &mut Mistakes) -> Checked {
    check_trait(parsed, mistakes);
    let options = &parsed.options;
    let namespace = options.namespace.as_ref().map(LitStr::value).unwrap_or_default();
    if let Some(at) = &options.namespace
        && let Err(why) = text::check_path(&namespace)
    {
        mistakes.add(at, format!("bad namespace: {why}; leave it away for the root"));
    }
    if let Some(workers) = &options.workers
        && !workers.base10_parse::<usize>().is_ok_and(|n| n > 0)
    {
        mistakes.add(workers, "there is at least one worker");
    }
    if options.workers.is_some()
        && let Some(inline) = &options.inline
    {
        mistakes.add(inline, "inline handlers run without workers: write one of the two");
    }
    let timeout = options.timeout.as_ref().and_then(|at| text::timeout(at, mistakes));
    let mut methods: Vec<Served> = Vec::new();
    for method in &parsed.methods {
        let before = mistakes.n();
        let served = check_method(parsed, method, mistakes);
        // Which of several there is may depend on a condition: then attaching finds two that remain.
        let is_taken = |other: &Served| other.shared.is_empty() && other.path == served.path;
        if served.shared.is_empty() && methods.iter().any(is_taken) {
            let place =
                method.path.as_ref().map_or(method.item.sig.ident.to_token_stream(), LitStr::to_token_stream);
            mistakes.add(
                place,
                format!(
                    "`{}` is the path of another method: choose one by `#[path = \"other.name\"]`",
                    served.path
                ),
            );
        }
        if mistakes.n() == before && !method.is_wrong {
            methods.push(served);
        }
    }
    Checked { namespace, timeout, methods }
}

fn check_trait(parsed: &Parsed, mistakes: &mut Mistakes) {
    let item = &parsed.item;
    if !item.generics.params.is_empty() {
        mistakes.add(&item.generics, "an API has no generics: both programs must know its types");
    }
    if let Some(clause) = &item.generics.where_clause {
        mistakes.add(clause, "an API has no generics, and needs no `where`");
    }
    if let Some(unsafety) = &item.unsafety {
        mistakes.add(unsafety, "an API cannot be unsafe: leave `unsafe` away");
    }
    for other in &parsed.others {
        match other {
            TraitItem::Const(it) => {
                mistakes.add(it, "an API has no constants: make it a method, or put it beside the trait")
            }
            TraitItem::Type(it) => {
                mistakes.add(it, "an API has no types of its own: write the type where it is used")
            }
            other => mistakes.add(other, "only methods can stand in an API"),
        }
    }
}

fn check_method(parsed: &Parsed, method: &Method, mistakes: &mut Mistakes) -> Served {
    let signature = &method.item.sig;
    check_qualifiers(signature, mistakes);
    check_receiver(signature, mistakes);
    if let Some(body) = &method.item.default {
        mistakes.add(
            body,
            "a method of an API has no body here: write it where the trait is implemented, and `;` here",
        );
    }
    if RESERVED.contains(&signature.ident.to_string().as_str()) {
        let name = &signature.ident;
        mistakes.add(
            name,
            format!("`{name}` is generated: choose another name, and `#[path = \"{name}\"]` for the path"),
        );
    }
    let (takes_context, arguments, items, answer) = check_arguments(signature, mistakes);
    let travels = Travelling { takes_context, arguments: &arguments, items: &items };
    let verb = check_verb(parsed, method, travels, answer, mistakes);
    let name = signature.ident.clone();
    let path = method.path.as_ref().map_or_else(|| name.unraw().to_string(), LitStr::value);
    if let Err(why) = text::check_path(&path) {
        mistakes.add(&method.path, format!("bad path: {why}"));
    }
    Served {
        signature: text::in_words(&name, &arguments, &items, &verb, &signature.output),
        timeout: method.timeout.as_ref().and_then(|at| text::timeout(at, mistakes)),
        doc: method.doc.clone(),
        shared: method.shared.clone(),
        name,
        path,
        takes_context,
        arguments,
        items,
        verb,
    }
}

fn check_qualifiers(signature: &Signature, mistakes: &mut Mistakes) {
    if let Some(constness) = &signature.constness {
        mistakes.add(constness, "a method of an API runs elsewhere: leave `const` away");
    }
    if let Some(asyncness) = &signature.asyncness {
        mistakes.add(
            asyncness,
            "a handler is a plain function: leave `async` away; the caller may await what `start` gives",
        );
    }
    if let Safety::Unsafe(unsafety) = &signature.safety {
        mistakes.add(unsafety, "a method of an API cannot be unsafe: leave `unsafe` away");
    }
    if let Some(abi) = &signature.abi {
        mistakes.add(abi, "a method of an API has no ABI: leave it away");
    }
    if !signature.generics.params.is_empty() {
        mistakes.add(&signature.generics, "a method of an API has no generics: write the types that travel");
    }
    if let Some(clause) = &signature.generics.where_clause {
        mistakes.add(clause, "a method of an API has no generics, and needs no `where`");
    }
    if let Some(variadic) = &signature.variadic {
        mistakes.add(variadic, "the number of arguments is fixed: take a `Vec`");
    }
}

fn check_receiver(signature: &Signature, mistakes: &mut Mistakes) {
    let Some(receiver) = signature.receiver() else {
        return mistakes.add(&signature.ident, "a method of an API takes `&self` first");
    };
    match &receiver.kind {
        ReceiverKind::Reference(_, None, None) => {}
        ReceiverKind::Reference(_, _, Some(_)) => {
            mistakes.add(
                receiver,
                "several calls run at once: take `&self`, and put what changes into a `Mutex`",
            );
        }
        _ => mistakes.add(receiver, "the API outlives each call: take `&self`"),
    }
}

/// Whether the first argument is the context, those that travel, the ends of streams behind them, and what
/// the last one answers by.
fn check_arguments(
    signature: &Signature,
    mistakes: &mut Mistakes,
) -> (bool, Vec<Argument>, Items, Option<Argument>) {
    let (mut takes_context, mut arguments, mut answer) = (false, Vec::new(), None);
    let mut items = Items::default();
    let typed = signature.inputs.iter().filter_map(|argument| match argument {
        FnArg::Typed(argument) => Some(argument),
        FnArg::Receiver(_) => None,
    });
    let last = typed.clone().count().saturating_sub(1);
    for (index, argument) in typed.enumerate() {
        for attribute in &argument.attrs {
            mistakes.add(attribute, "arguments take no attributes: put it on the method");
        }
        if is_context(&argument.ty) {
            takes_context = true;
            if index > 0 {
                mistakes.add(argument, "the context comes first, before what travels");
            }
        } else if let Some((is_incoming, kind)) = streams::end(&argument.ty, mistakes) {
            items.add(argument, is_incoming, kind, mistakes);
        } else if let Some(value) = responder(&argument.ty) {
            if index < last {
                mistakes.add(argument, "the responder comes last, behind what travels");
            }
            answer = check_responder(argument, value, mistakes);
        } else {
            items.must_be_last(argument, mistakes);
            arguments.extend(check_argument(argument, mistakes));
        }
    }
    items.check(mistakes);
    if arguments.len() > MAX_ARGUMENTS {
        mistakes.add(&signature.inputs, format!("at most {MAX_ARGUMENTS} arguments: put them into a struct"));
    }
    if let Some(answer) = answer.as_ref().filter(|_| items.any()) {
        mistakes.add(&answer.name, "a method with items answers when it returns: leave the responder away");
    }
    (takes_context, arguments, items, answer)
}

/// What a method answers by that answers later: its name, and the type of the answer.
fn check_responder(argument: &PatType, value: Option<&Type>, mistakes: &mut Mistakes) -> Option<Argument> {
    let Some(value) = value else {
        mistakes.add(&argument.ty, "say what it answers with, and take it by value: `Responder<T>`");
        return None;
    };
    check_travels(value, "an answer", mistakes);
    let name = argument_name(&argument.pat, mistakes)?;
    Some(Argument { name, kind: value.clone(), by_reference: false })
}

fn argument_name(pat: &Pat, mistakes: &mut Mistakes) -> Option<Ident> {
    match pat {
        Pat::Ident(pat) if pat.by_ref.is_none() && pat.mutability.is_none() && pat.subpat.is_none() => {
            Some(pat.ident.clone())
        }
        pat => {
            mistakes.add(pat, "an argument needs a name, and no pattern: it is part of the API");
            None
        }
    }
}

fn check_argument(argument: &PatType, mistakes: &mut Mistakes) -> Option<Argument> {
    let name = argument_name(&argument.pat, mistakes);
    let (kind, by_reference) = match &*argument.ty {
        Type::Reference(reference) => {
            if let Some(lifetime) = &reference.lifetime {
                mistakes.add(lifetime, "an argument lives as long as its call: leave the lifetime away");
            }
            if let Some(mutability) = &reference.mutability {
                mistakes.add(mutability, "changes do not travel back: take `&`, and return what changed");
            }
            (&*reference.elem, true)
        }
        kind => (kind, false),
    };
    check_travels(kind, "an argument", mistakes);
    Some(Argument { name: name?, kind: kind.clone(), by_reference })
}

/// Refuses types that cannot be the same in two programs: with references in them, or without a name.
pub(crate) fn check_travels(kind: &Type, what: &str, mistakes: &mut Mistakes) {
    fn look(tokens: TokenStream, found: &mut impl FnMut(&TokenTree)) {
        for token in tokens {
            found(&token);
            if let TokenTree::Group(group) = &token {
                look(group.stream(), found);
            }
        }
    }
    let mut told = false;
    look(kind.to_token_stream(), &mut |token| {
        let why = match token {
            TokenTree::Punct(punct) if punct.as_char() == '&' => {
                "has no reference in it: write an owned type"
            }
            TokenTree::Punct(punct) if punct.as_char() == '\'' => {
                "has no lifetime in it: write an owned type"
            }
            TokenTree::Ident(ident) if ident == "impl" => {
                "has a type that both programs know: write it in place of `impl`"
            }
            TokenTree::Ident(ident) if ident == "dyn" => {
                "has a type that both programs know: write it in place of `dyn`"
            }
            TokenTree::Ident(ident) if ident == "Self" => {
                "cannot be `Self`, which only one of the two programs has"
            }
            _ => return,
        };
        if !std::mem::replace(&mut told, true) {
            mistakes.add(token, format!("{what} {why}"));
        }
    });
}

/// What comes in.
#[derive(Clone, Copy)]
struct Travelling<'a> {
    takes_context: bool,
    arguments: &'a [Argument],
    items: &'a Items,
}

fn check_verb(
    parsed: &Parsed,
    method: &Method,
    Travelling { takes_context, arguments, items }: Travelling<'_>,
    answer: Option<Argument>,
    mistakes: &mut Mistakes,
) -> Verb {
    let output = &method.item.sig.output;
    if let (Some(stream), true) = (&method.stream, method.nested.is_some() || method.event.is_some()) {
        mistakes.add(stream, "a stream is neither an event nor a nested API: leave one of the two away");
    }
    if let Some(topic) = &method.topic {
        if method.nested.is_some() || method.event.is_some() {
            mistakes.add(topic, "a topic is neither an event nor a nested API: leave one of the two away");
        }
        if takes_context || !arguments.is_empty() {
            let form = "a topic is asked for once, when it is served: it takes `&self` alone";
            mistakes.add(&method.item.sig.inputs, form);
        }
        return Verb::Topic { item: topic_of(&method.item.sig, mistakes) };
    }
    match (&method.nested, &method.event) {
        (Some(_), event) => {
            if let Some(event) = event {
                mistakes.add(event, "a nested API is no event: leave one of the two away");
            }
            if let Some(timeout) = &method.timeout {
                mistakes.add(timeout, "the timeout of a nested API stands at its own trait");
            }
            if takes_context || !arguments.is_empty() || items.any() || answer.is_some() {
                mistakes.add(
                    &method.item.sig.inputs,
                    "a nested API is made once, when it is served: it takes `&self` alone",
                );
            }
            Verb::Nested { api: nested(parsed, method, mistakes) }
        }
        (None, Some(_)) => {
            if let Some(timeout) = &method.timeout {
                mistakes.add(timeout, "nobody waits for an event: leave the timeout away");
            }
            items.refuse("an event takes no items: leave `#[event]` away", mistakes);
            if let Some(answer) = &answer {
                mistakes.add(&answer.name, "nobody waits for an event: leave the responder away");
            }
            Verb::Event { result: event(output, mistakes) }
        }
        (None, None) if method.stream.is_some() && !items.any() => {
            let (result, item) = streams::returned(method, mistakes);
            Verb::Stream { result, item }
        }
        (None, None) => {
            if let Some(answer) = answer {
                if let ReturnType::Type(_, kind) = output {
                    mistakes.add(kind, "a method with a responder answers by it: return nothing");
                }
                return Verb::Deferred { answer };
            }
            if let ReturnType::Type(_, kind) = output {
                match &**kind {
                    Type::ImplTrait(kind) if items.any() => mistakes.add(
                        kind,
                        "a method with an `Incoming` sends items through an `Outgoing`, and returns a type \
                         that travels",
                    ),
                    Type::ImplTrait(kind) => mistakes.add(
                        kind,
                        "only a `#[nested]` API and a `#[stream]` are an `impl Trait`: return a type that \
                         travels",
                    ),
                    kind => check_travels(kind, "a result", mistakes),
                }
            }
            let result = returned(output);
            match (items.incoming.is_some(), items.outgoing.is_some()) {
                (false, false) => Verb::Call { result },
                (true, false) => Verb::Upload { result },
                _ => Verb::Duplex { result },
            }
        }
    }
}

/// The type of the items of a topic.
fn topic_of(signature: &Signature, mistakes: &mut Mistakes) -> Type {
    const FORM: &str = "a topic is returned as a `Topic<T>`, where `T` is the type of its items";
    let ReturnType::Type(_, kind) = &signature.output else {
        mistakes.add(&signature.ident, FORM);
        return syn::parse_quote!(());
    };
    if let Type::Path(path) = &**kind
        && let Some(last) = path.path.segments.last().filter(|last| last.ident == "Topic")
        && let PathArguments::AngleBracketed(arguments) = &last.arguments
        && let (1, Some(GenericArgument::Type(item))) = (arguments.args.len(), arguments.args.first())
    {
        check_travels(item, "an item", mistakes);
        return item.clone();
    }
    mistakes.add(kind, FORM);
    syn::parse_quote!(())
}

/// The trait of a nested API.
fn nested(parsed: &Parsed, method: &Method, mistakes: &mut Mistakes) -> syn::Path {
    let output = &method.item.sig.output;
    let api = match output {
        ReturnType::Type(_, kind) => match &**kind {
            Type::ImplTrait(kind) => the_trait(kind),
            _ => None,
        },
        ReturnType::Default => None,
    };
    let Some(api) = api else {
        let form = "a nested API returns `impl Trait`, where `Trait` has an `#[nape::api]` of its own";
        match output {
            ReturnType::Default => mistakes.add(&method.item.sig.ident, form),
            ReturnType::Type(_, kind) => mistakes.add(kind, form),
        }
        return parsed.item.ident.clone().into();
    };
    if api.is_ident(&parsed.item.ident) {
        mistakes.add(&api, "an API within itself would have no end");
    }
    api
}

/// The one trait that is not of the standard library's markers.
fn the_trait(kind: &TypeImplTrait) -> Option<syn::Path> {
    let mut traits = kind.bounds.iter().filter_map(|bound| match bound {
        TypeParamBound::Trait(bound) => Some(&bound.path),
        _ => None,
    });
    let is_marker = |path: &syn::Path| {
        path.segments
            .last()
            .is_some_and(|last| ["Send", "Sync", "Unpin"].iter().any(|marker| last.ident == marker))
    };
    let (first, others) = (traits.find(|path| !is_marker(path))?, traits);
    others.into_iter().all(is_marker).then(|| first.clone())
}

/// What an event may return: nothing, or a failure for the hook.
fn event(output: &ReturnType, mistakes: &mut Mistakes) -> Returned {
    let result = returned(output);
    let is_unit = |kind: &TokenStream| kind.to_string() == "()";
    let fits = match &result {
        Returned::Plain(kind) => is_unit(kind),
        Returned::Fallible(_, Some([value, _])) => is_unit(value),
        Returned::Fallible(..) => true,
    };
    if !fits && let ReturnType::Type(_, kind) = output {
        mistakes.add(
            kind,
            "an event has no answer: return nothing, or `Result<(), E>` to have failures reported here",
        );
    }
    result
}

fn returned(output: &ReturnType) -> Returned {
    match output {
        ReturnType::Default => Returned::Plain(quote::quote!(())),
        ReturnType::Type(_, kind) => returned_type(kind),
    }
}

pub(crate) fn returned_type(kind: &Type) -> Returned {
    let Type::Path(path) = kind else { return Returned::Plain(kind.to_token_stream()) };
    let Some(last) = path.path.segments.last().filter(|last| last.ident == "Result") else {
        return Returned::Plain(kind.to_token_stream());
    };
    let mut types = Vec::new();
    if let PathArguments::AngleBracketed(arguments) = &last.arguments {
        types.extend(arguments.args.iter().filter_map(|argument| match argument {
            GenericArgument::Type(kind) => Some(kind.to_token_stream()),
            _ => None,
        }));
    }
    Returned::Fallible(kind.to_token_stream(), types.try_into().ok())
}

/// `&Context`, by whatever path.
fn is_context(kind: &Type) -> bool {
    let Type::Reference(reference) = kind else { return false };
    let Type::Path(path) = &*reference.elem else { return false };
    reference.mutability.is_none() && path.path.segments.last().is_some_and(|last| last.ident == "Context")
}

/// `Responder<T>`, by whatever path: the `T`, if it is there and the responder is taken by value.
fn responder(kind: &Type) -> Option<Option<&Type>> {
    let (kind, by_value) = match kind {
        Type::Reference(reference) => (&*reference.elem, false),
        kind => (kind, true),
    };
    let Type::Path(path) = kind else { return None };
    let last = path.path.segments.last().filter(|last| last.ident == "Responder")?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else { return Some(None) };
    let mut types = arguments.args.iter().filter_map(|argument| match argument {
        GenericArgument::Type(kind) => Some(kind),
        _ => None,
    });
    let (first, another) = (types.next(), types.next());
    Some(first.filter(|_| another.is_none() && by_value))
}

impl Argument {
    pub(crate) fn type_name(&self) -> String {
        let name = text::of(self.kind.to_token_stream());
        if self.by_reference { format!("&{name}") } else { name }
    }

    pub(crate) fn span(&self) -> proc_macro2::Span {
        self.kind.span()
    }
}

/// What is generated under these names.
const RESERVED: &[&str] = &["into_api", "on", "over", "__nape_serve", "__nape_below", "clone", "fmt"];
/// The longest tuple that serde knows.
const MAX_ARGUMENTS: usize = 16;
