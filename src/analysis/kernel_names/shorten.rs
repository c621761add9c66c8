//! A kernel name short enough for a table that still tells kernels apart.

use super::demangle::demangle;
use super::parts::NameParts;

/// At most this many characters come out of [`shorten`].
pub const MAX_SHORT_CHARS: usize = 100;

/// Template arguments nested deeper than this are kept as text.
const MAX_DEPTH: usize = 24;

/// Functions that only launch what their first template argument names.
const WRAPPERS: [&str; 12] = [
    "Kernel",
    "Kernel2",
    "device_kernel",
    "kernel",
    "kentry",
    "run_global",
    "enable_sm90_or_later",
    "enable_sm80_to_sm89",
    "enable_sm90",
    "enable_sm100_family",
    "enable_sm120_family",
    "trampoline_kernel",
];

/// Adapters of element-wise kernels: the functor in them is what matters.
const ADAPTERS: [&str; 8] = [
    "gpu_kernel_impl_nocast",
    "gpu_kernel_impl",
    "gpu_index_kernel",
    "func_wrapper_t",
    "ReduceOp",
    "opmath_gpu_kernel_with_scalars",
    "AUnaryFunctor",
    "BUnaryFunctor",
];

/// Template arguments without which kernels are still told apart: bookkeeping of iterators and containers.
const NOISE: [&str; 22] = [
    "array",
    "Array",
    "TrivialOffsetCalculator",
    "OffsetCalculator",
    "LoadWithoutCast",
    "StoreWithoutCast",
    "TensorListMetadata",
    "TensorInfo",
    "OpaqueType",
    "cublasGemvTensorStridedBatched",
    "cublasGemvTensor",
    "cublasGemvTensorBatched",
    "cublasGemvParams",
    "cublasGemvParamsEx",
    "cublasDotParams",
    "cublasSplitKParams",
    "Flash_kernel_traits",
    "integral_constant",
    "ncclDevKernelArgsStorage",
    "SoftMaxForwardEpilogue",
    "PersistentTileScheduler",
    "CUtensorMap",
];

/// Spellings of number formats and their short names.
const FORMATS: [(&str, &str); 24] = [
    ("float", "f32"),
    ("double", "f64"),
    ("half", "f16"),
    ("__half", "f16"),
    ("Half", "f16"),
    ("half_t", "f16"),
    ("BFloat16", "bf16"),
    ("__nv_bfloat16", "bf16"),
    ("nv_bfloat16", "bf16"),
    ("__hip_bfloat16", "bf16"),
    ("hip_bfloat16", "bf16"),
    ("bfloat16_t", "bf16"),
    ("float_e4m3_t", "e4m3"),
    ("Float8_e4m3fn", "e4m3"),
    ("__nv_fp8_e4m3", "e4m3"),
    ("float_e5m2_t", "e5m2"),
    ("Float8_e5m2", "e5m2"),
    ("__nv_fp8_e5m2", "e5m2"),
    ("tfloat32_t", "tf32"),
    ("__nv_fp4_e2m1", "fp4"),
    ("float_e2m1_t", "fp4"),
    ("unsigned int", "u32"),
    ("unsigned long", "u64"),
    ("unsigned char", "u8"),
];

/// A name with its template arguments.
#[derive(Debug, Clone, Default, PartialEq)]
struct Node {
    name: String,
    /// What stands before the name and its last `::`, for names that say nothing alone.
    scope: String,
    arguments: Vec<Self>,
}

/// A name for tables: what tells kernels apart, without parameter lists, namespaces and noise. At most [`MAX_SHORT_CHARS`] characters;
/// what is longer loses its middle. Accepts any text, never panics, and is never empty unless the name is blank.
pub fn shorten(name: &str) -> String {
    let demangled = demangle(name.trim());
    let parts = NameParts::of(&demangled);
    if parts.template.is_empty() {
        return ellipsis(&printable(&demangled));
    }
    let node = unwrapped(parse(&parts.template, 0));
    let mut short = render(&node, MAX_DEPTH);
    if short.chars().count() > MAX_SHORT_CHARS {
        short = flattened(&node);
    }
    if short.is_empty() {
        short = printable(&demangled);
    }
    ellipsis(&short)
}

