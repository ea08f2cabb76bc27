//! What a server keeps is what was sent: counted, and computed again for some readings.

use anyhow::{Context, Result, ensure};
use gradwatch_spectral::{detectors::DetectorConfig, edge::EdgeStream, encoding::decode_f16, followers::Followers};
use gradwatch_tests::{Expected, Rest, assert_readings};
use rand::RngExt as _;

use crate::{
    content::{Content, FULL_WINDOW_METRIC, LEARNING_RATE, PARAMETERS, WINDOW},
    load::RunId,
};

/// Readings that are computed again.
const READINGS: usize = 10;

/// Each run has exactly frames − W + 1 readings of full windows, and ten random ones have the bits that an offline
/// computation gives.
///
/// # Errors
/// Names the run that has too few or too many; panics at a reading that differs.
pub(crate) async fn check(url: &str, content: &Content, runs: &[(RunId, u64)]) -> Result<()> {
    let rest = Rest::new(url);
    for (run, frames) in runs {
        let path = format!("/api/v1/runs/{}/series?metric={FULL_WINDOW_METRIC}", run.run_id);
        let series = rest.get(&path).await;
        let points = series["items"][0]["points"].as_array().context("no points")?;
        let full: u64 = points.iter().filter_map(|point| point["count"].as_u64()).sum();
        let expected = (frames + 1).saturating_sub(WINDOW as u64);
        ensure!(full == expected, "run {}: {full} readings of full windows instead of {expected}", run.run_id);
    }
    for _ in 0..READINGS {
        let (run, frames) = &runs[rand::random_range(0..runs.len())];
        let step = rand::rng().random_range(1..=*frames);
        let path = format!("/api/v1/runs/{}/readings/edge?from_step={step}&to_step={step}", run.run_id);
        let page = rest.get(&path).await;
        let items = page["items"].as_array().context("no items")?;
        assert_readings(items, &[expected(content, run.number, step)?]);
    }
    Ok(())
}

/// What a run reads at a step. What follows a stream depends on its whole past, so that is gone through.
fn expected(content: &Content, run: usize, step: u64) -> Result<Expected> {
    let mut stream = EdgeStream::new(content.dim(), &[WINDOW], PARAMETERS, true)?;
    let mut followers = Followers::new(WINDOW, &DetectorConfig::default());
    let mut row = vec![0.0; content.dim()];
    let mut last = None;
    for seq in 1..=step {
        let sketch = content.sketch(run, seq);
        decode_f16(sketch.scale, &sketch.values, &mut row)?;
        let mut readings = stream.push(&row, Some(LEARNING_RATE))?;
        if let Some(reading) = readings.first_mut() {
            followers.follow(seq, reading);
        }
        last = readings.pop();
    }
    let reading = last.context("steps begin at 1")?;
    Ok(Expected { step, reading, regime: followers.regime() })
}
