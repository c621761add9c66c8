//! What the parts of an export become: NVTX in all its types, devices, settings, small tables.

use super::fixture::{Fixture, counted};
use crate::trace::host::{ApiClass, RangeKind};
use crate::trace::places::{GraphMode, NO_ROW};

#[test]
fn ranges_marks_and_domains_of_nvtx_are_told_apart_by_event_type() {
    let import = Fixture::small(
        "DELETE FROM NVTX_EVENTS;
         -- start, end, eventType, text, globalTid, endGlobalTid, textId, domainId
         INSERT INTO NVTX_EVENTS VALUES
           (10, 20, 59, 'push', 167772170, NULL, NULL, 0), (11, 21, 60, 'start', 167772170, 167772171, NULL, 3),
           (12, 22, 70, 'text push', 167772170, NULL, NULL, 3), (13, NULL, 71, 'never closed', 167772170, NULL, NULL, 9),
           (14, 24, 60, 'own thread', 167772170, 167772170, 5, 0), (15, NULL, 34, 'mark', 167772170, NULL, NULL, 3),
           (-5, NULL, 75, 'library', 167772170, NULL, NULL, 3), (1, NULL, 33, 'a category', 167772170, NULL, NULL, 0),
           (2, NULL, 39, 'a thread', 167772170, NULL, NULL, 0), (16, 26, 59, 'elsewhere', 335544340, NULL, NULL, 3)",
    )
    .import();
    let t = &import.timeline;
    let rows: Vec<(&str, &str, RangeKind, i64, bool, bool)> = (0..t.ranges.len())
        .map(|row| {
            (
                t.text(t.ranges.name[row]),
                t.text(t.ranges.domain[row]),
                t.ranges.kind[row],
                t.ranges.end_ns[row],
                t.ranges.is_open(row),
                t.ranges.other_end_thread(row).is_some(),
            )
        })
        .collect();
    assert_eq!(
        rows,
        [
            ("push", "", RangeKind::PushPop, 20, false, false),
            ("start", "library", RangeKind::StartEnd, 21, false, true),
            ("text push", "library", RangeKind::ImportedPushPop, 22, false, false),
            ("never closed", "<domain 9>", RangeKind::ImportedStartEnd, 26, true, false),
            // The id is looked up before the text is taken.
            ("step", "", RangeKind::StartEnd, 24, false, false),
            // Domains are numbered in each process on its own.
            ("elsewhere", "<domain 3>", RangeKind::PushPop, 26, false, false),
        ]
    );
    let ended_by = t.ranges.other_end_thread(1).unwrap();
    assert_eq!(t.threads[ended_by as usize].global_id, 167_772_171);
    assert_eq!((t.marks.time_ns[0], t.text(t.marks.name[0]), t.text(t.marks.domain[0])), (15, "mark", "library"));
    assert_eq!(t.marks.len(), 1);
}

#[test]
fn an_ordinal_means_what_the_process_means_by_it() {
    // Two processes see one GPU each and both call it 0; the tool numbers the GPUs 5 and 6.
    let import = Fixture::small(
        "CREATE TABLE TARGET_INFO_GPU (vmId INTEGER, id INTEGER, name TEXT, uuid TEXT, cuDevice INTEGER, smCount INTEGER, clockRate INTEGER,
           memoryBandwidth INTEGER, totalMemory INTEGER, l2CacheSize INTEGER, computeMajor INTEGER, computeMinor INTEGER, maxWarpsPerSm INTEGER);
         INSERT INTO TARGET_INFO_GPU VALUES (0, 5, 'first', 'uuid-5', 0, 132, 1980000000, 3352000000000, 85899345920, 52428800, 9, 0, 64),
           (0, 6, 'second', 'uuid-6', 1, 0, 0, 0, 0, 0, 0, 0, 0);
         CREATE TABLE TARGET_INFO_CUDA_DEVICE (gpuId INTEGER, cudaId INTEGER, pid INTEGER);
         INSERT INTO TARGET_INFO_CUDA_DEVICE VALUES (5, 0, 10), (6, 0, 20);
         INSERT INTO CUPTI_ACTIVITY_KIND_KERNEL VALUES (500, 600, 0, 1, 7, 1, 335544320, 1, 2, 8, 1, 1, 128, 1, 1, NULL)",
    )
    .import();
    let t = &import.timeline;
    let of = |kernel: usize| &t.devices[t.streams[t.kernels.stream[kernel] as usize].device as usize];
    assert_eq!((of(0).identity.as_deref(), of(3).identity.as_deref()), (Some("uuid-5"), Some("uuid-6")));
    let first = of(0);
    assert_eq!((first.name.as_deref(), first.sm_count, first.clock_hz), (Some("first"), Some(132), Some(1.98e9)));
    assert_eq!((first.bandwidth_bytes_per_s, first.memory_bytes), (Some(3.352e12), Some(85_899_345_920)));
    assert_eq!((first.l2_bytes, first.compute_capability), (Some(52_428_800), Some((9, 0))));
    assert_eq!(first.max_warps_per_sm, Some(64));
    // Zeros are "not known".
    let second = of(3);
    assert_eq!((second.sm_count, second.clock_hz, second.bandwidth_bytes_per_s), (None, None, None));
    assert_eq!((second.memory_bytes, second.compute_capability, second.max_warps_per_sm), (None, None, None));
    // The other process made no call, so its kernel stays without one.
    assert_eq!(t.kernels.call[3], NO_ROW);
    assert_eq!(t.devices.len(), 2);
}