/// Control characters as blanks: a table has one line for each row.
fn printable(text: &str) -> String {
    text.chars()
        .take(4 * MAX_SHORT_CHARS)
        .map(|next| if next.is_control() { ' ' } else { next })
        .collect::<String>()
        .trim()
        .to_owned()
}

/// Cuts the middle out of what is too long.
fn ellipsis(text: &str) -> String {
    let count = text.chars().count();
    if count <= MAX_SHORT_CHARS {
        return text.to_owned();
    }
    let tail = MAX_SHORT_CHARS / 3;
    let head = MAX_SHORT_CHARS - tail - 1;
    text.chars().take(head).chain(['…']).chain(text.chars().skip(count - tail)).collect()
}

/// Parses `name<argument, …>rest`.
fn parse(text: &str, depth: usize) -> Node {
    let text = without_cast(text.trim());
    let text = text.strip_prefix("void ").unwrap_or(text).trim_start_matches('&');
    if let Some(functor) = lambda(text, depth) {
        return functor;
    }
    let Some(open) = text.find('<').filter(|_| depth < MAX_DEPTH) else { return leaf(text) };
    let mut node = leaf(&text[..open]);
    let inner = &text[open + 1..];
    let (mut level, mut begin, mut others) = (0_usize, 0_usize, 0_usize);
    for (at, byte) in inner.bytes().enumerate() {
        match byte {
            b'(' | b'[' | b'{' => others += 1,
            b')' | b']' | b'}' => others = others.saturating_sub(1),
            b'<' => level += 1,
            b'>' if level == 0 => {
                push_argument(&mut node, &inner[begin..at], depth);
                // `A<…>::B<…>`: what is behind the scope is the name.
                let rest = inner[at + 1..].trim();
                if let Some(member) =
                    rest.strip_prefix("::").filter(|member| member.starts_with(|next: char| next.is_ascii_alphabetic()))
                {
                    // Of a call operator the functor is the name.
                    if member.starts_with("operator") {
                        return node;
                    }
                    let mut member = parse(member, depth + 1);
                    if member.arguments.is_empty() {
                        member.arguments = node.arguments;
                    }
                    return member;
                }
                return node;
            }
            b'>' => level -= 1,
            b',' if level == 0 && others == 0 => {
                push_argument(&mut node, &inner[begin..at], depth);
                begin = at + 1;
            }
            _ => {}
        }
    }
    push_argument(&mut node, inner.get(begin..).unwrap_or_default(), depth);
    node
}

fn push_argument(node: &mut Node, text: &str, depth: usize) {
    if !text.trim().is_empty() {
        node.arguments.push(parse(text, depth + 1));
    }
}

/// `(int)128` → `128`, `(bool)1` → `1`.
fn without_cast(text: &str) -> &str {
    match text.strip_prefix('(').and_then(|rest| rest.split_once(')')) {
        Some((kind, rest))
            if !rest.is_empty() && kind.chars().all(|next| next.is_ascii_alphanumeric() || " _:".contains(next)) =>
        {
            rest
        }
        _ => text,
    }
}

