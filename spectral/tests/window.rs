//! The window of rows: bits, refusals, refills.

mod support;

use gradwatch_spectral::dot_on_every_path;
use gradwatch_spectral::edge::{EdgeReading, EdgeStream};
use gradwatch_spectral::window::{Window, WindowError};
use support::{Random, to_f32};

/// Rows that are correlated, scaled apart and not a multiple of the lane count.
fn rows(seed: u64, count: usize, dim: usize) -> Vec<Vec<f32>> {
    to_f32(&Random::new(seed).rows(count, dim, 0.5))
}

/// Bits, not values: −0 and 0 differ here, and that is wanted.
fn bits(readings: &[EdgeReading]) -> String {
    serde_json::to_string(readings).expect("readings are finite")
}

#[test]
fn every_instruction_set_gives_the_same_bits() {
    let mut random = Random::new(1);
    for length in [0, 1, 7, 15, 16, 17, 63, 64, 100, 4096, 5001] {
        let mut row = |scale: f64| random.gaussians(length).iter().map(|x| (scale * x) as f32).collect::<Vec<_>>();
        for (x, y) in [(row(1.0), row(1.0)), (row(1e37), row(1e37)), (row(1e-44), row(1e30))] {
            let paths = dot_on_every_path(&x, &y);
            assert!(paths.len() >= 3);
            for (name, value) in &paths {
                assert_eq!(value.to_bits(), paths[0].1.to_bits(), "{name}, length {length}");
            }
            let exact: f64 = x.iter().zip(&y).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            let size: f64 = x.iter().zip(&y).map(|(a, b)| (f64::from(*a) * f64::from(*b)).abs()).sum();
            assert!((paths[0].1 - exact).abs() <= 1e-13 * size);
        }
    }
}

#[test]
fn declarations_are_checked() {
    let refused = |dim, lengths: &[usize]| Window::new(dim, lengths).expect_err("refused");
    assert_eq!(refused(8, &[]), WindowError::NoLength);
    assert_eq!(refused(8, &[10, 2]), WindowError::LengthOutOfRange { length: 2 });
    assert_eq!(refused(8, &[65]), WindowError::LengthOutOfRange { length: 65 });
    assert_eq!(refused(8, &[10, 20, 10]), WindowError::DuplicateLength { length: 10 });
    assert_eq!(refused(0, &[10]), WindowError::NoDimension);
    assert!(refused(8, &[2]).to_string().starts_with("windows: "));
    assert!(matches!(EdgeStream::new(8, &[3], 0, true), Err(WindowError::NoParameters)));
    assert_eq!(Window::memory_bytes(4096, &[10, 20]), 21 * 4096 * 4);
    assert_eq!(Window::memory_bytes(usize::MAX, &[64]), usize::MAX);
}

#[test]
fn rows_are_counted_up_to_one_more_than_the_longest_window() {
    let mut window = Window::new(3, &[3, 5]).expect("valid");
    for expected in [1, 2, 3, 4, 5, 6, 6, 6] {
        window.push(&[1.0, 2.0, 3.0]).expect("valid row");
        assert_eq!(window.rows(), expected);
    }
    window.restart();
    assert_eq!(window.rows(), 0);
}

#[test]
fn a_refused_row_leaves_the_stream_as_it_was() {
    let rows = rows(2, 30, 40);
    let mut clean = EdgeStream::new(40, &[4, 7], 40, true).expect("valid");
    let mut bothered = EdgeStream::new(40, &[4, 7], 40, true).expect("valid");
    for (at, row) in rows.iter().enumerate() {
        let mut bad = row.clone();
        bad[at % 40] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY][at % 3];
        assert_eq!(bothered.push(&bad, None), Err(WindowError::NonFinite));
        assert_eq!(bothered.refill(&bad), Err(WindowError::NonFinite));
        assert_eq!(bothered.push(&row[1..], None), Err(WindowError::RowLength { got: 39, expected: 40 }));
        let (a, b) = (clean.push(row, None).expect("valid"), bothered.push(row, None).expect("valid"));
        assert_eq!(bits(&a), bits(&b));
    }
}

#[test]
fn several_lengths_over_one_ring_equal_single_windows() {
    let lengths = [10, 3, 20, 7];
    let rows = rows(3, 70, 129);
    let mut together = EdgeStream::new(129, &lengths, 1000, true).expect("valid");
    let mut alone: Vec<EdgeStream> =
        lengths.iter().map(|length| EdgeStream::new(129, &[*length], 1000, true).expect("valid")).collect();
    for (at, row) in rows.iter().enumerate() {
        if at == 40 {
            together.restart();
            alone.iter_mut().for_each(EdgeStream::restart);
        }
        let readings = together.push(row, Some(1e-3)).expect("valid");
        assert_eq!(readings.iter().map(|reading| reading.window).collect::<Vec<_>>(), lengths);
        let single: Vec<EdgeReading> =
            alone.iter_mut().flat_map(|stream| stream.push(row, Some(1e-3)).expect("valid")).collect();
        assert_eq!(bits(&readings), bits(&single), "row {at}");
    }
}

/// Promise: after a restart windows continue without a hole and give the same bits.
#[test]
fn a_refilled_window_gives_the_same_bits() {
    let rows = rows(4, 90, 65);
    let mut undisturbed = EdgeStream::new(65, &[5, 12], 65, false).expect("valid");
    let readings: Vec<Vec<EdgeReading>> =
        rows.iter().map(|row| undisturbed.push(row, Some(0.1)).expect("valid")).collect();
    for crash in [13, 14, 20, 50, 77] {
        let mut refilled = EdgeStream::new(65, &[5, 12], 65, false).expect("valid");
        for row in &rows[crash - 13..crash] {
            refilled.refill(row).expect("valid");
        }
        for at in crash..rows.len() {
            let again = refilled.push(&rows[at], Some(0.1)).expect("valid");
            assert_eq!(bits(&again), bits(&readings[at]), "crash before {crash}, row {at}");
        }
    }
    // Also when the window was still filling.
    let mut refilled = EdgeStream::new(65, &[5, 12], 65, false).expect("valid");
    rows[..6].iter().for_each(|row| refilled.refill(row).expect("valid"));
    for at in 6..30 {
        assert_eq!(bits(&refilled.push(&rows[at], Some(0.1)).expect("valid")), bits(&readings[at]), "row {at}");
    }
}

#[test]
fn streams_may_move_between_threads() {
    fn is_send<T: Send>() {}
    is_send::<EdgeStream>();
    is_send::<gradwatch_spectral::followers::Followers>();
}
