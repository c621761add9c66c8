//! Tables of the export schema 3.24 as far as a timeline has something for them, and the enumerations that NVIDIA's report scripts join on.
//!
//! Column names and types are those of the format. Where the format asks for a value that a timeline may not know (registers of a
//! kernel, priority of a stream), the column may be null here: a zero would be read as a measurement.

/// A table to create and fill.
pub(super) struct Table {
    pub(super) name: &'static str,
    /// Column definitions.
    pub(super) columns: &'static str,
    /// Columns that rows are inserted into.
    pub(super) filled: &'static str,
}

impl Table {
    pub(super) fn create_sql(&self) -> String {
        format!("CREATE TABLE {} ({})", self.name, self.columns)
    }
    pub(super) fn insert_sql(&self) -> String {
        let places = vec!["?"; self.filled.split(',').count()].join(",");
        format!("INSERT INTO {} ({}) VALUES ({places})", self.name, self.filled)
    }
}

pub(super) const STRING_IDS: Table =
    Table { name: "StringIds", columns: "id INTEGER NOT NULL PRIMARY KEY, value TEXT NOT NULL", filled: "id, value" };

pub(super) const KERNEL: Table = Table {
    name: "CUPTI_ACTIVITY_KIND_KERNEL",
    columns: "start INTEGER NOT NULL, end INTEGER NOT NULL, deviceId INTEGER NOT NULL, contextId INTEGER NOT NULL, \
        greenContextId INTEGER, streamId INTEGER NOT NULL, correlationId INTEGER, globalPid INTEGER, \
        demangledName INTEGER NOT NULL, shortName INTEGER NOT NULL, mangledName INTEGER, launchType INTEGER, cacheConfig INTEGER, \
        registersPerThread INTEGER, gridX INTEGER NOT NULL, gridY INTEGER NOT NULL, gridZ INTEGER NOT NULL, \
        blockX INTEGER NOT NULL, blockY INTEGER NOT NULL, blockZ INTEGER NOT NULL, staticSharedMemory INTEGER, \
        dynamicSharedMemory INTEGER, localMemoryPerThread INTEGER, localMemoryTotal INTEGER, gridId INTEGER, \
        sharedMemoryExecuted INTEGER, graphNodeId INTEGER, sharedMemoryLimitConfig INTEGER, qmdBulkReleaseDone INTEGER, \
        qmdPreexitDone INTEGER, qmdLastCtaDone INTEGER, graphId INTEGER, clusterX INTEGER, clusterY INTEGER, clusterZ INTEGER, \
        clusterSchedulingPolicy INTEGER, maxPotentialClusterSize INTEGER, maxActiveClusters INTEGER, \
        sharedMemoryRequestedPercentage INTEGER",
    filled: "start, end, deviceId, contextId, streamId, correlationId, globalPid, demangledName, shortName, mangledName, \
        registersPerThread, gridX, gridY, gridZ, blockX, blockY, blockZ, staticSharedMemory, dynamicSharedMemory, \
        localMemoryPerThread, graphNodeId, clusterX, clusterY, clusterZ",
};

pub(super) const RUNTIME: Table = Table {
    name: "CUPTI_ACTIVITY_KIND_RUNTIME",
    columns: "start INTEGER NOT NULL, end INTEGER NOT NULL, eventClass INTEGER NOT NULL, globalTid INTEGER, correlationId INTEGER, \
        nameId INTEGER NOT NULL, returnValue INTEGER NOT NULL, callchainId INTEGER",
    filled: "start, end, eventClass, globalTid, correlationId, nameId, returnValue",
};

