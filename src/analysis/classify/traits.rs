//! What a kernel name says beside the class: number formats, tensor cores, library, tile.

use std::sync::LazyLock;

use regex::bytes::{Captures, Regex, RegexBuilder, RegexSet, RegexSetBuilder};
use serde::{Deserialize, Serialize};

use super::class::{Collective, KernelClass};
use crate::analysis::kernel_names::NameParts;

/// What the name says. Unknown is `None` or empty.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct KernelTraits {
    /// Library it comes from, e.g. `cublas`, `cutlass3`, `flash_attn2`, `vllm`, `triton`, `candle`, `llama.cpp`, `nccl`, `pytorch`.
    pub library: Option<String>,
    /// Number formats in the name in order of appearance, each once, at most 8, e.g. `bf16`, `fp8_e4m3`, `q8_0`.
    pub dtypes: Vec<String>,
    /// Whether it computes on tensor cores, where the name tells.
    pub tensor_cores: Option<bool>,
    /// Tile of a block, where the name has it.
    pub tile: Option<Tile>,
    /// Head dimension of an attention kernel, where the name has it.
    pub head_dim: Option<u32>,
    /// Kind of communication.
    pub collective: Option<Collective>,
}

/// Tile of a matrix product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tile {
    /// Rows.
    pub m: u32,
    /// Columns.
    pub n: u32,
    /// Depth, where the name has it.
    pub k: Option<u32>,
}

/// Everything the name says about a kernel of `class`.
pub(super) fn of(class: KernelClass, parts: &NameParts) -> KernelTraits {
    let text = parts.template.as_bytes();
    let attention = matches!(
        class,
        KernelClass::Attention
            | KernelClass::AttentionPrefill
            | KernelClass::AttentionDecode
            | KernelClass::AttentionCombine
    );
    let product = matches!(class, KernelClass::Gemm | KernelClass::MoeGemm | KernelClass::Convolution);
    KernelTraits {
        library: first_match(&LIBRARIES, text).map(str::to_owned),
        dtypes: dtypes(text),
        tensor_cores: tensor_cores(class, text),
        tile: product.then(|| tile(text)).flatten(),
        head_dim: attention.then(|| head_dim(text)).flatten(),
        collective: (class == KernelClass::Communication)
            .then(|| first_match(&COLLECTIVES, parts.function.as_bytes()))
            .flatten(),
    }
}

/// Patterns in order, each with what it stands for.
struct Table<T> {
    values: Vec<T>,
    set: RegexSet,
}

fn table<T: Copy>(rows: &[(T, &str)]) -> Table<T> {
    let set = RegexSetBuilder::new(rows.iter().map(|(_, pattern)| pattern)).unicode(false).build();
    Table {
        values: rows.iter().map(|(value, _)| *value).collect(),
        set: set.expect("the built-in patterns are regular expressions: a test compiles them"),
    }
}

fn first_match<T: Copy>(table: &Table<T>, text: &[u8]) -> Option<T> {
    table.set.matches(text).iter().next().map(|at| table.values[at])
}

fn regex(pattern: &str) -> Regex {
    let regex = RegexBuilder::new(pattern).unicode(false).build();
    regex.expect("the built-in patterns are regular expressions: a test compiles them")
}