/// A name without its namespaces.
fn leaf(text: &str) -> Node {
    let text = text.trim();
    let text = match text.find('(') {
        Some(open) if open > 0 => &text[..open],
        _ => text,
    };
    let (scope, name) = text.rsplit_once("::").unwrap_or(("", text));
    let short = FORMATS.iter().find_map(|(long, short)| (*long == name).then_some(*short)).unwrap_or(name);
    let short = short
        .strip_suffix("ul")
        .or_else(|| short.strip_suffix('u'))
        .filter(|digits| is_number(digits))
        .unwrap_or(short);
    Node {
        name: short.to_owned(),
        scope: scope.rsplit("::").next().unwrap_or_default().to_owned(),
        arguments: Vec::new(),
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// `f_kernel_cuda(at::TensorIteratorBase&)::{lambda()#1}::…::{lambda(float)#1}` → `f_kernel_cuda<f32>`: the function that holds the lambda
/// and the types of the innermost one.
fn lambda(text: &str, depth: usize) -> Option<Node> {
    let first = top_level_lambda(text)?;
    let outer = &text[..first];
    let open = outer.find('(').unwrap_or(outer.len());
    // The function may be a template itself: `pow_kernel<float, float>(…)::{lambda…`.
    let mut node = if depth < MAX_DEPTH {
        parse(&outer[..open.max(outer.rfind('>').map_or(0, |at| at + 1)).min(outer.len())], depth + 1)
    } else {
        leaf(outer)
    };
    if ADAPTERS.contains(&node.name.as_str()) {
        return Some(node);
    }
    let last = text.rfind("lambda(")? + "lambda(".len();
    let types = text[last..].split(')').next().unwrap_or_default();
    if node.arguments.is_empty() {
        node.arguments = types.split(',').map(str::trim).filter(|text| !text.is_empty()).map(leaf).collect();
    }
    Some(node)
}

/// Where `::{lambda` or `::[lambda` stands outside angle brackets.
fn top_level_lambda(text: &str) -> Option<usize> {
    let mut level = 0_usize;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'<' => level += 1,
            b'>' => level = level.saturating_sub(1),
            b':' if level == 0 && (text[at..].starts_with("::{lambda") || text[at..].starts_with("::[lambda")) => {
                return Some(at);
            }
            _ => {}
        }
    }
    None
}

/// Looks through launch wrappers: the first argument that is a name.
fn unwrapped(mut node: Node) -> Node {
    for _ in 0..MAX_DEPTH {
        let wrapper = WRAPPERS.contains(&node.name.as_str());
        let inner = node.arguments.iter().position(|argument| wrapper && is_name(argument) && !is_noise(argument));
        match inner {
            Some(at) => {
                // `kentry<1, Rmsnorm2dFwd<…>>`, but not `gemvx::kernel<int, int, float, …>`.
                if node.name == "kernel" && node.arguments[at].arguments.is_empty() {
                    break;
                }
                node = node.arguments.swap_remove(at);
            }
            None => break,
        }
    }
    if WRAPPERS.contains(&node.name.as_str()) && !node.scope.is_empty() {
        node.name = format!("{}::{}", node.scope, node.name);
    }
    if node.name == "kernel" && node.arguments.iter().any(|argument| argument.name.starts_with("cublasGemv")) {
        // nsys and ncu cut the namespace from `internal::gemvx::kernel`; its parameters still say what it is.
        "gemvx::kernel".clone_into(&mut node.name);
    }
    node
}

fn is_name(node: &Node) -> bool {
    let known = FORMATS.iter().any(|(_, short)| *short == node.name);
    let builtin = matches!(
        node.name.as_str(),
        "int" | "long" | "bool" | "char" | "true" | "false" | "void" | "short" | "long long"
    );
    !known && !builtin && node.name.starts_with(|next: char| next.is_ascii_alphabetic() || next == '_')
}

fn is_noise(node: &Node) -> bool {
    NOISE.contains(&node.name.as_str())
}

/// The node with `depth` levels of template arguments.
fn render(node: &Node, depth: usize) -> String {
    if let Some(tile) = tile(node) {
        return tile;
    }
    let name = node.name.as_str();
    // An adapter is transparent: only the functor in it is shown.
    if ADAPTERS.contains(&name)
        && let Some(functor) = node.arguments.iter().find(|argument| is_name(argument) && !is_noise(argument))
    {
        return render(functor, depth);
    }
    let shown: Vec<String> = if depth == 0 {
        Vec::new()
    } else {
        node.arguments
            .iter()
            .filter(|argument| !is_noise(argument))
            .map(|argument| render(argument, depth - 1))
            .filter(|text| !text.is_empty())
            .collect()
    };
    if shown.is_empty() { name.to_owned() } else { format!("{name}<{}>", shown.join(", ")) }
}

