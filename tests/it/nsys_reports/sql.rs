//! Reports for which there is no output of NVIDIA's, against plain SQL on the same real files.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::{cells, read, report, traces};

fn open(path: &Path) -> Connection {
    let uri = format!("file:{}?mode=ro&immutable=1", path.display());
    Connection::open_with_flags(uri, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI).unwrap()
}

/// Every row as texts; NULL is the empty text.
fn rows(connection: &Connection, sql: &str) -> Vec<Vec<String>> {
    let mut statement = connection.prepare(sql).unwrap();
    let columns = statement.column_count();
    let found = statement
        .query_map([], |row| {
            (0..columns)
                .map(|column| {
                    Ok(match row.get_ref(column)? {
                        rusqlite::types::ValueRef::Null => String::new(),
                        rusqlite::types::ValueRef::Integer(value) => value.to_string(),
                        rusqlite::types::ValueRef::Text(value) => String::from_utf8_lossy(value).into_owned(),
                        other => panic!("{other:?}"),
                    })
                })
                .collect::<Result<Vec<String>, _>>()
        })
        .unwrap();
    found.map(Result::unwrap).collect()
}

/// Rows of a table in any order.
fn sorted(mut rows: Vec<Vec<String>>) -> Vec<Vec<String>> {
    rows.sort();
    rows
}

/// Some columns of a report; the text in the last column may have commas and quotes.
fn columns(text: &str, wanted: &[usize]) -> Vec<Vec<String>> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    reader
        .records()
        .map(|record| {
            let record = record.unwrap();
            wanted.iter().map(|column| record[*column].to_owned()).collect()
        })
        .collect()
}

/// Fails with the first row that differs.
fn assert_same(ours: Vec<Vec<String>>, expected: Vec<Vec<String>>, what: &str) {
    let (ours, expected) = (sorted(ours), sorted(expected));
    for (ours, expected) in ours.iter().zip(&expected) {
        assert_eq!(ours, expected, "{what}");
    }
    assert_eq!(ours.len(), expected.len(), "{what}");
    assert!(!ours.is_empty(), "{what}");
}

/// Name of the range `n` with that of its domain before it.
const RANGE_NAME: &str = "
    coalesce((SELECT coalesce(ds.value, d.text) FROM NVTX_EVENTS d LEFT JOIN StringIds ds ON ds.id = d.textId
              WHERE d.eventType = 75 AND d.domainId = n.domainId), '')
    || ':' || coalesce((SELECT value FROM StringIds WHERE id = n.textId), n.text)";

const JOINED: &str = "
    SELECT r.rowid AS call, r.start AS call_start, r.end AS call_end, r.globalTid AS thread, o.*
    FROM CUPTI_ACTIVITY_KIND_RUNTIME r JOIN ops o
    ON o.correlation = r.correlationId AND o.process = r.globalTid / 16777216 * 16777216";

const OPS: &str = "
    SELECT start, end, correlationId AS correlation, globalPid AS process, demangledName AS name, rowid AS id, 0 AS kind
    FROM CUPTI_ACTIVITY_KIND_KERNEL
    UNION ALL SELECT start, end, correlationId, globalPid, NULL, rowid, 1 FROM CUPTI_ACTIVITY_KIND_MEMCPY";

