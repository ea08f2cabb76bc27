//! What a condition means once it was read: a small tree, bounded in depth and size by the parser.

use gradwatch_spectral::{detectors::Regime, layers::LayerInstrument};
use gradwatch_store::Kind;

/// The condition of a rule.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// Something that happens to a run.
    Event(EventCondition),
    /// A truth about readings and scalars.
    Expression(Expression),
}

/// Something that happens to a run.
#[derive(Clone, Debug, PartialEq)]
pub enum EventCondition {
    /// `transition to forgetting`, `transition from plateau to forgetting`: the live regime of a group changes. Holds until the regime
    /// changes again.
    Transition {
        /// The regime left; none: any.
        from: Option<Regime>,
        /// The regime entered.
        to: Regime,
    },
    /// `run.stalled`: no frame for the time that `for` says, or for as long as the server's own rule says. Holds until
    /// there is a frame again.
    Stalled,
    /// `run.crashed`. Holds until there is a frame again.
    Crashed,
    /// Any other type of event, such as `edge.gap_collapse`, `numeric.nonfinite`, `job.evaluated`. Holds at its step only.
    Happened(String),
}

/// A truth about readings and scalars at one step.
#[derive(Clone, Debug, PartialEq)]
pub struct Expression {
    /// Its text.
    pub text: String,
    /// What it looks at, each once.
    pub terms: Vec<Term>,
    /// When it holds.
    pub truth: Truth,
    /// What its terms without a name of their own are evaluated for, one by one.
    pub family: Family,
}

/// What an expression is evaluated for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// Once a run: all of its terms are scalars, or name their group or layer.
    Run,
    /// Once for each group that the selector takes.
    Groups,
    /// Once for each layer of the instrument that the selector takes.
    Layers(LayerInstrument),
}

/// One metric, or scalar.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Term {
    /// Where its values come from.
    pub source: TermSource,
    /// Of the last values of this term, how many any function looks at; at least 1 (2 for `delta`).
    pub readings: usize,
}

/// Where the values of a term come from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TermSource {
    /// An edge or update metric.
    Edge {
        /// As in [`gradwatch_spectral::catalogue::EDGE_METRICS`] (`ratio`), or `sigma_j`.
        metric: &'static str,
        /// `{group="…"}`.
        group: Option<String>,
        /// `{kind="…"}`.
        kind: Option<Kind>,
        /// `{window=…}`.
        window: Option<usize>,
    },
    /// A number, count or flag (1 or 0) of a layer's readings.
    Layer {
        /// Who reads it.
        instrument: LayerInstrument,
        /// The name of the field.
        field: &'static str,
        /// `{layer="…"}`.
        layer: Option<String>,
    },
    /// What the job sends itself.
    Scalar {
        /// Its name without `scalar.`.
        name: String,
    },
}

/// Yes, no, or unknown (Kleene's logic).
#[derive(Clone, Debug, PartialEq)]
pub enum Truth {
    /// A constant.
    Constant(bool),
    /// A comparison. Unknown where a side is unknown.
    Compare(Comparison, Number, Number),
    /// All hold.
    And(Vec<Truth>),
    /// One holds.
    Or(Vec<Truth>),
    /// The other way round.
    Not(Box<Truth>),
}

/// `<`, `<=`, `>`, `>=`, `==`, `!=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "their names say it")]
pub enum Comparison {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Equal,
    NotEqual,
}

/// A finite number, or unknown: a term without a value that is new enough, a function of fewer values than it asks for, a
/// division by zero, or any result that is not finite.
#[derive(Clone, Debug, PartialEq)]
pub enum Number {
    /// A constant; finite.
    Constant(f64),
    /// The newest value of a term, by its place in [`Expression::terms`].
    Term(usize),
    /// A function of the last values of a term.
    Windowed {
        /// Which.
        function: Function,
        /// Its place in [`Expression::terms`].
        term: usize,
        /// How many values.
        readings: usize,
    },
    /// −x.
    Negate(Box<Number>),
    /// |x|.
    Absolute(Box<Number>),
    /// x + y.
    Add(Box<Number>, Box<Number>),
    /// x − y.
    Subtract(Box<Number>, Box<Number>),
    /// x · y.
    Multiply(Box<Number>, Box<Number>),
    /// x / y.
    Divide(Box<Number>, Box<Number>),
}

/// A function of the last n values of a term, all of which it needs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Function {
    /// Mean.
    Mean,
    /// Least.
    Min,
    /// Greatest.
    Max,
    /// Sample standard deviation (n − 1).
    Stddev,
    /// Least-squares slope per step.
    Slope,
    /// (newest − mean) / stddev of the n − 1 values before the newest; unknown where that stddev is 0.
    Zscore,
    /// The q-quantile, interpolated linearly (type 7).
    Quantile(f64),
    /// newest − the one before (n = 2).
    Delta,
}

impl Comparison {
    /// Whether `left` and `right` compare so.
    #[must_use]
    pub fn holds(self, left: f64, right: f64) -> bool {
        match self {
            Self::Less => left < right,
            Self::LessOrEqual => left <= right,
            Self::Greater => left > right,
            Self::GreaterOrEqual => left >= right,
            Self::Equal => left == right,
            Self::NotEqual => left != right,
        }
    }
}
