//! From words to a tree.
//!
//! > **Invariant: the stack is bounded by a count.** Whatever makes the parser call itself (a parenthesis, an argument, `not`,
//! > a minus sign) counts a level first, and so does every node; beyond [`MAX_DEPTH`] levels or [`MAX_NODES`] nodes there is an error.

use winnow::{
    ModalResult, Parser,
    combinator::{Infix, Prefix, expression},
    error::ErrMode,
    stream::{Stateful, Stream, TokenSlice},
    token::any,
};

use super::{
    condition::Comparison,
    fault::Fault,
    token::{Name, Token, TokenKind, shown},
    tree::{Node, NodeKind, Operator, Qualifier, QualifierValue},
};

/// The most levels of a condition.
pub const MAX_DEPTH: usize = 64;
/// The most metrics, numbers, operators and functions of a condition.
pub const MAX_NODES: usize = 256;

/// What binds how strongly. Between two there is room, for operators of one level are taken from left to right.
mod power {
    pub(super) const OR: i64 = 10;
    pub(super) const AND: i64 = 20;
    pub(super) const NOT: i64 = 30;
    pub(super) const COMPARE: i64 = 40;
    pub(super) const ADD: i64 = 50;
    pub(super) const MULTIPLY: i64 = 60;
    pub(super) const NEGATE: i64 = 70;
}

/// What is counted while parsing.
#[derive(Clone, Debug, Default)]
struct Counts {
    levels: usize,
    nodes: usize,
    /// Where the prefix operators stand whose operands are being read.
    prefixes: Vec<usize>,
    /// Where the text ends.
    end: usize,
}

type Input<'t> = Stateful<TokenSlice<'t, Token>, Counts>;
type Parsed<T> = ModalResult<T, Fault>;

/// Parses the words of an expression; `text` is what they were made from.
pub(super) fn parse(tokens: &[Token], text: &str) -> Result<Node, Fault> {
    let counts = Counts { end: text.trim_end().len(), ..Counts::default() };
    let mut input = Stateful { input: TokenSlice::new(tokens), state: counts };
    let node = whole.parse_next(&mut input);
    node.map_err(|error| error.into_inner().unwrap_or_else(|_| Fault::new(0, "is cut off")))
}

fn whole(input: &mut Input<'_>) -> Parsed<Node> {
    let node = any_expression(input)?;
    match peek(input) {
        None => Ok(node),
        Some(token) if token.is_symbol(")") => cut(token.span.start, "found `)`, and no parenthesis is open here"),
        Some(_) => expected(input, "an operator (`<`, `+`, `and`, …) or the end"),
    }
}

fn cut<T>(at: usize, message: impl Into<String>) -> Parsed<T> {
    Err(ErrMode::Cut(Fault::new(at, message)))
}

fn backtrack<T>() -> Parsed<T> {
    Err(ErrMode::Backtrack(Fault::new(0, "")))
}

/// Where the next word stands.
fn at(input: &Input<'_>) -> usize {
    peek(input).map_or(input.state.end, |token| token.span.start)
}

fn expected<T>(input: &Input<'_>, wanted: &str) -> Parsed<T> {
    let found = match peek(input).map(|token| &token.kind) {
        None => return cut(input.state.end, format!("the condition ends where {wanted} is needed")),
        Some(TokenKind::Symbol("=")) => "`=` (to compare, write `==`)".to_owned(),
        Some(TokenKind::Symbol(symbol)) => format!("`{symbol}`"),
        Some(TokenKind::Number(number)) => format!("the number {number:?}"),
        Some(TokenKind::Text(text)) => format!("the text {:?}", shown(text)),
        Some(TokenKind::Name(name)) => format!("`{}`", shown(&name.text)),
    };
    cut(at(input), format!("found {found}, where {wanted} is needed"))
}

fn peek<'t>(input: &Input<'t>) -> Option<&'t Token> {
    input.peek_token()
}

fn take<'t>(input: &mut Input<'t>) -> Option<&'t Token> {
    input.next_token()
}

/// Takes a symbol, or says what is needed.
fn symbol(input: &mut Input<'_>, wanted: &'static str, needed: &str) -> Parsed<usize> {
    match peek(input) {
        Some(token) if token.is_symbol(wanted) => {
            let end = token.span.end;
            take(input);
            Ok(end)
        }
        _ => expected(input, needed),
    }
}

fn enter(input: &mut Input<'_>, at: usize) -> Parsed<()> {
    input.state.levels += 1;
    if input.state.levels > MAX_DEPTH { too_deep(at) } else { Ok(()) }
}

