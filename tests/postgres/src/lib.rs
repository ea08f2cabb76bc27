//! A private throw-away PostgreSQL for tests and benchmarks.
