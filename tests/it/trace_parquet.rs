//! Writes timelines as Parquet and compares what the files hold with SQL on the trace.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests, too")]

use std::collections::BTreeMap;
use std::path::Path;

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use perfprof::trace::activity::OpKind;
use perfprof::trace::parquet as columns;

use crate::trace_writer::{Sql, read, real_files};

/// What a Parquet file holds: rows, sums of numbers by column, counts of texts by column.
type Held = (i64, BTreeMap<String, i128>, BTreeMap<String, BTreeMap<String, u64>>);

fn sums(path: &Path) -> Held {
    let reader = SerializedFileReader::new(std::fs::File::open(path).unwrap()).unwrap();
    let (mut numbers, mut texts) = (BTreeMap::new(), BTreeMap::<_, BTreeMap<_, u64>>::new());
    for row in reader.get_row_iter(None).unwrap() {
        for (name, field) in row.unwrap().get_column_iter() {
            match field {
                Field::Long(value) => *numbers.entry(name.clone()).or_insert(0) += i128::from(*value),
                Field::Str(text) => *texts.entry(name.clone()).or_default().entry(text.clone()).or_insert(0) += 1,
                Field::Null | Field::Bool(_) => {}
                other => panic!("{name}: {other:?}"),
            }
        }
    }
    (reader.metadata().file_metadata().num_rows(), numbers, texts)
}

#[test]
fn parquet_files_hold_what_sql_finds_in_the_trace() {
    let directory = tempfile::tempdir().unwrap();
    for file in real_files() {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let timeline = read(&file);
        let report = columns::write(&timeline, directory.path()).unwrap();
        let sql = Sql::open(&file);
        let number = |query: &str| -> i128 {
            let found = sql.0.query_row(query, [], |row| row.get::<_, Option<i64>>(0));
            i128::from(found.ok().flatten().unwrap_or(0))
        };
        let kernels = sums(&directory.path().join("kernels.parquet"));
        let of = |column: &str| kernels.1.get(column).copied().unwrap_or(0);
        assert_eq!(i128::from(kernels.0), number("SELECT count(*) FROM CUPTI_ACTIVITY_KIND_KERNEL"), "{name}");
        assert_eq!(report.rows("kernels"), kernels.0 as u64);
        for (column, expression) in [
            ("start_ns", "start"),
            ("duration_ns", "end - start"),
            ("stream", "streamId"),
            ("correlation", "correlationId"),
            ("grid_x", "gridX"),
            ("registers_per_thread", "registersPerThread"),
            ("pid", "(globalPid >> 24) & 0xFFFFFF"),
        ] {
            let expected = number(&format!("SELECT sum({expression}) FROM CUPTI_ACTIVITY_KIND_KERNEL"));
            assert_eq!(of(column), expected, "{name}: {column}");
        }
        if sql.has("CUPTI_ACTIVITY_KIND_KERNEL") {
            let mut statement = sql
                .0
                .prepare("SELECT value, count(*) FROM CUPTI_ACTIVITY_KIND_KERNEL JOIN StringIds ON id = demangledName GROUP BY 1")
                .unwrap();
            let names: BTreeMap<String, u64> = statement
                .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)? as u64)))
                .unwrap()
                .map(Result::unwrap)
                .collect();
            assert_eq!(kernels.2.get("name").cloned().unwrap_or_default(), names, "{name}");
        }
        let api = sums(&directory.path().join("api.parquet"));
        let expected = number("SELECT sum(end - start) FROM CUPTI_ACTIVITY_KIND_RUNTIME");
        assert_eq!(api.1.get("duration_ns").copied().unwrap_or(0), expected, "{name}");
        let copies = sums(&directory.path().join("copies.parquet"));
        let bytes = number("SELECT sum(bytes) FROM CUPTI_ACTIVITY_KIND_MEMCPY")
            + number("SELECT sum(bytes) FROM CUPTI_ACTIVITY_KIND_MEMSET");
        assert_eq!(copies.1.get("bytes").copied().unwrap_or(0), bytes, "{name}");
        let ranges = sums(&directory.path().join("ranges.parquet"));
        let expected = number("SELECT count(*) FROM NVTX_EVENTS WHERE eventType IN (59, 60, 70, 71)");
        assert_eq!(i128::from(ranges.0), expected, "{name}");
        assert_eq!(timeline.ops_by_start().iter().filter(|op| op.kind() == OpKind::Kernel).count() as i64, kernels.0);
    }
}
