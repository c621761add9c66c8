//! Parses the header of a GGUF file: metadata and tensor table, borrowed from the mapped file.
//!
//! Layout: ggml's `docs/gguf.md`, versions 2 and 3. No count or length read from the file is trusted: each is compared with the bytes that
//! are left before anything is allocated, and arrays are not copied at all but decoded where they lie.

use std::collections::BTreeMap;

use crate::estimate::format::Format;

/// Something wrong with a GGUF header, at a byte of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HeaderError {
    /// Bytes from the start of the file.
    pub(super) offset: u64,
    /// What is wrong there.
    pub(super) reason: String,
}

/// A metadata value; strings and arrays point into the file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'a> {
    /// Any integer type.
    Integer(i128),
    /// f32 or f64.
    Float(f64),
    /// A boolean.
    Bool(bool),
    /// UTF-8 text.
    Text(&'a str),
    /// An array of one scalar or string type.
    Array(Array<'a>),
}

impl Value<'_> {
    /// The integer, or a float without a fraction.
    pub(super) fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Integer(value) => u64::try_from(*value).ok(),
            _ => None,
        }
    }
    /// The number as a float.
    pub(super) fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Integer(value) => Some(*value as f64),
            Self::Float(value) => Some(*value),
            _ => None,
        }
    }
    /// The boolean.
    pub(super) fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }
}

/// An array in the file: checked once while parsing, decoded each time it is read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Array<'a> {
    bytes: &'a [u8],
    kind: u32,
    count: usize,
}

impl<'a> Array<'a> {
    /// Number of elements.
    pub(super) fn len(&self) -> usize {
        self.count
    }
    /// The elements in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        let mut reader = Reader { bytes: self.bytes, position: 0 };
        let kind = self.kind;
        // Every element was read once when the header was parsed, so none can fail here.
        (0..self.count).map_while(move |_| reader.scalar(kind).ok())
    }
}

/// One entry of the tensor table.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TensorInfo<'a> {
    /// The tensor's name.
    pub(super) name: &'a str,
    /// Dimensions, outermost first (the file stores them innermost first).
    pub(super) dims: Vec<usize>,
    /// How it is stored, or ggml's type number where the type is unknown here.
    pub(super) storage: Result<Format, u32>,
    /// Where its data begins in the file; 0 and an empty range for unknown types.
    pub(super) data: std::ops::Range<usize>,
}

/// The parsed header.
#[derive(Debug, Clone, Default)]
pub(super) struct Header<'a> {
    /// Metadata by key.
    pub(super) metadata: BTreeMap<&'a str, Value<'a>>,
    /// The tensors in the file's order.
    pub(super) tensors: Vec<TensorInfo<'a>>,
}

const MAGIC: &[u8; 4] = b"GGUF";
const ARRAY: u32 = 9;
const STRING: u32 = 8;
/// ggml's `GGML_MAX_DIMS`.
const MAX_DIMS: u32 = 4;
const DEFAULT_ALIGNMENT: u64 = 32;

