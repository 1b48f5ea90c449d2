//! `nape call`: one call, an event or a stream, with JSON.

use std::io::{self, Read};

use nape::{CallError, Payload};
use serde_json::Value;

use crate::{
    args,
    link::Met,
    output::{Out, on_one_line},
    trouble::{Exit, Trouble},
};

/// The arguments as one JSON text: none is `null`, and several are an array. Each stays as it was written, so that
/// long numbers keep their digits.
pub(crate) fn arguments(given: &[String]) -> Result<Vec<u8>, Trouble> {
    let mut texts = Vec::new();
    for (index, text) in given.iter().enumerate() {
        let text = if text == "-" { from_stdin()? } else { text.clone() };
        if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(&text) {
            let hint =
                if text.starts_with(['[', '{', '"']) { "" } else { " (a text has quotes: '\"text\"')" };
            let n = index + 1;
            return Err(Trouble::usage(format!(
                "argument {n}, `{}`, is no JSON: {error}{hint}",
                short(&text)
            )));
        }
        texts.push(text);
    }
    Ok(match texts.as_slice() {
        [] => b"null".to_vec(),
        [one] => one.as_bytes().to_vec(),
        several => format!("[{}]", several.join(",")).into_bytes(),
    })
}

pub(crate) fn call(met: &Met, args: &args::Call, arguments: Vec<u8>, out: &mut Out) -> Result<(), Trouble> {
    if args.event {
        return fire(met, args, arguments);
    }
    if args.stream {
        return stream(met, args, arguments, out);
    }
    let payload = met.call(&args.path, &arguments).map_err(|error| met.trouble(&error, &args.path))?;
    let bytes = payload.into_bytes();
    if args.raw {
        return out.raw(&bytes);
    }
    print(&args.path, &bytes, args.pretty, out)
}

fn fire(met: &Met, args: &args::Call, arguments: Vec<u8>) -> Result<(), Trouble> {
    let action = met.root().action(&args.path, Payload::from_bytes(arguments));
    action.fire().map_err(|error| met.trouble(&error, &args.path))?;
    // Behind it, so that whoever reads there has it when this is answered, whatever the answer is.
    match met.call("nape.version", b"null") {
        Err(error @ CallError::Closed { .. }) => Err(met.trouble(&error, &args.path)),
        _ => Ok(()),
    }
}

fn stream(met: &Met, args: &args::Call, arguments: Vec<u8>, out: &mut Out) -> Result<(), Trouble> {
    let action = met.root().action(&args.path, Payload::from_bytes(arguments));
    let items = action.open::<Payload>().map_err(|error| met.trouble(&error, &args.path))?;
    for item in items {
        let item = item.map_err(|error| met.trouble(&error, &args.path))?;
        print(&args.path, &item.into_bytes(), args.pretty, out)?;
    }
    Ok(())
}

/// A result or an item, on one line unless it is to be pretty.
fn print(path: &str, bytes: &[u8], pretty: bool, out: &mut Out) -> Result<(), Trouble> {
    let bytes = if bytes.is_empty() { b"null" } else { bytes };
    let refused = || {
        let n = bytes.len();
        Trouble::new(
            Exit::Fault,
            format!("{path} answered with {n} bytes that are no JSON: --raw writes them"),
        )
    };
    let text = std::str::from_utf8(bytes).map_err(|_| refused())?;
    if pretty {
        let value: Value = serde_json::from_str(text).map_err(|_| refused())?;
        return out.json_text(&serde_json::to_string_pretty(&value).map_err(io::Error::from)?);
    }
    serde_json::from_str::<serde::de::IgnoredAny>(text).map_err(|_| refused())?;
    out.json_text(&on_one_line(text))
}

fn from_stdin() -> Result<String, Trouble> {
    let mut text = String::new();
    match io::stdin().read_to_string(&mut text) {
        Ok(_) => Ok(text),
        Err(error) => Err(Trouble::usage(format!("argument `-`: cannot read stdin: {error}"))),
    }
}

/// Enough of a text to know it by.
fn short(text: &str) -> String {
    let mut short: String = text.chars().take(40).collect();
    if short.len() < text.len() {
        short.push_str("..");
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(given: &[&str]) -> Result<String, String> {
        let given: Vec<String> = given.iter().map(|&text| text.to_owned()).collect();
        let told = |bytes| String::from_utf8(bytes).expect("it was text");
        arguments(&given).map(told).map_err(|trouble| trouble.to_string())
    }

    #[test]
    fn arguments_become_one_value() {
        assert_eq!(texts(&[]).as_deref(), Ok("null"));
        assert_eq!(texts(&["18446744073709551617"]).as_deref(), Ok("18446744073709551617"));
        assert_eq!(texts(&["1", "\"two\"", "{\"a\": 3}"]).as_deref(), Ok("[1,\"two\",{\"a\": 3}]"));
    }

    #[test]
    fn what_is_no_json_is_named() {
        let told = texts(&["1", "bread"]).unwrap_err();
        assert!(told.starts_with("argument 2, `bread`, is no JSON") && told.contains("quotes"), "{told}");
        let told = texts(&["{1}"]).unwrap_err();
        assert!(told.starts_with("argument 1, `{1}`, is no JSON") && !told.contains("quotes"), "{told}");
    }
}
