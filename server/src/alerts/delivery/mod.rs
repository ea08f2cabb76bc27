//! From notifications to messages to receivers.