pub(super) const MEMCPY: Table = Table {
    name: "CUPTI_ACTIVITY_KIND_MEMCPY",
    columns: "start INTEGER NOT NULL, end INTEGER NOT NULL, deviceId INTEGER NOT NULL, contextId INTEGER NOT NULL, \
        greenContextId INTEGER, streamId INTEGER NOT NULL, correlationId INTEGER, globalPid INTEGER, bytes INTEGER NOT NULL, \
        copyKind INTEGER NOT NULL, deprecatedSrcId INTEGER, srcKind INTEGER, dstKind INTEGER, srcDeviceId INTEGER, \
        srcContextId INTEGER, dstDeviceId INTEGER, dstContextId INTEGER, migrationCause INTEGER, graphNodeId INTEGER, \
        virtualAddress INTEGER, copyCount INTEGER",
    filled: "start, end, deviceId, contextId, streamId, correlationId, globalPid, bytes, copyKind, srcKind, dstKind, graphNodeId",
};

pub(super) const MEMSET: Table = Table {
    name: "CUPTI_ACTIVITY_KIND_MEMSET",
    columns: "start INTEGER NOT NULL, end INTEGER NOT NULL, deviceId INTEGER NOT NULL, contextId INTEGER NOT NULL, \
        greenContextId INTEGER, streamId INTEGER NOT NULL, correlationId INTEGER, globalPid INTEGER, value INTEGER NOT NULL, \
        bytes INTEGER NOT NULL, graphNodeId INTEGER, memKind INTEGER",
    filled: "start, end, deviceId, contextId, streamId, correlationId, globalPid, value, bytes, graphNodeId, memKind",
};

pub(super) const SYNCHRONIZATION: Table = Table {
    name: "CUPTI_ACTIVITY_KIND_SYNCHRONIZATION",
    columns: "start INTEGER NOT NULL, end INTEGER NOT NULL, deviceId INTEGER NOT NULL, contextId INTEGER NOT NULL, \
        greenContextId INTEGER, streamId INTEGER NOT NULL, correlationId INTEGER, globalPid INTEGER, deprecatedSyncType INTEGER, \
        syncType INTEGER NOT NULL, eventId INTEGER NOT NULL, eventSyncId INTEGER",
    filled: "start, end, deviceId, contextId, streamId, correlationId, globalPid, syncType, eventId",
};

pub(super) const CUDA_EVENT: Table = Table {
    name: "CUPTI_ACTIVITY_KIND_CUDA_EVENT",
    columns: "deviceId INTEGER NOT NULL, contextId INTEGER NOT NULL, greenContextId INTEGER, streamId INTEGER NOT NULL, \
        correlationId INTEGER, globalPid INTEGER, eventId INTEGER NOT NULL, timestamp INTEGER, eventSyncId INTEGER",
    filled: "deviceId, contextId, streamId, correlationId, globalPid, eventId, timestamp",
};

pub(super) const GRAPH_TRACE: Table = Table {
    name: "CUPTI_ACTIVITY_KIND_GRAPH_TRACE",
    columns: "start INTEGER NOT NULL, end INTEGER NOT NULL, deviceId INTEGER NOT NULL, contextId INTEGER NOT NULL, \
        greenContextId INTEGER, streamId INTEGER NOT NULL, correlationId INTEGER, globalPid INTEGER, graphId INTEGER NOT NULL, \
        graphExecId INTEGER NOT NULL",
    filled: "start, end, deviceId, contextId, streamId, correlationId, globalPid, graphId, graphExecId",
};

pub(super) const OVERHEAD: Table = Table {
    name: "CUPTI_ACTIVITY_KIND_OVERHEAD",
    columns: "start INTEGER NOT NULL, end INTEGER NOT NULL, eventClass INTEGER NOT NULL, globalTid INTEGER, correlationId INTEGER, \
        nameId INTEGER, overheadType INTEGER NOT NULL",
    filled: "start, end, eventClass, globalTid, nameId, overheadType",
};

pub(super) const PROFILER_OVERHEAD: Table = Table {
    name: "PROFILER_OVERHEAD",
    columns: "start INTEGER NOT NULL, end INTEGER NOT NULL, globalTid INTEGER, nameId INTEGER NOT NULL, \
        overheadType INTEGER NOT NULL",
    filled: "start, end, globalTid, nameId, overheadType",
};

