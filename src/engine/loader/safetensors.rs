//! Parses the header of a safetensors file and checks it against the file's size.
//!
//! Layout (safetensors README, "Format"): eight bytes little-endian header length, a JSON object, then the data; offsets count from the end of
//! the header.

use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::estimate::format::Format;

/// Something wrong with a safetensors header, at a byte of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HeaderError {
    /// Bytes from the start of the file.
    pub(super) offset: u64,
    /// What is wrong there.
    pub(super) reason: String,
}

/// One tensor of the file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TensorInfo {
    /// The tensor's name.
    pub(super) name: String,
    /// The dtype, or its name in the file where it is not one that weights can have here.
    pub(super) storage: Result<Format, String>,
    /// Dimensions, outermost first.
    pub(super) dims: Vec<usize>,
    /// Where its data lies in the file.
    pub(super) data: Range<usize>,
}

/// The format's own limit on headers; nothing real comes near it.
const MAX_HEADER_BYTES: u64 = 100_000_000;

#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// The entries in order, duplicates included: a JSON map type would silently keep the last of two tensors with one name.
struct Entries(Vec<(String, Entry)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Entries;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<IgnoredAny>()?;
                    } else {
                        entries.push((name, map.next_value()?));
                    }
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

/// Parses the header of `file`, the whole file's bytes; every tensor lies inside it, without overlap.
pub(super) fn parse(file: &[u8]) -> Result<Vec<TensorInfo>, HeaderError> {
    let Some(length) = file.first_chunk::<8>() else {
        return Err(HeaderError {
            offset: 0,
            reason: format!("a header length of 8 bytes is needed, the file has {}", file.len()),
        });
    };
    let length = u64::from_le_bytes(*length);
    let left = file.len() as u64 - 8;
    if length > left || length > MAX_HEADER_BYTES {
        return Err(HeaderError {
            offset: 0,
            reason: format!("a header of {length} bytes is announced, but only {left} bytes follow"),
        });
    }
    let data_start = 8 + length as usize;
    let entries: Entries = serde_json::from_slice(&file[8..data_start]).map_err(|error| HeaderError {
        // serde_json counts columns of the one line that headers are written on.
        offset: 8 + if error.line() == 1 { error.column() as u64 } else { 0 },
        reason: format!("the header is not usable: {error}"),
    })?;
    let data_bytes = (file.len() - data_start) as u64;
    let mut tensors = Vec::new();
    for (name, entry) in entries.0 {
        let wrong = |reason: String| HeaderError { offset: 8, reason };
        let (begin, end) = entry.data_offsets;
        if begin > end {
            return Err(wrong(format!("tensor `{name}` begins at {begin} and ends before that, at {end}")));
        }
        if end > data_bytes {
            return Err(HeaderError {
                offset: file.len() as u64,
                reason: format!(
                    "the file ends early: tensor `{name}` should end at byte {}, the file has {}",
                    (data_start as u64).saturating_add(end),
                    file.len()
                ),
            });
        }
        let storage = format_of_dtype(&entry.dtype).ok_or_else(|| entry.dtype.clone());
        let elements = entry.shape.iter().try_fold(1_u64, |product, dim| product.checked_mul(*dim));
        if let Ok(format) = &storage {
            let expected = elements.and_then(|elements| elements.checked_mul(format.block().1 as u64));
            if expected != Some(end - begin) {
                return Err(wrong(format!(
                    "tensor `{name}` of shape {:?} in {} does not fill the {} bytes given to it",
                    entry.shape,
                    entry.dtype,
                    end - begin
                )));
            }
        }
        let dims = entry.shape.iter().map(|dim| *dim as usize).collect();
        tensors.push(TensorInfo { name, storage, dims, data: data_start + begin as usize..data_start + end as usize });
    }
    check_distinct(&tensors)?;
    Ok(tensors)
}

fn check_distinct(tensors: &[TensorInfo]) -> Result<(), HeaderError> {
    let mut names = rustc_hash::FxHashSet::default();
    if let Some(twice) = tensors.iter().find(|tensor| !names.insert(tensor.name.as_str())) {
        return Err(HeaderError { offset: 8, reason: format!("tensor `{}` stands there twice", twice.name) });
    }
    let mut ranges: Vec<_> = tensors.iter().filter(|tensor| !tensor.data.is_empty()).collect();
    ranges.sort_by_key(|tensor| tensor.data.start);
    for pair in ranges.windows(2) {
        if pair[0].data.end > pair[1].data.start {
            return Err(HeaderError {
                offset: pair[1].data.start as u64,
                reason: format!("tensors `{}` and `{}` overlap", pair[0].name, pair[1].name),
            });
        }
    }
    Ok(())
}

fn format_of_dtype(dtype: &str) -> Option<Format> {
    Some(match dtype {
        "F64" => Format::F64,
        "F32" => Format::F32,
        "F16" => Format::F16,
        "BF16" => Format::BF16,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(header: &str, data: usize) -> Vec<u8> {
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header.as_bytes());
        file.resize(file.len() + data, 0);
        file
    }
    const TWO: &str = r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"b":{"dtype":"BF16","shape":[4],"data_offsets":[24,32]}}"#;

    #[test]
    fn reads_a_header() {
        let file = file(TWO, 32);
        let tensors = parse(&file).unwrap();
        assert_eq!((tensors[0].name.as_str(), tensors[0].dims.as_slice()), ("a", [2, 3].as_slice()));
        assert_eq!(tensors[1].storage, Ok(Format::BF16));
        assert_eq!(tensors[1].data, file.len() - 8..file.len());
    }

    #[test]
    fn bad_headers_are_refused_by_name() {
        let say = |header: &str, data: usize| parse(&file(header, data)).unwrap_err().reason;
        assert!(say(TWO, 31).contains("tensor `b` should end"));
        assert!(say(&TWO.replace("[24,32]", "[20,28]"), 32).contains("overlap"));
        assert!(say(&TWO.replace("[24,32]", "[32,24]"), 32).contains("ends before"));
        assert!(say(&TWO.replace("[4]", "[5]"), 32).contains("does not fill"));
        assert!(say(&TWO.replace("[4]", "[4294967296,4294967296,4]"), 32).contains("does not fill"));
        assert!(say(&TWO.replace("\"b\"", "\"a\""), 32).contains("twice"));
        assert!(say("[1]", 0).contains("object of tensors"));
        let mut huge = file(TWO, 32);
        huge[..8].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(parse(&huge).unwrap_err().reason.contains("18446744073709551615"));
        assert_eq!(parse(&huge[..7]).unwrap_err().offset, 0);
    }

    #[test]
    fn unknown_dtypes_are_kept_by_name() {
        let tensors = parse(&file(&TWO.replace("BF16", "I64").replace("[4]", "[1]"), 32)).unwrap();
        assert_eq!(tensors[1].storage, Err("I64".to_owned()));
    }

    proptest! {
        #[test]
        fn mutated_headers_never_panic(changes in prop::collection::vec((0_usize..200, any::<u8>()), 1..6)) {
            let mut file = file(TWO, 32);
            let length = file.len();
            for (at, byte) in changes {
                file[at % length] = byte;
            }
            if let Ok(tensors) = parse(&file) {
                for tensor in &tensors {
                    prop_assert!(tensor.data.end <= length);
                }
            }
        }
    }
}
