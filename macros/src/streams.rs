//! Says what is wrong with streams in a trait: the ends among the arguments, and the iterator that is
//! returned.

use proc_macro2::Ident;
use quote::ToTokens;
use syn::{
    AngleBracketedGenericArguments, GenericArgument, Pat, PatType, PathArguments, ReturnType, Type,
    TypeImplTrait, TypeParamBound,
};

use crate::{
    Mistakes,
    check::{Argument, Returned, check_travels, returned_type},
    parse::Method,
    text,
};

/// The ends of streams among the arguments of a method.
#[derive(Default)]
pub(crate) struct Items {
    pub(crate) incoming: Option<End>,
    pub(crate) outgoing: Option<End>,
}

/// One of them.
pub(crate) struct End {
    /// As it stands there.
    pub(crate) argument: Argument,
    /// The type of the items.
    pub(crate) kind: Type,
}

/// What an argument is: whether items come out of it or go in, and of which type.
pub(crate) fn end(kind: &Type, mistakes: &mut Mistakes) -> Option<(bool, Type)> {
    let (by_reference, named) = match kind {
        Type::Reference(reference) => (true, &*reference.elem),
        kind => (false, kind),
    };
    let Type::Path(path) = named else { return None };
    let last = path.path.segments.last()?;
    let is_incoming = last.ident == "Incoming";
    if !is_incoming && last.ident != "Outgoing" {
        return None;
    }
    if by_reference {
        mistakes.add(kind, "whoever serves has it alone: take it by value");
    }
    let items = match &last.arguments {
        PathArguments::AngleBracketed(arguments) => only_type(arguments),
        _ => None,
    };
    let Some(items) = items else {
        mistakes.add(kind, format!("write the type of its items: `{}<T>`", last.ident));
        return Some((is_incoming, kind.clone()));
    };
    check_travels(items, "an item", mistakes);
    Some((is_incoming, items.clone()))
}

/// Whether it is one without the type of its items, which the compiler would refuse for a second time.
pub(crate) fn lacks_items(kind: &Type) -> bool {
    let Type::Path(path) = kind else { return false };
    path.path.segments.last().is_some_and(|last| {
        (last.ident == "Incoming" || last.ident == "Outgoing") && last.arguments.is_empty()
    })
}

fn only_type(arguments: &AngleBracketedGenericArguments) -> Option<&Type> {
    match (arguments.args.first(), arguments.args.len()) {
        (Some(GenericArgument::Type(kind)), 1) => Some(kind),
        _ => None,
    }
}

impl Items {
    pub(crate) fn add(&mut self, argument: &PatType, is_incoming: bool, kind: Type, mistakes: &mut Mistakes) {
        let Pat::Ident(name) = &*argument.pat else {
            return mistakes
                .add(&argument.pat, "an argument needs a name, and no pattern: it is part of the API");
        };
        if is_incoming && self.outgoing.is_some() {
            mistakes.add(argument, "the `Incoming` comes before the `Outgoing`");
        }
        let name: Ident = name.ident.clone();
        let end =
            End { argument: Argument { name, kind: (*argument.ty).clone(), by_reference: false }, kind };
        let place = if is_incoming { &mut self.incoming } else { &mut self.outgoing };
        if place.replace(end).is_some() {
            mistakes.add(argument, "a method has one of them: put what differs into an enum");
        }
    }

    /// An argument that travels with the call.
    pub(crate) fn must_be_last(&self, argument: &PatType, mistakes: &mut Mistakes) {
        if self.any() {
            mistakes.add(argument, "it travels with the call: it comes before the `Incoming`");
        }
    }

    pub(crate) fn check(&self, mistakes: &mut Mistakes) {
        if let (None, Some(end)) = (&self.incoming, &self.outgoing) {
            mistakes.add(
                &end.argument.kind,
                "without an `Incoming` it is a `#[stream]`: return an `impl Iterator` instead",
            );
        }
    }

    pub(crate) fn refuse(&self, why: &str, mistakes: &mut Mistakes) {
        if let Some(end) = self.incoming.as_ref().or(self.outgoing.as_ref()) {
            mistakes.add(&end.argument.kind, why);
        }
    }

    pub(crate) fn any(&self) -> bool {
        self.incoming.is_some() || self.outgoing.is_some()
    }

    /// As they stand there.
    pub(crate) fn arguments(&self) -> impl Iterator<Item = &Argument> {
        [&self.incoming, &self.outgoing].into_iter().flatten().map(|end| &end.argument)
    }
}

/// What a `#[stream]` returns, and one of its items.
pub(crate) fn returned(method: &Method, mistakes: &mut Mistakes) -> (Returned, Returned) {
    let output = &method.item.sig.output;
    let nothing = || Returned::Plain(quote::quote!(()));
    let ReturnType::Type(_, kind) = output else {
        mistakes.add(&method.item.sig.ident, FORM);
        return (nothing(), nothing());
    };
    let result = returned_type(kind);
    let Some(items) = the_iterator(kind) else {
        mistakes.add(kind, FORM);
        return (result, nothing());
    };
    let item = item(items);
    let Some(item) = item else {
        mistakes.add(items, FORM);
        return (result, nothing());
    };
    check_travels(item, "an item", mistakes);
    let returned = returned_type(item);
    if matches!(returned, Returned::Plain(_)) {
        mistakes.add(item, "an item is a `Result<T, E>`, and an error ends the stream");
    }
    let sent = items.bounds.iter().any(|bound| match bound {
        TypeParamBound::Trait(bound) => bound.path.segments.last().is_some_and(|last| last.ident == "Send"),
        _ => false,
    });
    let kept = items.bounds.iter().any(|bound| {
        matches!(bound, TypeParamBound::PreciseCapture(_)) && text::of(bound.to_token_stream()) == "use<Self>"
    });
    if !sent || !kept {
        let missing = match (sent, kept) {
            (false, false) => "+ Send + use<Self>",
            (false, true) => "+ Send",
            _ => "+ use<Self>",
        };
        mistakes.add(
            items,
            format!("it outlives the call and goes from thread to thread: write `{missing}` behind it"),
        );
    }
    (result, returned)
}

/// The `impl Iterator` by itself, or as the value of a `Result`.
fn the_iterator(kind: &Type) -> Option<&TypeImplTrait> {
    match kind {
        Type::ImplTrait(kind) => Some(kind),
        Type::Path(path) => {
            let last = path.path.segments.last().filter(|last| last.ident == "Result")?;
            let PathArguments::AngleBracketed(arguments) = &last.arguments else { return None };
            match arguments.args.first()? {
                GenericArgument::Type(Type::ImplTrait(kind)) => Some(kind),
                _ => None,
            }
        }
        _ => None,
    }
}

/// The `Item` of an `impl Iterator`.
fn item(kind: &TypeImplTrait) -> Option<&Type> {
    let iterator = kind.bounds.iter().find_map(|bound| match bound {
        TypeParamBound::Trait(bound) => bound.path.segments.last().filter(|last| last.ident == "Iterator"),
        _ => None,
    })?;
    let PathArguments::AngleBracketed(arguments) = &iterator.arguments else { return None };
    arguments.args.iter().find_map(|argument| match argument {
        GenericArgument::AssocType(item) if item.ident == "Item" => Some(&item.ty),
        _ => None,
    })
}

const FORM: &str = "a stream returns `Result<impl Iterator<Item = Result<T, E>> + Send + use<Self>, E>`, or \
     the iterator alone; one that takes items has an argument of type `Incoming<T>`";