fn leave(input: &mut Input<'_>) {
    input.state.levels -= 1;
}

fn too_deep<T>(at: usize) -> Parsed<T> {
    cut(at, format!("is nested more than {MAX_DEPTH} levels deep here; write it flatter, or as several rules"))
}

fn node(input: &mut Input<'_>, kind: NodeKind, span: std::ops::Range<usize>) -> Parsed<Node> {
    input.state.nodes += 1;
    if input.state.nodes > MAX_NODES {
        let message = format!("has more than {MAX_NODES} parts here; write it as several rules");
        return cut(span.start, message);
    }
    let deepest = kind.children().into_iter().max_by_key(|child| child.depth);
    let depth = 1 + deepest.map_or(0, |child| child.depth);
    if depth > MAX_DEPTH {
        return too_deep(span.start);
    }
    Ok(Node { kind, span, depth })
}

fn any_expression(input: &mut Input<'_>) -> Parsed<Node> {
    expression(operand).prefix(prefix).infix(infix).parse_next(input)
}

fn prefix<'t>(input: &mut Input<'t>) -> Parsed<Prefix<Input<'t>, Node, ErrMode<Fault>>> {
    let start = at(input);
    let (power, fold): (_, fn(&mut Input<'t>, Node) -> Parsed<Node>) = match peek(input) {
        Some(token) if token.is_word("not") => (power::NOT, |input, it| unary(input, NodeKind::Not, it)),
        Some(token) if token.is_symbol("-") => (power::NEGATE, |input, it| unary(input, NodeKind::Negate, it)),
        // Nothing else can begin an operand: see `operand`.
        _ => return expected(input, "a metric, a number, a function, `not`, `-` or `(`"),
    };
    take(input);
    enter(input, start)?;
    input.state.prefixes.push(start);
    Ok(Prefix(power, fold))
}

fn unary(input: &mut Input<'_>, kind: fn(Box<Node>) -> NodeKind, it: Node) -> Parsed<Node> {
    leave(input);
    let start = input.state.prefixes.pop().unwrap_or(it.span.start);
    let span = start..it.span.end;
    node(input, kind(Box::new(it)), span)
}

fn infix<'t>(input: &mut Input<'t>) -> Parsed<Infix<Input<'t>, Node, ErrMode<Fault>>> {
    let token = any.parse_next(input)?;
    let compares = |fold| Ok(Infix::Left(power::COMPARE, fold));
    match &token.kind {
        TokenKind::Symbol("<") => compares(|input, a, b| compare(input, Comparison::Less, a, b)),
        TokenKind::Symbol("<=") => compares(|input, a, b| compare(input, Comparison::LessOrEqual, a, b)),
        TokenKind::Symbol(">") => compares(|input, a, b| compare(input, Comparison::Greater, a, b)),
        TokenKind::Symbol(">=") => compares(|input, a, b| compare(input, Comparison::GreaterOrEqual, a, b)),
        TokenKind::Symbol("==") => compares(|input, a, b| compare(input, Comparison::Equal, a, b)),
        TokenKind::Symbol("!=") => compares(|input, a, b| compare(input, Comparison::NotEqual, a, b)),
        TokenKind::Symbol("+") => Ok(Infix::Left(power::ADD, |input, a, b| arithmetic(input, Operator::Add, a, b))),
        TokenKind::Symbol("-") => {
            Ok(Infix::Left(power::ADD, |input, a, b| arithmetic(input, Operator::Subtract, a, b)))
        }
        TokenKind::Symbol("*") => {
            Ok(Infix::Left(power::MULTIPLY, |input, a, b| arithmetic(input, Operator::Multiply, a, b)))
        }
        TokenKind::Symbol("/") => {
            Ok(Infix::Left(power::MULTIPLY, |input, a, b| arithmetic(input, Operator::Divide, a, b)))
        }
        _ if token.is_word("and") => Ok(Infix::Left(power::AND, |input, a, b| {
            let parts = joined(a, b, |kind| if let NodeKind::And(parts) = kind { Ok(parts) } else { Err(kind) });
            several(input, NodeKind::And, parts)
        })),
        _ if token.is_word("or") => Ok(Infix::Left(power::OR, |input, a, b| {
            let parts = joined(a, b, |kind| if let NodeKind::Or(parts) = kind { Ok(parts) } else { Err(kind) });
            several(input, NodeKind::Or, parts)
        })),
        _ => backtrack(),
    }
}

