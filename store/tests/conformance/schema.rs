//! The tables themselves, looked at past the store: what the migrations repeat of the code is the same, and what earlier
//! versions wrote is read.

use gradwatch_spectral::layers::{FieldType, LayerInstrument};
use gradwatch_store::{AlertCommit, AlertState, StepQuery};
use sqlx::{Connection as _, PgConnection, SqliteConnection};

use crate::{
    alert_fixture::{alert, commit, land},
    fixture::{AnyStore, Random, exactly, mark, open, owned, reading, run_id, spec, step, take, whole},
};

/// Name and type of a column.
type Column = (String, String);

/// The key, then the instrument's fields.
fn expected(instrument: LayerInstrument, key: [&str; 4], type_of: impl Fn(FieldType) -> &'static str) -> Vec<Column> {
    let key = ["run_id", "layer", "segment", "step"].into_iter().zip(key);
    let fields = instrument.fields().iter().map(|field| (field.name, type_of(field.field_type)));
    let mut columns: Vec<_> = key.chain(fields).map(|(name, of)| (name.to_owned(), of.to_owned())).collect();
    columns.sort();
    columns
}

async fn sqlite(dir: &tempfile::TempDir) -> SqliteConnection {
    SqliteConnection::connect(&format!("sqlite://{}/gradwatch.db", dir.path().display())).await.unwrap()
}

/// A field that is added to an instrument, or that changes its name or type, needs a migration on both databases.
#[tokio::test]
async fn columns_of_layer_readings_are_the_fields_in_sqlite() {
    let (store, dir) = crate::open_sqlite().await;
    let mut connection = sqlite(&dir).await;
    let type_of = |field_type| match field_type {
        FieldType::Number => "ANY",
        FieldType::Count | FieldType::Flag => "INTEGER",
        FieldType::Word => "TEXT",
        FieldType::List => "BLOB",
    };
    for instrument in LayerInstrument::ALL {
        let select = "SELECT name, type FROM pragma_table_info($1) ORDER BY name";
        let select = sqlx::query_as(select).bind(format!("{instrument}_readings"));
        let columns: Vec<Column> = select.fetch_all(&mut connection).await.unwrap();
        assert_eq!(columns, expected(*instrument, ["BLOB", "TEXT", "INTEGER", "INTEGER"], type_of), "{instrument}");
    }
    store.close().await;
}

#[tokio::test]
async fn columns_of_layer_readings_are_the_fields_in_postgres() {
    let (store, database) = crate::open_postgres().await;
    let mut connection = PgConnection::connect(database.url()).await.unwrap();
    let type_of = |field_type| match field_type {
        FieldType::Number => "double precision",
        FieldType::Count => "bigint",
        FieldType::Flag => "boolean",
        FieldType::Word => "text",
        FieldType::List => "bytea",
    };
    for instrument in LayerInstrument::ALL {
        let select = "SELECT column_name::text, data_type::text FROM information_schema.columns
                      WHERE table_schema = 'public' AND table_name = $1 ORDER BY column_name::text COLLATE \"C\"";
        let select = sqlx::query_as(select).bind(format!("{instrument}_readings"));
        let columns: Vec<Column> = select.fetch_all(&mut connection).await.unwrap();
        assert_eq!(columns, expected(*instrument, ["uuid", "text", "bigint", "bigint"], type_of), "{instrument}");
    }
    store.close().await;
}

/// A spec as versions wrote it that knew no layers.
fn without_layers() -> String {
    let mut spec = serde_json::to_value(spec()).unwrap();
    assert_eq!(spec.as_object_mut().unwrap().remove("layers"), Some(serde_json::json!([])));
    spec.to_string()
}

async fn a_spec_without_layers_has_none(store: AnyStore) {
    assert_eq!(store.segments(run_id(1)).await.unwrap()[0].spec, spec());
    assert_eq!(store.latest_layer_readings(run_id(1), 1).await.unwrap(), []);
    // It is the same declaration.
    assert!(!store.open_attempt(&open(1, 1)).await.unwrap().created);
    take(&store, 1).await;
    store.close().await;
}

