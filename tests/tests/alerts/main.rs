//! Rules over what real servers recorded: when they fire, and that nothing is forgotten, repeated or said of steps that
//! were left.

mod as_backtest;
mod at_random;
mod changes;
mod file;
mod interrupted;
mod layers;
mod life;
mod made;
mod rewound;
mod signs;
