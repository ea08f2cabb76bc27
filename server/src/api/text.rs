//! Small help with words.

/// At most this many suggestions.
const SUGGESTIONS: usize = 3;

/// `"; did you mean a, b?"`, or nothing when no candidate is near.
pub(crate) fn did_you_mean<T: AsRef<str>>(text: &str, candidates: &[T]) -> String {
    let mut near: Vec<(usize, &str)> = candidates
        .iter()
        .map(|candidate| (distance(text, candidate.as_ref()), candidate.as_ref()))
        .filter(|(distance, candidate)| *distance <= 2.max(candidate.len() / 4))
        .collect();
    near.sort();
    let names: Vec<&str> = near.into_iter().take(SUGGESTIONS).map(|(_, name)| name).collect();
    if names.is_empty() { String::new() } else { format!("; did you mean {}?", names.join(", ")) }
}

/// Levenshtein distance, in characters. Texts far longer than any name are not compared.
fn distance(a: &str, b: &str) -> usize {
    if a.len() > 256 {
        return usize::MAX;
    }
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
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
    fn distances() {
        for (a, b, expected) in
            [("", "", 0), ("abc", "", 3), ("", "ab", 2), ("kitten", "sitting", 3), ("größe", "grösse", 2)]
        {
            assert_eq!(distance(a, b), expected, "{a} {b}");
            assert_eq!(distance(b, a), expected, "{b} {a}");
        }
    }

    #[test]
    fn near_names_are_suggested_nearest_first() {
        assert_eq!(
            did_you_mean("edge.ration", &["edge.gap", "edge.ratio_1", "edge.ratio"]),
            "; did you mean edge.ratio, edge.ratio_1?"
        );
        assert_eq!(did_you_mean("nothing.like.it", &["edge.gap"]), "");
    }
}
