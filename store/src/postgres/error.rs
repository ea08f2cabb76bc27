//! What an error that PostgreSQL gave means.

use sqlx::postgres::PgDatabaseError;

use crate::error::StoreError;

/// What an error that PostgreSQL gave means, by its code
/// (<https://www.postgresql.org/docs/current/errcodes-appendix.html>).
pub(crate) fn of_database(error: &PgDatabaseError) -> StoreError {
    meaning(error.code(), error.message().to_owned())
}

fn meaning(code: &str, message: String) -> StoreError {
    let message = format!("{message} (SQLSTATE {code})");
    match (code, code.get(..2).unwrap_or_default()) {
        ("23505", _) => StoreError::UniqueViolation(message),
        // A right that is missing says nothing about the data: it can be granted.
        ("42501", _) => StoreError::Unavailable(message),
        // Feature not supported, cardinality, data exception, constraint violation, wrong statement, limit exceeded.
        (_, "0A" | "21" | "22" | "23" | "42" | "54") => StoreError::Data(message),
        // Connection, transaction state (a standby is read-only), rolled back, resources, object in use, intervention,
        // system, internal.
        _ => StoreError::Unavailable(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_say_whether_trying_again_can_help() {
        let meaning = |code: &str| meaning(code, String::new());
        assert!(matches!(meaning("23505"), StoreError::UniqueViolation(_)));
        for code in ["22021", "22003", "23503", "23514", "42P01", "54000"] {
            assert!(matches!(meaning(code), StoreError::Data(_)), "{code}");
        }
        let state = ["08006", "25006", "25P03", "28P01", "40001", "40P01", "42501", "53100", "55P03", "57014", "57P01"];
        for code in state.into_iter().chain(["58030", "XX000", "", "?"]) {
            assert!(matches!(meaning(code), StoreError::Unavailable(_)), "{code}");
        }
    }
}
