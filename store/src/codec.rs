//! Values as the database keeps them. Every codec here gives back exactly what it was given, or an error.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor},
};
use uuid::Uuid;

use crate::{backend::Columns, error::StoreError, model::RunId};

/// Unsigned numbers as the signed 64 bits of both databases.
pub(crate) fn to_i64(field: &str, value: u64) -> Result<i64, StoreError> {
    i64::try_from(value).map_err(|_| StoreError::Data(format!("{field}: {value} exceeds 2^63 − 1")))
}

/// An upper bound of a range: every stored number is below 2^63, so that a bound above it may be lowered.
pub(crate) fn bound_i64(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Page sizes and window lengths, which come as `usize`.
pub(crate) fn size_i64(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// What a column that is never null holds.
pub(crate) fn present<T>(column: &str, value: Option<T>) -> Result<T, StoreError> {
    value.ok_or_else(|| StoreError::Data(format!("column {column} is null")))
}

/// A signed number.
pub(crate) fn signed(row: &impl Columns, column: &str) -> Result<i64, StoreError> {
    present(column, row.integer(column)?)
}

/// A number of the database as the unsigned type of the domain.
pub(crate) fn unsigned<T: TryFrom<i64>>(row: &impl Columns, column: &str) -> Result<T, StoreError> {
    narrow(column, signed(row, column)?)
}

/// The same for a column that may be null.
pub(crate) fn unsigned_or_null<T: TryFrom<i64>>(row: &impl Columns, column: &str) -> Result<Option<T>, StoreError> {
    row.integer(column)?.map(|value| narrow(column, value)).transpose()
}

/// Narrows a number that the database holds.
fn narrow<T: TryFrom<i64>>(column: &str, value: i64) -> Result<T, StoreError> {
    T::try_from(value).map_err(|_| StoreError::Data(format!("column {column} holds {value}")))
}

/// A text.
pub(crate) fn text<'r>(row: &'r impl Columns, column: &str) -> Result<&'r str, StoreError> {
    present(column, row.text(column)?)
}

/// A text of its own.
pub(crate) fn string(row: &impl Columns, column: &str) -> Result<String, StoreError> {
    text(row, column).map(str::to_owned)
}

/// A finite float.
pub(crate) fn float(row: &impl Columns, column: &str) -> Result<f64, StoreError> {
    present(column, row.float(column)?)
}

/// A word of a closed vocabulary: a state, regime or kind.
pub(crate) fn word<T: FromStr>(row: &impl Columns, column: &str) -> Result<T, StoreError> {
    let text = text(row, column)?;
    text.parse().map_err(|_| StoreError::Data(format!("column {column} holds {text:?}")))
}

/// A UUID.
pub(crate) fn uuid(row: &impl Columns, column: &str) -> Result<Uuid, StoreError> {
    present(column, row.uuid(column)?)
}

/// A run id.
pub(crate) fn run_id(row: &impl Columns) -> Result<RunId, StoreError> {
    uuid(row, "run_id").map(RunId)
}

/// A value as JSON text.
pub(crate) fn to_json<T: Serialize + ?Sized>(field: &str, value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Data(format!("{field}: {error}")))
}

/// A JSON column.
pub(crate) fn json<T: for<'de> Deserialize<'de>>(row: &impl Columns, column: &str) -> Result<T, StoreError> {
    present(column, json_or_null(row, column)?)
}

/// A JSON column that may be null.
pub(crate) fn json_or_null<T: for<'de> Deserialize<'de>>(
    row: &impl Columns,
    column: &str,
) -> Result<Option<T>, StoreError> {
    let parse =
        |text| serde_json::from_str(text).map_err(|error| StoreError::Data(format!("column {column}: {error}")));
    row.text(column)?.map(parse).transpose()
}

/// A float for a column of finite numbers. Invariant: what is stored is what comes back; SQLite would silently turn NaN
/// into null, so it is refused here, for every database.
pub(crate) fn finite(field: &str, value: f64) -> Result<f64, StoreError> {
    if value.is_finite() { Ok(value) } else { Err(StoreError::Data(format!("{field}: {value} is not finite"))) }
}