pub(super) const NVTX_EVENTS: Table = Table {
    name: "NVTX_EVENTS",
    columns: "start INTEGER NOT NULL, end INTEGER, eventType INTEGER NOT NULL, rangeId INTEGER, category INTEGER, color INTEGER, \
        text TEXT, globalTid INTEGER, endGlobalTid INTEGER, textId INTEGER, domainId INTEGER, uint64Value INTEGER, \
        int64Value INTEGER, doubleValue REAL, uint32Value INTEGER, int32Value INTEGER, floatValue REAL, jsonTextId INTEGER, \
        jsonText TEXT, binaryData TEXT",
    filled: "start, end, eventType, rangeId, text, globalTid, endGlobalTid, textId, domainId",
};

pub(super) const OSRT_API: Table = Table {
    name: "OSRT_API",
    columns: "start INTEGER NOT NULL, end INTEGER NOT NULL, eventClass INTEGER NOT NULL, globalTid INTEGER, \
        nameId INTEGER NOT NULL, returnValue INTEGER, nestingLevel INTEGER, callchainId INTEGER, argumentsId INTEGER",
    filled: "start, end, eventClass, globalTid, nameId",
};

pub(super) const GRAPH_NODE_EVENTS: Table = Table {
    name: "CUDA_GRAPH_NODE_EVENTS",
    columns: "start INTEGER NOT NULL, end INTEGER NOT NULL, eventClass INTEGER NOT NULL, globalTid INTEGER, \
        nameId INTEGER NOT NULL, graphNodeId INTEGER NOT NULL, originalGraphNodeId INTEGER",
    filled: "start, end, eventClass, globalTid, nameId, graphNodeId, originalGraphNodeId",
};

pub(super) const GRAPH_EVENTS: Table = Table {
    name: "CUDA_GRAPH_EVENTS",
    columns: "start INTEGER NOT NULL, end INTEGER NOT NULL, eventClass INTEGER NOT NULL, globalTid INTEGER, \
        nameId INTEGER NOT NULL, graphId INTEGER, originalGraphId INTEGER, graphExecId INTEGER",
    filled: "start, end, eventClass, globalTid, nameId, graphId, originalGraphId, graphExecId",
};

pub(super) const MEMORY_USAGE: Table = Table {
    name: "CUDA_GPU_MEMORY_USAGE_EVENTS",
    columns: "start INTEGER NOT NULL, globalPid INTEGER, deviceId INTEGER, contextId INTEGER, address INTEGER, pc INTEGER, \
        bytes INTEGER NOT NULL, memKind INTEGER, memoryOperationType INTEGER NOT NULL, name TEXT, correlationId INTEGER",
    filled: "start, globalPid, deviceId, bytes, memKind, memoryOperationType",
};

pub(super) const GPU_METRICS: Table = Table {
    name: "GPU_METRICS",
    columns: "timestamp INTEGER, typeId INTEGER NOT NULL, metricId INTEGER NOT NULL, value INTEGER NOT NULL",
    filled: "timestamp, typeId, metricId, value",
};

pub(super) const GPU_METRIC_NAMES: Table = Table {
    name: "TARGET_INFO_GPU_METRICS",
    columns: "typeId INTEGER NOT NULL, sourceId INTEGER, typeName TEXT, metricId INTEGER NOT NULL, metricName TEXT NOT NULL",
    filled: "typeId, metricId, metricName",
};

