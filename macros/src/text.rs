//! Tokens as a person would write them, for lists.

use proc_macro2::{Delimiter, TokenStream, TokenTree};

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
