//! What a trace says of itself outside `traceEvents`.

use serde_json::Value as Json;

use crate::trace::places::Device;

/// The top-level keys that are read.
#[derive(Debug, Clone, Default)]
pub(super) struct Properties {
    /// `traceEvents` or a bare array was there.
    pub(super) has_events: bool,
    /// A key that only Kineto writes was there.
    pub(super) is_kineto: bool,
    pub(super) schema: Option<String>,
    /// Nanoseconds since the Unix epoch that times count from.
    pub(super) base_ns: Option<i64>,
    pub(super) rank: Option<u32>,
    /// By `id`; names of the product only where the file has one.
    pub(super) devices: Vec<Device>,
    /// The bare array was not closed.
    pub(super) unclosed: bool,
    /// Properties that could not be made sense of.
    pub(super) unreadable: Vec<String>,
}

/// Keys whose value is read; all others are stepped over.
pub(super) fn is_read(key: &str) -> bool {
    matches!(key, "schemaVersion" | "deviceProperties" | "distributedInfo" | "baseTimeNanoseconds")
}

impl Properties {
    /// Takes the value of a key for which [`is_read`] is true.
    pub(super) fn set(&mut self, key: &str, text: &[u8]) {
        let Ok(value) = serde_json::from_slice::<Json>(text) else {
            self.unreadable.push(key.to_owned());
            return;
        };
        self.is_kineto = true;
        match key {
            "schemaVersion" => self.schema = Some(value.as_str().map_or_else(|| value.to_string(), str::to_owned)),
            "baseTimeNanoseconds" => {
                self.base_ns = integer(&value);
                if self.base_ns.is_none() {
                    self.unreadable.push(key.to_owned());
                }
            }
            "distributedInfo" => self.rank = value.get("rank").and_then(integer).and_then(|rank| rank.try_into().ok()),
            _ => {
                self.devices = value.as_array().map_or(&[][..], Vec::as_slice).iter().filter_map(device).collect();
            }
        }
    }
}

fn integer(value: &Json) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.trim().parse().ok())
}

fn device(value: &Json) -> Option<Device> {
    let whole = |key: &str| value.get(key).and_then(integer);
    let small = |key: &str| whole(key).and_then(|number| u32::try_from(number).ok());
    let warp = small("warpSize");
    // 64 lanes are a wavefront of AMD, whose numbers are no compute capability.
    let is_cuda = warp != Some(64);
    let threads = small("maxThreadsPerMultiprocessor");
    Some(Device {
        ordinal: small("id")?,
        name: value
            .get("name")
            .and_then(Json::as_str)
            .map(str::trim)
            .filter(|name| !name.is_empty())
            .map(str::to_owned),
        sm_count: small("numSms").filter(|count| *count > 0),
        memory_bytes: whole("totalGlobalMem").and_then(|bytes| u64::try_from(bytes).ok()).filter(|bytes| *bytes > 0),
        compute_capability: small("computeMajor").zip(small("computeMinor")).filter(|_| is_cuda),
        max_warps_per_sm: threads.zip(warp).and_then(|(threads, warp)| threads.checked_div(warp)),
        ..Device::default()
    })
}
