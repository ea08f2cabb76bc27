//! A file of receivers and rules.

use crate::{Problem, ReceiverDefinition, RuleDefinition, language::CompiledRule};

/// The most rules of a file, and of a server.
pub const MAX_RULES: usize = 2_000;
/// The longest file.
pub const MAX_FILE_BYTES: usize = 4 * 1024 * 1024;

/// What a file holds, checked as a whole.
#[derive(Clone, Debug)]
pub struct RuleFile {
    /// Whom to tell.
    pub receivers: Vec<ReceiverDefinition>,
    /// The rules, with their conditions understood.
    pub rules: Vec<CompiledRule>,
}

impl RuleFile {
    /// Reads YAML. Rules may name receivers of the file, and those in `known_receivers`.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with line and column in the file.
    pub fn parse(_yaml: &str, _known_receivers: &[String]) -> Result<Self, Vec<Problem>> {
        unimplemented!()
    }
}

impl CompiledRule {
    /// Checks a rule that comes alone, as JSON over REST; positions are those in the text of `when`.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn new(_definition: RuleDefinition) -> Result<Self, Vec<Problem>> {
        unimplemented!()
    }
}