static LIBRARIES: LazyLock<Table<&'static str>> = LazyLock::new(|| {
    table(&[
        ("nccl", r"^(nccl|rccl|msccl)"),
        ("nvshmem", r"^nvshmem"),
        ("deep_ep", r"^(deep_ep|hybrid_ep)::"),
        ("deep_gemm", r"^deep_gemm::"),
        ("flash_attn3", r"FlashAttn(Fwd|Bwd)(Sm90|Sm100|Combine)|^flash::prepare_varlen"),
        ("flash_mla", r"flash_fwd_(splitkv_)?mla"),
        ("flash_attn2", r"(^|::)flash_(fwd|bwd)_"),
        ("trtllm_gen", r"^(fmhaSm1\d\d|bmm_(Mx)?(E4m3|E2m1|Bfloat16|Fp16))"),
        ("mistralrs", r"^mistralrs"),
        ("flashinfer", r"^flashinfer::|flashinfer(gemm|norm|quant)"),
        ("vllm", r"^vllm::|^(marlin|marlin_moe_wna16)::"),
        ("sglang", r"^sglang::"),
        ("tensorrt_llm", r"^(tensorrt_llm|mmha|moe::dev|fused_moe)(::|$)|^fmha_v2_|^kernel_mha$"),
        ("transformer_engine", r"^transformer_engine::"),
        ("cublaslt", r"^cublasLt::|^nvjet_|^sm\d+_xmma_gemm.*_cublas"),
        (
            "cublas",
            r"^(gemv(NSP|2T|2N)|internal::gemvx|gemvx::|splitKreduce|dot_kernel|reduce_1Block_kernel|gemmSN|gemmk1)|^(volta|turing|ampere|maxwell|hopper)_[a-z0-9_]*gemm|cublasGemv",
        ),
        ("cudnn", r"^cudnn|^cask_cudnn|_scudnn_|_cudnn$"),
        ("cutlass3", r"^cutlass::device_kernel|^cutlass3x_|^kernel_cutlass_"),
        ("cutlass2", r"^cutlass::Kernel2?<|^cutlass_\d+_"),
        (
            "pytorch",
            r"^(at::|c10d::|pytorch_flash::)|^(softmax_warp_|cunn_|distribution_elementwise|elementwise_kernel_with_index)|^fmha_cutlass",
        ),
        ("cub", r"(^|::)(cub|thrust)::"),
        ("rocprim", r"^rocprim::"),
        ("aiter", r"^aiter::"),
        ("composable_kernel", r"^(ck|ck_tile)::"),
        ("tensile", r"^(Custom_)?C[a-z]{3}_A[a-z]{3}_B[a-z]{3}_"),
        (
            "triton",
            r"^triton_|^fused_moe_kernel$|^_?(matmul_ogs|attn_fwd|fwd_kernel|fwd_grouped_kernel)|_triton(_kernel)?$",
        ),
        ("xla", r"^(loop|input|wrapped|gemm)_\w*fusion"),
        ("cupy", r"^cupy_"),
        ("eigen", r"^Eigen::"),
        (
            "llama.cpp",
            r"^(mul_mat_(q|f|vec_q|vec_f|vec)<|mul_mat_q_stream_k|k_(bin_bcast|get_rows|set_rows|argsort)|quantize_mmq|flash_attn_(ext|tile|stream_k|combine|vec)|rms_norm_f32|rope_(neox|norm|multi|vision)|soft_max_f32|unary_(gated_)?op_kernel|cpy_scalar|convert_unary|topk_moe_cuda|mm_ids_helper)",
        ),
        (
            "candle",
            r"^([bu](add|sub|mul|div|maximum|minimum|copy|neg|recip|exp|log|sin|cos|tanh|erf|sqr|sqrt|gelu|silu|relu|sigmoid|powf|abs)|affine|cast|where|copy2d|const_set|fast_(sum|max|min|argmax|argmin)|rmsnorm|layernorm|softmax|rope(_i|_thd)?|is|ia|sa|gather|asort_(asc|desc))_([ui](8|16|32|64)|bf16|f16|f32|f64)",
        ),
    ])
});

static COLLECTIVES: LazyLock<Table<Collective>> = LazyLock::new(|| {
    table(&[
        (Collective::Barrier, r"(?i)barrier|device_sync"),
        (Collective::ReduceScatter, r"(?i)reduce_?scatter"),
        (Collective::AllReduce, r"(?i)all_?reduce|cross_device_reduce|^ggml_cuda_ar_|_ar_kernel"),
        (Collective::AllGather, r"(?i)all_?gather"),
        (Collective::AllToAll, r"(?i)all_?to_?all|a2a|dispatch|combine"),
        (Collective::Broadcast, r"(?i)broadcast"),
        (Collective::SendRecv, r"(?i)send_?recv"),
        (Collective::Reduce, r"(?i)(^|_)reduce(_|$)"),
    ])
});

