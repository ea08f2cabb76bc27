//! What goes on the wire comes back: both encodings, at the edges of float32 and float16.

use gradwatch_spectral::encoding::{
    DecodeError, EncodedSketch, Encoding, NonFiniteCounts, decode_f16, decode_f32, encode,
};
use gradwatch_spectral::sketch::mix;

/// Values of both signs over 2^-`binades` … 1, times `size`.
fn update(size: f64, binades: i32) -> Vec<f64> {
    (0..1024_u64)
        .map(|i| {
            let z = mix(i);
            let mantissa = 0.5 + (z >> 12) as f64 / (1_u64 << 53) as f64;
            let sign = if z & 1 == 0 { 1.0 } else { -1.0 };
            sign * size * mantissa * 2.0_f64.powi(-((z >> 1) as i32 & i32::MAX) % binades)
        })
        .collect()
}

fn round_trip(update: &[f64], encoding: Encoding) -> (Vec<f32>, NonFiniteCounts) {
    let mut row = vec![f32::NAN; update.len()];
    let counts = match encode(update, encoding) {
        EncodedSketch::F32 { bytes } => decode_f32(&bytes, &mut row).unwrap(),
        EncodedSketch::F16 { scale, bytes } => decode_f16(scale, &bytes, &mut row).unwrap(),
        EncodedSketch::NonFinite(counts) => panic!("{counts:?}"),
    };
    (row, counts)
}

fn max_abs(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |max, y| y.abs().max(max))
}

#[test]
fn float32_is_rounded_once_and_comes_back_exactly() {
    for size in [1.0, 1e-30, 1e-45, 3e38] {
        let update = update(size, 20);
        let expected: Vec<f32> = update.iter().map(|&y| y as f32).collect();
        let (row, counts) = round_trip(&update, Encoding::F32);
        assert_eq!(row, expected, "{size}");
        assert!(counts.is_empty());
    }
    let EncodedSketch::F32 { bytes } = encode(&[1.0, -2.5], Encoding::F32) else { panic!() };
    assert_eq!(bytes, [0, 0, 0x80, 0x3f, 0, 0, 0x20, 0xc0]);
}

#[test]
fn float16_has_the_layout_of_the_protocol() {
    let EncodedSketch::F16 { scale, bytes } = encode(&[1.0, -0.5, 0.0], Encoding::F16) else { panic!() };
    assert_eq!(scale, 1.0 / 32768.0);
    assert_eq!(bytes, [0x00, 0x78, 0x00, 0xf4, 0, 0]);
}

#[test]
fn float16_keeps_eleven_bits_over_twenty_nine_binades() {
    // Sizes whose scale is a normal float32, and two whose scale is subnormal but whose rows are not.
    for size in [1.0, 1e-3, 7e-30, 3.4e38, 1e20, 1e-33, 1e-36] {
        let update = update(size, 29);
        let (row, counts) = round_trip(&update, Encoding::F16);
        assert!(counts.is_empty());
        let max = max_abs(&update);
        for (y, decoded) in update.iter().zip(&row) {
            // Below the smallest normal float32 the row itself has an absolute step, 2^-149.
            let tolerance = y.abs() * 2.0_f64.powi(-11) * 1.001 + 2.0_f64.powi(-149);
            assert!((f64::from(*decoded) - y).abs() <= tolerance, "{size}: {y} came back as {decoded}, max {max}");
        }
    }
}

#[test]
fn tiny_updates_lose_nothing_that_float32_would_keep() {
    let step = f32::from_bits(1);
    for size in [1e-39, 1e-40, 2e-41, 1e-42, 1e-44, 1.5e-45, 1e-46, 1e-60, 1e-300, f64::from_bits(1)] {
        let update = [size, -size, size / 2.0, 0.0];
        let EncodedSketch::F16 { scale, .. } = encode(&update, Encoding::F16) else { panic!("{size}") };
        assert!(scale > 0.0 && scale.is_finite(), "{size}: scale {scale}");
        let (halves, counts) = round_trip(&update, Encoding::F16);
        let (singles, _) = round_trip(&update, Encoding::F32);
        assert!(counts.is_empty());
        for (half, single) in halves.iter().zip(&singles) {
            assert!((half - single).abs() <= step + single.abs() / 1024.0, "{size}: {half} instead of {single}");
        }
    }
}

