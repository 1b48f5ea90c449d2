//! Tokens as a person would write them, for lists.

use proc_macro2::{Delimiter, Ident, TokenStream, TokenTree};
use quote::ToTokens;
use syn::{ReturnType, ext::IdentExt};

use crate::{
    check::{Argument, Verb},
    streams::Items,
};

/// The text of a type.
pub(crate) fn of(tokens: TokenStream) -> String {
    let mut text = String::new();
    add(tokens, &mut text);
    text
}

fn add(tokens: TokenStream, text: &mut String) {
    for token in tokens {
        match token {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::None => ("", ""),
                };
                text.push_str(open);
                add(group.stream(), text);
                text.push_str(close);
            }
            TokenTree::Punct(punct) => match punct.as_char() {
                c @ (',' | ';') => text.extend([c, ' ']),
                c @ ('+' | '=') => text.extend([' ', c, ' ']),
                // The one in an arrow; all others close what a `<` has opened.
                '>' if text.ends_with('-') => {
                    text.pop();
                    text.push_str(" -> ");
                }
                c => text.push(c),
            },
            word => {
                if text.ends_with(|c: char| c.is_alphanumeric() || c == '_') {
                    text.push(' ');
                }
                text.push_str(&word.to_string());
            }
        }
    }
}

/// A method as its callers see it.
pub(crate) fn in_words(
    name: &Ident,
    arguments: &[Argument],
    items: &Items,
    verb: &Verb,
    output: &ReturnType,
) -> String {
    let mut text = String::from(match verb {
        Verb::Event { .. } => "#[event] fn ",
        Verb::Stream { .. } => "#[stream] fn ",
        _ => "fn ",
    });
    text.push_str(&name.unraw().to_string());
    let all = arguments.iter().chain(items.arguments());
    let arguments: Vec<_> = all.map(|it| format!("{}: {}", it.name.unraw(), it.type_name())).collect();
    text.push_str(&format!("({})", arguments.join(", ")));
    if let ReturnType::Type(_, kind) = output
        && !matches!(verb, Verb::Event { .. } | Verb::Nested { .. })
    {
        text.push_str(&format!(" -> {}", of(kind.to_token_stream())));
    }
    if let Verb::Deferred { answer } = verb {
        text.push_str(&format!(" -> {}", answer.type_name()));
    }
    text
}
