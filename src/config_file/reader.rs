//! From the text of a file to values, with what is needed to say where a mistake is: TOML, and nothing but what it
//! looks like.

use std::{fmt, ops::Range};

use serde::de::{
    self, DeserializeSeed, Deserializer, Expected, IntoDeserializer, MapAccess, SeqAccess, Unexpected,
    Visitor,
};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// What is wrong with a value, and where.
#[derive(Debug)]
pub(super) struct Mistake {
    /// From the outermost to the innermost.
    path: Vec<Step>,
    span: Option<Range<usize>>,
    pub(super) found: String,
    pub(super) expected: String,
    /// The known name that is nearest to the one that was found.
    pub(super) meant: Option<String>,
}

/// One step from a value into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

impl Mistake {
    pub(super) fn new(found: impl fmt::Display, expected: impl fmt::Display) -> Mistake {
        let (found, expected) = (found.to_string(), expected.to_string());
        Mistake { path: Vec::new(), span: None, found, expected, meant: None }
    }

    /// A name that is none of those that there are.
    pub(super) fn unknown<'a>(name: &str, kind: &str, known: impl IntoIterator<Item = &'a str>) -> Mistake {
        let known: Vec<_> = known.into_iter().collect();
        let list = known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let expected = match known.len() {
            0 => format!("nothing: there is no {kind}"),
            1 => list,
            _ => format!("one of {list}"),
        };
        let meant = nearest(name, known).map(str::to_owned);
        Mistake { meant, ..Mistake::new(format!("the {kind} `{name}`, which is unknown"), expected) }
    }

    /// The same, further in.
    pub(super) fn below(mut self, steps: impl IntoIterator<Item = Step>) -> Mistake {
        self.path.splice(0..0, steps);
        self
    }

    pub(super) fn key(&self) -> String {
        let mut text = String::new();
        for step in &self.path {
            match step {
                Step::Index(index) => text += &format!("[{index}]"),
                Step::Key(key) => {
                    text += if text.is_empty() { "" } else { "." };
                    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
                    let quoted = key.is_empty() || !key.chars().all(bare);
                    text += &if quoted { format!("{key:?}") } else { key.clone() };
                }
            }
        }
        text
    }

    /// The line and the column at which it stands, from 1 on.
    pub(super) fn place(&self, text: &str) -> Option<(usize, usize)> {
        let start = match &self.span {
            Some(span) => span.start,
            None => locate(&DeTable::parse(text).ok()?, &self.path)?.start,
        };
        let before = text.get(..start)?;
        let line = before.rsplit('\n').next().unwrap_or_default();
        Some((before.matches('\n').count() + 1, line.chars().count() + 1))
    }

    /// Whether it stands at these steps or below them.
    pub(super) fn is_below(&self, steps: &[Step]) -> bool {
        self.path.starts_with(steps)
    }

    fn at(mut self, span: &Range<usize>) -> Mistake {
        self.span.get_or_insert(span.clone());
        self
    }
}

/// Reads a value out of the text of a file.
pub(super) fn read<T: de::DeserializeOwned>(text: &str) -> Result<T, Mistake> {
    let table = parse(text)?;
    let span = table.span();
    T::deserialize(Node { value: &DeValue::Table(table.into_inner()), span })
}

/// The same, but reads on behind a mistake, without the key where it is: so one run finds them all, though of an array
/// only the first. The value is what is left then; there is none if nothing could be.
pub(super) fn read_on<T: de::DeserializeOwned>(text: &str) -> (Option<T>, Vec<Mistake>) {
    let table = match parse(text) {
        Ok(table) => table,
        Err(mistake) => return (None, vec![mistake]),
    };
    let (span, mut root) = (table.span(), DeValue::Table(table.into_inner()));
    let mut mistakes: Vec<Mistake> = Vec::new();
    loop {
        let mistake = match T::deserialize(Node { value: &root, span: span.clone() }) {
            Ok(value) => return (Some(value), mistakes),
            Err(mistake) => mistake,
        };
        // What is missing because it was taken away for a mistake is none of its own: then what it is missing from
        // goes, too.
        let is_new = mistakes.iter().all(|earlier| !earlier.is_below(&mistake.path));
        let gone = remove(&mut root, &mistake.path);
        if is_new {
            mistakes.push(mistake);
        }
        if !gone {
            return (None, mistakes);
        }
    }
}

