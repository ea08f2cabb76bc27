//! The two hashes that fix every sign and rotation of a sketch. Clients in other languages repeat them bit for bit.

/// The output function of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), all arithmetic modulo 2^64 \[ours: the use\].
///
/// ```
/// assert_eq!(gradwatch_spectral::sketch::mix(0), 0xe220_a839_7b1d_cdaf);
/// ```
#[must_use]
#[inline]
pub fn mix(z: u64) -> u64 {
    let z = z.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// 64-bit FNV-1a of the UTF-8 bytes of a tensor's name \[ours: the use\].
///
/// ```
/// assert_eq!(gradwatch_spectral::sketch::fnv1a("w"), 0xaf63_ea4c_8602_0456);
/// ```
#[must_use]
pub fn fnv1a(name: &str) -> u64 {
    name.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3))
}

/// The sign that the top bit of `z` stands for, as the top bit of a byte: 0x80 for −, 0 for +.
#[inline(always)]
pub(super) fn sign(z: u64) -> u8 {
    (z >> 56) as u8 & 0x80
}
