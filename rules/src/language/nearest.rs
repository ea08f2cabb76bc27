//! What a misspelt word may have meant.

use super::token::shown;

/// The most characters in which two words differ that are near.
const MOST: usize = 4;

/// The candidate nearest to `word`, when it is near; or the one that is `word` behind its first dot.
pub(super) fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    // Far longer than any name: nothing is near.
    if word.len() > 100 {
        return None;
    }
    let near = candidates.into_iter().filter_map(|candidate| {
        let is_short = candidate.split_once('.').is_some_and(|(_, short)| short == word);
        // Invariant: a comparison costs no more than the word. A character has 4 bytes at most, so that this one is far.
        if !is_short && candidate.len().abs_diff(word.len()) > 4 * MOST {
            return None;
        }
        let distance = if is_short { 0 } else { strsim::levenshtein(word, candidate) };
        (distance <= (candidate.len() / 3).clamp(1, MOST)).then_some((distance, candidate))
    });
    near.min().map(|(_, candidate)| candidate)
}

/// `; did you mean ...?`, or what there is.
pub(crate) fn did_you_mean<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>, otherwise: &str) -> String {
    match nearest(word, candidates) {
        Some(candidate) => format!("; did you mean `{}`?", shown(candidate)),
        None => format!("; {otherwise}"),
    }
}
