//! Undefined values, refusals and determinism.

use gradwatch_spectral::cascade::{
    CascadeReading, CascadeSnapshot, NestLayout, WholeGradient, nest, reading, threshold, whole_cascade,
};
use gradwatch_spectral::layers::{FieldValue, LayerInstrument, LayerReading, Reason};

use crate::support::Random;

/// Magnitudes of iid Gaussian values.
fn gaussian(seed: u64, windows: usize, length: usize) -> Vec<Vec<f64>> {
    let mut random = Random::new(seed);
    (0..windows).map(|_| (0..length).map(|_| random.gaussian().abs()).collect()).collect()
}

fn of_windows(windows: Vec<Vec<f64>>) -> CascadeReading {
    reading(&CascadeSnapshot { windows, whole: None })
}

fn of_whole(whole: WholeGradient) -> CascadeReading {
    reading(&CascadeSnapshot { windows: Vec::new(), whole: Some(whole) })
}

fn refused(reason: Reason) -> CascadeReading {
    CascadeReading { reason: Some(reason), ..Default::default() }
}

#[test]
fn nothing_is_empty() {
    assert_eq!(reading(&CascadeSnapshot::default()), refused(Reason::Empty));
    assert_eq!(of_windows(vec![vec![]]), refused(Reason::Empty));
    assert_eq!(of_whole(WholeGradient::Entries(vec![])), refused(Reason::Empty));
    assert_eq!(of_whole(WholeGradient::Fraction { sites: 0, phi: 0.5 }), refused(Reason::Empty));
}

#[test]
fn a_value_that_is_not_finite_nulls_all() {
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let mut windows = gaussian(1, 16, 4096);
        windows[11][4095] = bad;
        assert_eq!(of_windows(windows), refused(Reason::NonFinite));
        assert_eq!(of_whole(WholeGradient::Entries(vec![1.0, bad, 2.0, 3.0])), refused(Reason::NonFinite));
        assert_eq!(of_whole(WholeGradient::Fraction { sites: 100, phi: bad }), refused(Reason::NonFinite));
    }
    // Finite, but not their sum: loads would overflow on their way.
    assert_eq!(of_windows(vec![vec![f64::MAX; 4096]; 16]), refused(Reason::NonFinite));
    assert_eq!(of_whole(WholeGradient::Entries(vec![-f64::MAX; 10])), refused(Reason::NonFinite));
}

#[test]
fn a_negative_magnitude_is_refused() {
    let mut windows = gaussian(2, 4, 4096);
    windows[3][0] = -1e-3;
    assert_eq!(of_windows(windows), refused(Reason::Negative));
    assert_eq!(of_whole(WholeGradient::Fraction { sites: 100, phi: -0.1 }), refused(Reason::Negative));
}

#[test]
fn more_than_nine_tenths_zeros_are_degenerate() {
    let sparse = |zeros: usize| {
        let mut values = vec![1.0; 16 * 4096];
        values[..zeros].fill(0.0);
        values.chunks_exact(4096).map(<[f64]>::to_vec).collect::<Vec<_>>()
    };
    // The quantile lies halfway between the values 58,981 and 58,982 in ascending order, from 0.
    assert_eq!(of_windows(sparse(16 * 4096)), refused(Reason::Degenerate));
    assert_eq!(of_windows(sparse(58_983)), refused(Reason::Degenerate));
    let reading = of_windows(sparse(58_982));
    assert_eq!((reading.reason, reading.threshold), (None, Some(0.5)));
    assert_eq!(of_whole(WholeGradient::Entries(vec![0.0; 100])), refused(Reason::Degenerate));
}

#[test]
fn a_threshold_at_the_end_of_the_range_is_degenerate_and_does_not_run_for_ever() {
    let windows: Vec<Vec<f64>> = gaussian(3, 16, 4096);
    let tiny = |scale: f64| windows.iter().map(|window| window.iter().map(|x| x * scale).collect()).collect();
    assert_eq!(of_windows(tiny(1e-323)), refused(Reason::Degenerate));
    let (plain, small) = (of_windows(windows.clone()), of_windows(tiny(2f64.powi(-900))));
    assert_eq!(plain.nest_dimension, small.nest_dimension);
}

#[test]
fn windows_of_no_tabulated_length_are_refused() {
    assert_eq!(of_windows(gaussian(4, 3, 100)), refused(Reason::TooSmall));
    assert_eq!(of_windows(gaussian(4, 3, 5000)), refused(Reason::Inconsistent));
    let mut ragged = gaussian(4, 3, 4096);
    ragged[2].pop();
    assert_eq!(of_windows(ragged), refused(Reason::Inconsistent));
}

