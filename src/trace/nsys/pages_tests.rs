//! Rows read from pages against the same rows read by SQLite.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rusqlite::Connection;
use rusqlite::types::{Value, ValueRef};

use super::fixture::Fixture;
use super::pages::{Halt, Pages, Shape};

/// Row id and the first `columns` values of the rows of `t` in a range.
type Rows = Vec<(i64, Vec<Value>)>;

fn by_pages(fixture: &Fixture, columns: usize, from: i64, to: i64) -> Result<Rows, Halt> {
    let pages = Pages::open(&fixture.path).unwrap();
    let connection = Connection::open(&fixture.path).unwrap();
    let root =
        connection.query_row("SELECT rootpage FROM sqlite_schema WHERE name = 't'", [], |row| row.get(0)).unwrap();
    // The last column first, to tell places from answers.
    let shape = Shape { root, columns: (0..columns).map(|column| (column, columns - 1 - column)).collect() };
    let mut rows = Vec::new();
    pages.scan(&shape, from, to, &mut |rowid, values: &[ValueRef<'_>]| {
        rows.push((rowid, values[..columns].iter().rev().map(|value| Value::try_from(*value).unwrap()).collect()));
        Ok(())
    })?;
    Ok(rows)
}

fn by_sql(fixture: &Fixture, columns: usize, from: i64, to: i64) -> Rows {
    let connection = Connection::open(&fixture.path).unwrap();
    let mut statement =
        connection.prepare("SELECT rowid, * FROM t WHERE rowid BETWEEN ?1 AND ?2 ORDER BY rowid").unwrap();
    let rows = statement.query_map([from, to], |row| {
        Ok((row.get(0)?, (0..columns).map(|column| row.get(column + 1)).collect::<Result<_, _>>()?))
    });
    rows.unwrap().collect::<Result<_, _>>().unwrap()
}

fn random_value(random: &mut StdRng) -> Value {
    match random.random_range(0..9) {
        0 => Value::Null,
        1 => Value::Integer(random.random_range(-2..3)),
        // Every width an integer is stored in, either sign.
        2..=4 => Value::Integer(random.random::<i64>() >> random.random_range(0..64)),
        5 => Value::Real(random.random_range(-1e9..1e9)),
        6 => Value::Text("ä".repeat(random.random_range(0..40))),
        // Over several pages, and at the edge of one.
        7 => Value::Text("y".repeat(random.random_range(400..5000))),
        _ => Value::Blob(vec![7; random.random_range(0..600)]),
    }
}

#[test]
fn pages_hold_what_sqlite_says_for_every_size_of_page_and_kind_of_value() {
    let mut random = StdRng::seed_from_u64(5);
    for page_size in [512, 1024, 4096, 65536] {
        let fixture = Fixture::of(&format!("PRAGMA page_size={page_size}; CREATE TABLE t (a, b, c, d)"));
        let mut connection = Connection::open(&fixture.path).unwrap();
        let transaction = connection.transaction().unwrap();
        let mut rowid = i64::MIN;
        for row in 0..1500 {
            // Negative ids, neighbours, and ids far apart.
            rowid = if row == 200 { -5 } else { rowid + random.random_range(1..4) };
            if row % 500 == 499 {
                rowid += 1 << 40;
            }
            let values: Vec<Value> = (0..4).map(|_| random_value(&mut random)).collect();
            transaction
                .execute(
                    "INSERT INTO t (rowid, a, b, c, d) VALUES (?1, ?2, ?3, ?4, ?5)",
                    rusqlite::params![rowid, values[0], values[1], values[2], values[3]],
                )
                .unwrap();
        }
        // Holes, free pages, and rows that lack the last column.
        transaction
            .execute_batch("DELETE FROM t WHERE rowid % 5 = 0; UPDATE t SET b = zeroblob(9000) WHERE rowid % 11 = 0; ALTER TABLE t ADD COLUMN e")
            .unwrap();
        transaction.commit().unwrap();
        let all = by_sql(&fixture, 5, i64::MIN, i64::MAX);
        assert!(all.len() > 1000);
        assert_eq!(by_pages(&fixture, 5, i64::MIN, i64::MAX).unwrap(), all, "page size {page_size}");
        for _ in 0..40 {
            let ends = [random.random_range(0..all.len()), random.random_range(0..all.len())];
            let (from, to) = (all[ends[0].min(ends[1])].0, all[ends[0].max(ends[1])].0 + 1);
            assert_eq!(by_pages(&fixture, 3, from, to).unwrap(), by_sql(&fixture, 3, from, to));
        }
    }
}

#[test]
fn what_is_not_plain_is_left_to_sqlite() {
    let utf16 = Fixture::of("PRAGMA encoding='UTF-16le'; CREATE TABLE t (a); INSERT INTO t VALUES ('x')");
    assert!(Pages::open(&utf16.path).is_none());
    let fixture = Fixture::of("CREATE TABLE t (a); INSERT INTO t VALUES (1), (2), (3)");
    assert_eq!(by_pages(&fixture, 1, 0, 9).unwrap().len(), 3);
    let whole = std::fs::read(&fixture.path).unwrap();
    // The second page is the root and only leaf: kind, number of rows, place of the first row, then a record's own lengths.
    for (at, byte) in [(4096, 2), (4096 + 3, 0x7F), (4096 + 8, 0), (8192 - 4, 0x7F), (8192 - 2, 0x0A), (8192 - 1, 0x7F)]
    {
        let mut bytes = whole.clone();
        bytes[at] = byte;
        std::fs::write(&fixture.path, &bytes).unwrap();
        let pages = Pages::open(&fixture.path).unwrap();
        let shape = Shape { root: 2, columns: vec![(0, 0)] };
        let result = pages.scan(&shape, i64::MIN, i64::MAX, &mut |_, _| Ok(()));
        assert!(matches!(result, Err(Halt::Unusual)), "byte {byte} at {at}: {result:?}");
    }
}

#[test]
fn real_exports_are_read_from_pages_without_help() {
    let shared = std::env::var_os("PERFPROF_SHARED")
        .map_or_else(|| std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), std::path::PathBuf::from);
    for entry in std::fs::read_dir(shared.join("traces/nsys")).into_iter().flatten() {
        let path = entry.unwrap().path();
        let database = super::open::Database::find(&path).unwrap();
        let connection = database.connect().unwrap();
        let schema = super::schema::Schema::load(&path, &connection).unwrap();
        let pages = database.pages().unwrap();
        for name in ["CUPTI_ACTIVITY_KIND_KERNEL", "CUPTI_ACTIVITY_KIND_RUNTIME", "NVTX_EVENTS", "OSRT_API"] {
            let Some(table) = schema.table(&path, &connection, name).unwrap() else { continue };
            let shape = table.shape(&[&["start"], &["end"]]).unwrap();
            let (mut rows, mut sum) = (0_i64, 0_i64);
            pages
                .scan(&shape, i64::MIN, i64::MAX, &mut |_, values| {
                    rows += 1;
                    for value in &values[..2] {
                        sum += if let ValueRef::Integer(value) = value { *value } else { 0 };
                    }
                    Ok(())
                })
                .unwrap();
            let sql = format!("SELECT count(*), coalesce(sum(start), 0) + coalesce(sum(\"end\"), 0) FROM {name}");
            let expected: (i64, i64) = connection.query_row(&sql, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
            assert_eq!((rows, sum), expected, "{} {name}", path.display());
        }
    }
}