fn compare(input: &mut Input<'_>, comparison: Comparison, left: Node, right: Node) -> Parsed<Node> {
    let span = left.span.start..right.span.end;
    node(input, NodeKind::Compare(comparison, Box::new(left), Box::new(right)), span)
}

fn arithmetic(input: &mut Input<'_>, operator: Operator, left: Node, right: Node) -> Parsed<Node> {
    let span = left.span.start..right.span.end;
    node(input, NodeKind::Arithmetic(operator, Box::new(left), Box::new(right)), span)
}

/// The parts of both sides, so that `a and b and c` is one level and not two.
fn joined(left: Node, right: Node, parts_of: fn(NodeKind) -> Result<Vec<Node>, NodeKind>) -> (Vec<Node>, usize, usize) {
    let (start, end) = (left.span.start, right.span.end);
    let mut parts = Vec::new();
    for Node { kind, span, depth } in [left, right] {
        match parts_of(kind) {
            Ok(inner) => parts.extend(inner),
            Err(kind) => parts.push(Node { kind, span, depth }),
        }
    }
    (parts, start, end)
}

fn several(
    input: &mut Input<'_>,
    kind: fn(Vec<Node>) -> NodeKind,
    (parts, start, end): (Vec<Node>, usize, usize),
) -> Parsed<Node> {
    node(input, kind(parts), start..end)
}

fn operand(input: &mut Input<'_>) -> Parsed<Node> {
    let Some(token) = peek(input) else { return backtrack() };
    let span = token.span.clone();
    match &token.kind {
        TokenKind::Number(number) => {
            take(input);
            node(input, NodeKind::Number(*number), span)
        }
        TokenKind::Symbol("(") => {
            take(input);
            enter(input, span.start)?;
            let mut inner = any_expression(input)?;
            let end = symbol(input, ")", "an operator or `)`")?;
            leave(input);
            inner.span = span.start..end;
            Ok(inner)
        }
        TokenKind::Name(name) => {
            if token.is_word("true") || token.is_word("false") {
                let value = token.is_word("true");
                take(input);
                return node(input, NodeKind::Truth(value), span);
            }
            if ["and", "or", "not"].iter().any(|word| token.is_word(word)) {
                return backtrack();
            }
            take(input);
            match peek(input) {
                Some(next) if next.is_symbol("(") => call(input, name, span.start),
                Some(next) if next.is_symbol("{") => {
                    let (qualifiers, end) = qualifiers(input)?;
                    node(input, NodeKind::Metric(name.clone(), qualifiers), span.start..end)
                }
                _ => node(input, NodeKind::Metric(name.clone(), Vec::new()), span),
            }
        }
        TokenKind::Symbol(_) | TokenKind::Text(_) => backtrack(),
    }
}

fn call(input: &mut Input<'_>, name: &Name, start: usize) -> Parsed<Node> {
    enter(input, start)?;
    symbol(input, "(", "`(`")?;
    let mut arguments = Vec::new();
    if !peek(input).is_some_and(|token| token.is_symbol(")")) {
        arguments.push(any_expression(input)?);
        while peek(input).is_some_and(|token| token.is_symbol(",")) {
            take(input);
            arguments.push(any_expression(input)?);
        }
    }
    let end = symbol(input, ")", "an operator, `,` or `)`")?;
    leave(input);
    node(input, NodeKind::Call(name.clone(), arguments), start..end)
}

fn qualifiers(input: &mut Input<'_>) -> Parsed<(Vec<Qualifier>, usize)> {
    symbol(input, "{", "`{`")?;
    let mut found: Vec<Qualifier> = Vec::new();
    loop {
        let key_at = at(input);
        let Some(Token { kind: TokenKind::Name(Name { text: key, is_quoted: false }), .. }) = peek(input) else {
            return expected(input, "a qualifier such as `group=\"all\"`");
        };
        take(input);
        if found.iter().any(|other| other.key == *key) {
            return cut(key_at, format!("`{}` comes twice", shown(key)));
        }
        symbol(input, "=", "`=`")?;
        let value_at = at(input);
        let value = match peek(input).map(|token| &token.kind) {
            Some(TokenKind::Text(text)) => QualifierValue::Text(text.clone()),
            Some(TokenKind::Number(number)) => QualifierValue::Number(*number),
            _ => return expected(input, "a text in double quotation marks or a number"),
        };
        take(input);
        found.push(Qualifier { key: key.clone(), key_at, value, value_at });
        match peek(input) {
            Some(token) if token.is_symbol(",") => take(input),
            _ => return Ok((found, symbol(input, "}", "`,` or `}`")?)),
        };
    }
}
