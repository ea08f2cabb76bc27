//! The text of a token. It is shown once, to whoever makes it, and is kept nowhere.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use gradwatch_store::TokenHash;
use sha2::{Digest, Sha256};

/// What tokens start with, so that a scanner for leaked secrets recognises one.
const PREFIX: &str = "gw_";
/// A token that somebody chose has at least this length; a generated one has 46.
const MIN_CHARS: usize = 32;
const MAX_CHARS: usize = 256;

/// A token's text. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// A text that cannot be a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Too short to be hard to guess, or longer than any header should be.
    #[error("has {0} characters; a token has {MIN_CHARS} to {MAX_CHARS}")]
    Length(usize),
    /// It would not survive an HTTP header.
    #[error("holds a space, a control character or a character beyond ASCII")]
    Character,
}

impl Secret {
    /// 256 random bits.
    #[must_use]
    pub fn generate() -> Self {
        Self(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())))
    }

    /// A token that somebody chose.
    ///
    /// # Errors
    /// When it is too short, too long or does not fit a header.
    pub fn chosen(text: String) -> Result<Self, SecretError> {
        Self::check(&text)?;
        Ok(Self(text))
    }

    /// Refuses what cannot be a token.
    pub(super) fn check(text: &str) -> Result<(), SecretError> {
        if !text.chars().all(|character| character.is_ascii_graphic()) {
            return Err(SecretError::Character);
        }
        match text.len() {
            MIN_CHARS..=MAX_CHARS => Ok(()),
            length => Err(SecretError::Length(length)),
        }
    }

    /// The text, to be shown once or sent.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What the store keeps of it. A plain hash: the text is random, so that there is no dictionary to try.
    #[must_use]
    pub fn hash(&self) -> TokenHash {
        hash(&self.0)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The hash of a text that may be a token.
pub(super) fn hash(text: &str) -> TokenHash {
    Sha256::digest(text.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_tokens_are_recognised_and_differ() {
        let (one, other) = (Secret::generate(), Secret::generate());
        assert_ne!(one, other);
        assert_ne!(one.hash(), other.hash());
        assert!(one.expose().starts_with(PREFIX) && one.expose().len() == 46, "{}", one.expose());
        assert_eq!(Secret::chosen(one.expose().to_owned()), Ok(one.clone()));
        assert!(!format!("{one:?}").contains(&one.expose()[3..]));
    }

    #[test]
    fn the_hash_is_sha_256() {
        // FIPS 180-2, appendix B.1.
        let text: String = hash("abc").iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(text, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn chosen_tokens_are_long_and_fit_a_header() {
        assert_eq!(Secret::chosen("x".repeat(31)), Err(SecretError::Length(31)));
        assert_eq!(Secret::chosen("x".repeat(257)), Err(SecretError::Length(257)));
        assert!(Secret::chosen("x".repeat(32)).is_ok());
        for text in ["x".repeat(40) + " ", "x".repeat(40) + "\n", "x".repeat(40) + "é"] {
            assert_eq!(Secret::chosen(text), Err(SecretError::Character));
        }
    }
}
