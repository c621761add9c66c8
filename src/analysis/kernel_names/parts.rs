//! Takes a demangled name apart: return type, qualified function, template arguments, parameters.
//!
//! Hand-written instead of a C++ parser because names come in many dialects (nsys, Kineto, ncu, c++filt), are often cut short and are not
//! always balanced. Works on bytes that are ASCII; everything else is copied through.

/// The parts of a kernel name that say something.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NameParts {
    /// Qualified name without template arguments, parameters, anonymous namespaces and return type: `at::native::reduce_kernel`.
    pub function: String,
    /// Last component of `function`: `reduce_kernel`.
    pub base: String,
    /// The function with its template arguments, without return type and parameters.
    pub template: String,
}

/// Longer names are cut to this before they are taken apart: what tells kernels apart comes first.
pub const MAX_PARSED_BYTES: usize = 8192;

/// The longest prefix of `text` with at most `bytes` bytes that ends between characters.
pub fn prefix(text: &str, bytes: usize) -> &str {
    if text.len() <= bytes {
        return text;
    }
    let mut end = bytes;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

impl NameParts {
    /// Takes a demangled name apart; any text is accepted.
    pub fn of(name: &str) -> Self {
        let cleaned = without_noise(prefix(name.trim(), MAX_PARSED_BYTES));
        let text = after_enable_if(&cleaned);
        let (start, end) = function_span(text);
        let template = text[start..end].trim();
        let function = without_arguments(template);
        let base = function.rsplit("::").find(|part| !part.is_empty()).unwrap_or(&function).to_owned();
        Self { base, template: template.to_owned(), function }
    }
}

/// Removes what no name needs: anonymous namespaces in their spellings, control characters, the suffix of AMD code objects.
fn without_noise(name: &str) -> String {
    let name = name.strip_suffix(".kd").unwrap_or(name);
    let name = name.strip_suffix(" [clone .kd]").unwrap_or(name);
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    const SPELLINGS: [&str; 4] = ["(anonymous namespace)::", "<unnamed>::", "_GLOBAL__N__::", "{anonymous}::"];
    while let Some(next) = rest.chars().next() {
        if let Some(after) = SPELLINGS.iter().find_map(|spelling| rest.strip_prefix(spelling)) {
            rest = after;
            continue;
        }
        out.push(if next.is_control() { ' ' } else { next });
        rest = &rest[next.len_utf8()..];
    }
    out
}

/// Skips a return type `std::enable_if<…>::type`: its condition may hold a bare `>` (nsys prints `enable_if<T2>(int)0&&…>`), which no
/// count of brackets survives.
fn after_enable_if(text: &str) -> &str {
    let bare = text.strip_prefix("void ").unwrap_or(text);
    let bare = bare.strip_prefix("typename ").unwrap_or(bare);
    if !(bare.starts_with("std::enable_if")
        || bare.starts_with("enable_if")
        || bare.starts_with("cuda::std::enable_if"))
    {
        return text;
    }
    // The first `::type ` ends the return type: arguments of it are written with a comma or a bracket behind `::type`.
    match bare.find("::type ") {
        Some(at) => bare[at + "::type ".len()..].trim_start(),
        None => text,
    }
}

/// Byte range of the function with its template arguments: from behind the last top-level blank to the parameter list.
fn function_span(text: &str) -> (usize, usize) {
    let bytes = text.as_bytes();
    let (mut start, mut angles, mut others) = (0_usize, 0_usize, 0_usize);
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'<' => angles += 1,
            b'>' if at > 0 && bytes[at - 1] == b'-' => {}
            b'>' => angles = angles.saturating_sub(1),
            b'(' if angles == 0 && others == 0 && at > start => return (start, at),
            b'(' | b'[' | b'{' => others += 1,
            b')' | b']' | b'}' => others = others.saturating_sub(1),
            b' ' if angles == 0
                && others == 0
                && text[at..]
                    .trim_start()
                    .starts_with(|next: char| next.is_ascii_alphabetic() || next == '_' || next == ':') =>
            {
                start = at + 1;
            }
            _ => {}
        }
    }
    (start, bytes.len())
}

/// Drops everything in angle brackets; what is left of an unbalanced one counts as its content.
fn without_arguments(template: &str) -> String {
    let mut out = String::new();
    let mut depth = 0_usize;
    for next in template.chars() {
        match next {
            '<' => depth += 1,
            '>' => depth = depth.saturating_sub(1),
            _ if depth == 0 => out.push(next),
            _ => {}
        }
    }
    out.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(name: &str) -> (String, String) {
        let parts = NameParts::of(name);
        (parts.function, parts.template)
    }

    #[test]
    fn return_type_parameters_and_arguments_are_told_apart() {
        let (function, template) =
            parts("void flash::flash_fwd_kernel<Traits<(int)128, cutlass::half_t>, (bool)0>(flash::Flash_fwd_params)");
        assert_eq!(function, "flash::flash_fwd_kernel");
        assert_eq!(template, "flash::flash_fwd_kernel<Traits<(int)128, cutlass::half_t>, (bool)0>");
        assert_eq!(parts("saxpy(double *, double *, int)").0, "saxpy");
        assert_eq!(parts("cast_bf16_f32").0, "cast_bf16_f32");
        assert_eq!(NameParts::of("void at::native::reduce_kernel<512, 1>(int)").base, "reduce_kernel");
    }

    #[test]
    fn anonymous_namespaces_vanish_in_every_spelling() {
        for name in [
            "void at::native::(anonymous namespace)::CatArrayBatchedCopy<int>(char*)",
            "void at::native::<unnamed>::CatArrayBatchedCopy<int>(char *)",
        ] {
            assert_eq!(parts(name).0, "at::native::CatArrayBatchedCopy");
        }
    }

    #[test]
    fn a_bare_comparison_in_the_return_type_does_not_hide_the_function() {
        for name in [
            "std::enable_if<T2>(int)0&&vllm::_typeConvert<T1>::exists, void>::type vllm::fused_add_rms_norm_kernel<c10::BFloat16, (int)8>(T1 *)",
            "std::enable_if<(((8)>(0)))&&vllm::_typeConvert<c10::BFloat16>::exists, void>::type vllm::fused_add_rms_norm_kernel<c10::BFloat16, 8>(c10::BFloat16*)",
        ] {
            assert_eq!(parts(name).0, "vllm::fused_add_rms_norm_kernel");
        }
        let gemv = "std::enable_if<!(false), void>::type internal::gemvx::kernel<int, float>(cublasGemvParamsEx<int>)";
        assert_eq!(parts(gemv).0, "internal::gemvx::kernel");
    }

    #[test]
    fn a_name_cut_short_keeps_its_function() {
        assert_eq!(parts("void cutlass::device_kernel<flash::FlashAttnFwdSm90<flash::Col").0, "cutlass::device_kernel");
        assert_eq!(parts("").0, "");
        assert_eq!(parts("a<b<c(d").0, "a");
    }
}