#[tokio::test]
async fn specs_of_before_layers_are_read_in_sqlite() {
    let (store, dir) = crate::open_sqlite().await;
    store.open_attempt(&open(1, 1)).await.unwrap();
    let update = sqlx::query("UPDATE segments SET spec = $1").bind(without_layers());
    assert_eq!(update.execute(&mut sqlite(&dir).await).await.unwrap().rows_affected(), 1);
    a_spec_without_layers_has_none(store).await;
}

#[tokio::test]
async fn specs_of_before_layers_are_read_in_postgres() {
    let (store, database) = crate::open_postgres().await;
    store.open_attempt(&open(1, 1)).await.unwrap();
    let mut connection = PgConnection::connect(database.url()).await.unwrap();
    let update = sqlx::query("UPDATE segments SET spec = $1").bind(without_layers());
    assert_eq!(update.execute(&mut connection).await.unwrap().rows_affected(), 1);
    a_spec_without_layers_has_none(store).await;
}

/// What the newest migration made, taken away again.
const WITHOUT_ALERTS: [&str; 8] = [
    "DROP TABLE alert_rules",
    "DROP TABLE alert_receivers",
    "DROP TABLE alert_cursors",
    "DROP TABLE alerts",
    "DROP TABLE alert_notifications",
    "DROP TABLE alert_deliveries",
    "DROP TABLE alert_messages",
    "DROP TABLE alert_silences",
];

/// A run with a step and its reading.
async fn recorded(store: &AnyStore) {
    let mut commit = owned(store, 1).await;
    commit.marks = vec![mark(1, 0, 1)];
    commit.steps = vec![step(1, 1)];
    commit.readings = vec![reading(1, 1, &mut Random(31))];
    store.commit(&[commit]).await.unwrap();
}

/// Everything of before is there, and alerts can be kept.
async fn is_recorded_and_takes_alerts(store: AnyStore) {
    assert_eq!(store.last_commit_seq().await.unwrap(), 1);
    assert_eq!(store.shard_marks(run_id(1), 1).await.unwrap()[0].committed_seq, 1);
    let steps = StepQuery { run_id: run_id(1), ranges: whole(1), limit: 9 };
    assert_eq!(store.steps(&steps).await.unwrap().items, [step(1, 1)]);
    let latest = store.latest_readings(run_id(1), 1).await.unwrap();
    assert_eq!(exactly(&latest[0].row), exactly(&reading(1, 1, &mut Random(31))));
    assert_eq!(store.runs_to_evaluate(0).await.unwrap(), [run_id(1)]);
    let alerts = vec![alert(1, 1, AlertState::Firing)];
    land(&store, AlertCommit { alerts, ..commit(1, 0) }).await;
    assert_eq!(store.open_alerts(run_id(1)).await.unwrap().len(), 1);
    store.close().await;
}

#[tokio::test]
async fn a_store_of_before_alerts_keeps_everything_in_sqlite() {
    let (store, dir) = crate::open_sqlite().await;
    recorded(&store).await;
    store.close().await;
    let mut connection = sqlite(&dir).await;
    for drop in WITHOUT_ALERTS {
        sqlx::query(drop).execute(&mut connection).await.unwrap();
    }
    let forget = "DELETE FROM _sqlx_migrations WHERE version = 6";
    assert_eq!(sqlx::query(forget).execute(&mut connection).await.unwrap().rows_affected(), 1);
    connection.close().await.unwrap();
    let store = gradwatch_store::sqlite::SqliteStore::open(dir.path()).await.unwrap();
    is_recorded_and_takes_alerts(std::sync::Arc::new(store)).await;
}

#[tokio::test]
async fn a_store_of_before_alerts_keeps_everything_in_postgres() {
    let (store, database) = crate::open_postgres().await;
    recorded(&store).await;
    store.close().await;
    let mut connection = PgConnection::connect(database.url()).await.unwrap();
    for drop in WITHOUT_ALERTS {
        sqlx::query(drop).execute(&mut connection).await.unwrap();
    }
    let forget = "DELETE FROM _sqlx_migrations WHERE version = 4";
    assert_eq!(sqlx::query(forget).execute(&mut connection).await.unwrap().rows_affected(), 1);
    connection.close().await.unwrap();
    let store = gradwatch_store::postgres::PostgresStore::open(database.url()).await.unwrap();
    is_recorded_and_takes_alerts(std::sync::Arc::new(store)).await;
}