/// Number formats as names spell them; what the first group matches decides.
static FORMATS: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r"(?i)(?:^|[^a-z0-9])(?:__|nv_|__nv_|__hip_|hip_)*(bf16|bfloat16(?:_t)?|fp16|f16|half2?(?:_t)?|fp32|f32|float|double|f64|fp64|tf32|tfloat32_t|float_e4m3_t|float8_e4m3fn|float8_e4m3|fp8_e4m3|f8_e4m3|mxe4m3|e4m3|float_e5m2_t|float8_e5m2|fp8_e5m2|e5m2|fp8|mxfp8|nvfp4|mxfp4|fp4_e2m1|float_e2m1_t|mxe2m1|e2m1|fp4|int8_t|i8|u8|int4|u32|i64|i32|iq[1-4]_[a-z]+|q[2-8]_[01k])",
    )
});

fn canonical(format: &str) -> &'static str {
    match format {
        "bf16" | "bfloat16" | "bfloat16_t" => "bf16",
        "fp16" | "f16" | "half" | "half2" | "half_t" => "f16",
        "fp32" | "f32" | "float" => "f32",
        "double" | "f64" | "fp64" => "f64",
        "tf32" | "tfloat32_t" => "tf32",
        "float_e4m3_t" | "float8_e4m3fn" | "float8_e4m3" | "fp8_e4m3" | "f8_e4m3" | "e4m3" => "fp8_e4m3",
        "float_e5m2_t" | "float8_e5m2" | "fp8_e5m2" | "e5m2" => "fp8_e5m2",
        "fp8" => "fp8",
        "mxfp8" | "mxe4m3" => "mxfp8",
        "nvfp4" => "nvfp4",
        "mxfp4" | "mxe2m1" => "mxfp4",
        "fp4_e2m1" | "float_e2m1_t" | "e2m1" | "fp4" => "fp4",
        "int8_t" | "i8" => "int8",
        "u8" => "uint8",
        "int4" => "int4",
        "u32" => "uint32",
        "i64" => "int64",
        "i32" => "int32",
        _ => "",
    }
}

/// ggml's numbers of its types, as nsys prints them in template arguments (`(ggml_type)8`).
fn ggml_type(number: &str) -> Option<&'static str> {
    Some(match number {
        "0" => "f32",
        "1" => "f16",
        "2" => "q4_0",
        "3" => "q4_1",
        "6" => "q5_0",
        "7" => "q5_1",
        "8" => "q8_0",
        "10" => "q2_k",
        "11" => "q3_k",
        "12" => "q4_k",
        "13" => "q5_k",
        "14" => "q6_k",
        "16" => "iq2_xxs",
        "17" => "iq2_xs",
        "18" => "iq3_xxs",
        "19" => "iq1_s",
        "20" => "iq4_nl",
        "21" => "iq3_s",
        "22" => "iq2_s",
        "23" => "iq4_xs",
        "29" => "iq1_m",
        "30" => "bf16",
        "39" => "mxfp4",
        _ => return None,
    })
}

static GGML_TYPE: LazyLock<Regex> = LazyLock::new(|| regex(r"\(ggml_type\)(\d+)"));