/// What a name that is too long in full keeps of its template arguments, in their order: tiles and number formats first, then names, then
/// numbers, as many as fit.
fn flattened(node: &Node) -> String {
    let mut facts = Vec::new();
    for argument in &node.arguments {
        collect(argument, &mut facts);
    }
    let mut kept = vec![false; facts.len()];
    let mut left = MAX_SHORT_CHARS.saturating_sub(node.name.chars().count() + 2);
    for rank in [Rank::Size, Rank::Name, Rank::Number] {
        for (at, (kind, text)) in facts.iter().enumerate() {
            let width = text.chars().count() + 2;
            if *kind == rank && width <= left {
                kept[at] = true;
                left -= width;
            }
        }
    }
    let shown: Vec<&str> =
        facts.iter().zip(&kept).filter(|(_, kept)| **kept).map(|((_, text), _)| text.as_str()).collect();
    if shown.is_empty() { node.name.clone() } else { format!("{}<{}>", node.name, shown.join(", ")) }
}

/// How much a fact tells kernels apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rank {
    Size,
    Name,
    Number,
}

/// The facts in a template argument, each once in a row.
fn collect(node: &Node, facts: &mut Vec<(Rank, String)>) {
    if is_noise(node) {
        return;
    }
    if let Some(tile) = tile(node) {
        // A cluster of one block says nothing.
        if tile.split('x').any(|size| size != "1") {
            push_fact(facts, if tile.contains('x') { Rank::Size } else { Rank::Number }, tile);
        }
        return;
    }
    let name = node.name.as_str();
    if is_number(name) {
        push_fact(facts, Rank::Number, name.to_owned());
    } else if FORMATS.iter().any(|(_, short)| *short == name) {
        push_fact(facts, Rank::Size, name.to_owned());
    } else if is_name(node) && !ADAPTERS.contains(&name) && !matches!(name, "tuple" | "Layout" | "TiledMMA") {
        push_fact(facts, Rank::Name, name.to_owned());
    }
    for argument in &node.arguments {
        collect(argument, facts);
    }
}

fn push_fact(facts: &mut Vec<(Rank, String)>, rank: Rank, text: String) {
    if rank == Rank::Number || !facts.iter().any(|(_, known)| *known == text) {
        facts.push((rank, text));
    }
}

