//! The sketch against its reference vectors, bit for bit on every SIMD path, and its mathematical promises.

use std::collections::BTreeMap;

use gradwatch_spectral::sketch::{
    Accumulator, DEFAULT_DIM, Element, MAX_DIM, MIN_DIM, SimdPath, SketchError, Sketcher, TensorName, fnv1a, mix,
};
use serde_json::Value;

fn vectors() -> Value {
    serde_json::from_str(include_str!("vectors/sketch.json")).unwrap()
}

fn hex(value: &Value) -> u64 {
    u64::from_str_radix(value.as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
}

fn decimal(value: &Value) -> u64 {
    value.as_str().unwrap().parse().unwrap()
}

/// The vectors' x_i, by flat index.
fn element(index: u64) -> f64 {
    (index.wrapping_mul(2_654_435_761) % (1 << 32)) as f64 / (1_u64 << 32) as f64 - 0.5
}

fn elements(offset: u64, len: u64) -> Vec<f64> {
    (offset..offset + len).map(element).collect()
}

fn sketch<A, T>(sketcher: &Sketcher, slices: &[(&str, u64, &[T])]) -> Vec<A>
where
    A: Accumulator + From<T> + Default,
    T: Element,
{
    let mut acc = vec![A::default(); sketcher.dim()];
    for (name, offset, values) in slices {
        sketcher.add(&mut acc, TensorName::new(name), *offset, values).unwrap();
    }
    acc
}

/// Standard normal numbers by Box and Muller from SplitMix64: seeded, and the same on every machine.
fn gaussians(len: usize, seed: u64) -> Vec<f32> {
    let uniform = |i: u64| ((mix(mix(seed) ^ i) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    (0..len as u64)
        .map(|i| ((-2.0 * uniform(2 * i).ln()).sqrt() * (std::f64::consts::TAU * uniform(2 * i + 1)).cos()) as f32)
        .collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The definition, one element at a time, with products instead of flips.
fn plain_sketch<A: Copy + std::ops::AddAssign>(
    (d, seed): (usize, u64),
    slices: &[(&str, u64, &[f32])],
    zero: A,
    term: impl Fn(f32, f32) -> A,
) -> Vec<A> {
    let sign = |z: u64| if z >> 63 == 0 { 1.0 } else { -1.0 };
    let mut acc = vec![zero; d];
    for (name, offset, values) in slices {
        for (i, &x) in values.iter().enumerate() {
            let flat = offset + i as u64;
            let (c, j) = (flat / d as u64, flat % d as u64);
            let z = mix(mix(seed ^ fnv1a(name)) ^ c);
            acc[((j + z) % d as u64) as usize] += term(sign(z) * sign(mix(mix(seed) ^ j)), x);
        }
    }
    acc
}

#[test]
fn hashes_match_the_vectors() {
    let vectors = vectors();
    for (input, hash) in vectors["mix"].as_object().unwrap() {
        assert_eq!(mix(input.parse().unwrap()), hex(hash), "mix({input})");
    }
    for (name, hash) in vectors["fnv1a"].as_object().unwrap() {
        assert_eq!(fnv1a(name), hex(hash), "fnv1a({name:?})");
    }
}

#[test]
fn single_elements_land_where_the_vectors_say() {
    let vectors = vectors();
    let column_signs: Vec<f64> =
        vectors["column_signs"]["signs"].as_array().unwrap().iter().map(|sign| sign.as_f64().unwrap()).collect();
    for chunk in vectors["chunks"].as_array().unwrap() {
        let (d, c) = (chunk["d"].as_u64().unwrap(), chunk["c"].as_u64().unwrap());
        assert_eq!(chunk["seed"], vectors["column_signs"]["seed"]);
        let sketcher = Sketcher::new(d as usize, decimal(&chunk["seed"])).unwrap();
        for (j, column_sign) in column_signs.iter().enumerate() {
            let y: Vec<f64> = sketch(&sketcher, &[(chunk["name"].as_str().unwrap(), c * d + j as u64, &[1.0_f32])]);
            let bucket = (j as u64 + chunk["rotation"].as_u64().unwrap()) % d;
            let mut expected = vec![0.0; d as usize];
            expected[bucket as usize] = column_sign * chunk["sign"].as_f64().unwrap();
            assert_eq!(y, expected, "chunk {c}, column {j}");
        }
    }
}

#[test]
fn every_case_has_the_reference_bits_on_every_path() {
    for path in SimdPath::available() {
        for case in vectors()["cases"].as_array().unwrap() {
            let d = case["d"].as_u64().unwrap() as usize;
            let sketcher = Sketcher::with_path(d, decimal(&case["seed"]), path).unwrap();
            let mut y = vec![0.0_f64; d];
            for slice in case["slices"].as_array().unwrap() {
                let (offset, len) = (slice["offset"].as_u64().unwrap(), slice["len"].as_u64().unwrap());
                let name = TensorName::new(slice["name"].as_str().unwrap());
                sketcher.add(&mut y, name, offset, &elements(offset, len)).unwrap();
            }
            let expected: BTreeMap<usize, f64> = case["sketch"]
                .as_object()
                .unwrap()
                .iter()
                .map(|(bucket, y)| (bucket.parse().unwrap(), y.as_f64().unwrap()))
                .collect();
            for (bucket, y) in y.iter().enumerate() {
                match expected.get(&bucket) {
                    Some(expected) => {
                        assert_eq!(y.to_bits(), expected.to_bits(), "{}: d {d}, bucket {bucket}", path.name());
                    }
                    None => assert!(d == 4096 || *y == 0.0, "{}: d {d}, bucket {bucket} is {y}", path.name()),
                }
            }
            let close = |a: f64, b: &Value| (a - b.as_f64().unwrap()).abs() <= 1e-9 * a.abs().max(1.0);
            assert!(close(y.iter().sum(), &case["sum"]), "{}: d {d}, sum", path.name());
            assert!(close(dot(&y, &y), &case["sum_squares"]), "{}: d {d}, sum of squares", path.name());
        }
    }
}

/// Every alignment of slice and rotation, ragged on both ends, for each pair of types: the definition's own bits.
#[test]
fn all_paths_agree_bit_for_bit_with_the_definition() {
    let values = gaussians(3 * 1024 + 77, 3);
    for d in [64, 256, 1024] {
        let mut slices: Vec<(&str, u64, &[f32])> = vec![("whole", 0, &values), ("empty", 5, &[])];
        for start in 0..40 {
            slices.push(("shard", start as u64 * 131, &values[start..start + 7 * start + 1]));
        }
        let expected_f64 = plain_sketch((d, 11), &slices, 0.0_f64, |sign, x| f64::from(sign) * f64::from(x));
        let expected_f32 = plain_sketch((d, 11), &slices, 0.0_f32, |sign, x| sign * x);
        let wide: Vec<Vec<f64>> = slices.iter().map(|s| s.2.iter().map(|&x| f64::from(x)).collect()).collect();
        let wide: Vec<(&str, u64, &[f64])> = slices.iter().zip(&wide).map(|(s, w)| (s.0, s.1, w.as_slice())).collect();
        for path in SimdPath::available() {
            let sketcher = Sketcher::with_path(d, 11, path).unwrap();
            let bits = |y: &[f64]| y.iter().map(|y| y.to_bits()).collect::<Vec<_>>();
            let context = format!("{}, d {d}", path.name());
            assert_eq!(bits(&sketch::<f64, f32>(&sketcher, &slices)), bits(&expected_f64), "f32 in f64, {context}");
            assert_eq!(bits(&sketch::<f64, f64>(&sketcher, &wide)), bits(&expected_f64), "f64 in f64, {context}");
            let bits = |y: &[f32]| y.iter().map(|y| y.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&sketch::<f32, f32>(&sketcher, &slices)), bits(&expected_f32), "f32 in f32, {context}");
        }
    }
}

#[test]
fn portable_is_always_available_and_the_best_path_is_the_last() {
    let paths = SimdPath::available();
    assert_eq!(paths[0].name(), "portable");
    assert_eq!(paths.last().unwrap().name(), SimdPath::best().name());
}

#[test]
fn it_is_linear() {
    let sketcher = Sketcher::new(1024, 5).unwrap();
    // Integers, so that every sum is exact and linearity holds to the last bit.
    let integers = |seed| (0..5000_u64).map(|i| (mix(seed ^ i) % 2001) as f64 - 1000.0).collect::<Vec<_>>();
    let (a, b) = (integers(100_000), integers(200_000));
    let combined: Vec<f64> = a.iter().zip(&b).map(|(a, b)| 3.0 * a - 2.0 * b).collect();
    let [sa, sb, sc] = [&a, &b, &combined].map(|x| sketch::<f64, f64>(&sketcher, &[("w", 0, x)]));
    let expected: Vec<f64> = sa.iter().zip(&sb).map(|(a, b)| 3.0 * a - 2.0 * b).collect();
    assert_eq!(sc, expected);
    assert!(sc.iter().any(|y| *y != 0.0));
}

#[test]
fn shards_of_one_tensor_add_up_to_the_whole() {
    let sketcher = Sketcher::new(256, 7).unwrap();
    let x = elements(0, 5000);
    let whole: Vec<f64> = sketch(&sketcher, &[("w", 0, x.as_slice())]);
    let mut sum = vec![0.0; 256];
    for range in [0..1, 1..1999, 1999..2048, 2048..4608, 4608..5000] {
        let shard: Vec<f64> = sketch(&sketcher, &[("w", range.start as u64, &x[range])]);
        sum.iter_mut().zip(shard).for_each(|(sum, y)| *sum += y);
    }
    let worst = whole.iter().zip(&sum).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(worst < 1e-12, "{worst}");
    // In order into one accumulator the split cannot be seen at all.
    let pieces: Vec<f64> =
        sketch(&sketcher, &[("w", 0, &x[..1999]), ("w", 1999, &x[1999..2100]), ("w", 2100, &x[2100..])]);
    assert_eq!(pieces, whole);
}

#[test]
fn the_sketch_of_a_group_is_the_sum_of_its_tensors() {
    let sketcher = Sketcher::new(256, 7).unwrap();
    let tensors = [("blocks.0.wq", 700), ("blocks.0.wk", 65), ("blocks.1.wq", 3001)];
    let x: Vec<Vec<f64>> = tensors.iter().map(|(_, len)| elements(17, *len)).collect();
    let of = |indices: &[usize]| -> Vec<f64> {
        sketch(&sketcher, &indices.iter().map(|&i| (tensors[i].0, 0, x[i].as_slice())).collect::<Vec<_>>())
    };
    let sum = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a + b).collect::<Vec<_>>();
    let (block_0, block_1, all, reversed) = (of(&[0, 1]), of(&[2]), of(&[0, 1, 2]), of(&[2, 1, 0]));
    for other in [sum(&block_0, &block_1), sum(&sum(&of(&[0]), &of(&[1])), &block_1), reversed] {
        let worst = all.iter().zip(&other).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(worst < 1e-12, "{worst}");
    }
    assert_ne!(block_0, all);
}

#[test]
fn name_seed_and_offset_all_matter() {
    let x = elements(0, 64);
    let y =
        |seed, name, offset| -> Vec<f64> { sketch(&Sketcher::new(64, seed).unwrap(), &[(name, offset, x.as_slice())]) };
    for other in [y(2, "w", 0), y(1, "v", 0), y(1, "w", 1), y(1, "w", 64)] {
        assert_ne!(y(1, "w", 0), other);
    }
}

/// Standard deviation over seeds of ‖Sx‖²/‖x‖², in units of 1/√d, and the mean of it.
fn norm_error(x: &[f32], d: usize, seeds: u64) -> (f64, f64) {
    let norm: f64 = x.iter().map(|&x| f64::from(x).powi(2)).sum();
    let errors: Vec<f64> = (0..seeds)
        .map(|seed| {
            let y: Vec<f64> = sketch(&Sketcher::new(d, seed).unwrap(), &[("w", 0, x)]);
            (dot(&y, &y) / norm - 1.0) * (d as f64).sqrt()
        })
        .collect();
    let mean = errors.iter().sum::<f64>() / seeds as f64;
    ((errors.iter().map(|e| (e - mean).powi(2)).sum::<f64>() / (seeds - 1) as f64).sqrt(), mean)
}

#[test]
fn the_error_of_the_squared_norm_is_as_small_as_promised() {
    let (d, seeds) = (256, 4000);
    let (deviation, mean) = norm_error(&vec![1.0; 40 * d], d, seeds);
    assert!((1.8..=2.05).contains(&deviation), "ones: {deviation}");
    assert!(mean.abs() < 4.0 * deviation / (seeds as f64).sqrt(), "ones: biased by {mean}");
    let (deviation, mean) = norm_error(&gaussians(40 * d, 1), d, seeds);
    assert!((1.3..=1.5).contains(&deviation), "Gaussian: {deviation}");
    assert!(mean.abs() < 4.0 * deviation / (seeds as f64).sqrt(), "Gaussian: biased by {mean}");
    // A 40 × d matrix whose energy sits in one column: within the bound for most vectors, √2.
    let column: Vec<f32> =
        gaussians(40 * d, 2).iter().enumerate().map(|(i, x)| if i % d == 9 { *x } else { 0.0 }).collect();
    let (deviation, _) = norm_error(&column, d, seeds);
    assert!((1.2..=1.5).contains(&deviation), "one column: {deviation}");
}

#[test]
fn a_value_that_is_not_finite_stays_in_its_bucket() {
    let sketcher = Sketcher::new(64, 0).unwrap();
    let mut x = vec![1.0_f32; 64];
    (x[3], x[5]) = (f32::NAN, f32::INFINITY);
    let y: Vec<f64> = sketch(&sketcher, &[("w", 0, x.as_slice())]);
    assert_eq!(y.iter().filter(|y| y.is_nan()).count(), 1);
    assert_eq!(y.iter().filter(|y| y.is_infinite()).count(), 1);
}

#[test]
fn a_dimension_out_of_range_is_refused() {
    for d in [MIN_DIM, DEFAULT_DIM, MAX_DIM] {
        assert_eq!(Sketcher::new(d, 9).map(|sketcher| (sketcher.dim(), sketcher.seed())), Ok((d, 9)));
    }
    for d in [0, 1, 32, 63, 65, 4095, 131_072, usize::MAX] {
        let error = Sketcher::new(d, 0).unwrap_err();
        assert_eq!(error, SketchError::Dimension { d });
        assert_eq!(error.to_string(), format!("d: {d} is not a power of two between 64 and 65536"));
    }
}

#[test]
fn a_wrong_accumulator_or_offset_is_refused_and_nothing_added() {
    let sketcher = Sketcher::new(64, 0).unwrap();
    let name = TensorName::new("w");
    for len in [0, 63, 65, 128] {
        let mut acc = vec![0.0_f64; len];
        let error = sketcher.add(&mut acc, name, 0, &[1.0_f32]).unwrap_err();
        assert_eq!(error, SketchError::AccumulatorLength { expected: 64, actual: len });
        assert_eq!(error.to_string(), format!("acc: has {len} buckets, the sketch has 64"));
        assert!(acc.iter().all(|y| *y == 0.0));
    }
    let mut acc = vec![0.0_f64; 64];
    let error = sketcher.add(&mut acc, name, u64::MAX, &[1.0_f32]).unwrap_err();
    assert_eq!(error, SketchError::Offset { offset: u64::MAX, len: 1 });
    assert!(error.to_string().starts_with("offset: 18446744073709551615 leaves no room for 1 values"));
    assert!(acc.iter().all(|y| *y == 0.0));
    // The last elements of the index still work.
    let last: &[(&str, u64, &[f32])] = &[("w", u64::MAX - 70, &[1.0; 70])];
    let expected = plain_sketch((64, 0), last, 0.0, |sign, x| f64::from(sign * x));
    assert_eq!(sketch::<f64, f32>(&sketcher, last), expected);
}

#[test]
fn a_sketcher_is_shared_between_threads() {
    let sketcher = Sketcher::new(64, 0).unwrap();
    let x = elements(0, 200);
    let expected: Vec<f64> = sketch(&sketcher, &[("w", 0, x.as_slice())]);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| sketch::<f64, f64>(&sketcher, &[("w", 0, x.as_slice())]));
        assert_eq!(other.join().unwrap(), expected);
    });
}
