//! Signatures as Standard Webhooks defines them.

use std::ops::RangeInclusive;

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD},
};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// What secrets begin with.
pub(super) const PREFIX: &str = "whsec_";
/// The length of what is behind it, decoded. Secrets of variables were checked by nobody before.
const KEY_BYTES: RangeInclusive<usize> = 24..=64;

/// The value of `webhook-signature`: one signature for each secret, so that a receiver that knows any of them can verify.
///
/// # Errors
/// When one is no secret. Does not repeat it.
pub(super) fn signatures(
    secrets: &[String],
    message_id: &str,
    timestamp_s: i64,
    body: &[u8],
) -> Result<String, &'static str> {
    let signatures: Result<Vec<String>, _> =
        secrets.iter().map(|secret| signature(secret, message_id, timestamp_s, body)).collect();
    Ok(signatures?.join(" "))
}

fn signature(secret: &str, message_id: &str, timestamp_s: i64, body: &[u8]) -> Result<String, &'static str> {
    let encoded = secret.strip_prefix(PREFIX).ok_or("a secret does not begin with whsec_")?;
    // Both ways of writing base64 are about.
    let key = STANDARD.decode(encoded).or_else(|_| STANDARD_NO_PAD.decode(encoded));
    let key = key.map_err(|_| "a secret is not base64 behind whsec_")?;
    // Anybody can sign with a key that is empty or short.
    if !KEY_BYTES.contains(&key.len()) {
        return Err("a secret is not the base64 of 24 to 64 bytes");
    }
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).map_err(|_| "a secret is no key")?;
    mac.update(format!("{message_id}.{timestamp_s}.").as_bytes());
    mac.update(body);
    Ok(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const TIMESTAMP: i64 = 1_614_265_330;
    const BODY: &[u8] = br#"{"test": 2432232314}"#;

    #[test]
    fn the_example_of_the_specification_is_signed_as_it_says() {
        let signed = signatures(&[SECRET.to_owned()], ID, TIMESTAMP, BODY);
        assert_eq!(signed.unwrap(), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn each_secret_signs_in_its_order() {
        let other = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".to_owned();
        let both = signatures(&[other.clone(), SECRET.to_owned()], ID, TIMESTAMP, BODY).unwrap();
        let (first, second) = both.split_once(' ').unwrap();
        assert_eq!(first, signatures(&[other], ID, TIMESTAMP, BODY).unwrap());
        assert_eq!(second, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert_eq!(signatures(&[], ID, TIMESTAMP, BODY).unwrap(), "");
    }

    #[test]
    fn what_is_no_secret_is_refused_and_not_repeated() {
        let long = format!("whsec_{}", "AAAA".repeat(22));
        for wrong in
            ["MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_!!!!", "whsec_é", "whsec_", "whsec_c2hvcnQ=", long.as_str()]
        {
            let refused = signatures(&[wrong.to_owned()], ID, TIMESTAMP, BODY).unwrap_err();
            assert!(!refused.contains(wrong), "{refused}");
        }
    }
}
