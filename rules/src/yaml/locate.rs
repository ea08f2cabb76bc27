//! Where a part of a scalar's text stands in the file.

use serde_saphyr::granit_parser::ScalarStyle;

/// The place in `file`, in bytes, of the byte `at` of `text`, which is what a scalar that begins at `start` says.
///
/// YAML changes white space (it folds lines and strips indentation) and escapes, and nothing else. So every other character
/// of the text is found again in the file, in the same order, in every style of scalar.
pub(crate) fn locate(file: &str, start: usize, style: ScalarStyle, text: &str, at: usize) -> Option<usize> {
    let source = file.get(start..)?;
    let mut rest = begin(source, style);
    for (index, wanted) in text.char_indices() {
        if wanted.is_whitespace() {
            if index >= at {
                break;
            }
            // White space that is written as an escape has to be passed, all other is skipped below.
            if style == ScalarStyle::DoubleQuoted {
                let escape = skip_blank(rest, style);
                if is_blank_escape(escape) {
                    rest = unit(escape, style)?.1;
                }
            }
            continue;
        }
        rest = skip_blank(rest, style);
        if index >= at {
            break;
        }
        let (found, behind) = unit(rest, style)?;
        if found.is_some_and(|found| found != wanted) {
            return None;
        }
        rest = behind;
    }
    Some(file.len() - rest.len())
}

/// Behind what opens a scalar.
fn begin(source: &str, style: ScalarStyle) -> &str {
    match style {
        ScalarStyle::SingleQuoted => source.strip_prefix('\'').unwrap_or(source),
        ScalarStyle::DoubleQuoted => source.strip_prefix('"').unwrap_or(source),
        ScalarStyle::Literal | ScalarStyle::Folded if source.starts_with(['|', '>']) => {
            source.find('\n').map_or("", |newline| &source[newline + 1..])
        }
        _ => source,
    }
}

fn skip_blank(mut rest: &str, style: ScalarStyle) -> &str {
    loop {
        rest = rest.trim_start();
        // An escaped line break says nothing.
        match rest.strip_prefix('\\') {
            Some(behind) if style == ScalarStyle::DoubleQuoted && behind.starts_with(['\n', '\r']) => rest = behind,
            _ => return rest,
        }
    }
}

/// Whether a double-quoted text goes on with white space that is written as an escape.
fn is_blank_escape(rest: &str) -> bool {
    let Some(escape) = rest.strip_prefix('\\') else { return false };
    let by_number = |digits: usize| {
        let code = escape.get(1..=digits).and_then(|digits| u32::from_str_radix(digits, 16).ok());
        code.and_then(char::from_u32).is_some_and(char::is_whitespace)
    };
    match escape.chars().next() {
        Some('x') => by_number(2),
        Some('u') => by_number(4),
        Some('U') => by_number(8),
        Some(letter) => "ntrvf \tNLP_".contains(letter),
        None => false,
    }
}

/// One character as it is written, and what is behind it. `None` instead of the character: an escape that is not the
/// character itself.
fn unit(rest: &str, style: ScalarStyle) -> Option<(Option<char>, &str)> {
    let mut characters = rest.chars();
    let first = characters.next()?;
    let second = characters.clone().next();
    Some(match (style, first, second) {
        (ScalarStyle::SingleQuoted, '\'', Some('\'')) => (Some('\''), &rest[2..]),
        (ScalarStyle::DoubleQuoted, '\\', Some(escape)) => {
            let digits = match escape {
                'x' => 2,
                'u' => 4,
                'U' => 8,
                _ => 0,
            };
            let behind = rest.get(1 + escape.len_utf8() + digits..)?;
            (if "\"\\/".contains(escape) { Some(escape) } else { None }, behind)
        }
        _ => (Some(first), characters.as_str()),
    })
}