fn dtypes(text: &[u8]) -> Vec<String> {
    const MOST: usize = 8;
    let mut found: Vec<String> = Vec::new();
    let mut push = |format: &str| {
        if !format.is_empty() && found.len() < MOST && !found.iter().any(|known| known == format) {
            found.push(format.to_owned());
        }
    };
    for captures in GGML_TYPE.captures_iter(text) {
        push(group(&captures, 1).and_then(ggml_type).unwrap_or_default());
    }
    let mut at = 0;
    while let Some(captures) = text.get(at..).and_then(|rest| FORMATS.captures(rest)) {
        let Some(format) = captures.get(1) else { break };
        // The next word may begin where this one ends: `f16_f32`.
        at += format.end();
        let whole_word = text.get(at).is_none_or(|next| !next.is_ascii_alphanumeric());
        let spelled = String::from_utf8_lossy(format.as_bytes()).to_ascii_lowercase();
        let name = match canonical(&spelled) {
            "" => spelled.as_str(),
            name => name,
        };
        // `float2`, `bf16f32`: only whole words, and the joined pairs of xmma names.
        if whole_word || matches!(text.get(at), Some(b'b' | b'f' | b'e' | b'x')) {
            push(name);
        }
    }
    found
}

static ON_TENSOR_CORES: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r"(?i)[hsi](884|1688|16816|161616|8816|16832)(gemm|cudnn)|hmma|imma|tensorop|wgmma|gmma|nvjet|_tensor\d+x\d+x\d+|umma|tcgen05|wmma|mfma|sm90_xmma_gemm|mainloopsm(90|100|120)|cluster_?mma|flashattn(fwd|bwd)sm|flash_(fwd|bwd)_|fmhasm1|^bmm_(mx)?(e4m3|e2m1|bfloat16|fp16)|deep_gemm::sm(90|100)|marlin|_MI\d+x\d+x\d+",
    )
});

static ON_CUDA_CORES: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r"(?i)simt|_ffma_|^(volta|turing|ampere|maxwell|pascal)_[sd]gemm|^(volta|ampere|maxwell)_scudnn|flash_attn_tile|^gemv|gemvx|^mul_mat_vec|^dequantize_mul_mat_vec",
    )
});

fn tensor_cores(class: KernelClass, text: &[u8]) -> Option<bool> {
    if ON_CUDA_CORES.is_match(text) {
        return Some(false);
    }
    let computes = matches!(
        class,
        KernelClass::Gemm
            | KernelClass::MoeGemm
            | KernelClass::Convolution
            | KernelClass::Attention
            | KernelClass::AttentionPrefill
            | KernelClass::AttentionDecode
            | KernelClass::AttentionIndex
            | KernelClass::Ssm
            | KernelClass::Unclassified
    );
    (computes && ON_TENSOR_CORES.is_match(text)).then_some(true)
}

/// Rows and columns, then depth where the dialect has it.
static TILES: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    [
        r"tilesize(\d+)x(\d+)x(\d+)",
        r"_MT(\d+)x(\d+)x(\d+)",
        r"^bmm_.*_t(\d+)x(\d+)x(\d+)",
        // Blocks, then depth × stages.
        r"^nvjet_(?:sm\d+_)?[a-z]+_(?:mma_)?(\d+)x(\d+)_(\d+)x\d+",
        r"^nvjet_(?:sm\d+_)?[a-z]+_(?:mma_)?(\d+)x(\d+)x(\d+)",
        r"gemm_[a-z0-9_]*?(\d+)x(\d+)_(\d+)x\d+_[nt][nt]",
        r"cutlass3x_\w*_(\d+)x(\d+)x(\d+)_",
        r"(?:gemm|cudnn)_[a-z0-9_]*?(\d+)x(\d+)",
        r"cute::tuple<cute::C<(?:\(int\))?(\d{2,})>, ?cute::C<(?:\(int\))?(\d+)>, ?cute::C<(?:\(int\))?(\d+)> ?>",
        r"_(\d+)x(\d+)x(\d+)",
    ]
    .map(regex)
    .into()
});

fn tile(text: &[u8]) -> Option<Tile> {
    let captures = TILES.iter().find_map(|pattern| pattern.captures(text))?;
    let size = |at| group(&captures, at).and_then(|digits| digits.parse().ok());
    Some(Tile { m: size(1)?, n: size(2)?, k: size(3) })
}

