//! Kernel names: demangled, taken apart, and short enough for a table.

mod demangle;
mod parts;
mod shorten;

pub use demangle::demangle;
pub use parts::{MAX_PARSED_BYTES, NameParts, prefix};
pub use shorten::{MAX_SHORT_CHARS, shorten};
