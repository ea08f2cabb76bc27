//! Values of the readings of the layer instruments, whatever instrument they belong to.

use std::borrow::Cow;

use crate::catalogue::Tag;

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldType {
    /// A finite float64.
    Number,
    /// A whole number.
    Count,
    /// A truth value.
    Flag,
    /// One of a few words.
    Word,
    /// Finite float64s.
    List,
}

/// The value of a field.
#[derive(Debug, Clone, PartialEq)]
pub enum FieldValue {
    /// A finite float64.
    Number(f64),
    /// A whole number.
    Count(u64),
    /// A truth value.
    Flag(bool),
    /// One of a few words.
    Word(Cow<'static, str>),
    /// Finite float64s.
    List(Vec<f64>),
}

impl FieldValue {
    /// The value as a point of a chart: numbers and counts as they are, flags as 0 or 1; none for words and lists.
    pub fn as_number(&self) -> Option<f64> {
        match *self {
            Self::Number(number) => Some(number),
            Self::Count(count) => Some(count as f64),
            Self::Flag(flag) => Some(f64::from(u8::from(flag))),
            Self::Word(_) | Self::List(_) => None,
        }
    }
}

/// One field of a reading: what REST, `/docs` and the store's columns are made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FieldInfo {
    /// Name within the instrument: `phi`, `exponent`.
    pub name: &'static str,
    /// Unit; `1` for a pure number.
    pub unit: &'static str,
    /// One line.
    pub definition: &'static str,
    /// Where the definition comes from.
    pub tag: Tag,
    /// What it holds.
    pub field_type: FieldType,
    /// Of a word: those that it can be.
    pub words: &'static [&'static str],
}

impl FieldInfo {
    /// Whether its values are points of a chart, see [`FieldValue::as_number`].
    pub fn is_chartable(&self) -> bool {
        matches!(self.field_type, FieldType::Number | FieldType::Count | FieldType::Flag)
    }
}

/// A type that a field can have.
pub(crate) trait Field: Sized {
    const TYPE: FieldType;
    const WORDS: &'static [&'static str] = &[];
    fn to_value(&self) -> FieldValue;
    /// None when the value is of another type, or no such word is known.
    fn from_value(value: FieldValue) -> Option<Self>;
}

macro_rules! plain_field {
    ($type:ty, $variant:ident) => {
        impl Field for $type {
            const TYPE: FieldType = FieldType::$variant;

            fn to_value(&self) -> FieldValue {
                FieldValue::$variant(self.clone())
            }

            fn from_value(value: FieldValue) -> Option<Self> {
                if let FieldValue::$variant(value) = value { Some(value) } else { None }
            }
        }
    };
}

plain_field!(f64, Number);
plain_field!(u64, Count);
plain_field!(bool, Flag);
plain_field!(Vec<f64>, List);

/// Declares an enum whose variants are words of the API.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident => $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $word)] $variant,)*
        }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The word used in the API and in the database.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                Self::ALL.iter().copied().find(|it| it.as_str() == text).ok_or_else(|| {
                    let words: Vec<_> = Self::ALL.iter().map(|it| it.as_str()).collect();
                    format!("{text:?} is none of {}", words.join(", "))
                })
            }
        }

        impl crate::layers::field::Field for $name {
            const TYPE: crate::layers::field::FieldType = crate::layers::field::FieldType::Word;
            const WORDS: &'static [&'static str] = &[$($word,)*];

            fn to_value(&self) -> crate::layers::field::FieldValue {
                crate::layers::field::FieldValue::Word(self.as_str().into())
            }

            fn from_value(value: crate::layers::field::FieldValue) -> Option<Self> {
                if let crate::layers::field::FieldValue::Word(word) = value { word.parse().ok() } else { None }
            }
        }
    };
}

/// Declares the reading of an instrument: the struct, and from the same lines what the API, the documentation and the
/// store make of it. Every field is optional: null, never 0 or infinity, where it is undefined.
macro_rules! reading {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty, $unit:literal, $tag:ident, $definition:literal;)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
        pub struct $name {
            $(#[doc = $definition] $(#[$field_doc])* pub $field: Option<$type>,)*
        }

        impl $name {
            /// Its fields, in the order of [`Self::values`].
            pub const FIELDS: &[crate::layers::field::FieldInfo] = &[
                $(crate::layers::field::FieldInfo {
                    name: stringify!($field),
                    unit: $unit,
                    definition: $definition,
                    tag: crate::catalogue::Tag::$tag,
                    field_type: <$type as crate::layers::field::Field>::TYPE,
                    words: <$type as crate::layers::field::Field>::WORDS,
                },)*
            ];

            /// The values of [`Self::FIELDS`].
            pub fn values(&self) -> Vec<Option<crate::layers::field::FieldValue>> {
                vec![$(self.$field.as_ref().map(crate::layers::field::Field::to_value),)*]
            }

            /// The reverse of [`Self::values`]; none when a value is of another type than its field.
            pub fn from_values(
                values: impl IntoIterator<Item = Option<crate::layers::field::FieldValue>>,
            ) -> Option<Self> {
                let mut values = values.into_iter();
                let reading = Self {
                    $($field: match values.next()? {
                        Some(value) => Some(<$type as crate::layers::field::Field>::from_value(value)?),
                        None => None,
                    },)*
                };
                values.next().is_none().then_some(reading)
            }
        }
    };
}

pub(crate) use {reading, words};
