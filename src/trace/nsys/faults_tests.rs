//! Files that are damaged, foreign, hostile or being written.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rusqlite::Connection;

use super::fixture::{Fixture, SMALL, counted};
use super::read;
use crate::trace::import::{ReadErrorKind, ReadOptions};
use crate::trace::places::NO_ROW;

#[test]
fn what_is_no_database_is_told_apart() {
    let mut header = b"SQLite format 3\0".to_vec();
    header.extend([0x10, 0x00]);
    header.resize(100, 0);
    let cases: [(&str, &[u8], ReadErrorKind, &str); 10] = [
        ("empty.sqlite", b"", ReadErrorKind::NotATrace, "0 bytes"),
        ("text.sqlite", b"hello, world", ReadErrorKind::NotATrace, "is text"),
        ("trace.json", b" {\"traceEvents\":[]}", ReadErrorKind::NotATrace, "JSON"),
        ("lfs.sqlite", b"version https://git-lfs.github.com/spec/v1\noid", ReadErrorKind::NotATrace, "Git LFS"),
        ("t.sqlite.gz", &[0x1f, 0x8b, 8, 0], ReadErrorKind::NotATrace, "gzip"),
        ("t.sqlite.zst", &[0x28, 0xb5, 0x2f, 0xfd], ReadErrorKind::NotATrace, "Zstandard"),
        ("zeros.sqlite", &[0; 5000], ReadErrorKind::NotATrace, "zero bytes"),
        ("header.sqlite", &header, ReadErrorKind::Malformed, "nothing else"),
        ("noise.sqlite", &[0xff, 0xfe, 0x80, 0x81], ReadErrorKind::NotATrace, "not a SQLite database"),
        ("part.parquet", b"PAR1....", ReadErrorKind::NotATrace, "Parquet"),
    ];
    for (name, bytes, kind, words) in cases {
        let error = Fixture::bytes(name, bytes).error();
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.to_string().contains(words), "{error}");
        assert!(!error.hints.is_empty(), "{error}");
    }
    let fixture = Fixture::bytes("a", b"a");
    assert_eq!(read(fixture.directory.path(), &ReadOptions::default()).unwrap_err().kind, ReadErrorKind::NotATrace);
    let absent = fixture.directory.path().join("absent.sqlite");
    let error = read(&absent, &ReadOptions::default()).unwrap_err();
    assert_eq!(error.kind, ReadErrorKind::Io);
    assert!(error.to_string().contains("does not exist"), "{error}");
}

