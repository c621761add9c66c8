//! Writes the tables of a timeline as Parquet files, for DuckDB, pandas, Polars and the like.
//!
//! Flat columns: every name, process, device and call is resolved, nothing has to be joined. Times are ns on the clock of the trace (`epoch_ns`
//! in the metadata of a file is the instant of zero, where known); unknown is null. Names are dictionary-encoded, everything is compressed with
//! zstd. A row group has at most [`ROW_GROUP_ROWS`] rows, and a column of one is all that is held beside the timeline.

mod tables;

use std::path::Path;
use std::sync::Arc;

use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::errors::Result as ParquetResult;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::ColumnPath;

use super::export::{WriteError, WriteReport, put_in_place, temporary_beside};
use super::strings::StringId;
use super::timeline::Timeline;
use crate::diagnostics::{Diagnostic, Severity};

/// Rows of a row group at most.
pub const ROW_GROUP_ROWS: usize = 1 << 20;

/// Values handed to a column writer at once.
const BATCH: usize = 1 << 13;
/// Long kernel names fill the default of 1 MiB soon, after which names would be written out in full.
const DICTIONARY_BYTES: usize = 64 << 20;

/// A column: its name and its value in a row.
struct Column<'a> {
    name: &'static str,
    cells: Cells<'a>,
}

type Cell<'a, T> = Box<dyn Fn(usize) -> T + 'a>;

enum Cells<'a> {
    /// Always known; neighbours are alike, so differences are stored.
    Time(Cell<'a, i64>),
    Number(Cell<'a, Option<i64>>),
    Name(Cell<'a, Option<StringId>>),
    /// A label of a few.
    Label(Cell<'a, &'a str>),
    Flag(Cell<'a, bool>),
}

/// A table, which becomes the file `NAME.parquet`.
struct Table<'a> {
    name: &'static str,
    rows: usize,
    columns: Vec<Column<'a>>,
}

/// Writes `kernels.parquet`, `api.parquet`, `ranges.parquet` and `copies.parquet` (copies and memory sets) to `directory`, which is created if
/// it is not there, and `graphs.parquet` if whole-graph launches were recorded. A table without rows is a file without rows.
///
/// # Errors
/// If the directory or a file cannot be created, written or renamed. Each file is whole or as it was before.
pub fn write(timeline: &Timeline, directory: &Path) -> Result<WriteReport, WriteError> {
    write_in_groups(timeline, directory, ROW_GROUP_ROWS)
}

fn write_in_groups(timeline: &Timeline, directory: &Path, group_rows: usize) -> Result<WriteReport, WriteError> {
    std::fs::create_dir_all(directory).map_err(WriteError::at(directory, "the directory cannot be created"))?;
    let mut report = WriteReport::default();
    let mut names = Names { timeline, cache: vec![None; timeline.strings.len()] };
    for table in tables::of(timeline) {
        let path = directory.join(format!("{}.parquet", table.name));
        let temporary = temporary_beside(&path)?;
        fill(&table, timeline, &mut names, temporary.as_file(), group_rows)
            .map_err(WriteError::at(&path, "the table could not be encoded"))?;
        report.bytes += put_in_place(temporary, &path)?;
        report.wrote(table.name, table.rows);
    }
    let left_out = timeline.syncs.len() + timeline.events.len() + timeline.os_calls.len() + timeline.marks.len();
    if left_out > 0 {
        let text = format!(
            "{left_out} synchronisation records, CUDA events, operating-system calls and marks have no Parquet file"
        );
        let mut diagnostic = Diagnostic::new("parquet_tables_left_out", Severity::Info, text);
        diagnostic.count = left_out as u64;
        report.diagnostics.push(diagnostic);
    }
    Ok(report)
}

/// Names as the column writer takes them; made once, then shared.
struct Names<'a> {
    timeline: &'a Timeline,
    cache: Vec<Option<ByteArray>>,
}

impl Names<'_> {
    fn get(&mut self, id: StringId) -> ByteArray {
        let timeline = self.timeline;
        self.cache[id.0 as usize].get_or_insert_with(|| ByteArray::from(timeline.text(id))).clone()
    }
}

impl Column<'_> {
    fn declaration(&self) -> String {
        let kind = match self.cells {
            Cells::Time(_) => "required int64",
            Cells::Number(_) => "optional int64",
            Cells::Name(_) => return format!("optional binary {} (UTF8);", self.name),
            Cells::Label(_) => return format!("required binary {} (UTF8);", self.name),
            Cells::Flag(_) => "required boolean",
        };
        format!("{kind} {};", self.name)
    }
}