#[test]
fn settings_that_matter_are_read_and_nothing_private_is() {
    let secret = "sk-live-0123456789abcdef";
    let import = Fixture::small(&format!(
        "CREATE TABLE META_DATA_EXPORT (name TEXT, value TEXT);
         INSERT INTO META_DATA_EXPORT VALUES ('EXPORT_PRODUCT_VERSION', '2027.1.1.1'), ('EXPORT_SCHEMA_VERSION', '4.1.0'), ('EXPORT_HOST', '{secret}');
         CREATE TABLE META_DATA_CAPTURE (name TEXT, value TEXT);
         INSERT INTO META_DATA_CAPTURE VALUES ('PROCESS_0:CUDA_GRAPH_TRACE_OPTIONS:MODE', 'Graph'), ('CUDA_SKIP_SOME_API_CALLS', 'true'),
           ('PROCESS_0:CUDA_SKIP_SOME_API_CALLS', 'false'), ('PROCESS_0:ENVIRONMENT_VARIABLE', 'KEY={secret}'), ('PROCESS_0:COMMAND', '{secret}');
         CREATE TABLE TARGET_INFO_SYSTEM_ENV (globalVid INTEGER, devStateName TEXT, name TEXT, nameEnum INTEGER, value TEXT);
         INSERT INTO TARGET_INFO_SYSTEM_ENV VALUES (0, 'x', 'env', 1, '{secret}');
         CREATE TABLE TARGET_INFO_SESSION_START_TIME (utcEpochNs INTEGER, utcTime TEXT, localTime TEXT);
         INSERT INTO TARGET_INFO_SESSION_START_TIME VALUES (1785620044423518993, '', '');
         CREATE TABLE PROCESSES (globalPid INTEGER, pid INTEGER, name TEXT);
         INSERT INTO PROCESSES VALUES (167772160, 10, 'serve'), (335544320, 20, '{secret}');
         CREATE TABLE ThreadNames (nameId INTEGER, priority INTEGER, globalTid INTEGER);
         INSERT INTO StringIds VALUES (50, 'worker'), (51, '{secret}'), (52, 'unused {secret}');
         INSERT INTO ThreadNames VALUES (50, 0, 167772170), (51, 0, 335544330);
         CREATE TABLE ENUM_CUDA_MEMCPY_OPER (id INTEGER, name TEXT, label TEXT);
         INSERT INTO ENUM_CUDA_MEMCPY_OPER VALUES (2, 'DTOH', 'DtoH'), (1, 'HTOD', 'HtoD');
         CREATE TABLE DIAGNOSTIC_EVENT (timestamp INTEGER, timestampType INTEGER, source INTEGER, severity INTEGER, text TEXT, globalPid INTEGER);
         INSERT INTO DIAGNOSTIC_EVENT VALUES (7, 1, 1, 1, 'fine', 167772160), (8, 2, 1, 2, 'not all events', 1), (9, 1, 1, 3, 'lost', NULL), (9, 1, 1, 2, 'x', NULL)"
    ))
    .import();
    let t = &import.timeline;
    let source = &t.sources[0];
    assert_eq!((source.version.as_deref(), source.schema.as_deref()), (Some("2027.1.1.1"), Some("4.1.0")));
    assert_eq!((source.graph_mode, source.skipped_api_calls), (GraphMode::Graph, Some(true)));
    assert_eq!(source.epoch_ns, Some(1_785_620_044_423_518_993));
    assert_eq!(source.tables, ["runtime", "kernel", "nvtx", "memcpy", "diagnostic"]);
    assert_eq!(t.copy_labels, [(1, "HtoD".to_owned()), (2, "DtoH".to_owned())]);
    assert_eq!(t.processes.len(), 1);
    assert_eq!(t.processes[0].name.map(|name| t.text(name)), Some("serve"));
    assert_eq!(t.threads[0].name.map(|name| t.text(name)), Some("worker"));
    let messages: Vec<(Option<i64>, u8, u32)> =
        t.messages.iter().map(|message| (message.time_ns, message.severity, message.process)).collect();
    assert_eq!(messages, [(Some(7), 1, 0), (None, 2, NO_ROW), (Some(9), 3, NO_ROW), (Some(9), 2, NO_ROW)]);
    assert_eq!((counted(&import, "tool_warning"), counted(&import, "tool_error")), (2, 1));
    assert_eq!(counted(&import, "schema_newer"), 1);
    assert!(!format!("{import:?}").contains("sk-live"), "a private text was read");
}

