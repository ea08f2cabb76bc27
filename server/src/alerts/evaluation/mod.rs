//! Rules over what was committed.
