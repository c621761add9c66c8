//! Itanium C++ names (`_Z…`) to readable ones.

use std::borrow::Cow;

use cpp_demangle::{DemangleOptions, ParseOptions, Symbol};

/// Longer names are not demangled: substitutions let a mangled name of a few kilobytes stand for megabytes.
const MAX_MANGLED_BYTES: usize = 16 * 1024;

/// Nesting the demangler may follow, so that a hostile name cannot exhaust the stack.
const MAX_RECURSION: u32 = 96;

/// Demangles an Itanium C++ name (`_Z…`); every other text, and one that does not demangle, comes back as it is.
///
/// Where the grammar is beyond the demangler (vendor types such as `DF16b`, names cut short), the nested name it begins with is spelled out
/// and the rest is appended raw in angle brackets: `_ZN7ck_tile6kentryILi1E…` gives `ck_tile::kentry<ILi1E…>`.
pub fn demangle(name: &str) -> Cow<'_, str> {
    let bare = name.strip_suffix(".kd").unwrap_or(name);
    if !bare.starts_with("_Z") || bare.len() > MAX_MANGLED_BYTES {
        return name.into();
    }
    let parse = ParseOptions::default().recursion_limit(MAX_RECURSION);
    let options = DemangleOptions::new().recursion_limit(MAX_RECURSION);
    let symbol = Symbol::new_with_options(bare.as_bytes(), &parse).ok();
    if let Some(text) = symbol.and_then(|symbol| bounded(&symbol, options)) {
        return text.into();
    }
    nested_name(bare).map_or_else(|| name.into(), Cow::Owned)
}

/// The demangled text, if it stays within bounds.
fn bounded(symbol: &Symbol<&[u8]>, options: DemangleOptions) -> Option<String> {
    struct Bounded(String);
    impl std::fmt::Write for Bounded {
        fn write_str(&mut self, text: &str) -> std::fmt::Result {
            if self.0.len() + text.len() > 4 * MAX_MANGLED_BYTES {
                return Err(std::fmt::Error);
            }
            self.0.push_str(text);
            Ok(())
        }
    }
    let mut out = Bounded(String::new());
    symbol.structured_demangle(&mut out, &options).ok()?;
    Some(out.0)
}

/// `_ZN7ck_tile6kentryILi1E…` or `_Z6kernelILi1E…`: the identifiers in front, `::` between, the rest raw in angle brackets.
fn nested_name(mangled: &str) -> Option<String> {
    let nested = mangled.strip_prefix("_ZN");
    let mut rest = nested.or_else(|| mangled.strip_prefix("_Z"))?;
    let mut out = String::new();
    while let Some((identifier, after)) = identifier(rest) {
        if !out.is_empty() {
            out.push_str("::");
        }
        // GCC and clang name the anonymous namespace so.
        if identifier.starts_with("_GLOBAL__N") {
            out.push_str("(anonymous namespace)");
        } else {
            out.push_str(identifier);
        }
        rest = after;
        if nested.is_none() {
            break;
        }
    }
    if out.is_empty() {
        return None;
    }
    if !rest.is_empty() && rest != "E" && rest != "Ev" {
        out.push('<');
        out.push_str(rest);
        out.push('>');
    }
    Some(out)
}

/// `7ck_tile…` → (`ck_tile`, `…`).
fn identifier(text: &str) -> Option<(&str, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let length: usize = text.get(..digits)?.parse().ok()?;
    let end = digits.checked_add(length)?;
    (length > 0).then_some(())?;
    Some((text.get(digits..end)?, text.get(end..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn itanium_names_demangle_and_others_pass() {
        assert_eq!(
            demangle("_Z40ncclDevKernel_AllReduce_Sum_bf16_RING_LL24ncclDevKernelArgsStorageILm4096EE"),
            "ncclDevKernel_AllReduce_Sum_bf16_RING_LL(ncclDevKernelArgsStorage<(unsigned long)4096>)"
        );
        assert_eq!(
            demangle("_ZN5aiter42fp8gemm_bf16_blockscale_BpreShuffle_32x128E"),
            "aiter::fp8gemm_bf16_blockscale_BpreShuffle_32x128"
        );
        for name in ["cast_bf16_f32", "_RNvCs1234_7mycrate3foo", "_fwd_kernel", "", "_Z", "_ZN", "_Znot a name"] {
            assert_eq!(demangle(name), name);
        }
    }

    #[test]
    fn a_name_beyond_the_demangler_still_gives_its_function() {
        let cut = demangle("_ZN7ck_tile6kentryILi1ENS_12Rmsnorm2dFwdINS_27Rmsnorm2dFwdPipelineOnePassINS_27Rmsn");
        assert!(cut.starts_with("ck_tile::kentry<"), "{cut}");
        assert!(cut.contains("Rmsnorm2dFwd"));
    }

    #[test]
    fn hostile_names_neither_panic_nor_grow_without_bound() {
        let deep = format!("_Z{}", "N".repeat(10_000));
        let nested = format!("_Z1f{}", "PK".repeat(5_000));
        let huge = format!("_ZN{}", "1a".repeat(100_000));
        let substitutions = format!("_Z1fI{}E", "N1a1bES_S0_S1_".repeat(500));
        for name in [deep, nested, huge, substitutions, "_ZN99999999999999999999999a".to_owned(), "_ZN3é".to_owned()] {
            assert!(demangle(&name).len() <= name.len().max(4 * MAX_MANGLED_BYTES) + 64);
        }
    }
}
