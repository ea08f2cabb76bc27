//! The edge instrument over updates already at hand.

use super::instrument::Instrument;
use super::{EdgeParams, EdgeReading};
use crate::dot::dots_of;
use crate::gram::GramRing;
use crate::window::{WindowError, longest_of};

/// One reading for every update, oldest first; the first W − 1 are warming. The updates are float32 or float64 rows of
/// one common length, any length; products are accumulated in float64. `learning_rates` has one value a row, or is empty
/// when they are unknown. `norm_z` and the gap flow are left none, see [`Followers`](crate::followers::Followers).
///
/// # Errors
/// A window length outside 3..=64, `parameter_count` 0, rows of different lengths, a row that is not finite (or whose
/// norm overflows float64), a wrong number of learning rates.
pub fn edge_readings<R, T>(
    updates: &[R],
    params: EdgeParams,
    learning_rates: &[f64],
) -> Result<Vec<EdgeReading>, WindowError>
where
    R: AsRef<[T]>,
    T: Copy + Into<f64>,
{
    let expected = updates.first().map_or(0, |row| row.as_ref().len());
    if let Some(row) = updates.iter().map(AsRef::as_ref).find(|row| row.len() != expected) {
        return Err(WindowError::RowLength { got: row.len(), expected });
    }
    let mut products = Vec::new();
    read_all(updates.len(), params, learning_rates, |newest, kept| {
        let rows: Vec<&[T]> = (0..=kept).map(|age| updates[newest - age].as_ref()).collect();
        products.resize(rows.len(), 0.0);
        dots_of(rows[0], &rows, &mut products);
        products.clone()
    })
}

/// The same from the dot products alone: `dots` is the n × n table ⟨delta_i, delta_j⟩, row-major, of `rows` = n
/// consecutive updates. Only the lower triangle near the diagonal is read.
///
/// # Errors
/// As for [`edge_readings`], and a table that is not n × n.
pub fn edge_readings_from_dots(
    dots: &[f64],
    rows: usize,
    params: EdgeParams,
    learning_rates: &[f64],
) -> Result<Vec<EdgeReading>, WindowError> {
    if rows.checked_mul(rows) != Some(dots.len()) {
        return Err(WindowError::TableShape { got: dots.len(), rows });
    }
    read_all(rows, params, learning_rates, |newest, kept| {
        (0..=kept).map(|age| dots[newest * rows + newest - age]).collect()
    })
}

/// Runs the instrument over `count` rows; `products(t, kept)` are the products of row t with rows t, t−1, …, t−kept.
fn read_all(
    count: usize,
    params: EdgeParams,
    learning_rates: &[f64],
    mut products: impl FnMut(usize, usize) -> Vec<f64>,
) -> Result<Vec<EdgeReading>, WindowError> {
    longest_of(&[params.window])?;
    if params.parameter_count == 0 {
        return Err(WindowError::NoParameters);
    }
    if !learning_rates.is_empty() && learning_rates.len() != count {
        return Err(WindowError::LearningRates { got: learning_rates.len(), rows: count });
    }
    let mut gram = GramRing::new(params.window + 1);
    let mut instrument = Instrument::new(params);
    let mut readings = Vec::with_capacity(count);
    for newest in 0..count {
        let products = products(newest, gram.rows().min(params.window));
        if !products.iter().all(|product| product.is_finite()) {
            return Err(WindowError::NonFinite);
        }
        gram.push(&products);
        let learning_rate = learning_rates.get(newest).copied();
        readings.push(instrument.read(gram.rows(), learning_rate, |i, j| gram.dot(i, j)));
    }
    Ok(readings)
}