#[test]
fn ranges_are_projected_as_a_containment_join_in_sql_projects_them() {
    let Some(traces) = traces() else { return };
    let path = traces.join("nsys/nvtx_pushpop_t4.sqlite");
    let expected = rows(
        &open(&path),
        &format!(
            "WITH ops AS ({OPS}), joined AS ({JOINED}), projected AS (
                SELECT n.rowid AS id, {RANGE_NAME} AS text, n.end - n.start AS whole, max(j.end) - min(j.start) AS duration,
                       count(DISTINCT j.correlation) AS launches
                FROM NVTX_EVENTS n JOIN joined j ON n.globalTid = j.thread AND n.start <= j.call_start AND n.end >= j.call_end
                WHERE n.eventType = 59 GROUP BY n.rowid)
             SELECT text, 'PushPop', sum(duration), sum(whole), count(*), min(duration), max(duration), sum(launches)
             FROM projected GROUP BY text"
        ),
    );
    let text = report("nvtx_gpu_proj_sum", &read(&path));
    assert_same(columns(&text, &[0, 1, 2, 3, 4, 7, 8, 10]), expected, "nvtx_gpu_proj_sum");
    assert!(text.lines().nth(1).unwrap().starts_with(":Loop,PushPop,1773703924,"), "{text}");
    assert_eq!(columns(&text, &[10])[0], ["3765"]);
    let totals: Vec<i64> = columns(&text, &[2]).iter().map(|row| row[0].parse().unwrap()).collect();
    assert!(totals.is_sorted_by(|a, b| a >= b));
}

#[test]
fn kernels_in_ranges_are_counted_as_a_join_in_sql_counts_them() {
    let Some(traces) = traces() else { return };
    for file in ["nvtx_pushpop_t4", "two_process_two_gpu"] {
        let path = traces.join(format!("nsys/{file}.sqlite"));
        let connection = open(&path);
        let expected = rows(
            &connection,
            &format!(
                "WITH ops AS ({OPS}),
                 joined AS (
                    SELECT o.*, r.start AS call_start, r.end AS call_end, r.globalTid AS thread
                    FROM ops o LEFT JOIN CUPTI_ACTIVITY_KIND_RUNTIME r
                    ON o.correlation = r.correlationId AND o.process = r.globalTid / 16777216 * 16777216
                    WHERE o.kind = 0)
                 SELECT {RANGE_NAME}, iif(n.rowid IS NULL, NULL, 'PushPop'),
                        j.thread / 16777216 % 16777216, j.thread % 16777216, count(DISTINCT n.rowid), count(DISTINCT j.id),
                        sum(j.end - j.start), min(j.end - j.start), max(j.end - j.start), k.value
                 FROM joined j
                 LEFT JOIN NVTX_EVENTS n ON n.eventType = 59 AND n.globalTid = j.thread AND n.start <= j.call_start AND n.end >= j.call_end
                 JOIN StringIds k ON k.id = j.name
                 GROUP BY 1, 2, 3, 4, 10"
            ),
        );
        let text = report("nvtx_kern_sum", &read(&path));
        assert_same(columns(&text, &[0, 1, 2, 3, 4, 5, 6, 9, 10, 12]), expected, file);
    }
}

#[test]
fn launches_of_two_processes_with_the_same_ids_are_told_apart() {
    let Some(traces) = traces() else { return };
    let path = traces.join("nsys/two_process_two_gpu.sqlite");
    let expected = rows(
        &open(&path),
        "SELECT r.globalTid / 16777216 % 16777216, r.globalTid % 16777216, k.deviceId, count(*), sum(k.start >= r.end),
                min(max(r.end, k.end) - r.start), max(r.end - r.start), min(iif(k.start >= r.end, k.start - r.end, NULL)),
                max(k.end - k.start), rtrim(rtrim(f.value, '0123456789'), 'v'), n.value
         FROM CUPTI_ACTIVITY_KIND_KERNEL k JOIN CUPTI_ACTIVITY_KIND_RUNTIME r
         ON k.correlationId = r.correlationId AND k.globalPid = r.globalTid / 16777216 * 16777216
         JOIN StringIds f ON f.id = r.nameId JOIN StringIds n ON n.id = k.demangledName GROUP BY 1, 2, 3, f.value, 11",
    );
    let text = report("cuda_kern_exec_sum", &read(&path));
    let mut ours = columns(&text, &[0, 1, 2, 3, 4, 7, 13, 17, 23, 25, 26]);
    // The SQL above leaves the underscore of a version; ours has none, and some names have no version at all.
    let bare = |name: &str| name.trim_end_matches('_').to_owned();
    for row in &mut ours {
        row[9] = bare(&row[9]);
    }
    let expected = expected.into_iter().map(|mut row| {
        row[9] = bare(&row[9]);
        row
    });
    assert_same(ours, expected.collect(), "cuda_kern_exec_sum");
}

