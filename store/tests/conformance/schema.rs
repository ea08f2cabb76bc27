//! The tables themselves, looked at past the store: what the migrations repeat of the code is the same, and what earlier
//! versions wrote is read.

use gradwatch_spectral::layers::{FieldType, LayerInstrument};
use sqlx::{Connection as _, PgConnection, SqliteConnection};

use crate::fixture::{AnyStore, open, run_id, spec, take};

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