#[test]
fn backtrace_records_and_calls_without_thread_are_kept_apart() {
    let import = Fixture::small(
        "INSERT INTO CUPTI_ACTIVITY_KIND_RUNTIME VALUES (99, 111, 67, 167772170, 1, 3, 0), (300, 310, 1, NULL, 50, 3, 2)",
    )
    .import();
    let t = &import.timeline;
    assert_eq!(t.api.class.iter().filter(|class| **class == ApiClass::BACKTRACE).count(), 1);
    assert_eq!(t.api.start_ns[t.kernels.call[0] as usize], 100);
    let last = t.api.start_ns.iter().position(|start| *start == 300).unwrap();
    assert_eq!((t.api.class[last], t.api.result[last]), (ApiClass::DRIVER, 2));
    let thread = &t.threads[t.api.thread[last] as usize];
    assert_eq!((thread.tid, thread.global_id, t.processes[thread.process as usize].pid), (0, 0, 10));
}

#[test]
fn graphs_allocations_and_metrics_are_read_where_a_file_has_them() {
    let import = Fixture::small(
        "CREATE TABLE CUPTI_ACTIVITY_KIND_GRAPH_TRACE (start INTEGER, end INTEGER, deviceId INTEGER, contextId INTEGER, streamId INTEGER,
           correlationId INTEGER, globalPid INTEGER, graphId INTEGER, graphExecId INTEGER);
         INSERT INTO CUPTI_ACTIVITY_KIND_GRAPH_TRACE VALUES (400, 500, 0, 1, 7, 3, 167772160, 2, 4);
         CREATE TABLE CUDA_GRAPH_NODE_EVENTS (start INTEGER, end INTEGER, eventClass INTEGER, globalTid INTEGER, nameId INTEGER,
           graphNodeId INTEGER, originalGraphNodeId INTEGER);
         INSERT INTO CUDA_GRAPH_NODE_EVENTS VALUES (1, 2, 0, 167772170, 3, 8589934601, 4294967305);
         CREATE TABLE CUDA_GRAPH_EVENTS (start INTEGER, end INTEGER, eventClass INTEGER, globalTid INTEGER, nameId INTEGER,
           graphId INTEGER, originalGraphId INTEGER, graphExecId INTEGER);
         INSERT INTO CUDA_GRAPH_EVENTS VALUES (3, 4, 0, NULL, 3, 2, NULL, 4);
         CREATE TABLE CUDA_GPU_MEMORY_USAGE_EVENTS (start INTEGER, globalPid INTEGER, deviceId INTEGER, bytes INTEGER, memoryOperationType INTEGER);
         INSERT INTO CUDA_GPU_MEMORY_USAGE_EVENTS VALUES (5, 167772160, 0, 4096, 0), (6, 167772160, 0, 4096, 1);
         CREATE TABLE GPU_METRICS (timestamp INTEGER, typeId INTEGER, metricId INTEGER, value INTEGER);
         CREATE TABLE TARGET_INFO_GPU_METRICS (typeId INTEGER, sourceId INTEGER, typeName TEXT, metricId INTEGER, metricName TEXT);
         INSERT INTO TARGET_INFO_GPU_METRICS VALUES (513, 1, 'GPU Metrics', 4, 'SMs Active [Throughput %]');
         INSERT INTO GPU_METRICS VALUES (-3, 513, 4, 71), (8, 513, 5, 2);
         CREATE TABLE CUPTI_ACTIVITY_KIND_CUDA_EVENT (deviceId INTEGER, contextId INTEGER, streamId INTEGER, correlationId INTEGER,
           globalPid INTEGER, eventId INTEGER, timestamp INTEGER);
         INSERT INTO CUPTI_ACTIVITY_KIND_CUDA_EVENT VALUES (0, 1, 7, 3, 167772160, 11, 0), (0, 1, 7, 3, 167772160, 12, 77);
         CREATE TABLE CUPTI_ACTIVITY_KIND_SYNCHRONIZATION (start INTEGER, end INTEGER, deviceId INTEGER, contextId INTEGER, streamId INTEGER,
           correlationId INTEGER, globalPid INTEGER, syncType INTEGER, eventId INTEGER);
         INSERT INTO CUPTI_ACTIVITY_KIND_SYNCHRONIZATION VALUES (1, 9, 0, 1, 4294967295, 4, 167772160, 4, 0)",
    )
    .import();
    let t = &import.timeline;
    assert_eq!((t.graphs.graph[0], t.graphs.executable[0], t.graphs.call[0] != NO_ROW), (2, 4, true));
    assert_eq!((t.graph_nodes.node[0], t.graph_nodes.original[0]), (0x2_0000_0009, 0x1_0000_0009));
    let events = &t.graph_events;
    assert_eq!((events.thread[0], events.graph[0], events.original[0], events.executable[0]), (NO_ROW, 2, 0, 4));
    assert_eq!((&t.allocations.bytes[..], &t.allocations.total_bytes[..]), (&[4096, -4096][..], &[-1, -1][..]));
    assert_eq!(t.allocations.device, [0, 0]);
    let metric = |row: usize| t.text(t.metric_samples.metric[row]);
    assert_eq!((metric(0), metric(1)), ("SMs Active [Throughput %]", "<metric 5>"));
    assert_eq!((t.metric_samples.gpu[0], t.metric_samples.value[0], t.metric_samples.time_ns[0]), (1, 71.0, -3));
    assert_eq!(t.events.time_ns, [i64::MIN, 77]);
    assert_eq!(t.streams[t.syncs.stream[0] as usize].stream, u64::MAX);
}

