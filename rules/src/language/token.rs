//! The words of a condition.

use std::ops::Range;

use winnow::{
    ModalResult, Parser,
    ascii::digit1,
    combinator::{alt, opt, peek, preceded, repeat},
    error::ErrMode,
    stream::{LocatingSlice, Location, Stream},
    token::{any, one_of, take_while},
};

use super::fault::Fault;

/// A word with its place in the text, in bytes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Token {
    pub(crate) kind: TokenKind,
    pub(crate) span: Range<usize>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum TokenKind {
    /// Finite.
    Number(f64),
    /// `edge.ratio`, `and`, `scalar."a b"`.
    Name(Name),
    /// `"all"`.
    Text(String),
    Symbol(&'static str),
}

/// A name of one or more parts with dots between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    /// All of it, without quotation marks.
    pub(crate) text: String,
    /// Whether a part stood in quotation marks.
    pub(crate) is_quoted: bool,
}

impl Token {
    pub(crate) fn is_symbol(&self, wanted: &str) -> bool {
        matches!(self.kind, TokenKind::Symbol(symbol) if symbol == wanted)
    }

    /// Whether it is this word, unquoted.
    pub(crate) fn is_word(&self, wanted: &str) -> bool {
        matches!(&self.kind, TokenKind::Name(name) if !name.is_quoted && name.text == wanted)
    }
}

type Input<'t> = LocatingSlice<&'t str>;

/// Splits a condition into its words.
pub(crate) fn tokens(text: &str) -> Result<Vec<Token>, Fault> {
    let mut input = LocatingSlice::new(text);
    let mut found = Vec::new();
    loop {
        blank(&mut input).map_err(fault)?;
        if input.eof_offset() == 0 {
            return Ok(found);
        }
        let start = input.current_token_start();
        let kind = kind.parse_next(&mut input).map_err(fault)?;
        found.push(Token { kind, span: start..input.previous_token_end() });
    }
}

fn fault(error: ErrMode<Fault>) -> Fault {
    error.into_inner().unwrap_or_else(|_| Fault::new(0, "is cut off"))
}

fn cut<T>(at: usize, message: impl Into<String>) -> ModalResult<T, Fault> {
    Err(ErrMode::Cut(Fault::new(at, message)))
}

fn blank(input: &mut Input<'_>) -> ModalResult<(), Fault> {
    take_while(0.., |c: char| c.is_ascii_whitespace()).void().parse_next(input)
}

fn kind(input: &mut Input<'_>) -> ModalResult<TokenKind, Fault> {
    alt((number, name.map(TokenKind::Name), quoted.map(TokenKind::Text), symbol.map(TokenKind::Symbol), unknown))
        .parse_next(input)
}

fn number(input: &mut Input<'_>) -> ModalResult<TokenKind, Fault> {
    let start = input.current_token_start();
    let exponent = (one_of(['e', 'E']), opt(one_of(['+', '-'])), digit1);
    let digits = (digit1, opt(('.', digit1)), opt(exponent)).take().parse_next(input)?;
    if opt(peek(one_of(|c: char| c == '.' || is_word(c)))).parse_next(input)?.is_some() {
        let message = format!(
            "`{digits}` is followed by a letter or a dot; a number is written like 3, 0.5 or 1e-3, and durations stand in `for`"
        );
        return cut(start, message);
    }
    match digits.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(TokenKind::Number(value)),
        _ => cut(start, format!("{} is too large for a number; the largest is about 1.8e308", shown(digits))),
    }
}

fn name(input: &mut Input<'_>) -> ModalResult<Name, Fault> {
    let first = (one_of(|c: char| c.is_ascii_alphabetic() || c == '_'), take_while(0.., is_word)).take();
    let mut name = first.map(|text: &str| Name { text: text.to_owned(), is_quoted: false }).parse_next(input)?;
    while opt('.').parse_next(input)?.is_some() {
        let at = input.current_token_start();
        name.text.push('.');
        if let Some(part) = opt(take_while(1.., is_word)).parse_next(input)? {
            name.text.push_str(part);
        } else if let Some(part) = opt(quoted).parse_next(input)? {
            name.text.push_str(&part);
            name.is_quoted = true;
        } else {
            let wanted = "letters, digits and `_`, or a text in double quotation marks";
            return cut(at, format!("`{}` ends with a dot; behind it stand {wanted}", shown(&name.text)));
        }
    }
    Ok(name)
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn quoted(input: &mut Input<'_>) -> ModalResult<String, Fault> {
    let start = input.current_token_start();
    let plain = take_while(1.., |c: char| c != '"' && c != '\\' && !c.is_control()).map(str::to_owned);
    let escaped = preceded('\\', one_of(['"', '\\'])).map(String::from);
    let parts = repeat(0.., alt((plain, escaped))).fold(String::new, |text, part: String| text + &part);
    let text = preceded('"', parts).parse_next(input)?;
    let end = input.current_token_start();
    match opt(any).parse_next(input)? {
        Some('"') => Ok(text),
        Some('\\') => cut(end, "behind `\\` stands `\"` or `\\`"),
        Some(_) => cut(end, "a text in quotation marks holds no control characters or line breaks"),
        None => cut(start, "the quotation mark is never closed"),
    }
}

fn symbol(input: &mut Input<'_>) -> ModalResult<&'static str, Fault> {
    alt((
        alt(("<=".value("<="), ">=".value(">="), "==".value("=="), "!=".value("!="))),
        alt(("<".value("<"), ">".value(">"), "=".value("="))),
        alt(("(".value("("), ")".value(")"), "{".value("{"), "}".value("}"), ",".value(","))),
        alt(("+".value("+"), "-".value("-"), "*".value("*"), "/".value("/"))),
    ))
    .parse_next(input)
}

fn unknown(input: &mut Input<'_>) -> ModalResult<TokenKind, Fault> {
    let at = input.current_token_start();
    match any.parse_next(input)? {
        '&' => cut(at, "found `&`; write `and`"),
        '|' => cut(at, "found `|`; write `or`"),
        '!' => cut(at, "found `!`; write `not`, or `!=`"),
        '\'' => cut(at, "found `'`; texts stand in double quotation marks"),
        '.' => cut(at, "found `.`; a number begins with a digit (0.5), a name with a letter"),
        '\0' => cut(at, "contains a NUL character"),
        c if c.is_control() => cut(at, format!("contains the control character {c:?}")),
        c if c.is_alphanumeric() => {
            let message = format!(
                "found {c:?}; a name with other letters than a to z is a scalar's, and stands in quotation marks: `scalar.\"…\"`"
            );
            cut(at, message)
        }
        c => cut(at, format!("found {c:?}, which means nothing here")),
    }
}

/// The beginning of a text, for messages, which are one line each and move no cursor of a terminal.
pub(crate) fn shown(text: &str) -> String {
    const CHARS: usize = 60;
    let mut characters = text.chars();
    let mut shown: String = characters.by_ref().take(CHARS).map(printable).collect();
    if characters.next().is_some() {
        shown.push('…');
    }
    shown
}

/// A blank for a control character.
pub(crate) fn printable(character: char) -> char {
    if character.is_control() { ' ' } else { character }
}