static HEAD_DIMS: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    [
        r"Flash_(?:fwd|bwd)_kernel_traits(?:_mla)?<(?:\(int\))?(\d+)",
        r"^fmhaSm1\d\d[a-z]?Kernel_[A-Za-z0-9]*?HQk(\d+)",
        r"^fmhaSm1\d\d[a-z]?Kernel_[A-Za-z0-9]*?H(\d+)",
        r"paged_attention_v[12]_kernel<[^,<>]+, ?[^,<>]+, ?(?:\(int\))?(\d+)",
        r"paged_attention_v2_reduce_kernel<[^,<>]+, ?(?:\(int\))?(\d+)",
        r"flash_attn_(?:ext_f16|ext_vec|vec_ext_f16|tile|stream_k_fixup\w*|combine_results)<(?:\(int\))?(\d+)",
        r"masked_multihead_attention_kernel<(?:[^,<>]+, ?){3}(\d+)",
        // Rows, columns, head dimension.
        r"CollectiveMainloopFwdSm90<\d+, ?cute::tuple<[^()]*?> ?>, ?cute::tuple<cute::C<\d+>, ?cute::C<\d+>, ?cute::C<(\d+)>",
        r"_hd(\d+)_",
    ]
    .map(regex)
    .into()
});

fn head_dim(text: &[u8]) -> Option<u32> {
    let captures = HEAD_DIMS.iter().find_map(|pattern| pattern.captures(text))?;
    group(&captures, 1)?.parse().ok()
}