#[test]
fn a_layout_is_found_by_the_length_of_a_window() {
    for (length, sizes) in [
        (1024, vec![64, 128, 256, 512, 1024]),
        (4096, vec![128, 256, 512, 1024, 2048, 4096]),
        (8192, vec![256, 512, 1024, 2048, 4096, 8192]),
    ] {
        let layout = NestLayout::of(length).unwrap();
        assert_eq!(layout.sizes().collect::<Vec<_>>(), sizes);
        for seed in 0..4 {
            let reading = of_windows(gaussian(5 + seed, 16, length));
            let off = reading.nest_dimension.unwrap() - 1.0;
            assert!(off.abs() < 5.0 * layout.null_sd, "{length}: {off}");
            assert!((reading.nest_z.unwrap() - off / layout.null_sd).abs() < 1e-9);
        }
    }
    assert_eq!(NestLayout::of(2048), None);
}

/// b0 and sd0 of every layout are those of iid Gaussian values, within four errors of this many draws.
#[test]
fn the_null_table_is_that_of_iid_gaussian_values() {
    const DRAWS: usize = 40;
    for layout in &NestLayout::ALL {
        let mut random = Random::new(layout.largest as u64);
        let slopes: Vec<f64> = (0..DRAWS)
            .map(|_| {
                let values: Vec<f64> =
                    random.gaussians(NestLayout::NULL_WINDOWS * layout.largest).iter().map(|z| z.abs()).collect();
                nest(&values, layout, threshold(&values).unwrap()).slope
            })
            .collect();
        let mean = slopes.iter().sum::<f64>() / DRAWS as f64;
        let variance = slopes.iter().map(|slope| (slope - mean).powi(2)).sum::<f64>() / (DRAWS - 1) as f64;
        let errors = (mean - layout.null_slope) / (layout.null_sd / (DRAWS as f64).sqrt());
        // The error of a standard deviation of 40 draws is 11 %.
        let spread = variance.sqrt() / layout.null_sd;
        println!("{}: {errors:.2} errors, spread {spread:.2}", layout.largest);
        assert!(errors.abs() < 4.0 && (0.56..1.44).contains(&spread), "{layout:?}: {errors} {spread}");
    }
}

#[test]
fn z_is_null_where_the_null_is_not_tabulated_and_the_error_for_one_window() {
    let fifteen = of_windows(gaussian(6, 15, 4096));
    assert_eq!((fifteen.nest_z, fifteen.windows), (None, Some(15)));
    assert!(fifteen.nest_dimension.is_some() && fifteen.nest_se.is_some());
    let one = of_windows(gaussian(6, 1, 4096));
    assert_eq!((one.nest_z, one.nest_se, one.reason), (None, None, None));
    assert!(one.nest_dimension.is_some() && one.nest_shuffled.is_some() && one.branching.is_some());
}

#[test]
fn the_error_is_the_jackknife_over_windows() {
    let windows = gaussian(7, 5, 4096);
    let layout = NestLayout::of(4096).unwrap();
    let reading = of_windows(windows.clone());
    let theta = reading.threshold.unwrap();
    let without = |left_out: usize| {
        let others: Vec<f64> = windows
            .iter()
            .enumerate()
            .filter(|(at, _)| *at != left_out)
            .flat_map(|(_, window)| window.clone())
            .collect();
        nest(&others, layout, theta).slope
    };
    let slopes: Vec<f64> = (0..5).map(without).collect();
    let mean = slopes.iter().sum::<f64>() / 5.0;
    let error = (4.0 / 5.0 * slopes.iter().map(|slope| (slope - mean).powi(2)).sum::<f64>()).sqrt();
    assert!((reading.nest_se.unwrap() - error).abs() < 1e-12, "{error} {reading:?}");
}

#[test]
fn a_window_without_a_cascade_counts_as_zero_and_is_left_out_of_branching() {
    // One window holds the tenth of the values that topples; the others are quiet, and 0 where a cascade could reach.
    let mut windows = vec![vec![0.5; 4096]; 4];
    windows[1].fill(1.0);
    windows[1][4095] = 0.0;
    let with_quiet = of_windows(windows.clone());
    let alone = of_windows(vec![windows[1].clone()]);
    assert_eq!(with_quiet.threshold, Some(1.0));
    assert_eq!(with_quiet.branching, alone.branching);
    for field in [|it: &CascadeReading| it.phi, |it: &CascadeReading| it.duration, |it: &CascadeReading| it.v_rel] {
        assert_eq!(field(&with_quiet).unwrap(), field(&alone).unwrap() / 4.0);
    }
}