fn fill(
    table: &Table<'_>,
    timeline: &Timeline,
    names: &mut Names<'_>,
    file: &std::fs::File,
    group_rows: usize,
) -> ParquetResult<()> {
    let declarations: Vec<String> = table.columns.iter().map(Column::declaration).collect();
    let schema = parse_message_type(&format!("message {} {{ {} }}", table.name, declarations.join(" ")))?;
    let metadata = timeline
        .sources
        .iter()
        .find_map(|source| source.epoch_ns)
        .map(|epoch| vec![KeyValue::new("epoch_ns".to_owned(), epoch.to_string())]);
    let mut properties = WriterProperties::builder()
        .set_created_by(format!("perfprof version {}", env!("CARGO_PKG_VERSION")))
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_dictionary_page_size_limit(DICTIONARY_BYTES)
        .set_key_value_metadata(metadata);
    for column in table.columns.iter().filter(|column| matches!(column.cells, Cells::Time(_))) {
        let path = ColumnPath::from(column.name);
        properties = properties
            .set_column_dictionary_enabled(path.clone(), false)
            .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED);
    }
    let mut writer = SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties.build()))?;
    let mut first = 0;
    while first < table.rows {
        let end = table.rows.min(first + group_rows);
        let mut group = writer.next_row_group()?;
        for column in &table.columns {
            let Some(mut sink) = group.next_column()? else { break };
            let mut batch = first;
            while batch < end {
                let rows = batch..end.min(batch + BATCH);
                batch = rows.end;
                column.cells.put(rows, names, sink.untyped())?;
            }
            sink.close()?;
        }
        group.close()?;
        first = end;
    }
    writer.close()?;
    Ok(())
}

impl Cells<'_> {
    fn put(
        &self,
        rows: std::ops::Range<usize>,
        names: &mut Names<'_>,
        sink: &mut ColumnWriter<'_>,
    ) -> ParquetResult<()> {
        // The schema is made from the same columns: the kinds agree.
        match (self, sink) {
            (Self::Time(cell), ColumnWriter::Int64ColumnWriter(sink)) => {
                let values: Vec<i64> = rows.map(cell).collect();
                sink.write_batch(&values, None, None)?;
            }
            (Self::Number(cell), ColumnWriter::Int64ColumnWriter(sink)) => {
                let cells: Vec<Option<i64>> = rows.map(cell).collect();
                let values: Vec<i64> = cells.iter().flatten().copied().collect();
                sink.write_batch(&values, Some(&levels(&cells)), None)?;
            }
            (Self::Name(cell), ColumnWriter::ByteArrayColumnWriter(sink)) => {
                let cells: Vec<Option<StringId>> = rows.map(cell).collect();
                let values: Vec<ByteArray> = cells.iter().flatten().map(|id| names.get(*id)).collect();
                sink.write_batch(&values, Some(&levels(&cells)), None)?;
            }
            (Self::Label(cell), ColumnWriter::ByteArrayColumnWriter(sink)) => {
                let values: Vec<ByteArray> = rows.map(|row| ByteArray::from(cell(row))).collect();
                sink.write_batch(&values, None, None)?;
            }
            (Self::Flag(cell), ColumnWriter::BoolColumnWriter(sink)) => {
                let values: Vec<bool> = rows.map(cell).collect();
                sink.write_batch(&values, None, None)?;
            }
            _ => {
                return Err(parquet::errors::ParquetError::General(
                    "a column has another type than its schema".to_owned(),
                ));
            }
        }
        Ok(())
    }
}

/// Definition levels: 1 for a value, 0 for null.
fn levels<T>(cells: &[Option<T>]) -> Vec<i16> {
    cells.iter().map(|cell| i16::from(cell.is_some())).collect()
}

#[cfg(test)]
mod tests {
    use parquet::basic::Compression;
    use parquet::file::metadata::RowGroupMetaData;
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::RowAccessor;

    use super::super::activity::CopyKind;
    use super::super::builder::TimelineBuilder;
    use super::write_in_groups;

    #[test]
    fn rows_are_spread_over_groups_and_none_is_lost() {
        let mut b = TimelineBuilder::new();
        let process = b.process(1);
        let device = b.device(0);
        let stream = b.stream(process, device, 7);
        for row in 0..25_i64 {
            b.kernel(stream, if row % 2 == 0 { "even" } else { "odd" }, row * 10, row * 10 + row, 0);
        }
        b.copy(stream, CopyKind::HOST_TO_DEVICE, 5, 6, 0, 99);
        let timeline = b.finish();
        let directory = tempfile::tempdir().unwrap();
        let report = write_in_groups(&timeline, directory.path(), 10).unwrap();
        assert_eq!((report.rows("kernels"), report.rows("copies"), report.rows("api")), (25, 1, 0));
        let file = std::fs::File::open(directory.path().join("kernels.parquet")).unwrap();
        let reader = SerializedFileReader::new(file).unwrap();
        let groups: Vec<i64> = reader.metadata().row_groups().iter().map(RowGroupMetaData::num_rows).collect();
        assert_eq!(groups, [10, 10, 5]);
        let names = reader.metadata().row_group(0).column(3);
        assert_eq!(names.column_path().string(), "name");
        assert!(names.dictionary_page_offset().is_some(), "names are dictionary-encoded");
        assert!(matches!(names.compression(), Compression::ZSTD(_)));
        let starts: Vec<i64> =
            reader.get_row_iter(None).unwrap().map(|row| row.unwrap().get_long(0).unwrap()).collect();
        assert_eq!(starts, (0..25).map(|row| row * 10).collect::<Vec<i64>>());
    }
}
