//! Rules, receivers, silences, alerts and what was told, over REST and from the command line.

mod check;
mod cli;
mod file;
mod listing;
mod made;
mod messages;
mod projects;
mod receivers;
mod rules;
mod secrets;
mod silences;
mod wrong_input;