#[test]
fn ranges_on_another_clock_are_said() {
    let far =
        Fixture::small("UPDATE NVTX_EVENTS SET start = start + 161862288879216, end = end + 161862288879216").import();
    assert_eq!((counted(&far, "clocks_apart"), far.timeline.ranges.len()), (1, 1));
    assert_eq!(counted(&Fixture::small("").import(), "clocks_apart"), 0);
}

#[test]
fn other_encodings_and_keys_are_read_as_well() {
    let plain = Fixture::small("").import().timeline;
    for sql in [
        format!("PRAGMA encoding = 'UTF-16be'; {}", super::fixture::SMALL),
        super::fixture::SMALL.replace("KERNEL (start INTEGER NOT NULL", "KERNEL (start INTEGER PRIMARY KEY"),
        super::fixture::SMALL.replace("StringIds (id INTEGER NOT NULL PRIMARY KEY", "StringIds (id INTEGER"),
        super::fixture::SMALL
            .replace("copyKind INTEGER NOT NULL)", "copyKind INTEGER NOT NULL, PRIMARY KEY (start)) WITHOUT ROWID"),
        super::fixture::SMALL.replace("returnValue INTEGER NOT NULL", "returnValue INTEGER DEFAULT 0"),
        format!("{}; CREATE INDEX i ON CUPTI_ACTIVITY_KIND_KERNEL (start DESC)", super::fixture::SMALL),
    ] {
        assert_ne!(sql, super::fixture::SMALL);
        let t = Fixture::of(&sql).import().timeline;
        assert_eq!((&t.kernels.start_ns, &t.kernels.call), (&plain.kernels.start_ns, &plain.kernels.call));
        assert_eq!((&t.copies.start_ns, &t.copies.bytes), (&plain.copies.start_ns, &plain.copies.bytes));
        assert_eq!(t.text(t.ranges.name[0]), "step");
        assert_eq!(t.text(t.kernel_names[0].demangled), "void gemm<float>(float*)");
    }
}
