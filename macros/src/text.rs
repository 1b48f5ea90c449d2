//! Tokens as a person would write them, for lists; and what a person writes in quotes.

use proc_macro2::{Delimiter, Ident, TokenStream, TokenTree};
use quote::ToTokens;
use syn::{LitStr, ReturnType, ext::IdentExt};

use crate::{
    Mistakes,
    check::{Argument, Timeout, Verb},
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
        Verb::Topic { .. } => "#[topic] fn ",
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

/// The rules of the library for a path.
pub(crate) fn check_path(path: &str) -> Result<(), String> {
    if path.is_empty() {
        return Err("it is empty".into());
    }
    if path.len() > 255 {
        return Err(format!("it has {} bytes, and 255 are the most", path.len()));
    }
    if let Some(bad) = path.chars().find(|c| c.is_control() || c.is_whitespace()) {
        return Err(format!("it contains {bad:?}"));
    }
    if path.split('.').any(str::is_empty) {
        return Err("it has two dots in a row, or one at an end".into());
    }
    Ok(())
}

/// `"250ms"`, `"2s"`, `"5min"`, `"never"`.
pub(crate) fn timeout(at: &LitStr, mistakes: &mut Mistakes) -> Option<Timeout> {
    let text = at.value();
    if text == "never" {
        return Some(Timeout::Never);
    }
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let micros = match unit.trim_start() {
        "us" => Some(1),
        "ms" => Some(1_000),
        "s" => Some(1_000_000),
        "m" | "min" => Some(60_000_000),
        "h" => Some(3_600_000_000),
        _ => None,
    };
    let micros = number.parse().ok().zip(micros).and_then(|(n, unit): (u64, u64)| n.checked_mul(unit));
    if micros.is_none() {
        mistakes.add(at, "write a time such as \"250ms\", \"2s\", \"5min\" or \"1h\", or \"never\"");
    }
    micros.map(Timeout::Micros)
}