/// Parses the header of `file`, the whole file's bytes, and checks that every tensor lies inside it without overlap.
pub(super) fn parse(file: &[u8]) -> Result<Header<'_>, HeaderError> {
    let mut reader = Reader { bytes: file, position: 0 };
    if reader.take(4, "the magic")? != MAGIC {
        return Err(HeaderError { offset: 0, reason: "it does not begin with `GGUF`".to_owned() });
    }
    let version = reader.u32()?;
    if version != 2 && version != 3 {
        let reason = if matches!(version.swap_bytes(), 1..=3) {
            "it is big-endian, which is not supported".to_owned()
        } else {
            format!("GGUF version {version} is not supported, only 2 and 3")
        };
        return Err(HeaderError { offset: 4, reason });
    }
    // The shortest tensor entry: empty name, one dimension, type, offset. The shortest metadata entry: empty key, type, one byte.
    let tensor_count = reader.count(8 + 4 + 8 + 4 + 8, "tensors")?;
    let metadata_count = reader.count(8 + 4 + 1, "metadata entries")?;

    let mut header = Header::default();
    for _ in 0..metadata_count {
        let at = reader.position;
        let key = reader.text("a metadata key")?;
        let kind = reader.u32()?;
        let value = if kind == ARRAY { Value::Array(reader.array()?) } else { reader.scalar(kind)? };
        if header.metadata.insert(key, value).is_some() {
            return Err(HeaderError { offset: at as u64, reason: format!("metadata key `{key}` stands there twice") });
        }
    }
    let alignment = match header.metadata.get("general.alignment") {
        None => DEFAULT_ALIGNMENT,
        Some(value) => value.as_u64().filter(|alignment| alignment.is_power_of_two()).ok_or(HeaderError {
            offset: reader.position as u64,
            reason: format!("`general.alignment` is {value:?} and not a power of two"),
        })?,
    };

    // Offsets count from the start of the data section, whose place is known only after the last entry.
    let mut entries = Vec::new();
    for _ in 0..tensor_count {
        let at = reader.position;
        let name = reader.text("a tensor name")?;
        let rank = reader.u32()?;
        if rank == 0 || rank > MAX_DIMS {
            return Err(HeaderError {
                offset: at as u64,
                reason: format!("tensor `{name}` has {rank} dimensions, allowed are 1 to {MAX_DIMS}"),
            });
        }
        let mut dims = Vec::with_capacity(rank as usize);
        for _ in 0..rank {
            dims.push(reader.u64()?);
        }
        dims.reverse();
        let kind = reader.u32()?;
        let offset = reader.u64()?;
        entries.push((at, name, dims, kind, offset));
    }
    let data_start = (reader.position as u64)
        .checked_next_multiple_of(alignment)
        .ok_or_else(|| HeaderError { offset: 0, reason: "the alignment is larger than the file".to_owned() })?;
    let mut seen = rustc_hash::FxHashSet::default();
    for (at, name, dims, kind, offset) in entries {
        let wrong = |reason: String| HeaderError { offset: at as u64, reason };
        if !seen.insert(name) {
            return Err(wrong(format!("tensor `{name}` stands there twice")));
        }
        if offset % alignment != 0 {
            return Err(wrong(format!("the offset {offset} of tensor `{name}` is no multiple of {alignment}")));
        }
        let too_large = || wrong(format!("tensor `{name}` of shape {dims:?} is larger than any file"));
        let row = *dims.last().unwrap_or(&0);
        let rows =
            dims[..dims.len() - 1].iter().try_fold(1_u64, |rows, dim| rows.checked_mul(*dim)).ok_or_else(too_large)?;
        let storage = format_of_type(kind).ok_or(kind);
        let data = match storage {
            Err(_) => 0..0,
            Ok(format) => {
                let (block_elements, block_bytes) = format.block();
                if row % block_elements as u64 != 0 {
                    return Err(wrong(format!(
                        "rows of tensor `{name}` have {row} values, no multiple of the {block_elements} in a block of {format}"
                    )));
                }
                let bytes = (row / block_elements as u64)
                    .checked_mul(block_bytes as u64)
                    .and_then(|row_bytes| row_bytes.checked_mul(rows))
                    .ok_or_else(too_large)?;
                let start = data_start.checked_add(offset).ok_or_else(too_large)?;
                let end = start.checked_add(bytes).ok_or_else(too_large)?;
                if end > file.len() as u64 {
                    return Err(wrong(format!(
                        "tensor `{name}` should end at byte {end}, but the file has only {} bytes",
                        file.len()
                    )));
                }
                start as usize..end as usize
            }
        };
        let dims = dims.iter().map(|dim| *dim as usize).collect();
        header.tensors.push(TensorInfo { name, dims, storage, data });
    }
    check_overlap(&header)?;
    Ok(header)
}