fn parse(text: &str) -> Result<Spanned<DeTable<'_>>, Mistake> {
    DeTable::parse(text).map_err(|error| {
        let why = error.message().replace('\n', ", ");
        Mistake { span: error.span(), ..Mistake::new(format!("what is no TOML: {why}"), "TOML") }
    })
}

/// Takes away the innermost key on the way to a value that is there. `false` if none is.
fn remove(value: &mut DeValue<'_>, path: &[Step]) -> bool {
    let Some((step, rest)) = path.split_first() else { return false };
    match (step, value) {
        (Step::Key(key), DeValue::Table(table)) => {
            let Some(inner) = table.get_mut(key.as_str()) else { return false };
            remove(inner.get_mut(), rest) || table.remove(key.as_str()).is_some()
        }
        (Step::Index(index), DeValue::Array(array)) => {
            array.get_mut(*index).is_some_and(|inner| remove(inner.get_mut(), rest))
        }
        _ => false,
    }
}

/// The one of `names` that was meant by `name`, if any is near.
pub(super) fn nearest<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let far = (name.chars().count() / 3).max(2);
    let distance = |known: &str| strsim::damerau_levenshtein(&name.to_lowercase(), &known.to_lowercase());
    let near =
        names.into_iter().map(|known| (distance(known), known)).filter(|(distance, _)| *distance <= far);
    near.min_by_key(|(distance, _)| *distance).map(|(_, known)| known)
}

/// Where the last of the steps stands that is there at all.
fn locate(root: &Spanned<DeTable<'_>>, path: &[Step]) -> Option<Range<usize>> {
    let mut span = root.span();
    let mut value: Option<&DeValue<'_>> = None;
    for step in path {
        let next = match (step, value) {
            (Step::Key(key), None) => entry(root.get_ref(), key),
            (Step::Key(key), Some(DeValue::Table(table))) => entry(table, key),
            (Step::Index(index), Some(DeValue::Array(array))) => {
                array.get(*index).map(|value| (value.span(), value.get_ref()))
            }
            _ => None,
        };
        let Some((at, inner)) = next else { break };
        (span, value) = (at, Some(inner));
    }
    Some(span)
}

fn entry<'a, 'i>(table: &'a DeTable<'i>, key: &str) -> Option<(Range<usize>, &'a DeValue<'i>)> {
    table.iter().find(|(name, _)| name.get_ref() == key).map(|(name, value)| (name.span(), value.get_ref()))
}

impl de::Error for Mistake {
    fn custom<T: fmt::Display>(text: T) -> Mistake {
        Mistake::new(text, "another value")
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Mistake {
        Mistake::new(Found(found), in_words(expected))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Mistake {
        Mistake::new(Found(found), in_words(expected))
    }

    fn unknown_variant(name: &str, known: &'static [&'static str]) -> Mistake {
        Mistake::unknown(name, "value", known.iter().copied())
    }

    fn unknown_field(name: &str, known: &'static [&'static str]) -> Mistake {
        Mistake::unknown(name, "key", known.iter().copied())
    }

    fn missing_field(name: &'static str) -> Mistake {
        let missing = Mistake::new("nothing", "a value: this key is required");
        missing.below([Step::Key(name.to_owned())])
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.key())?;
        }
        write!(f, "found {}, expected {}", self.found, self.expected)?;
        self.meant.as_ref().map_or(Ok(()), |meant| write!(f, "; is `{meant}` meant?"))
    }
}

impl std::error::Error for Mistake {}

/// What was found, in the words of the format.
struct Found<'a>(Unexpected<'a>);