/// Singular values and other lists as little-endian float64.
pub(crate) fn floats_to_blob(values: &[f64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// The reverse of [`floats_to_blob`].
pub(crate) fn floats_from_blob(column: &str, blob: &[u8]) -> Result<Vec<f64>, StoreError> {
    let (values, rest) = blob.as_chunks::<8>();
    if !rest.is_empty() {
        return Err(StoreError::Data(format!("column {column} holds {} bytes", blob.len())));
    }
    Ok(values.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect())
}

/// Predictions as little-endian float32.
pub(crate) fn float32s_to_blob(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// The reverse of [`float32s_to_blob`].
pub(crate) fn float32s_from_blob(column: &str, blob: &[u8]) -> Result<Vec<f32>, StoreError> {
    let (values, rest) = blob.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(StoreError::Data(format!("column {column} holds {} bytes", blob.len())));
    }
    Ok(values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
}

/// The words that stand for what neither JSON numbers nor SQLite's floats can say.
pub(crate) fn non_finite_word(value: f64) -> Option<&'static str> {
    if value.is_finite() {
        None
    } else if value.is_nan() {
        Some("NaN")
    } else if value > 0.0 {
        Some("Infinity")
    } else {
        Some("-Infinity")
    }
}

/// The reverse of [`non_finite_word`].
pub(crate) fn from_non_finite_word(word: &str) -> Option<f64> {
    match word {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

/// A float that may be non-finite: a JSON number, or a word.
struct AnyFloat(f64);

impl Serialize for AnyFloat {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match non_finite_word(self.0) {
            Some(word) => serializer.serialize_str(word),
            None => serializer.serialize_f64(self.0),
        }
    }
}

impl<'de> Deserialize<'de> for AnyFloat {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyFloatVisitor;

        impl Visitor<'_> for AnyFloatVisitor {
            type Value = AnyFloat;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, \"NaN\", \"Infinity\" or \"-Infinity\"")
            }

            fn visit_f64<E>(self, value: f64) -> Result<AnyFloat, E> {
                Ok(AnyFloat(value))
            }

            fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<AnyFloat, E> {
                from_non_finite_word(word)
                    .map(AnyFloat)
                    .ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(word), &self))
            }
        }

        deserializer.deserialize_any(AnyFloatVisitor)
    }
}

/// Scalars as a JSON object.
pub(crate) fn scalars_to_json(scalars: &BTreeMap<String, f64>) -> Result<String, StoreError> {
    struct Scalars<'a>(&'a BTreeMap<String, f64>);

    impl Serialize for Scalars<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_map(self.0.iter().map(|(name, value)| (name, AnyFloat(*value))))
        }
    }

    to_json("scalars", &Scalars(scalars))
}

/// The reverse of [`scalars_to_json`].
pub(crate) fn scalars_from_json(text: &str) -> Result<BTreeMap<String, f64>, StoreError> {
    let scalars: BTreeMap<String, AnyFloat> =
        serde_json::from_str(text).map_err(|error| StoreError::Data(format!("column scalars: {error}")))?;
    Ok(scalars.into_iter().map(|(name, value)| (name, value.0)).collect())
}

/// Scalars of a JSON object by their names, without keeping the others. SQLite's own JSON functions would do, but round
/// numbers.
pub(crate) fn scalars_named(text: &str, names: &[impl AsRef<str>]) -> Result<Vec<Option<f64>>, StoreError> {
    /// Which of the names a key is.
    struct Place<'a, N>(&'a [N]);

    impl<N: AsRef<str>> Visitor<'_> for Place<'_, N> {
        type Value = Option<usize>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("the name of a scalar")
        }

        fn visit_str<E>(self, key: &str) -> Result<Option<usize>, E> {
            Ok(self.0.iter().position(|name| name.as_ref() == key))
        }
    }

    impl<'de, N: AsRef<str>> DeserializeSeed<'de> for Place<'_, N> {
        type Value = Option<usize>;

        fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<usize>, D::Error> {
            deserializer.deserialize_str(self)
        }
    }

    struct Named<'a, N>(&'a [N]);

    impl<'de, N: AsRef<str>> Visitor<'de> for Named<'_, N> {
        type Value = Vec<Option<f64>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object of scalars")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<Option<f64>>, A::Error> {
            let mut found = vec![None; self.0.len()];
            while let Some(place) = map.next_key_seed(Place(self.0))? {
                let Some(place) = place else {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                };
                let value = map.next_value::<AnyFloat>()?.0;
                // A name may be asked for more than once.
                let name = self.0[place].as_ref();
                for (slot, _) in found.iter_mut().zip(self.0).filter(|(_, wanted)| wanted.as_ref() == name) {
                    *slot = Some(value);
                }
            }
            Ok(found)
        }
    }

    let mut deserializer = serde_json::Deserializer::from_str(text);
    deserializer.deserialize_map(Named(names)).map_err(|error| StoreError::Data(format!("column scalars: {error}")))
}

/// One scalar of a JSON object.
pub(crate) fn scalar_from_json(text: &str, name: &str) -> Result<Option<f64>, StoreError> {
    Ok(scalars_named(text, &[name])?.into_iter().next().flatten())
}
