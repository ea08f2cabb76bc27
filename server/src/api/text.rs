//! Small help with words.

/// At most this many suggestions.
const SUGGESTIONS: usize = 3;

/// `"; did you mean a, b?"`, or nothing when no candidate is near.
pub(crate) fn did_you_mean<T: AsRef<str>>(text: &str, candidates: &[T]) -> String {
    // Far longer than any name: nothing is near.
    if text.len() > 256 {
        return String::new();
    }
    let mut near: Vec<(usize, &str)> = candidates
        .iter()
        .map(|candidate| (strsim::levenshtein(text, candidate.as_ref()), candidate.as_ref()))
        .filter(|(distance, candidate)| *distance <= 2.max(candidate.len() / 4))
        .collect();
    near.sort();
    let names: Vec<&str> = near.into_iter().take(SUGGESTIONS).map(|(_, name)| name).collect();
    if names.is_empty() { String::new() } else { format!("; did you mean {}?", names.join(", ")) }
}

/// Escapes text for HTML, attributes included.
pub(crate) fn html(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_suggested_nearest_first() {
        assert_eq!(
            did_you_mean("edge.ration", &["edge.gap", "edge.ratio_1", "edge.ratio"]),
            "; did you mean edge.ratio, edge.ratio_1?"
        );
        assert_eq!(did_you_mean("nothing.like.it", &["edge.gap"]), "");
    }
}
