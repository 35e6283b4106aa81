//! Catalogs, schemas, tables, infos and types, by arrow-flight's own client of Flight SQL.

use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch};
use arrow_flight::sql::{
    CommandGetDbSchemas, CommandGetPrimaryKeys, CommandGetTables, CommandGetXdbcTypeInfo, SqlInfo,
    XdbcDataType,
};
use arrow_ipc::convert::try_schema_from_ipc_buffer;
use bowstring_tests::Server;

use crate::sql::{client, read, rows};

#[tokio::test]
async fn the_catalogue_is_told() {
    // Of its own: where others put, there is a schema `ns`.
    let server = Server::start();
    let mut client = client(&server).await;
    let info = client.get_catalogs().await.unwrap();
    assert_eq!(
        rows(&read(&mut client, info).await.unwrap().1),
        ["bowstring"]
    );
    let info = client
        .get_db_schemas(CommandGetDbSchemas::default())
        .await
        .unwrap();
    let schemas = rows(&read(&mut client, info).await.unwrap().1);
    assert_eq!(schemas, ["bowstring cache", "bowstring information_schema"]);
    let info = client.get_table_types().await.unwrap();
    assert_eq!(
        rows(&read(&mut client, info).await.unwrap().1),
        ["TABLE", "VIEW"]
    );
    let of = CommandGetTables {
        db_schema_filter_pattern: Some("cache".to_owned()),
        table_name_filter_pattern: Some("t%".to_owned()),
        include_schema: true,
        ..CommandGetTables::default()
    };
    let info = client.get_tables(of).await.unwrap();
    let (_, batches) = read(&mut client, info).await.unwrap();
    let tables = batches[0]
        .column_by_name("table_name")
        .unwrap()
        .as_string::<i32>();
    assert_eq!((tables.len(), tables.value(0)), (1, "tensors"));
    let schemas = batches[0]
        .column_by_name("table_schema")
        .unwrap()
        .as_binary::<i32>();
    let schema = try_schema_from_ipc_buffer(schemas.value(0)).unwrap();
    assert!(schema.column_with_name("value").is_some());
    let info = client
        .get_sql_info(vec![SqlInfo::FlightSqlServerName])
        .await
        .unwrap();
    let (_, batches) = read(&mut client, info).await.unwrap();
    assert_eq!(batches[0].num_rows(), 1);
    let info = client
        .get_xdbc_type_info(CommandGetXdbcTypeInfo::default())
        .await
        .unwrap();
    assert!(read(&mut client, info).await.unwrap().1[0].num_rows() > 5);
    let of = CommandGetPrimaryKeys {
        table: "tensors".to_owned(),
        ..CommandGetPrimaryKeys::default()
    };
    let info = client.get_primary_keys(of).await.unwrap();
    let (schema, batches) = read(&mut client, info).await.unwrap();
    assert_eq!(schema.fields().len(), 6);
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 0);
}

#[tokio::test]
async fn the_catalogue_is_told_in_part() {
    let server = Server::shared();
    let mut client = client(&server).await;
    for (of, expected) in [
        (
            CommandGetTables {
                table_types: vec!["VIEW".to_owned()],
                table_name_filter_pattern: Some("s%s".to_owned()),
                catalog: Some("bowstring".to_owned()),
                ..CommandGetTables::default()
            },
            &["segments", "settings", "slow_requests", "stats"][..],
        ),
        (
            CommandGetTables {
                catalog: Some("other".to_owned()),
                ..CommandGetTables::default()
            },
            &[],
        ),
    ] {
        let info = client.get_tables(of).await.unwrap();
        let (_, batches) = read(&mut client, info).await.unwrap();
        let names = batches.iter().flat_map(|batch| {
            let names = batch.column_by_name("table_name").unwrap();
            names.as_string::<i32>().iter().flatten()
        });
        let mut names: Vec<&str> = names.collect();
        let mut expected = expected.to_vec();
        names.sort_unstable();
        expected.sort_unstable();
        assert_eq!(names, expected);
    }
    // What Java's driver takes as nothing but 64 bits.
    let info = SqlInfo::SqlDefaultTransactionIsolation;
    let info = client.get_sql_info(vec![info]).await.unwrap();
    let (_, batches) = read(&mut client, info).await.unwrap();
    let value = batches[0].column(1).as_union().value(0);
    assert_eq!(value.data_type().to_string(), "Int64");
    let of = CommandGetXdbcTypeInfo {
        data_type: Some(XdbcDataType::XdbcVarchar as i32),
    };
    let info = client.get_xdbc_type_info(of).await.unwrap();
    let (_, batches) = read(&mut client, info).await.unwrap();
    let names = batches[0].column(0).as_string::<i32>();
    assert_eq!(names.iter().flatten().collect::<Vec<_>>(), ["VARCHAR"]);
}
