//! Scrubbed copies.

use rusqlite::Connection;

use super::fixture::{Fixture, listing};
use super::{read, scrub};
use crate::trace::import::{ReadErrorKind, ReadOptions};

const TOKEN: &str = "hf_aVeryPrivateTokenThatMustNotLeaveTheHouse";

/// Private texts in every place nsys puts them.
fn private() -> Fixture {
    let environment = format!("HOME=/home/somebody\nHF_TOKEN={TOKEN}\n{}", "LS_COLORS=rs=0:di=01;34\n".repeat(300));
    Fixture::small(&format!(
        "CREATE TABLE META_DATA_CAPTURE (name TEXT NOT NULL, value TEXT);
         INSERT INTO META_DATA_CAPTURE VALUES ('PROCESS_0:ENVIRONMENT_VARIABLE', 'HF_TOKEN={TOKEN}'), ('PROCESS_0:COMMAND', '/home/somebody/serve --key {TOKEN}'),
           ('PROCESS_0:ARGUMENT_0', '--key={TOKEN}'), ('PROCESS_0:CUDA_GRAPH_TRACE_OPTIONS:MODE', 'Node'), ('CUDA_SKIP_SOME_API_CALLS', 'true');
         CREATE TABLE META_DATA_EXPORT (name TEXT NOT NULL, value TEXT);
         INSERT INTO META_DATA_EXPORT VALUES ('EXPORT_SCHEMA_VERSION', '3.24.8'), ('EXPORT_PRODUCT_VERSION', '2025.6.3.343'),
           ('EXPORT_HOST', 'secret-host-of-somebody'), ('EXPORT_PARAM_INPUT_PATH_ABS', '/home/somebody/work/secret-project.nsys-rep');
         CREATE TABLE TARGET_INFO_SYSTEM_ENV (globalVid INTEGER, devStateName TEXT, name TEXT, nameEnum INTEGER, value TEXT);
         INSERT INTO TARGET_INFO_SYSTEM_ENV VALUES (0, 's', 'CpuCores', 1, '64'), (0, 's', 'Hostname', 2, 'secret-host-of-somebody'), (0, 's', 'Other', 3, '{environment}');
         CREATE TABLE ProcessStreams (globalPid INTEGER, filenameId INTEGER, contentId INTEGER); INSERT INTO ProcessStreams VALUES (167772160, 8, 9);
         CREATE TABLE PROCESSES (globalPid INTEGER, pid INTEGER, name TEXT);
         INSERT INTO PROCESSES VALUES (167772160, 10, 'serve'), (335544320, 20, '/opt/private-daemon-of-somebody');
         CREATE TABLE ThreadNames (nameId INTEGER NOT NULL, priority INTEGER, globalTid INTEGER);
         INSERT INTO ThreadNames VALUES (6, 0, 167772170), (7, 0, 335544330);
         INSERT INTO StringIds VALUES (6, 'main-thread-of-serve'), (7, 'private-thread-of-daemon'), (8, '/tmp/stdout-of-somebody.log'),
           (9, 'captured output with {TOKEN} in it'), (10, '{environment}')"
    ))
}

#[test]
fn a_scrubbed_copy_has_the_activity_and_none_of_the_private_texts() {
    let fixture = private();
    let target = fixture.directory.path().join("clean.sqlite");
    let before = listing(fixture.directory.path());
    let report = scrub(&fixture.path, &target).unwrap();
    let removed: Vec<(&str, u64, u64)> =
        report.removed.iter().map(|table| (table.table.as_str(), table.deleted, table.blanked)).collect();
    assert_eq!(
        removed,
        [
            ("META_DATA_CAPTURE", 3, 0),
            ("META_DATA_EXPORT", 2, 0),
            ("TARGET_INFO_SYSTEM_ENV", 0, 2),
            ("ProcessStreams", 1, 0),
            ("PROCESSES", 1, 0),
            ("ThreadNames", 1, 0),
            ("StringIds", 0, 4),
        ]
    );
    let bytes = std::fs::read(&target).unwrap();
    assert_eq!((report.kept_in_activity, report.bytes), (0, bytes.len() as u64));
    for private in [TOKEN, "somebody", "LS_COLORS", "private-thread"] {
        assert!(memchr::memmem::find(&bytes, private.as_bytes()).is_none(), "{private}");
    }
    std::fs::write(fixture.directory.path().join("again"), b"").unwrap();
    let (ours, theirs) =
        (read(&target, &ReadOptions::default()).unwrap(), read(&fixture.path, &ReadOptions::default()).unwrap());
    let (ours, theirs) = (ours.timeline, theirs.timeline);
    assert_eq!((ours.kernels.start_ns, ours.api.start_ns), (theirs.kernels.start_ns, theirs.api.start_ns));
    assert_eq!(ours.sources[0].graph_mode, theirs.sources[0].graph_mode);
    assert_eq!(ours.strings.get(ours.threads[0].name.unwrap()), "main-thread-of-serve");
    // Beside the source there is the copy and nothing else, and the source is as it was.
    std::fs::remove_file(fixture.directory.path().join("again")).unwrap();
    std::fs::remove_file(&target).unwrap();
    assert_eq!(listing(fixture.directory.path()), before);
}

#[test]
fn a_private_text_that_activity_repeats_is_counted() {
    let fixture = private();
    fixture.run(&format!("INSERT INTO NVTX_EVENTS VALUES (1, 2, 59, '--key={TOKEN}', 167772170, NULL, NULL, 0)"));
    let report = scrub(&fixture.path, &fixture.directory.path().join("clean.sqlite")).unwrap();
    assert!(report.kept_in_activity > 0);
}

#[test]
fn nothing_is_overwritten_and_a_failed_copy_leaves_nothing() {
    let fixture = private();
    let target = fixture.directory.path().join("clean.sqlite");
    std::fs::write(&target, b"mine").unwrap();
    assert_eq!(scrub(&fixture.path, &target).unwrap_err().kind, ReadErrorKind::Io);
    assert_eq!(scrub(&fixture.path, &fixture.path).unwrap_err().kind, ReadErrorKind::Io);
    assert_eq!(std::fs::read(&target).unwrap(), b"mine");
    let other = Fixture::of("CREATE TABLE recipes (flour, eggs)");
    let before = listing(other.directory.path());
    assert!(scrub(&other.path, &other.directory.path().join("clean.sqlite")).is_err());
    assert_eq!(listing(other.directory.path()), before);
    assert_eq!(
        Connection::open(&fixture.path)
            .unwrap()
            .query_row("SELECT count(*) FROM PROCESSES", [], |row| row.get::<_, i64>(0))
            .unwrap(),
        2
    );
}

#[test]
fn a_piece_is_found_wherever_it_lies_in_a_large_file() {
    let mut pieces = super::remains::Pieces::default();
    pieces.add(TOKEN.as_bytes(), true);
    pieces.add(b"not in the file at all", true);
    let mut bytes = vec![b'h'; (1 << 24) + 1000];
    // It begins in the first part that is looked at and ends in the second.
    let at = (1 << 24) - 7;
    bytes[at..at + TOKEN.len()].copy_from_slice(TOKEN.as_bytes());
    let fixture = Fixture::bytes("large", &bytes);
    // The token is one piece of 32 bytes and one of the rest.
    assert_eq!(pieces.find_in_file(&fixture.path).unwrap(), [0, 1]);
}
