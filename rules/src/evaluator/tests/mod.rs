mod build;
mod events;
mod expressions;