/// The scale rounds worst near the least float32: no quotient may pass the largest float16.
#[test]
fn a_rounded_subnormal_scale_never_overflows() {
    for multiple in (1..400).map(|i| f64::from(i) * 0.01) {
        let update = [multiple * 32768.0 * 2.0_f64.powi(-149), 0.0];
        let (row, counts) = round_trip(&update, Encoding::F16);
        assert!(counts.is_empty(), "{multiple}");
        assert!((f64::from(row[0]) / update[0] - 1.0).abs() <= 0.001, "{multiple}: {} for {}", row[0], update[0]);
    }
}

#[test]
fn the_largest_float32_survives_and_anything_beyond_is_counted() {
    let max = f64::from(f32::MAX);
    let just_rounding_down = max + 2.0_f64.powi(102);
    for encoding in [Encoding::F32, Encoding::F16] {
        let (row, counts) = round_trip(&[max, -just_rounding_down, 1.0], encoding);
        assert!(counts.is_empty());
        assert_eq!(row[..2], [f32::MAX, f32::MIN], "{encoding:?}");
        let expected = NonFiniteCounts { nan: 0, positive_infinity: 1, negative_infinity: 2 };
        let beyond = [max + 2.0_f64.powi(103), -1e39, -f64::MAX, 1.0];
        assert_eq!(encode(&beyond, encoding), EncodedSketch::NonFinite(expected), "{encoding:?}");
    }
}

#[test]
fn zero_has_scale_zero() {
    let update = [0.0, -0.0, 0.0];
    assert_eq!(encode(&update, Encoding::F16), EncodedSketch::F16 { scale: 0.0, bytes: vec![0; 6] });
    for encoding in [Encoding::F32, Encoding::F16] {
        assert_eq!(round_trip(&update, encoding).0, [0.0; 3]);
        assert_eq!(round_trip(&[], encoding).0, [0.0_f32; 0]);
    }
}

#[test]
fn a_sketch_that_is_not_finite_becomes_counts() {
    let update = [1.0, f64::NAN, f64::INFINITY, -f64::NAN, f64::NEG_INFINITY, f64::INFINITY, f64::NAN];
    let counts = NonFiniteCounts { nan: 3, positive_infinity: 2, negative_infinity: 1 };
    assert_eq!(NonFiniteCounts::of(&update), counts);
    assert!(!counts.is_empty());
    assert!(NonFiniteCounts::of(&[1.0, f64::MAX]).is_empty());
    for encoding in [Encoding::F32, Encoding::F16] {
        assert_eq!(encode(&update, encoding), EncodedSketch::NonFinite(counts));
    }
}

#[test]
fn what_is_not_finite_on_the_wire_is_counted_when_decoding() {
    let expected = NonFiniteCounts { nan: 1, positive_infinity: 1, negative_infinity: 2 };
    let singles: Vec<u8> = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::NEG_INFINITY, 1.0]
        .iter()
        .flat_map(|y| y.to_le_bytes())
        .collect();
    assert_eq!(decode_f32(&singles, &mut [0.0; 5]), Ok(expected));
    // NaN, +infinity, −infinity, −2^15 (overflows with this scale), 1.
    let halves: Vec<u8> = [0x7e00_u16, 0x7c00, 0xfc00, 0xf800, 0x3c00].iter().flat_map(|y| y.to_le_bytes()).collect();
    let mut row = [0.0; 5];
    assert_eq!(decode_f16(f32::MAX / 2.0, &halves, &mut row), Ok(expected));
    assert_eq!(row[4], f32::MAX / 2.0);
}

#[test]
fn wrong_lengths_and_scales_are_refused_by_name() {
    for len in [0, 1, 255, 257, 128] {
        let error = decode_f32(&vec![0; len], &mut [0.0; 64]).unwrap_err();
        assert_eq!(error, DecodeError::Length { expected: 256, actual: len });
        assert!(error.to_string().starts_with(&format!("bytes: {len} bytes")), "{error}");
    }
    for len in [0, 127, 129, 256] {
        let error = decode_f16(1.0, &vec![0; len], &mut [0.0; 64]).unwrap_err();
        assert_eq!(error, DecodeError::Length { expected: 128, actual: len });
    }
    for scale in [-1.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let error = decode_f16(scale, &[0; 128], &mut [0.0; 64]).unwrap_err();
        assert!(error.to_string().starts_with("scale: "), "{error}");
    }
}

#[test]
fn encodings_have_their_names_in_configuration() {
    assert_eq!(serde_json::to_string(&[Encoding::F32, Encoding::F16]).unwrap(), r#"["f32","f16"]"#);
    assert_eq!(Encoding::default(), Encoding::F16);
}
