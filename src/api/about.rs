//! What is known of the method of a trait besides its handler.

use super::Argument;

/// How a method is declared, for listing. Written by generated code.
#[derive(Debug)]
pub struct About {
    /// Its path below the namespace of its trait.
    pub path: &'static str,
    /// As [`Listed::signature`](crate::api::Listed::signature).
    pub signature: &'static str,
    /// The names and the types of its arguments.
    pub arguments: &'static [(&'static str, &'static str)],
    /// How many of them are values; the ends of streams stand behind those.
    pub values: usize,
    /// As [`Listed::doc`](crate::api::Listed::doc).
    pub doc: &'static str,
}

impl About {
    /// All that is known of a handler by name.
    pub(crate) const NOTHING: About = About { path: "", signature: "", arguments: &[], values: 0, doc: "" };

    pub(crate) fn arguments(&self) -> Vec<Argument> {
        let argument = |(name, type_name): &(&str, &str)| Argument {
            name: (*name).to_owned(),
            type_name: (*type_name).to_owned(),
        };
        self.arguments.iter().map(argument).collect()
    }
}