#[test]
fn a_whole_gradient_is_read_on_its_own_graph() {
    let entries = Random::new(8).gaussians(1200);
    let cascade = whole_cascade(&entries).unwrap();
    let reading = of_whole(WholeGradient::Entries(entries.clone()));
    assert_eq!((reading.reason, reading.windows, reading.nest_dimension), (None, None, None));
    assert_eq!((reading.whole_sites, reading.whole_capped), (Some(1200), Some(false)));
    assert_eq!(reading.whole_phi, Some(cascade.topplings as f64 / 1200.0));
    assert_eq!(reading.whole_ln_size, Some((cascade.topplings as f64).ln()));
    assert_eq!(cascade.initial, 120, "a tenth of the entries is over the 0.9-quantile");
    // Only magnitudes count, and no scale.
    let turned: Vec<f64> = entries.iter().map(|x| x * -4.0).collect();
    assert_eq!(of_whole(WholeGradient::Entries(turned)), reading);
    // What the client found itself says the same.
    let phi = reading.whole_phi.unwrap();
    let sent = of_whole(WholeGradient::Fraction { sites: 1200, phi });
    assert_eq!((sent.whole_phi, sent.whole_sites, sent.whole_capped), (Some(phi), Some(1200), None));
    assert!((sent.whole_ln_size.unwrap() - reading.whole_ln_size.unwrap()).abs() < 1e-12);
}

#[test]
fn a_whole_gradient_with_too_much_load_is_capped_and_says_so() {
    // All entries are equal: all topple, nothing is lost, so it cannot stop.
    let reading = of_whole(WholeGradient::Entries(vec![1.0; 500]));
    assert_eq!(reading.whole_capped, Some(true));
    let phi = reading.whole_phi.unwrap();
    assert!((20.0..21.0).contains(&phi), "{phi}");
}

#[test]
fn a_whole_gradient_too_small_for_its_graph_is_refused() {
    assert_eq!(of_whole(WholeGradient::Entries(vec![1.0, 2.0])), refused(Reason::TooSmall));
    assert_eq!(of_whole(WholeGradient::Entries(vec![1.0, 2.0, 3.0])).reason, None);
}

#[test]
fn a_fraction_of_zero_has_no_logarithm() {
    let reading = of_whole(WholeGradient::Fraction { sites: 100, phi: 0.0 });
    assert_eq!((reading.reason, reading.whole_phi, reading.whole_ln_size), (None, Some(0.0), None));
    let huge = of_whole(WholeGradient::Fraction { sites: u64::MAX, phi: f64::MAX });
    assert!(huge.whole_ln_size.unwrap().is_finite());
}

#[test]
fn one_bad_part_leaves_the_other() {
    let good = gaussian(9, 16, 4096);
    let bad_whole =
        reading(&CascadeSnapshot { windows: good.clone(), whole: Some(WholeGradient::Entries(vec![f64::NAN; 5])) });
    assert_eq!(bad_whole, CascadeReading { reason: Some(Reason::NonFinite), ..of_windows(good) });
    let whole = WholeGradient::Entries(Random::new(10).gaussians(300));
    let bad_windows = reading(&CascadeSnapshot { windows: vec![vec![0.0; 4096]; 16], whole: Some(whole.clone()) });
    assert_eq!(bad_windows, CascadeReading { reason: Some(Reason::Degenerate), ..of_whole(whole) });
}

#[test]
fn the_same_snapshot_gives_the_same_bits() {
    let snapshot = CascadeSnapshot {
        windows: gaussian(11, 16, 4096),
        whole: Some(WholeGradient::Entries(Random::new(12).gaussians(5000))),
    };
    let bits = |reading: CascadeReading| {
        LayerReading::Cascade(reading)
            .values()
            .into_iter()
            .map(|value| match value {
                Some(FieldValue::Number(number)) => Some(number.to_bits()),
                Some(other) => other.as_number().map(f64::to_bits),
                None => None,
            })
            .collect::<Vec<_>>()
    };
    let first = bits(reading(&snapshot));
    assert_eq!(first.len(), LayerInstrument::Cascade.fields().len());
    assert!(first.iter().skip(1).all(Option::is_some), "everything but the reason is defined");
    for _ in 0..3 {
        let snapshot = snapshot.clone();
        let again = std::thread::spawn(move || reading(&snapshot)).join().unwrap();
        assert_eq!(bits(again), first);
    }
}

#[test]
fn no_reading_of_any_snapshot_is_nan_or_infinite() {
    let mut random = Random::new(13);
    let odd = [0.0, 1e-300, 1e-7, 1.0, 65_504.0, 1e200];
    for _ in 0..20 {
        let kinds = 1 + (random.next_u64() % 6) as usize;
        let window = |random: &mut Random| -> Vec<f64> {
            (0..4096).map(|_| odd[(random.next_u64() % kinds as u64) as usize] * random.uniform()).collect()
        };
        let windows: Vec<Vec<f64>> = (0..2).map(|_| window(&mut random)).collect();
        let whole = Some(WholeGradient::Entries(window(&mut random)));
        let reading = LayerReading::Cascade(reading(&CascadeSnapshot { windows, whole }));
        for value in reading.values().into_iter().flatten() {
            assert!(value.as_number().is_none_or(f64::is_finite), "{reading:?}");
        }
    }
}
