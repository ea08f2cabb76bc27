//! What an error that PostgreSQL gave means.

use sqlx::postgres::PgDatabaseError;

use crate::error::StoreError;

/// What an error that PostgreSQL gave means, by its code
/// (<https://www.postgresql.org/docs/current/errcodes-appendix.html>).
pub(crate) fn of_database(error: &PgDatabaseError) -> StoreError {
    // A check of a table has a name, "no partition of relation found for row" has none.
    meaning(error.code(), error.constraint().is_none(), error.message().to_owned())
}

fn meaning(code: &str, is_about_partitions: bool, message: String) -> StoreError {
    let message = format!("{message} (SQLSTATE {code})");
    match (code, code.get(..2).unwrap_or_default()) {
        ("23505", _) => StoreError::UniqueViolation(message),
        // A partition that is missing has this code, too, but neither the table's constraint nor anything about the row.
        ("23514", _) if is_about_partitions => StoreError::Unavailable(message),
        // Cardinality, data exception, constraint violation, limit exceeded.
        (_, "21" | "22" | "23" | "54") => StoreError::Data(message),
        // Connection, transaction state (a standby is read-only), rolled back, resources, object in use, intervention,
        // system, internal. Invariant: a statement that is refused as such (feature not supported, 0A; a table, column or
        // right that is missing, 42) says nothing about the data, because statements are constants: nothing is ever
        // rejected for good because somebody changed the schema.
        _ => StoreError::Unavailable(message),
    }
}

/// Whether every further statement on the same connection may fail likewise: its server is a standby or stops (25006, 57P,
/// 08), its prepared statements are not what the driver believes (26000, 42P05) or are of another schema (0A000).
/// Invariant: such a connection is closed, so that after a fail-over the next statement goes to the new server.
pub(super) fn is_of_connection(code: Option<&str>) -> bool {
    let code = code.unwrap_or_default();
    matches!(code, "25006" | "26000" | "42P05" | "0A000") || code.starts_with("57P") || code.starts_with("08")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_say_whether_trying_again_can_help() {
        let meaning = |code: &str| meaning(code, false, String::new());
        assert!(matches!(meaning("23505"), StoreError::UniqueViolation(_)));
        for code in ["22021", "22003", "23503", "23514", "54000"] {
            assert!(matches!(meaning(code), StoreError::Data(_)), "{code}");
        }
        let state = ["08006", "25006", "25P03", "28P01", "40001", "40P01", "53100", "55P03", "57014", "57P01"];
        let schema = ["0A000", "42501", "42P01", "42703", "42804"];
        for code in state.into_iter().chain(schema).chain(["58030", "XX000", "", "?"]) {
            assert!(matches!(meaning(code), StoreError::Unavailable(_)), "{code}");
        }
        assert!(matches!(super::meaning("23514", true, String::new()), StoreError::Unavailable(_)));
    }
}