fn group<'a>(captures: &Captures<'a>, at: usize) -> Option<&'a str> {
    captures.get(at).and_then(|found| std::str::from_utf8(found.as_bytes()).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::classify::Classifier;

    fn traits(name: &str) -> KernelTraits {
        Classifier::builtin().classify(name, name).traits
    }

    #[test]
    fn products_say_tile_format_and_tensor_cores() {
        for (name, library, m, n, k, tensor_cores, dtype) in [
            ("nvjet_tst_192x192_64x4_2x1_v_bz_coopB_bias_TNN", "cublaslt", 192, 192, Some(64), Some(true), None),
            (
                "nvjet_sm121_tst_mma_192x144x64_2_48x72x64_tmaAB_bz_TNNN",
                "cublaslt",
                192,
                144,
                Some(64),
                Some(true),
                None,
            ),
            (
                "ampere_bf16_s16816gemm_bf16_128x64_ldg8_f2f_stages_64x3_nn",
                "cublas",
                128,
                64,
                None,
                Some(true),
                Some("bf16"),
            ),
            ("ampere_sgemm_32x32_sliced1x4_tn", "cublas", 32, 32, None, Some(false), None),
            (
                "void cutlass::Kernel2<cutlass_80_simt_sgemm_128x32_8x5_nn_align1>(T1::Params)",
                "cutlass2",
                128,
                32,
                Some(8),
                Some(false),
                None,
            ),
            (
                "void cutlass::Kernel2<cutlass_80_wmma_tensorop_bf16_s161616gemm_bf16_16x16_32x1_nn_align2>(T1::Params)",
                "cutlass2",
                16,
                16,
                Some(32),
                Some(true),
                Some("bf16"),
            ),
            (
                "sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64_warpgroupsize1x1x1_execute_segment_k_off_kernel__5x_cublas",
                "cublaslt",
                128,
                128,
                Some(64),
                Some(true),
                Some("bf16"),
            ),
            (
                "sm80_xmma_gemm_f32f32_f32f32_f32_tn_n_tilesize32x32x8_stage3_warpsize1x2x1_ffma_aligna4_alignc4_execute_kernel__5x_cublas",
                "cublaslt",
                32,
                32,
                Some(8),
                Some(false),
                Some("f32"),
            ),
            (
                "Cijk_Alik_Bljk_BBS_BH_Bias_HA_S_SAV_UserArgs_MT32x16x256_MI16x16x1_SN",
                "tensile",
                32,
                16,
                Some(256),
                Some(true),
                None,
            ),
            (
                "bmm_E4m3_E4m3E4m3_Fp32_t128x8x64u2_s8_et64x8_m64x8x32_c1x1x1_rM_TN",
                "trtllm_gen",
                128,
                8,
                Some(64),
                Some(true),
                Some("fp8_e4m3"),
            ),
        ] {
            let traits = traits(name);
            assert_eq!(traits.library.as_deref(), Some(library), "{name}");
            assert_eq!(traits.tile, Some(Tile { m, n, k }), "{name}");
            assert_eq!(traits.tensor_cores, tensor_cores, "{name}");
            if let Some(dtype) = dtype {
                assert_eq!(traits.dtypes.first().map(String::as_str), Some(dtype), "{name}");
            }
        }
    }

    #[test]
    fn attention_says_its_head_dimension() {
        for (name, dim) in [
            (
                "void flash::flash_fwd_kernel<Flash_fwd_kernel_traits<(int)128, (int)64, (int)64, (int)4>>(flash::Flash_fwd_params)",
                128,
            ),
            (
                "fmhaSm100fKernel_QkvBfloat16OBfloat16HQk576HV512PagedKvDenseP64VarSeqQ8Kv128PersistentSwapsAbForGen",
                576,
            ),
            ("fmhaSm100aKernel_QE4m3KvE2m1OE4m3H128PagedKvDenseP16VarSeqQ8Kv128PersistentSwapsAbForGen", 128),
            ("void flash_attn_ext_f16<(int)512, (int)512, (int)16, (int)4, (bool)0, (bool)0>(const char *)", 512),
            (
                "void vllm::paged_attention_v1_kernel<unsigned short, unsigned short, 96, 16, 128, (vllm::Fp8KVCacheDataType)0, false>(unsigned short*)",
                96,
            ),
        ] {
            assert_eq!(traits(name).head_dim, Some(dim), "{name}");
        }
        assert_eq!(traits("kernel_unified_attention_2d").head_dim, None);
    }

    #[test]
    fn formats_are_whole_words_in_order() {
        assert_eq!(traits("cast_bf16_f32").dtypes, ["bf16", "f32"]);
        assert_eq!(traits("void mul_mat_q<(ggml_type)12, (int)128, (bool)0>(const char *)").dtypes, ["q4_k"]);
        assert_eq!(traits("mul_mat_vec_q6_K_q8_1_cuda8").dtypes, ["q6_k", "q8_1"]);
        assert_eq!(traits("void convert_unary<float, __nv_bfloat16>(const void *, T2 *)").dtypes, ["f32", "bf16"]);
        assert!(traits("floating_point_thing").dtypes.is_empty());
    }

    #[test]
    fn communication_says_its_kind() {
        for (name, kind) in [
            ("ncclDevKernel_AllReduce_Sum_bf16_RING_LL(ncclDevKernelArgsStorage<4096ul>)", Some(Collective::AllReduce)),
            (
                "ncclDevKernel_ReduceScatter_Sum_bf16_RING_LL(ncclDevKernelArgsStorage<4096ul>)",
                Some(Collective::ReduceScatter),
            ),
            ("ncclDevKernel_SendRecv(ncclDevKernelArgsStorage<(unsigned long)4096>)", Some(Collective::SendRecv)),
            ("void vllm::cross_device_reduce_1stage<__nv_bfloat16, 2>(vllm::RankData*)", Some(Collective::AllReduce)),
            ("void deep_ep::internode_ll::dispatch<true, false, 7168>", Some(Collective::AllToAll)),
            ("ncclDevKernel_Generic_1", None),
            ("badd_f32", None),
        ] {
            assert_eq!(traits(name).collective, kind, "{name}");
        }
    }
}