pub(super) const GPU: Table = Table {
    name: "TARGET_INFO_GPU",
    columns: "vmId INTEGER NOT NULL, id INTEGER NOT NULL, name TEXT, busLocation TEXT, isDiscrete INTEGER, l2CacheSize INTEGER, \
        totalMemory INTEGER, memoryBandwidth INTEGER, clockRate INTEGER, smCount INTEGER, pwGpuId INTEGER, uuid TEXT, luid INTEGER, \
        chipName TEXT, cuDevice INTEGER, ctxswDevPath TEXT, ctrlDevPath TEXT, revision INTEGER, nodeMask INTEGER, \
        constantMemory INTEGER, maxIPC INTEGER, maxRegistersPerBlock INTEGER, maxShmemPerBlock INTEGER, \
        maxShmemPerBlockOptin INTEGER, maxShmemPerSm INTEGER, maxRegistersPerSm INTEGER, threadsPerWarp INTEGER, \
        asyncEngines INTEGER, maxWarpsPerSm INTEGER, maxBlocksPerSm INTEGER, maxThreadsPerBlock INTEGER, maxBlockDimX INTEGER, \
        maxBlockDimY INTEGER, maxBlockDimZ INTEGER, maxGridDimX INTEGER, maxGridDimY INTEGER, maxGridDimZ INTEGER, \
        computeMajor INTEGER, computeMinor INTEGER, smMajor INTEGER, smMinor INTEGER",
    filled: "vmId, id, name, busLocation, l2CacheSize, totalMemory, memoryBandwidth, clockRate, smCount, uuid, cuDevice, \
        maxWarpsPerSm, computeMajor, computeMinor",
};

pub(super) const CUDA_DEVICE: Table = Table {
    name: "TARGET_INFO_CUDA_DEVICE",
    columns: "gpuId INTEGER, cudaId INTEGER NOT NULL, pid INTEGER NOT NULL, uuid TEXT, numMultiprocessors INTEGER",
    filled: "gpuId, cudaId, pid, uuid, numMultiprocessors",
};

pub(super) const CONTEXT_INFO: Table = Table {
    name: "TARGET_INFO_CUDA_CONTEXT_INFO",
    columns: "nullStreamId INTEGER, hwId INTEGER NOT NULL, vmId INTEGER NOT NULL, processId INTEGER NOT NULL, \
        deviceId INTEGER NOT NULL, contextId INTEGER NOT NULL, parentContextId INTEGER, isGreenContext INTEGER, \
        numMultiprocessors INTEGER",
    filled: "hwId, vmId, processId, deviceId, contextId",
};

pub(super) const CUDA_STREAM: Table = Table {
    name: "TARGET_INFO_CUDA_STREAM",
    columns: "streamId INTEGER NOT NULL, hwId INTEGER NOT NULL, vmId INTEGER NOT NULL, processId INTEGER NOT NULL, \
        contextId INTEGER NOT NULL, priority INTEGER, flag INTEGER NOT NULL",
    filled: "streamId, hwId, vmId, processId, contextId, flag",
};

pub(super) const SESSION_START: Table = Table {
    name: "TARGET_INFO_SESSION_START_TIME",
    columns: "utcEpochNs INTEGER, utcTime TEXT, localTime TEXT, systemClockNs INTEGER",
    filled: "utcEpochNs, utcTime",
};

pub(super) const ANALYSIS_DETAILS: Table = Table {
    name: "ANALYSIS_DETAILS",
    columns: "globalVid INTEGER NOT NULL, duration INTEGER NOT NULL, startTime INTEGER NOT NULL, stopTime INTEGER NOT NULL",
    filled: "globalVid, duration, startTime, stopTime",
};

pub(super) const PROCESSES: Table =
    Table { name: "PROCESSES", columns: "globalPid INTEGER, pid INTEGER, name TEXT", filled: "globalPid, pid, name" };

pub(super) const THREAD_NAMES: Table = Table {
    name: "ThreadNames",
    columns: "nameId INTEGER NOT NULL, priority INTEGER, globalTid INTEGER",
    filled: "nameId, globalTid",
};

pub(super) const DIAGNOSTIC_EVENT: Table = Table {
    name: "DIAGNOSTIC_EVENT",
    columns: "timestamp INTEGER NOT NULL, timestampType INTEGER NOT NULL, source INTEGER NOT NULL, severity INTEGER NOT NULL, \
        text TEXT NOT NULL, globalPid INTEGER",
    filled: "timestamp, timestampType, source, severity, text, globalPid",
};

pub(super) const META_DATA_EXPORT: Table =
    Table { name: "META_DATA_EXPORT", columns: "name TEXT NOT NULL, value TEXT", filled: "name, value" };

pub(super) const META_DATA_CAPTURE: Table =
    Table { name: "META_DATA_CAPTURE", columns: "name TEXT NOT NULL, value TEXT", filled: "name, value" };

