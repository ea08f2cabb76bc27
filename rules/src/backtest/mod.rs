//! What a rule would have said, counted: precision, recall, lead, with their intervals.
