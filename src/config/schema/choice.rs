//! Settings that take one of a few words.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Where a model runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeviceChoice {
    /// The host processor.
    Cpu,
    /// The CUDA device with this index.
    Cuda(usize),
    /// The first CUDA device if the build and the machine have one, else the CPU.
    Auto,
}

impl FromStr for DeviceChoice {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || format!("`{text}` is not a device: expected `cpu`, `cuda`, `cuda:N` or `auto`");
        match text {
            "cpu" => Ok(Self::Cpu),
            "auto" => Ok(Self::Auto),
            "cuda" => Ok(Self::Cuda(0)),
            _ => {
                let index = text.strip_prefix("cuda:").ok_or_else(refuse)?;
                // `usize::from_str` takes a plus sign, which no CUDA tool does.
                if index.is_empty() || !index.bytes().all(|byte| byte.is_ascii_digit()) {
                    return Err(refuse());
                }
                index.parse().map(Self::Cuda).map_err(|_| refuse())
            }
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.pad("cpu"),
            Self::Auto => f.pad("auto"),
            Self::Cuda(index) => f.pad(&format!("cuda:{index}")),
        }
    }
}

impl Serialize for DeviceChoice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DeviceChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Which kind of weights a model comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelSource {
    /// By what is given: a path decides by its content, else the Hugging Face cache, else seeded weights of `architecture`.
    Auto,
    /// A directory with `config.json` and safetensors, or one safetensors file.
    Safetensors,
    /// A GGUF file.
    Gguf,
    /// Seeded random weights of `model.architecture`.
    Synthetic,
}

/// Which implementation of the operators runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OpsChoice {
    /// Plain operators, one by one.
    Reference,
    /// Fewer, larger operators over packed weights and 8-bit activations; on the CPU only.
    Fused,
}

/// A switch, written `on` or `off` (or `true` and `false`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Switch {
    /// Switched on.
    On,
    /// Switched off.
    Off,
}

impl Switch {
    /// True for [`Switch::On`].
    pub fn is_on(self) -> bool {
        self == Self::On
    }
}

impl<'de> Deserialize<'de> for Switch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SwitchVisitor;
        impl serde::de::Visitor<'_> for SwitchVisitor {
            type Value = Switch;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`on` or `off`")
            }
            fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Switch, E> {
                Ok(if value { Switch::On } else { Switch::Off })
            }
            fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Switch, E> {
                match value {
                    "on" => Ok(Switch::On),
                    "off" => Ok(Switch::Off),
                    other => Err(E::invalid_value(serde::de::Unexpected::Str(other), &self)),
                }
            }
        }
        deserializer.deserialize_any(SwitchVisitor)
    }
}

/// How time to first token and time per output token are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InferMode {
    /// From the time stamps of one generation.
    SinglePass,
    /// From two generations, of one token and of all: `TPOT = (full − first) / (n − 1)`.
    TwoPass,
}

/// How a run is traced beside its measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TraceMode {
    /// Nothing but what `torch_profiler.activities` asks for, which is operator spans unless it was changed.
    None,
    /// Operator spans, whatever `torch_profiler.activities` says.
    Spans,
    /// CUDA activity too, in repeats of its own, as a trace file.
    Cupti,
}

/// Which NVTX ranges are emitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NvtxChoice {
    /// None.
    Off,
    /// Repeats and phases.
    Phases,
    /// Layers, modules and operators too.
    All,
}

/// When the graphics processor is looked at during a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GpuTelemetryMode {
    /// Where the model runs on it.
    Auto,
    /// Always: beside a run on the CPU, the first device.
    On,
    /// Never.
    Off,
}

/// A side that gets operator spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activity {
    /// The host.
    Cpu,
    /// The CUDA device.
    Cuda,
}

/// When the ceilings of this machine are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MeasureCeilings {
    /// Where no peak is known.
    Auto,
    /// In every run.
    Always,
    /// Never: an unknown peak stays unknown.
    Never,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_and_printed_alike() {
        for (text, device) in [
            ("cpu", DeviceChoice::Cpu),
            ("auto", DeviceChoice::Auto),
            ("cuda:0", DeviceChoice::Cuda(0)),
            ("cuda:11", DeviceChoice::Cuda(11)),
        ] {
            assert_eq!(text.parse(), Ok(device));
            assert_eq!(device.to_string(), text);
        }
        assert_eq!("cuda".parse(), Ok(DeviceChoice::Cuda(0)));
        for wrong in ["", "CPU", "cuda:", "cuda:-1", "cuda:+1", "cuda:1x", "gpu", "cuda:99999999999999999999999"] {
            assert!(wrong.parse::<DeviceChoice>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_switch_is_a_word_or_a_boolean() {
        assert_eq!(serde_json::from_str::<Switch>("\"on\"").unwrap(), Switch::On);
        assert_eq!(serde_json::from_str::<Switch>("false").unwrap(), Switch::Off);
        assert!(serde_json::from_str::<Switch>("\"yes\"").is_err());
        assert!(serde_json::from_str::<Switch>("1").is_err());
    }
}
