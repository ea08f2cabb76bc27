//! Readings of layers in the OpenAPI document: one schema an instrument, made from the fields that it declares.

use gradwatch_spectral::layers::{FieldInfo, FieldType, LayerInstrument};
use serde_json::Value;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        ArrayBuilder, KnownFormat, ObjectBuilder, OneOfBuilder, Ref, RefOr, Schema, SchemaFormat, Type,
        schema::SchemaType,
    },
};

use super::{
    layer_reading_view::{KEY, LayerReadingView},
    reading_view::ReadingView,
    time::Time,
};

impl PartialSchema for LayerReadingView {
    fn schema() -> RefOr<Schema> {
        let one_of = LayerInstrument::ALL
            .iter()
            .fold(OneOfBuilder::new(), |one_of, &instrument| one_of.item(Ref::from_schema_name(name(instrument))));
        one_of.into()
    }
}

impl ToSchema for LayerReadingView {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((Time::name().into(), Time::schema()));
        schemas.extend(LayerInstrument::ALL.iter().map(|&instrument| (name(instrument).to_owned(), row(instrument))));
    }
}

/// A line of NDJSON: a reading of any instrument.
pub(crate) enum ReadingLine {}

impl PartialSchema for ReadingLine {
    fn schema() -> RefOr<Schema> {
        let refs = [ReadingView::name(), LayerReadingView::name()].map(Ref::from_schema_name);
        refs.into_iter().fold(OneOfBuilder::new(), OneOfBuilder::item).into()
    }
}

impl ToSchema for ReadingLine {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        for (name, schema) in
            [(ReadingView::name(), ReadingView::schema()), (LayerReadingView::name(), LayerReadingView::schema())]
        {
            schemas.push((name.into(), schema));
        }
        ReadingView::schemas(schemas);
        LayerReadingView::schemas(schemas);
    }
}

fn name(instrument: LayerInstrument) -> &'static str {
    match instrument {
        LayerInstrument::Cascade => "CascadeReading",
        LayerInstrument::Curvature => "CurvatureReading",
        LayerInstrument::DeadDirections => "DeadDirectionsReading",
        LayerInstrument::LearningCell => "LearningCellReading",
    }
}

fn row(instrument: LayerInstrument) -> RefOr<Schema> {
    let description =
        format!("What the {instrument} instrument says of one snapshot of a layer. What is undefined is null.");
    let count = |format| ObjectBuilder::new().schema_type(Type::Integer).format(known(format)).minimum(Some(0));
    let [step, segment, wall_time, layer] = KEY;
    let mut object = ObjectBuilder::new()
        .description(Some(description))
        .property(step, count(KnownFormat::Int64))
        .property(segment, count(KnownFormat::Int32))
        .property(wall_time, Ref::from_schema_name(Time::name()))
        .property(layer, ObjectBuilder::new().schema_type(Type::String));
    for field in instrument.fields() {
        object = object.property(field.name, value(field));
    }
    let required = KEY.into_iter().chain(instrument.fields().iter().map(|field| field.name));
    required.fold(object, ObjectBuilder::required).into()
}

fn value(field: &FieldInfo) -> RefOr<Schema> {
    let or_null = |kind| SchemaType::Array(vec![kind, Type::Null]);
    let number = || ObjectBuilder::new().format(known(KnownFormat::Double));
    let FieldInfo { definition, unit, .. } = field;
    let tag = field.tag.as_str();
    let described = Some(format!("{definition} [{tag}]"));
    let measured = Some(format!("{definition} Unit: {unit}. [{tag}]"));
    let object = match field.field_type {
        FieldType::List => {
            let array = ArrayBuilder::new().schema_type(or_null(Type::Array)).description(measured);
            return array.items(number().schema_type(Type::Number).build()).into();
        }
        FieldType::Number => number().schema_type(or_null(Type::Number)).description(measured),
        FieldType::Count => {
            let object = ObjectBuilder::new().schema_type(or_null(Type::Integer)).format(known(KnownFormat::Int64));
            object.minimum(Some(0)).description(described)
        }
        FieldType::Flag => ObjectBuilder::new().schema_type(or_null(Type::Boolean)).description(described),
        FieldType::Word => {
            let words = field.words.iter().map(|&word| Value::from(word)).chain([Value::Null]);
            let object = ObjectBuilder::new().schema_type(or_null(Type::String)).description(described);
            object.enum_values(Some(words))
        }
    };
    object.into()
}

fn known(format: KnownFormat) -> Option<SchemaFormat> {
    Some(SchemaFormat::KnownFormat(format))
}