impl fmt::Display for Found<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Unexpected::Str(text) => write!(f, "{text:?}"),
            Unexpected::Bool(value) => write!(f, "{value}"),
            Unexpected::Signed(number) => write!(f, "{number}"),
            Unexpected::Unsigned(number) => write!(f, "{number}"),
            Unexpected::Map => f.write_str("a table"),
            Unexpected::Seq => f.write_str("an array"),
            other => write!(f, "{other}"),
        }
    }
}

/// What was expected, in the same words.
fn in_words(expected: &dyn Expected) -> String {
    match expected.to_string().as_str() {
        "a map" => "a table".into(),
        "a sequence" => "an array".into(),
        "a boolean" => "`true` or `false`".into(),
        "u32" => "a number".into(),
        other => other.to_owned(),
    }
}

/// A value, and where it stands.
struct Node<'a, 'i> {
    value: &'a DeValue<'i>,
    span: Range<usize>,
}

impl<'de> Deserializer<'de> for Node<'_, '_> {
    type Error = Mistake;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        let value = match self.value {
            DeValue::String(text) => visitor.visit_str(text),
            DeValue::Boolean(value) => visitor.visit_bool(*value),
            DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => visitor.visit_i64(number),
                Err(_) => Err(de::Error::invalid_type(Unexpected::Other(&number.to_string()), &visitor)),
            },
            DeValue::Float(number) => {
                Err(de::Error::invalid_type(Unexpected::Other(&number.to_string()), &visitor))
            }
            DeValue::Datetime(_) => Err(de::Error::invalid_type(Unexpected::Other("a date"), &visitor)),
            DeValue::Array(array) => visitor.visit_seq(Items { rest: array.iter().collect(), next: 0 }),
            DeValue::Table(table) => visitor.visit_map(Entries::new(table)),
        };
        value.map_err(|mistake| mistake.at(&self.span))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        let value = match self.value {
            DeValue::String(text) => visitor.visit_enum((**text).into_deserializer()),
            other => {
                let list = known.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(" or ");
                Err(Mistake::new(format!("a value of the kind {}", other.type_str()), list))
            }
        };
        value.map_err(|mistake| mistake.at(&self.span))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

/// What stands in an array.
struct Items<'a, 'i> {
    rest: std::collections::VecDeque<&'a Spanned<DeValue<'i>>>,
    next: usize,
}

impl<'de> SeqAccess<'de> for Items<'_, '_> {
    type Error = Mistake;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Mistake> {
        let Some(item) = self.rest.pop_front() else { return Ok(None) };
        let index = self.next;
        self.next += 1;
        let value = seed.deserialize(Node { value: item.get_ref(), span: item.span() });
        value.map(Some).map_err(|mistake| mistake.at(&item.span()).below([Step::Index(index)]))
    }
}

/// What stands in a table, in the order of the file.
struct Entries<'a, 'i> {
    rest: std::vec::IntoIter<(&'a str, Range<usize>, &'a Spanned<DeValue<'i>>)>,
    value: Option<(&'a str, &'a Spanned<DeValue<'i>>)>,
}

impl<'a, 'i> Entries<'a, 'i> {
    fn new(table: &'a DeTable<'i>) -> Entries<'a, 'i> {
        let entries = table.iter().map(|(key, value)| (key.get_ref().as_ref(), key.span(), value));
        let mut entries: Vec<_> = entries.collect();
        entries.sort_by_key(|(_, span, _)| span.start);
        Entries { rest: entries.into_iter(), value: None }
    }
}

impl<'de> MapAccess<'de> for Entries<'_, '_> {
    type Error = Mistake;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Mistake> {
        let Some((key, span, value)) = self.rest.next() else { return Ok(None) };
        self.value = Some((key, value));
        let known = seed.deserialize(key.into_deserializer());
        known.map(Some).map_err(|mistake: Mistake| mistake.at(&span).below([Step::Key(key.to_owned())]))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Mistake> {
        let (key, value) = self.value.take().expect("a key comes before its value");
        let span = value.span();
        let value = seed.deserialize(Node { value: value.get_ref(), span: span.clone() });
        value.map_err(|mistake| mistake.at(&span).below([Step::Key(key.to_owned())]))
    }
}