/// Number, symbol, label.
pub(super) type Entry = (i64, &'static str, &'static str);

/// Columns of every enumeration.
pub(super) const ENUM_COLUMNS: &str = "id INTEGER NOT NULL PRIMARY KEY, name TEXT, label TEXT";

/// The enumeration whose labels a file may bring itself.
pub(super) const MEMCPY_OPER: &str = "ENUM_CUDA_MEMCPY_OPER";

/// Enumerations that columns written here refer to.
pub(super) const ENUMS: &[(&str, &[Entry])] = &[
    (
        "ENUM_NSYS_EVENT_TYPE",
        &[
            (0, "Unknown", "Unknown"),
            (33, "NvtxCategory", "NvtxCategory"),
            (34, "NvtxMark", "NvtxMark"),
            (39, "NvtxThread", "NvtxThread"),
            (59, "NvtxPushPopRange", "NvtxPushPopRange"),
            (60, "NvtxStartEndRange", "NvtxStartEndRange"),
            (70, "NvtxtPushPopRange", "NvtxtPushPopRange"),
            (71, "NvtxtStartEndRange", "NvtxtStartEndRange"),
            (75, "NvtxDomainCreate", "NvtxDomainCreate"),
            (76, "NvtxDomainDestroy", "NvtxDomainDestroy"),
        ],
    ),
    (
        "ENUM_NSYS_EVENT_CLASS",
        &[
            (0, "TRACE_PROCESS_EVENT_CUDA_RUNTIME", "CUDA runtime"),
            (1, "TRACE_PROCESS_EVENT_CUDA_DRIVER", "CUDA driver"),
            (27, "TRACE_PROCESS_EVENT_OS_RUNTIME", "OSRT runtime"),
            (67, "TRACE_PROCESS_EVENT_CUDABACKTRACE", "CUDA backtrace"),
            (77, "TRACE_PROCESS_EVENT_CUDA_GRAPH_NODE_CREATION", "CUDA graph node creation"),
            (103, "TRACE_PROCESS_EVENT_CUDA_OVERHEAD", "CUDA overhead"),
        ],
    ),
    (
        MEMCPY_OPER,
        &[
            (0, "CUDA_MEMCPY_KIND_UNKNOWN", "Unknown"),
            (1, "CUDA_MEMCPY_KIND_HTOD", "Host-to-Device"),
            (2, "CUDA_MEMCPY_KIND_DTOH", "Device-to-Host"),
            (3, "CUDA_MEMCPY_KIND_HTOA", "Host-to-Array"),
            (4, "CUDA_MEMCPY_KIND_ATOH", "Array-to-Host"),
            (5, "CUDA_MEMCPY_KIND_ATOA", "Array-to-Array"),
            (6, "CUDA_MEMCPY_KIND_ATOD", "Array-to-Device"),
            (7, "CUDA_MEMCPY_KIND_DTOA", "Device-to-Array"),
            (8, "CUDA_MEMCPY_KIND_DTOD", "Device-to-Device"),
            (9, "CUDA_MEMCPY_KIND_HTOH", "Host-to-Host"),
            (10, "CUDA_MEMCPY_KIND_PTOP", "Peer-to-Peer"),
            (11, "CUDA_MEMCPY_KIND_UVM_HTOD", "Unified Host-to-Device"),
            (12, "CUDA_MEMCPY_KIND_UVM_DTOH", "Unified Device-to-Host"),
            (13, "CUDA_MEMCPY_KIND_UVM_DTOD", "Unified Device-to-Device"),
        ],
    ),
    (
        "ENUM_CUDA_MEM_KIND",
        &[
            (0, "CUDA_MEMOPR_MEMORY_KIND_PAGEABLE", "Pageable"),
            (1, "CUDA_MEMOPR_MEMORY_KIND_PINNED", "Pinned"),
            (2, "CUDA_MEMOPR_MEMORY_KIND_DEVICE", "Device"),
            (3, "CUDA_MEMOPR_MEMORY_KIND_ARRAY", "Array"),
            (4, "CUDA_MEMOPR_MEMORY_KIND_MANAGED", "Managed"),
            (5, "CUDA_MEMOPR_MEMORY_KIND_DEVICE_STATIC", "Device Static"),
            (6, "CUDA_MEMOPR_MEMORY_KIND_MANAGED_STATIC", "Managed Static"),
            (7, "CUDA_MEMOPR_MEMORY_KIND_UNKNOWN", "Unknown"),
        ],
    ),
    (
        "ENUM_CUDA_DEV_MEM_EVENT_OPER",
        &[
            (0, "CUDA_DEV_MEM_EVENT_OPR_ALLOCATION", "Allocation"),
            (1, "CUDA_DEV_MEM_EVENT_OPR_DEALLOCATION", "Deallocation"),
        ],
    ),
    (
        "ENUM_CUDA_KERNEL_LAUNCH_TYPE",
        &[
            (0, "CUDA_KERNEL_LAUNCH_TYPE_UNKNOWN", "Unknown"),
            (1, "CUDA_KERNEL_LAUNCH_TYPE_REGULAR", "Regular"),
            (2, "CUDA_KERNEL_LAUNCH_TYPE_COOPERATIVE_SINGLE_DEVICE", "Coop Single Device"),
            (3, "CUDA_KERNEL_LAUNCH_TYPE_COOPERATIVE_MULTI_DEVICE", "Coop Multi Device"),
        ],
    ),
    (
        "ENUM_CUPTI_STREAM_TYPE",
        &[
            (0, "CUPTI_ACTIVITY_STREAM_CREATE_FLAG_UNKNOWN", "Unknown stream type"),
            (1, "CUPTI_ACTIVITY_STREAM_CREATE_FLAG_DEFAULT", "Default stream"),
            (2, "CUPTI_ACTIVITY_STREAM_CREATE_FLAG_NON_BLOCKING", "Non-blocking stream"),
            (3, "CUPTI_ACTIVITY_STREAM_CREATE_FLAG_NULL", "Null stream"),
        ],
    ),
    (
        "ENUM_CUPTI_SYNC_TYPE",
        &[
            (0, "CUPTI_ACTIVITY_SYNCHRONIZATION_TYPE_UNKNOWN", "Unknown"),
            (1, "CUPTI_ACTIVITY_SYNCHRONIZATION_TYPE_EVENT_SYNCHRONIZE", "Event sync"),
            (2, "CUPTI_ACTIVITY_SYNCHRONIZATION_TYPE_STREAM_WAIT_EVENT", "Stream wait sync"),
            (3, "CUPTI_ACTIVITY_SYNCHRONIZATION_TYPE_STREAM_SYNCHRONIZE", "Stream sync"),
            (4, "CUPTI_ACTIVITY_SYNCHRONIZATION_TYPE_CONTEXT_SYNCHRONIZE", "Context sync"),
        ],
    ),
    ("ENUM_CUPTI_OVERHEAD_TYPE", &[(0, "OVERHEAD_UNDEFINED", "Undefined"), (1, "OVERHEAD_UNKNOWN", "Unknown")]),
    (
        "ENUM_DIAGNOSTIC_SEVERITY_LEVEL",
        &[
            (0, "UnknownLevel", "Unknown"),
            (1, "Info", "Info"),
            (2, "Warning", "Warning"),
            (3, "Error", "Error"),
            (4, "Verbose", "Verbose"),
        ],
    ),
    (
        "ENUM_DIAGNOSTIC_SOURCE_TYPE",
        &[
            (0, "UnknownSource", "Unknown source"),
            (1, "Injection", "Injection"),
            (2, "Daemon", "Daemon"),
            (3, "Analysis", "Analysis"),
        ],
    ),
    (
        "ENUM_DIAGNOSTIC_TIMESTAMP_SOURCE",
        &[
            (0, "UnknownTimestamp", "Unknown timestamp"),
            (1, "TargetTimestamp", "Target timestamp"),
            (2, "HostTimestamp", "Host timestamp"),
        ],
    ),
];