/// `cute::C<128>` → `128`; `cute::tuple<cute::C<128>, cute::C<64>>` → `128x64`.
fn tile(node: &Node) -> Option<String> {
    match node.name.as_str() {
        "C" | "constant" | "Int" => match node.arguments.as_slice() {
            [value] => Some(render(value, 1)),
            _ => None,
        },
        "tuple" => {
            let sizes: Option<Vec<String>> =
                node.arguments.iter().map(|size| tile(size).filter(|text| is_number(text))).collect();
            sizes.filter(|sizes| !sizes.is_empty()).map(|sizes| sizes.join("x"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_of_tables_keep_what_distinguishes() {
        for (name, short) in [
            (
                "void cutlass::Kernel2<cutlass_80_wmma_tensorop_bf16_s161616gemm_bf16_16x16_32x1_nn_align2>(T1::Params)",
                "cutlass_80_wmma_tensorop_bf16_s161616gemm_bf16_16x16_32x1_nn_align2",
            ),
            (
                "void at::native::vectorized_elementwise_kernel<4, at::native::FillFunctor<int>, std::array<char*, 1ul> >(int, at::native::FillFunctor<int>, std::array<char*, 1ul>)",
                "vectorized_elementwise_kernel<4, FillFunctor<int>>",
            ),
            (
                "void at::native::elementwise_kernel<(int)128, (int)2, void at::native::gpu_kernel_impl_nocast<at::native::BinaryFunctor<float, float, float, at::native::binary_internal::MulFunctor<float>>>(at::TensorIteratorBase &, const T1 &)::[lambda(int) (instance 1)]>(int, T3)",
                "elementwise_kernel<128, 2, BinaryFunctor<f32, f32, f32, MulFunctor<f32>>>",
            ),
            (
                "void at::native::vectorized_elementwise_kernel<4, at::native::rsqrt_kernel_cuda(at::TensorIteratorBase&)::{lambda()#2}::operator()() const::{lambda()#2}::operator()() const::{lambda(float)#1}, std::array<char*, 2ul> >(int, T2)",
                "vectorized_elementwise_kernel<4, rsqrt_kernel_cuda<f32>>",
            ),
            (
                "void at::native::vectorized_elementwise_kernel<(int)4, void at::native::<unnamed>::pow_tensor_scalar_kernel_impl<float, float>(at::TensorIteratorBase &, T2)::[lambda(float) (instance 1)], std::array<char *, (unsigned long)2>>(int, T2, T3)",
                "vectorized_elementwise_kernel<4, pow_tensor_scalar_kernel_impl<f32, f32>>",
            ),
            (
                "void at::native::reduce_kernel<512, 1, at::native::ReduceOp<float, at::native::func_wrapper_t<float, at::native::sum_functor<float, float, float>::operator()(at::TensorIterator&)::{lambda(float, float)#1}>, unsigned int, float, 4> >(int)",
                "reduce_kernel<512, 1, sum_functor<f32, f32, f32>>",
            ),
            ("nvjet_tst_192x192_64x4_2x1_v_bz_coopB_bias_TNN", "nvjet_tst_192x192_64x4_2x1_v_bz_coopB_bias_TNN"),
            ("cast_bf16_f32", "cast_bf16_f32"),
            ("ncclDevKernel_SendRecv(ncclDevKernelArgsStorage<(unsigned long)4096>)", "ncclDevKernel_SendRecv"),
            (
                "void at::native::<unnamed>::vectorized_layer_norm_kernel<float, float, (bool)0>(int, T2, const T1 *)",
                "vectorized_layer_norm_kernel<f32, f32, 0>",
            ),
            (
                "enable_if<!T7, void>::type kernel<int, int, __nv_bfloat16, __nv_bfloat16, __nv_bfloat16, float, 0, 1, 1, 0, 7, 0, cublasGemvParamsEx<int, cublasGemvTensorStridedBatched<const __nv_bfloat16>>>(T13)",
                "gemvx::kernel<int, int, bf16, bf16, bf16, f32, 0, 1, 1, 0, 7, 0>",
            ),
        ] {
            assert_eq!(shorten(name), short);
        }
    }

    #[test]
    fn a_launch_wrapper_never_hides_the_kernel() {
        let gemm = "void cutlass::device_kernel<cutlass::gemm::kernel::GemmUniversal<cute::tuple<int, int, int, int>, cutlass::gemm::collective::CollectiveMma<cutlass::gemm::MainloopSm90TmaGmmaWarpSpecialized<4, cute::tuple<cute::C<2>, cute::C<1>, cute::C<1>>, cutlass::gemm::KernelTmaWarpSpecializedPingpong>, cute::tuple<cute::C<64>, cute::C<128>, cute::C<128>>, cutlass::float_e4m3_t>>>(T1::Params)";
        let short = shorten(gemm);
        assert!(short.starts_with("GemmUniversal<"), "{short}");
        assert!(short.contains("64x128x128") || short.contains('…'), "{short}");
        let attention = "void cutlass::device_kernel<flash::enable_sm90_or_later<flash::FlashAttnFwdSm90<flash::CollectiveMainloopFwdSm90<2, cute::tuple<cute::C<1>, cute::C<1>, cute::C<1> >, cute::tuple<cute::C<128>, cute::C<176>, cute::C<128> >, 128, cutlass::bfloat16_t>>>>(flash::Params)";
        assert!(shorten(attention).starts_with("FlashAttnFwdSm90<"), "{}", shorten(attention));
        for ending in ["Kernel2", "device_kernel", "kernel"] {
            assert_ne!(shorten(gemm), ending);
            assert_ne!(shorten(attention), ending);
        }
        // Nothing better is there to show.
        assert_eq!(shorten("kernel"), "kernel");
        assert_eq!(shorten("internal::gemvx::kernel"), "gemvx::kernel");
    }

    proptest! {
        #[test]
        fn any_text_shortens_to_a_bounded_line(text in "(?s).{0,300}") {
            let short = shorten(&text);
            prop_assert!(short.chars().count() <= MAX_SHORT_CHARS);
            prop_assert!(!short.chars().any(char::is_control));
            prop_assert_eq!(short.trim().is_empty(), text.trim().is_empty() || short.is_empty());
        }

        #[test]
        fn brackets_in_any_order_do_no_harm(text in r"[<>(){}\[\]:,a-c &*é]{0,200}") {
            prop_assert!(shorten(&text).chars().count() <= MAX_SHORT_CHARS);
        }
    }
}
