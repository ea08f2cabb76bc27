//! From a tree to the types of rules and receivers, by their own `Deserialize`, so that YAML and JSON never differ.

use std::{fmt, rc::Rc};

use serde::{
    Deserialize,
    de::{
        self, DeserializeSeed, Expected, IntoDeserializer, MapAccess, SeqAccess, Unexpected, Visitor,
        value::StrDeserializer,
    },
    forward_to_deserialize_any,
};
use serde_saphyr::granit_parser::ScalarStyle;

use super::{Content, Node, Step};
use crate::{
    Position,
    language::{did_you_mean, shown},
};

/// A value that is not what it should be.
#[derive(Debug)]
pub(crate) struct Misfit {
    /// The way to it, from the inside out.
    path: Vec<Step>,
    position: Option<Position>,
    pub(crate) message: String,
    /// The text in the message that was found in the file.
    found: Option<String>,
}

impl Misfit {
    /// The way to it.
    pub(crate) fn path(&self) -> Vec<Step> {
        self.path.iter().rev().cloned().collect()
    }

    pub(crate) fn position(&self) -> Option<Position> {
        self.position
    }

    /// The same without the text that was found, which may be a secret in the wrong place.
    pub(crate) fn discreet(mut self) -> Self {
        if let Some(found) = self.found.take() {
            self.message = self.message.replacen(&found, "a text", 1);
        }
        self
    }

    fn at(mut self, position: Position) -> Self {
        self.position.get_or_insert(position);
        self
    }

    fn within(mut self, step: Step, node: &Node) -> Self {
        self.path.push(step);
        self.at(node.position)
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Misfit {}

impl de::Error for Misfit {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { path: Vec::new(), position: None, message: message.to_string(), found: None }
    }

    fn invalid_type(found: Unexpected<'_>, wanted: &dyn Expected) -> Self {
        let is_text = matches!(found, Unexpected::Str(_));
        let found = match found {
            Unexpected::Str(text) => format!("the text {:?}", shown(text)),
            Unexpected::Unsigned(number) => number.to_string(),
            Unexpected::Signed(number) => number.to_string(),
            Unexpected::Float(number) => format!("{number:?}"),
            Unexpected::Bool(value) => value.to_string(),
            Unexpected::Map => "a mapping".to_owned(),
            Unexpected::Seq => "a list".to_owned(),
            Unexpected::Unit => "nothing".to_owned(),
            other => other.to_string(),
        };
        let misfit = Self::custom(format!("is {found}, and should be {}", in_plain_words(&wanted.to_string())));
        Self { found: is_text.then_some(found), ..misfit }
    }

    fn invalid_value(found: Unexpected<'_>, wanted: &dyn Expected) -> Self {
        Self::invalid_type(found, wanted)
    }

    fn unknown_field(key: &str, known: &'static [&'static str]) -> Self {
        Self::custom(format!("there is no key `{}`{}", shown(key), hint(key, known)))
    }

    fn unknown_variant(word: &str, known: &'static [&'static str]) -> Self {
        Self::custom(format!("is `{}`{}", shown(word), hint(word, known)))
    }

    fn missing_field(key: &'static str) -> Self {
        Self::custom(format!("the key `{key}` is missing"))
    }
}

fn hint(word: &str, known: &'static [&'static str]) -> String {
    did_you_mean(word, known.iter().copied(), &format!("there are {}", known.join(", ")))
}

/// What serde calls types of Rust.
fn in_plain_words(wanted: &str) -> &str {
    match wanted {
        "u32" | "u64" | "usize" => "a whole number",
        "a string" => "a text",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "a mapping",
        name if name.starts_with("struct ") => "a mapping",
        other => other,
    }
}

/// Reads a value.
pub(crate) fn deserialize<'de, T: Deserialize<'de>>(node: &'de Node) -> Result<T, Misfit> {
    T::deserialize(Value(node)).map_err(|misfit| misfit.at(node.position))
}

#[derive(Clone, Copy)]
struct Value<'de>(&'de Node);

impl<'de> de::Deserializer<'de> for Value<'de> {
    type Error = Misfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match &self.0.content {
            Content::Sequence(items) => visitor.visit_seq(Items { items, next: 0 }),
            Content::Mapping(entries) => visitor.visit_map(Entries { entries, next: 0 }),
            Content::Scalar(..) if self.0.is_null() => visitor.visit_unit(),
            Content::Scalar(text, ScalarStyle::Plain) => match text.as_str() {
                "true" | "True" | "TRUE" => visitor.visit_bool(true),
                "false" | "False" | "FALSE" => visitor.visit_bool(false),
                text if text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) => {
                    if let Ok(number) = text.parse() {
                        visitor.visit_u64(number)
                    } else if let Ok(number) = text.parse() {
                        visitor.visit_i64(number)
                    } else if let Ok(number) = text.parse() {
                        visitor.visit_f64(number)
                    } else {
                        visitor.visit_borrowed_str(text)
                    }
                }
                text => visitor.visit_borrowed_str(text),
            },
            Content::Scalar(text, _) => visitor.visit_borrowed_str(text),
        }
    }

    /// A text may stand without quotation marks, also where it looks like a number.
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match &self.0.content {
            Content::Scalar(text, _) if !self.0.is_null() => visitor.visit_borrowed_str(text),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        match self.0.text() {
            Some(word) => {
                let word: StrDeserializer<'_, Misfit> = word.into_deserializer();
                visitor.visit_enum(word)
            }
            None => Err(de::Error::custom(format!("is {}, and should be a word", self.0.describe()))),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct seq tuple tuple_struct map
        struct ignored_any
    }
}

struct Items<'de> {
    items: &'de [Rc<Node>],
    next: usize,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Misfit;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Misfit> {
        let Some(item) = self.items.get(self.next) else { return Ok(None) };
        let index = self.next;
        self.next += 1;
        seed.deserialize(Value(item)).map(Some).map_err(|misfit| misfit.within(Step::Index(index), item))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len() - self.next)
    }
}

struct Entries<'de> {
    entries: &'de [(Rc<Node>, Rc<Node>)],
    next: usize,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Misfit;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Misfit> {
        let Some((key, _)) = self.entries.get(self.next) else { return Ok(None) };
        seed.deserialize(Value(key)).map(Some).map_err(|misfit| misfit.at(key.position))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Misfit> {
        let Some((key, value)) = self.entries.get(self.next) else {
            return Err(de::Error::custom("a value without a key"));
        };
        self.next += 1;
        let step = Step::Key(key.text().unwrap_or_default().to_owned());
        seed.deserialize(Value(value)).map_err(|misfit| misfit.within(step, value))
    }
}