fn check_overlap(header: &Header<'_>) -> Result<(), HeaderError> {
    let mut ranges: Vec<_> = header.tensors.iter().filter(|tensor| !tensor.data.is_empty()).collect();
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

/// ggml's type numbers (`enum ggml_type` in `ggml.h`); the ones missing here cannot be computed with.
fn format_of_type(kind: u32) -> Option<Format> {
    Some(match kind {
        0 => Format::F32,
        1 => Format::F16,
        2 => Format::Q4_0,
        3 => Format::Q4_1,
        6 => Format::Q5_0,
        7 => Format::Q5_1,
        8 => Format::Q8_0,
        10 => Format::Q2K,
        11 => Format::Q3K,
        12 => Format::Q4K,
        13 => Format::Q5K,
        14 => Format::Q6K,
        15 => Format::Q8K,
        28 => Format::F64,
        30 => Format::BF16,
        _ => return None,
    })
}

/// ggml's name of a type that [`parse`] does not know, for messages.
pub(super) fn type_name(kind: u32) -> String {
    const NAMES: [(u32, &str); 18] = [
        (9, "Q8_1"),
        (16, "IQ2_XXS"),
        (17, "IQ2_XS"),
        (18, "IQ3_XXS"),
        (19, "IQ1_S"),
        (20, "IQ4_NL"),
        (21, "IQ3_S"),
        (22, "IQ2_S"),
        (23, "IQ4_XS"),
        (24, "I8"),
        (25, "I16"),
        (26, "I32"),
        (27, "I64"),
        (29, "IQ1_M"),
        (34, "TQ1_0"),
        (35, "TQ2_0"),
        (39, "MXFP4"),
        (40, "NVFP4"),
    ];
    NAMES
        .iter()
        .find(|(known, _)| *known == kind)
        .map_or_else(|| format!("type number {kind}"), |(_, name)| (*name).to_owned())
}

struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    fn error(&self, reason: String) -> HeaderError {
        HeaderError { offset: self.position as u64, reason }
    }
    fn left(&self) -> usize {
        self.bytes.len() - self.position
    }
    fn take(&mut self, length: usize, what: &str) -> Result<&'a [u8], HeaderError> {
        if length > self.left() {
            return Err(self.error(format!("the file ends inside {what}: {length} bytes needed, {} left", self.left())));
        }
        let bytes = &self.bytes[self.position..self.position + length];
        self.position += length;
        Ok(bytes)
    }
    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], HeaderError> {
        let mut value = [0; N];
        value.copy_from_slice(self.take(N, "a number")?);
        Ok(value)
    }
    fn u32(&mut self) -> Result<u32, HeaderError> {
        self.fixed().map(u32::from_le_bytes)
    }
    fn u64(&mut self) -> Result<u64, HeaderError> {
        self.fixed().map(u64::from_le_bytes)
    }
    /// A count of things of at least `least` bytes each, all of which must lie in the rest of the file.
    fn count(&mut self, least: usize, what: &str) -> Result<usize, HeaderError> {
        let at = self.position;
        let count = self.u64()?;
        if count > (self.left() / least) as u64 {
            return Err(HeaderError {
                offset: at as u64,
                reason: format!("{count} {what} are announced, but only {} bytes are left", self.left()),
            });
        }
        Ok(count as usize)
    }
    fn text(&mut self, what: &str) -> Result<&'a str, HeaderError> {
        let at = self.position;
        let length = self.u64()?;
        if length > self.left() as u64 {
            return Err(HeaderError {
                offset: at as u64,
                reason: format!("{what} of {length} bytes is announced, but only {} bytes are left", self.left()),
            });
        }
        let bytes = self.take(length as usize, what)?;
        std::str::from_utf8(bytes)
            .map_err(|error| HeaderError { offset: at as u64, reason: format!("{what} is not UTF-8: {error}") })
    }
    fn scalar(&mut self, kind: u32) -> Result<Value<'a>, HeaderError> {
        Ok(match kind {
            0 => Value::Integer(i128::from(self.fixed::<1>()?[0])),
            1 => Value::Integer(i128::from(i8::from_le_bytes(self.fixed()?))),
            2 => Value::Integer(i128::from(u16::from_le_bytes(self.fixed()?))),
            3 => Value::Integer(i128::from(i16::from_le_bytes(self.fixed()?))),
            4 => Value::Integer(i128::from(self.u32()?)),
            5 => Value::Integer(i128::from(i32::from_le_bytes(self.fixed()?))),
            6 => Value::Float(f64::from(f32::from_le_bytes(self.fixed()?))),
            7 => match self.fixed::<1>()?[0] {
                0 => Value::Bool(false),
                1 => Value::Bool(true),
                other => return Err(self.error(format!("a boolean is {other}"))),
            },
            STRING => Value::Text(self.text("a text")?),
            10 => Value::Integer(i128::from(self.u64()?)),
            11 => Value::Integer(i128::from(i64::from_le_bytes(self.fixed()?))),
            12 => Value::Float(f64::from_le_bytes(self.fixed()?)),
            // Arrays of arrays exist in no known model, and following them would let a file choose our recursion depth.
            ARRAY => return Err(self.error("an array inside an array is not supported".to_owned())),
            other => return Err(self.error(format!("metadata type {other} is unknown"))),
        })
    }
    fn array(&mut self) -> Result<Array<'a>, HeaderError> {
        let kind = self.u32()?;
        let least = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            STRING | 10..=12 => 8,
            ARRAY => return Err(self.error("an array inside an array is not supported".to_owned())),
            other => return Err(self.error(format!("metadata type {other} is unknown"))),
        };
        let count = self.count(least, "array elements")?;
        let start = self.position;
        for _ in 0..count {
            self.scalar(kind)?;
        }
        Ok(Array { bytes: &self.bytes[start..self.position], kind, count })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A whole small file, built field by field from the specification: two metadata entries, one f32 and one q8_0 tensor.
    fn sample() -> Vec<u8> {
        let mut file = Vec::new();
        let text = |file: &mut Vec<u8>, text: &str| {
            file.extend((text.len() as u64).to_le_bytes());
            file.extend(text.as_bytes());
        };
        file.extend(b"GGUF");
        file.extend(3_u32.to_le_bytes());
        file.extend(2_u64.to_le_bytes());
        file.extend(2_u64.to_le_bytes());
        text(&mut file, "general.architecture");
        file.extend(8_u32.to_le_bytes());
        text(&mut file, "llama");
        text(&mut file, "tokens");
        file.extend(9_u32.to_le_bytes());
        file.extend(8_u32.to_le_bytes());
        file.extend(2_u64.to_le_bytes());
        text(&mut file, "a");
        text(&mut file, "bc");
        for (name, dims, kind, offset) in [("norm", vec![8_u64], 0_u32, 0_u64), ("w", vec![32, 2], 8, 32)] {
            text(&mut file, name);
            file.extend((dims.len() as u32).to_le_bytes());
            for dim in &dims {
                file.extend(dim.to_le_bytes());
            }
            file.extend(kind.to_le_bytes());
            file.extend(offset.to_le_bytes());
        }
        file.resize(file.len().next_multiple_of(32) + 32 + 68, 7);
        file
    }

    #[test]
    fn reads_what_the_specification_says() {
        let file = sample();
        let header = parse(&file).unwrap();
        assert_eq!(header.metadata["general.architecture"], Value::Text("llama"));
        let Value::Array(tokens) = header.metadata["tokens"] else { panic!("no array") };
        assert_eq!(tokens.iter().collect::<Vec<_>>(), [Value::Text("a"), Value::Text("bc")]);
        let data = file.len() - 100;
        assert_eq!(header.tensors[0].data, data..data + 32);
        assert_eq!(
            (header.tensors[1].dims.as_slice(), header.tensors[1].storage),
            ([2, 32].as_slice(), Ok(Format::Q8_0))
        );
        assert_eq!(header.tensors[1].data, data + 32..data + 100);
    }

    #[test]
    fn every_cut_is_an_error_inside_the_file() {
        let file = sample();
        for length in 0..file.len() {
            let error = parse(&file[..length]).unwrap_err();
            assert!(error.offset <= file.len() as u64, "{error:?}");
        }
    }

    #[test]
    fn huge_counts_are_named_with_their_place() {
        let mut file = sample();
        file[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
        let error = parse(&file).unwrap_err();
        assert_eq!(error.offset, 8);
        assert!(error.reason.contains("18446744073709551615 tensors"), "{error:?}");
        let mut file = sample();
        file[24..32].copy_from_slice(&(1_u64 << 40).to_le_bytes());
        assert_eq!(parse(&file).unwrap_err().offset, 24);
    }

    #[test]
    fn overlap_misalignment_and_big_endian_are_refused() {
        let file = sample();
        // The last type number (8, q8_0) and offset (32) before the padding.
        let tail = [8_u32.to_le_bytes().as_slice(), &32_u64.to_le_bytes()].concat();
        let second_offset = file.windows(tail.len()).rposition(|window| window == tail).unwrap() + 4;
        let mut overlapping = file.clone();
        overlapping[second_offset] = 0;
        assert!(parse(&overlapping).unwrap_err().reason.contains("overlap"));
        let mut misaligned = file.clone();
        misaligned[second_offset] = 33;
        assert!(parse(&misaligned).unwrap_err().reason.contains("no multiple of 32"));
        let mut beyond = file.clone();
        beyond[second_offset + 3] = 64;
        assert!(parse(&beyond).unwrap_err().reason.contains("the file has only"));
        let mut swapped = file;
        swapped[4..8].copy_from_slice(&3_u32.to_be_bytes());
        assert!(parse(&swapped).unwrap_err().reason.contains("big-endian"));
    }

    proptest! {
        /// Whatever is done to the bytes, parsing ends with an answer, and what it accepts lies inside the file.
        #[test]
        fn mutated_headers_never_panic(changes in prop::collection::vec((0_usize..400, any::<u8>()), 1..6)) {
            let mut file = sample();
            let length = file.len();
            for (at, byte) in changes {
                file[at % length] = byte;
            }
            if let Ok(header) = parse(&file) {
                for tensor in &header.tensors {
                    prop_assert!(tensor.data.end <= length);
                }
            }
        }

        #[test]
        fn numbers_anywhere_may_be_huge(at in 0_usize..400, value in any::<u64>()) {
            let mut file = sample();
            let at = at % (file.len() - 8);
            file[at..at + 8].copy_from_slice(&value.to_le_bytes());
            let _ = parse(&file);
        }
    }
}
