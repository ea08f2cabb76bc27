//! The learning cell: tables, made networks, undefined cases.

mod atoms;
mod depths;
mod error_split;
mod moments;
mod support;
mod teacher;
mod undefined;