#[test]
fn look_alikes_are_named() {
    for (sql, words) in [
        (
            "CREATE TABLE StringTable (_id_ INTEGER, value TEXT); CREATE TABLE CUPTI_ACTIVITY_KIND_KERNEL (start, end)",
            "nvprof",
        ),
        ("CREATE TABLE rocpd_api (id INTEGER); CREATE TABLE rocpd_string (id INTEGER)", "rocprof"),
        ("CREATE TABLE STRING_IDS (id INTEGER, value TEXT)", "msprof"),
        ("CREATE TABLE t (a); DROP TABLE t", "without tables"),
        ("CREATE TABLE recipes (flour, eggs)", "not an export of nsys"),
    ] {
        let error = Fixture::of(sql).error();
        assert_eq!(error.kind, ReadErrorKind::NotATrace);
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[test]
fn a_report_without_nsys_says_the_command_to_run() {
    let fixture = Fixture::bytes("my run.nsys-rep", b"\x01\x02report");
    let error =
        super::export::export_with("perfprof-has-no-such-tool", &fixture.path, &ReadOptions::default()).unwrap_err();
    assert_eq!(error.kind, ReadErrorKind::Tool);
    let command =
        format!("nsys export --type sqlite --lazy=true --output '{}", fixture.path.with_extension("sqlite").display());
    assert!(error.hints[0].contains(&command), "{:?}", error.hints);
}

/// Writes a shell script and returns its path.
fn script(fixture: &Fixture, text: &str) -> String {
    use std::os::unix::fs::PermissionsExt;
    let path = fixture.directory.path().join("nsys");
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_report_is_exported_elsewhere_and_read_and_the_export_is_gone_afterwards() {
    let report = Fixture::bytes("run.nsys-rep", b"\x01\x02report");
    let made = Fixture::small("");
    // Its arguments: export --type sqlite --lazy=true --force-overwrite=true --output FILE REPORT.
    let tool =
        script(&report, &format!("test \"$8\" = '{}' && cp '{}' \"$7\"", report.path.display(), made.path.display()));
    let exported = super::export::export_with(&tool, &report.path, &ReadOptions::default()).unwrap();
    let path = exported.path();
    assert_ne!(path.parent(), report.path.parent());
    let import = super::read_sqlite(&path, &report.path, &ReadOptions::default()).unwrap();
    assert_eq!((import.timeline.kernels.len(), import.timeline.sources[0].file.as_str()), (3, "run.nsys-rep"));
    drop(exported);
    assert!(!path.exists());

    let tool = script(&report, "echo 'unknown report version' >&2; exit 1");
    let error = super::export::export_with(&tool, &report.path, &ReadOptions::default()).unwrap_err();
    assert!(error.to_string().contains("unknown report version"), "{error}");

    let tool = script(&report, "exec sleep 60");
    let begun = Instant::now();
    let options = ReadOptions { cancelled: &|| begun.elapsed() > Duration::from_millis(100), ..ReadOptions::default() };
    let error = super::export::export_with(&tool, &report.path, &options).unwrap_err();
    assert_eq!(error.kind, ReadErrorKind::Interrupted);
    assert!(begun.elapsed() < Duration::from_secs(5));
}

/// `SMALL` with this many more kernels, several pages of them.
fn many_kernels(rows: u32) -> Fixture {
    Fixture::small(&format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
         INSERT INTO CUPTI_ACTIVITY_KIND_KERNEL SELECT 1000 * i, 1000 * i + 500, 0, 1, 7, i + 10, 167772160, 1, 2, 8, 1, 1, 128, 1, 1, NULL FROM n"
    ))
}

#[test]
fn a_cut_file_is_damaged_and_gives_no_rows() {
    let fixture = many_kernels(20_000);
    let whole = std::fs::read(&fixture.path).unwrap();
    for keep in [4096, 8192, whole.len() / 2, whole.len() - 4096, whole.len() - 1] {
        let error = Fixture::bytes("cut.sqlite", &whole[..keep]).error();
        assert_eq!(error.kind, ReadErrorKind::Malformed, "{error}");
        assert!(error.to_string().contains("cut off"), "{error}");
    }
}

#[test]
fn a_damaged_page_met_late_gives_an_error_and_no_rows() {
    let fixture = many_kernels(20_000);
    let whole = std::fs::read(&fixture.path).unwrap();
    assert_eq!(fixture.import().timeline.kernels.len(), 20_003);
    let last: u32 = Connection::open(&fixture.path)
        .unwrap()
        .query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'CUPTI_ACTIVITY_KIND_KERNEL'", [], |row| row.get(0))
        .unwrap();
    // The right-most child of the root is the leaf that is read last.
    let root = (last as usize - 1) * 4096;
    assert_eq!(whole[root], 5, "the table has one level of interior pages");
    let leaf = u32::from_be_bytes(whole[root + 8..root + 12].try_into().unwrap()) as usize;
    let mut damaged = whole.clone();
    damaged[(leaf - 1) * 4096..leaf * 4096].fill(0xA5);
    let error = Fixture::bytes("damaged.sqlite", &damaged).error();
    assert_eq!(error.kind, ReadErrorKind::Malformed);
    assert!(error.to_string().contains("CUPTI_ACTIVITY_KIND_KERNEL"), "{error}");

    // A child that leads back to an earlier leaf repeats rows; SQLite itself does not mind.
    let first = u32::from_be_bytes(whole[root + 4082..root + 4086].try_into().unwrap());
    let mut looped = whole.clone();
    looped[root + 8..root + 12].copy_from_slice(&first.to_be_bytes());
    let error = Fixture::bytes("looped.sqlite", &looped).error();
    assert_eq!(error.kind, ReadErrorKind::Malformed, "{error}");
}

#[test]
fn an_absent_table_is_an_absent_part() {
    for (table, kernels, ranges, code) in [
        ("NVTX_EVENTS", 3, 0, "table_missing"),
        ("CUPTI_ACTIVITY_KIND_RUNTIME", 3, 1, "table_missing"),
        ("CUPTI_ACTIVITY_KIND_KERNEL", 0, 1, "table_missing"),
    ] {
        let import = Fixture::small(&format!("DROP TABLE {table}")).import();
        assert_eq!((import.timeline.kernels.len(), import.timeline.ranges.len()), (kernels, ranges));
        assert_eq!(counted(&import, code), 1);
        assert!(import.diagnostics[0].first.contains(table));
    }
}

#[test]
fn the_highest_version_of_a_table_is_read() {
    let fixture = Fixture::small(
        "CREATE TABLE CUPTI_ACTIVITY_KIND_KERNEL_V3 AS SELECT * FROM CUPTI_ACTIVITY_KIND_KERNEL LIMIT 1;
         CREATE TABLE CUPTI_ACTIVITY_KIND_KERNEL_V10 AS SELECT * FROM CUPTI_ACTIVITY_KIND_KERNEL LIMIT 2;
         CREATE TABLE CUPTI_ACTIVITY_KIND_KERNEL_Vx AS SELECT * FROM CUPTI_ACTIVITY_KIND_KERNEL LIMIT 0;
         ALTER TABLE NVTX_EVENTS RENAME TO NVTX_EVENTS_V2",
    );
    let import = fixture.import();
    assert_eq!((import.timeline.kernels.len(), import.timeline.ranges.len()), (2, 1));
}

#[test]
fn missing_columns_are_unknown_and_a_table_without_begin_is_left_out() {
    let import = Fixture::small(
        "ALTER TABLE CUPTI_ACTIVITY_KIND_KERNEL DROP COLUMN gridX; ALTER TABLE CUPTI_ACTIVITY_KIND_KERNEL DROP COLUMN globalPid;
         ALTER TABLE CUPTI_ACTIVITY_KIND_MEMCPY DROP COLUMN start",
    )
    .import();
    let t = &import.timeline;
    let config = t.launch_configs[t.kernels.config[0] as usize];
    assert_eq!((config.grid, config.block, config.registers), ([0; 3], [128, 1, 1], None));
    // One process only, so its kernels are joined by correlation id alone.
    assert!(t.kernels.call.iter().all(|call| *call != NO_ROW));
    assert_eq!((t.copies.len(), counted(&import, "column_missing")), (0, 1));
}

#[test]
fn kernel_names_written_as_text_are_read() {
    let import = Fixture::small(
        "CREATE TABLE copy AS SELECT start, end, deviceId, contextId, streamId, correlationId, 'void softmax<half>(half*)' AS long_kernel_name,
           'softmax' AS kernel_name FROM CUPTI_ACTIVITY_KIND_KERNEL;
         DROP TABLE CUPTI_ACTIVITY_KIND_KERNEL; ALTER TABLE copy RENAME TO CUPTI_ACTIVITY_KIND_KERNEL",
    )
    .import();
    let t = &import.timeline;
    let name = t.kernel_names[t.kernels.name[2] as usize];
    assert_eq!((t.text(name.demangled), t.text(name.short)), ("void softmax<half>(half*)", "softmax"));
}

#[test]
fn what_is_not_a_table_is_refused_at_once() {
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT";
    for (sql, words) in [
        (
            format!(
                "DROP TABLE CUPTI_ACTIVITY_KIND_KERNEL; CREATE VIEW CUPTI_ACTIVITY_KIND_KERNEL AS {endless} i AS start, i AS end FROM n"
            ),
            "a view",
        ),
        (format!("DROP TABLE StringIds; CREATE VIEW StringIds AS {endless} i AS id, 'x' AS value FROM n"), "a view"),
        (format!("CREATE VIEW NVTX_EVENTS_V7 AS {endless} i AS start FROM n"), "a view"),
        ("CREATE TRIGGER t AFTER INSERT ON NVTX_EVENTS BEGIN SELECT 1; END".to_owned(), "a trigger"),
        (
            "ALTER TABLE NVTX_EVENTS ADD COLUMN length GENERATED ALWAYS AS (end - start)".to_owned(),
            "a generated column",
        ),
        (
            "DROP TABLE NVTX_EVENTS; CREATE VIRTUAL TABLE NVTX_EVENTS USING fts5(start, end)".to_owned(),
            "a virtual table",
        ),
    ] {
        let fixture = Fixture::small(&sql);
        let begun = Instant::now();
        let error = fixture.error();
        assert!(begun.elapsed() < Duration::from_secs(1));
        assert_eq!(error.kind, ReadErrorKind::NotATrace, "{error}");
        assert!(error.to_string().contains("not a table") && error.to_string().contains(words), "{error}");
    }
}

#[test]
fn rows_that_cannot_be_are_left_out_and_counted_by_reason() {
    // Without the constraints, as edited files have lost them.
    let loose = SMALL.replace(" NOT NULL", "").replace(" INTEGER,", ",").replace(" INTEGER)", ")");
    let kernel = |start: &str, end: &str, stream: &str| {
        format!(
            "INSERT INTO CUPTI_ACTIVITY_KIND_KERNEL VALUES ({start}, {end}, 0, 1, {stream}, 9, 167772160, 1, 2, 1, 1, 1, 1, 1, 1, NULL);"
        )
    };
    let (least, most) = ("-9223372036854775807 - 1", "9223372036854775807");
    let sql = [
        kernel("NULL", "5", "7"),
        kernel("5", "NULL", "7"),
        kernel("50", "40", "7"),
        kernel(least, most, "7"),
        kernel(most, least, "7"),
        kernel("0", "9007199254740992", "7"),
        kernel("0", "0", "7"),
        kernel("'soon'", "5", "7"),
        kernel("x'00'", "5", "7"),
        kernel("1.5", "5", "7"),
        kernel("1", "5", "'main'"),
        kernel("1.0", "5.0", "7"),
    ];
    let import = Fixture::of(&format!("{loose}{}", sql.concat())).import();
    assert_eq!(import.timeline.kernels.len(), 4);
    assert_eq!((import.timeline.kernels.start_ns[0], import.timeline.kernels.end_ns[0]), (1, 5));
    for (code, count) in [
        ("row_time_missing", 2),
        ("row_negative_duration", 1),
        ("row_time_out_of_range", 3),
        ("row_time_not_collected", 1),
        ("row_wrong_type", 4),
    ] {
        assert_eq!(counted(&import, code), count, "{code} {:?}", import.diagnostics);
    }
    let negative = import.diagnostics.iter().find(|diagnostic| diagnostic.code == "row_negative_duration").unwrap();
    assert!(negative.first.starts_with("row 6 of `CUPTI_ACTIVITY_KIND_KERNEL`"), "{}", negative.first);
}

#[test]
fn strange_names_stay_whole_and_missing_ones_show_their_id() {
    let fixture = Fixture::small(&format!(
        "UPDATE StringIds SET value = 'a' || char(0) || 'b' || char(10) || '{}' WHERE id = 1; DELETE FROM StringIds WHERE id = 2;
         UPDATE StringIds SET value = CAST(x'66ff6f' AS TEXT) WHERE id = 3;
         INSERT INTO NVTX_EVENTS VALUES (1, 2, 59, 'kept', 167772170, NULL, 42, 0), (3, 4, 59, NULL, 167772170, NULL, 43, 0),
           (5, 6, 59, NULL, 167772170, NULL, NULL, 0)",
        "x".repeat(100_000)
    ));
    let import = fixture.import();
    let t = &import.timeline;
    let name = t.kernel_names[t.kernels.name[0] as usize];
    assert!(t.text(name.demangled).starts_with("a\0b\nx"));
    assert_eq!(t.text(name.demangled).len(), 100_004);
    assert_eq!(t.text(name.short), "<id 2>");
    assert_eq!(t.text(t.api.name[0]), "f\u{fffd}o");
    let ranges: Vec<&str> = t.ranges.name.iter().map(|name| t.text(*name)).collect();
    assert_eq!(ranges, ["kept", "<id 43>", "", "step"]);
    assert_eq!(counted(&import, "string_missing"), 2);
}

#[test]
fn a_write_ahead_log_is_read_with_the_file_and_nothing_is_made_beside_it() {
    let fixture = Fixture::small("PRAGMA journal_mode=WAL");
    // A log in use by no one: its checkpoint has removed it.
    assert_eq!(fixture.import().timeline.kernels.len(), 3);
    // A log that a program left behind, without the index beside it.
    let writer = Connection::open(&fixture.path).unwrap();
    writer
        .execute_batch("PRAGMA wal_autocheckpoint=0; DELETE FROM CUPTI_ACTIVITY_KIND_KERNEL WHERE start = 115")
        .unwrap();
    let left = tempfile::tempdir().unwrap();
    let copy = left.path().join("copy.sqlite");
    for suffix in ["", "-wal"] {
        let name = |path: &std::path::Path| format!("{}{suffix}", path.display());
        std::fs::copy(name(&fixture.path), name(&copy)).unwrap();
    }
    let left = Fixture { directory: left, path: copy };
    assert_eq!(left.import().timeline.kernels.len(), 2);
}

#[test]
fn a_directory_that_cannot_be_written_does_not_matter() {
    use std::os::unix::fs::PermissionsExt;
    let fixture = Fixture::small("PRAGMA journal_mode=WAL");
    let set = |mode| std::fs::set_permissions(fixture.directory.path(), std::fs::Permissions::from_mode(mode)).unwrap();
    set(0o555);
    let result = fixture.read();
    set(0o755);
    assert_eq!(result.unwrap().timeline.kernels.len(), 3);
}

#[test]
fn a_file_that_is_being_written_is_busy() {
    let fixture = Fixture::small("");
    for begin in ["BEGIN EXCLUSIVE", "PRAGMA journal_mode=OFF; BEGIN EXCLUSIVE"] {
        let writer = Connection::open(&fixture.path).unwrap();
        writer.execute_batch(&format!("{begin}; INSERT INTO StringIds VALUES (99, 'half')")).unwrap();
        let begun = Instant::now();
        let error = read(&fixture.path, &ReadOptions::default()).unwrap_err();
        assert_eq!(error.kind, ReadErrorKind::Busy, "{error}");
        assert!(begun.elapsed() < Duration::from_secs(10));
        writer.execute_batch("COMMIT; DELETE FROM StringIds WHERE id = 99").unwrap();
    }
    assert_eq!(fixture.import().timeline.kernels.len(), 3);
}

#[test]
fn a_trace_without_device_work_is_read_and_says_so() {
    let import =
        Fixture::small("DROP TABLE CUPTI_ACTIVITY_KIND_KERNEL; DROP TABLE CUPTI_ACTIVITY_KIND_MEMCPY").import();
    assert_eq!((import.timeline.op_count(), import.timeline.api.len()), (0, 4));
    assert!(import.diagnostics.iter().any(|d| d.first.contains("captured without CUDA trace")));
}

#[test]
fn reading_stops_when_asked_to() {
    let fixture = many_kernels(100_000);
    let looks = std::sync::atomic::AtomicU32::new(0);
    let cancelled = || looks.fetch_add(1, std::sync::atomic::Ordering::Relaxed) > 2;
    let error = read(&fixture.path, &ReadOptions { cancelled: &cancelled, ..ReadOptions::default() }).unwrap_err();
    assert_eq!(error.kind, ReadErrorKind::Interrupted);
}

#[test]
fn several_connections_read_what_one_reads() {
    let fixture = many_kernels(600_000);
    fixture.run("DELETE FROM CUPTI_ACTIVITY_KIND_KERNEL WHERE rowid % 7 = 0; INSERT INTO CUPTI_ACTIVITY_KIND_KERNEL
        SELECT -start, -start + 1, 0, 1, 13, 3, 167772160, 2, 1, 9, 1, 1, 64, 1, 1, 77 FROM CUPTI_ACTIVITY_KIND_KERNEL WHERE rowid > 590000");
    let t = fixture.import().timeline;
    let connection = Connection::open(&fixture.path).unwrap();
    let (rows, starts, ends): (i64, i64, i64) = connection
        .query_row("SELECT count(*), sum(start), sum(end) FROM CUPTI_ACTIVITY_KIND_KERNEL", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .unwrap();
    assert_eq!(
        (t.kernels.len() as i64, t.kernels.start_ns.iter().sum(), t.kernels.end_ns.iter().sum()),
        (rows, starts, ends)
    );
    assert!(t.kernels.start_ns.is_sorted());
    // What hangs on a row moves with it.
    for row in 0..t.kernels.len() {
        let added = t.kernels.start_ns[row] < 0;
        let stream = t.streams[t.kernels.stream[row] as usize].stream;
        assert_eq!((stream, t.kernels.node(row)), if added { (13, Some(77)) } else { (7, None) });
    }
}

#[test]
fn flipped_bytes_give_rows_or_an_error_and_never_a_panic() {
    let fixture = many_kernels(300);
    let whole = std::fs::read(&fixture.path).unwrap();
    let mut random = StdRng::seed_from_u64(20_261_125);
    let (mut read_well, mut refused) = (0, 0);
    for round in 0..300 {
        let mut bytes = whole.clone();
        for _ in 0..random.random_range(1..8) {
            // Half of the time where pages begin: headers and cell pointers.
            let page = random.random_range(0..bytes.len() / 4096) * 4096;
            let within =
                if random.random_bool(0.5) { random.random_range(0..64) } else { random.random_range(0..4096) };
            bytes[page + within] = random.random();
        }
        let begun = Instant::now();
        match Fixture::bytes("mutated.sqlite", &bytes).read() {
            Ok(import) => {
                read_well += 1;
                let t = &import.timeline;
                assert!(t.kernels.len() < 10_000 && t.strings.len() < 10_000, "round {round}");
                assert!(t.kernels.end_ns.iter().zip(&t.kernels.start_ns).all(|(end, start)| end >= start));
            }
            Err(error) => {
                refused += 1;
                assert!(!error.detail.is_empty(), "round {round}");
            }
        }
        assert!(begun.elapsed() < Duration::from_secs(5), "round {round} took {:?}", begun.elapsed());
    }
    assert!(read_well > 10 && refused > 10, "{read_well} read, {refused} refused");
}
