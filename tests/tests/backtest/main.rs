//! Backtests: what rules would have said of recorded runs is what they say of running ones, and it is counted rightly.

mod asked;
mod command;
mod counted;
mod held;
mod made;
mod projects;
mod same_as_live;
mod starter;
