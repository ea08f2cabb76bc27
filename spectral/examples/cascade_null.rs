//! The null table of the cascade instrument: the slope b of iid Gaussian values, in every layout.
//!
//! `cargo run -p gradwatch-spectral --example cascade_null -- [DRAWS] [--seed SEED]`
//!
//! b0 is the mean over draws, sd0 the standard deviation of one draw, both for R = 16 windows; fewer windows are printed
//! to show that b0 does not depend on R while sd0 does. The same seed and draws give the same figures on the same
//! processor.

#[path = "../tests/support/mod.rs"]
mod support;

use std::error::Error;

use gradwatch_spectral::cascade::{NestLayout, nest, threshold};
use support::Random;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let seed = match arguments.iter().position(|argument| argument == "--seed") {
        Some(at) if at + 1 < arguments.len() => arguments.drain(at..at + 2).next_back().unwrap_or_default().parse()?,
        Some(_) => return Err("--seed needs a number".into()),
        None => 20_260_416,
    };
    let draws: usize = arguments.first().map_or(Ok(1000), |draws| draws.parse())?;
    if draws < 2 {
        return Err("a standard deviation needs at least 2 draws".into());
    }
    println!("| sizes | R | draws | b0 | error of b0 | sd0 |\n|---|---|---|---|---|---|");
    for layout in &NestLayout::ALL {
        for windows in [NestLayout::NULL_WINDOWS, 4, 1] {
            let mut random = Random::new(seed);
            let mut slopes = Vec::with_capacity(draws);
            for _ in 0..draws {
                let values: Vec<f64> = (0..windows * layout.largest).map(|_| random.gaussian().abs()).collect();
                let threshold = threshold(&values).map_err(|reason| reason.to_string())?;
                slopes.push(nest(&values, layout, threshold).slope);
            }
            let mean = slopes.iter().sum::<f64>() / draws as f64;
            let squares: f64 = slopes.iter().map(|slope| (slope - mean).powi(2)).sum();
            let deviation = (squares / (draws - 1) as f64).sqrt();
            println!(
                "| {}...{} | {windows} | {draws} | {mean:.5} | {:.5} | {deviation:.5} |",
                layout.smallest,
                layout.largest,
                deviation / (draws as f64).sqrt()
            );
        }
    }
    Ok(())
}