#[test]
fn sums_of_every_table_are_those_of_sql() {
    let Some(traces) = traces() else { return };
    for file in std::fs::read_dir(traces.join("nsys")).unwrap() {
        let path = file.unwrap().path();
        let timeline = read(&path);
        let connection = open(&path);
        let has = |table: &str| {
            !rows(&connection, &format!("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = '{table}'"))
                .is_empty()
        };
        let check = |name: &str, wanted: &[usize], table: &str, sql: &str| {
            if has(table) {
                let ours = columns(&report(name, &timeline), wanted);
                let expected = rows(&connection, sql);
                if !ours.is_empty() || !expected.is_empty() {
                    assert_same(ours, expected, &format!("{name} of {}", path.display()));
                }
            }
        };
        check(
            "cuda_gpu_kern_sum:base",
            &[1, 2, 5, 6, 8],
            "CUPTI_ACTIVITY_KIND_KERNEL",
            "SELECT sum(k.end - k.start), count(*), min(k.end - k.start), max(k.end - k.start), s.value
             FROM CUPTI_ACTIVITY_KIND_KERNEL k JOIN StringIds s ON s.id = k.shortName GROUP BY s.value",
        );
        check(
            "cuda_gpu_kern_gb_sum",
            &[1, 2, 5, 6, 8, 9, 10],
            "CUPTI_ACTIVITY_KIND_KERNEL",
            "SELECT sum(k.end - k.start), count(*), min(k.end - k.start), max(k.end - k.start),
                    printf('%4d %4d %4d', gridX, gridY, gridZ), printf('%4d %4d %4d', blockX, blockY, blockZ), s.value
             FROM CUPTI_ACTIVITY_KIND_KERNEL k JOIN StringIds s ON s.id = k.demangledName GROUP BY 5, 6, 7",
        );
        check(
            "osrt_sum",
            &[1, 2, 5, 6, 8],
            "OSRT_API",
            "SELECT sum(o.end - o.start), count(*), min(o.end - o.start), max(o.end - o.start), s.value
             FROM OSRT_API o JOIN StringIds s ON s.id = o.nameId WHERE o.eventClass = 27 GROUP BY o.nameId",
        );
        check(
            "nvtx_pushpop_sum",
            &[1, 2, 5, 6],
            "NVTX_EVENTS",
            "SELECT sum(n.end - n.start), count(*), min(n.end - n.start), max(n.end - n.start) FROM NVTX_EVENTS n
             LEFT JOIN StringIds s ON s.id = n.textId WHERE n.eventType = 59 GROUP BY n.domainId, coalesce(s.value, n.text)",
        );
    }
}

#[test]
fn sizes_of_memory_operations_add_up_to_those_of_sql() {
    let Some(traces) = traces() else { return };
    for file in ["four_a100_swapped_ids", "candle_graph_nodes", "two_process_two_gpu"] {
        let path = traces.join(format!("nsys/{file}.sqlite"));
        let expected: BTreeMap<String, (String, String)> = rows(
            &open(&path),
            "SELECT '[CUDA memcpy ' || e.label || ']', printf('%.3f', sum(bytes) / 1e6), count(*)
             FROM CUPTI_ACTIVITY_KIND_MEMCPY m JOIN ENUM_CUDA_MEMCPY_OPER e ON e.id = m.copyKind GROUP BY m.copyKind",
        )
        .into_iter()
        .map(|row| (row[0].clone(), (row[1].clone(), row[2].clone())))
        .collect();
        let text = report("cuda_gpu_mem_size_sum", &read(&path));
        let ours: BTreeMap<String, (String, String)> = cells(&text)
            .iter()
            .filter(|row| row[7] != "[CUDA memset]")
            .map(|row| (row[7].to_owned(), (row[0].to_owned(), row[1].to_owned())))
            .collect();
        assert_eq!(ours, expected, "{file}");
    }
}
