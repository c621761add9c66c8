//! Kernels of inference engines: communication, mixtures of experts, recurrent layers, sampling, norms and the like.

use super::Part::{Base, Function, Template};
use super::{Rule, rule};
use crate::analysis::classify::class::KernelClass::{
    Activation, Communication, Dequantize, Fft, Lora, Memcpy, Memset, MoeGemm, MoeRouting, Norm, Quantize, Rope,
    Sampling, Softmax, Ssm,
};

/// Routing data of expert products carries the word `metadata`, which elsewhere means a plan of attention.
pub(super) const ROUTING_METADATA: &[Rule] =
    &[rule("moe.triton_kernels_metadata", MoeRouting, Base, r"^_(bitmatrix|ragged_tensor)_metadata_")];

pub(super) const COMMUNICATION: &[Rule] = &[
    rule("nccl", Communication, Base, r"^(nccl(Dev|SymDev)?Kernel|rccl|msccl)"),
    rule(
        "custom_all_reduce",
        Communication,
        Base,
        r"cross_device_reduce|^quickreduce|^allreduce_prototype|(^|_)ar_(one|two)shot",
    ),
    rule("all_reduce", Communication, Base, r"(?i)all_?reduce|^ggml_cuda_ar_|lamport|^userbuffers_"),
    rule("all_gather", Communication, Base, r"(?i)all_?gather|reduce_?scatter|all_?to_?all|(^|_)a2a(_|$)|^moeA2A"),
    rule("deep_ep", Communication, Function, r"^(deep_ep|hybrid_ep)::"),
    rule(
        "nvshmem",
        Communication,
        Base,
        r"^nvshmem|^barrier_(on_stream|all)|RdmaBarrier|UlyssesPcieBarrier|multimem_|^barrier_triton",
    ),
    rule("driver.copy", Memcpy, Base, r"^(__amd_rocclr_copy|memcpy32_post|memcpy_triton_kernel$)"),
    rule("driver.fill", Memset, Base, r"^(__amd_rocclr_fill|memset(8|16|32|64)?(_post|_aligned1D)?$)"),
];

pub(super) const MIXTURE_OF_EXPERTS: &[Rule] = &[
    rule("lora", Lora, Base, r"(?i)lora_(shrink|expand)|[bs]gmv_(shrink|expand)|^grouped_(shrink|expand)|_lora_"),
    // Products of the experts.
    rule("moe.triton", MoeGemm, Base, r"^fused_moe_kernel|^_?(p_)?matmul_ogs(_|$)|^_batched_triton_kernel$"),
    rule("moe.trtllm_gen", MoeGemm, Base, r"^bmm_(Mx)?(E4m3|E2m1|Bfloat16|Fp16|E8m7)"),
    rule(
        "moe.cutlass2",
        MoeGemm,
        Template,
        r"MoeFCGemm|Fused_Moe_Kernel|^cutlass::Kernel2?<cutlass::gemm::kernel::GemmGrouped",
    ),
    rule(
        "moe.cutlass3_grouped",
        MoeGemm,
        Template,
        r"^cutlass::device_kernel<.*(GroupProblemShape|MoEProblemShape|PtrArray|ArrayTma|ArrayTmaGmma)",
    ),
    rule("moe.marlin", MoeGemm, Function, r"^marlin_moe|moe_wna16|^MarlinMoE"),
    rule("moe.deep_gemm", MoeGemm, Template, r"^deep_gemm::.*GemmType\)[12]"),
    rule("moe.amd", MoeGemm, Function, r"^mfma_moe[12]_|kernel_moe_(mx)?gemm|^aiter::fmoe|moe_ck2stages"),
    rule(
        "moe.gguf",
        MoeGemm,
        Base,
        r"^(moe_gemm|indexed_moe_forward|mul_mat_vec_q_moe|mul_mat_f_ids|moe_grouped_gemm|exl3_moe_kernel|moe_gemv|mxfp4_moe|fp8_moe_gemm)",
    ),
    rule(
        "moe.gemm_words",
        MoeGemm,
        Base,
        r"(?i)(moe|expert|grouped).*_?(gemm|gemv|matmul)(_|$|Kernel)|(gemm|gemv|matmul)_(moe|expert|grouped)|w4a16_moe|^_stage[12]_.*(gemm|gemv)",
    ),
    // Routing and data movement around them.
    rule(
        "moe.topk_gating",
        MoeRouting,
        Base,
        r"(?i)topk_?(gating|softplus|softmax)|^moe_?(hash_)?topk|_topk_(ids|routes)_|topk_moe|grouped_topk|moe_fused_gate|deepseek_v3_topk|compact_topk_ids",
    ),
    rule(
        "moe.align",
        MoeRouting,
        Base,
        r"moe_align|count_and_sort_expert|_tokens_per_expert|expert_prefix_sum|[eE]xpertPrefixSum|BuildExpertMaps|moe_sort|ActiveExpertMaps|mm_ids_helper|compute_expert_offsets|get_group(ed)?(_gemm)?_starts",
    ),
    rule("moe.trtllm_dev", MoeRouting, Function, r"^moe::dev::(routing|finalize|permute)::"),
    rule(
        "moe.cutlass_prepare",
        MoeRouting,
        Base,
        r"^(expandInputRows|finalizeMoeRouting|finalizeDeepSeek|computeStridesTmaWarpSpecialized|moe(Permute|Unpermute)|routing(Main|Indices|Init))",
    ),
    rule(
        "moe.triton_kernels",
        MoeRouting,
        Base,
        r"^(_topk_forward|_sum_bitmatrix_rows|_combined_routing|_finalize_matmul_scatter|_routing_)",
    ),
    rule(
        "moe.sglang_ep",
        MoeRouting,
        Base,
        r"^_?sort_chunks_by|^_(un)?permute_kernel$|^ep_(scatter|gather)_|^(post_reorder|pre_reorder|compute_seg_indptr|deepgemm_compute_src2dst|compute_src2dst|fill_gateup_input|compute_masked_m)",
    ),
    rule(
        "moe.sum",
        MoeRouting,
        Base,
        r"^_?moe_(sum|weighted_red|reduc|router|route|dispatch|permute|unpermute)|_moe_(sum|route|sorting)",
    ),
    rule("moe.router", MoeRouting, Base, r"^_?router_(triton_)?(kernel|topk)|(^|_)routing(_|$)|MoeRouting"),
];

pub(super) const RECURRENT: &[Rule] = &[
    rule("mamba.chunk", Ssm, Base, r"^_?(chunk_(scan|state|cumsum)|state_passing|bmm_chunk)_|^_fused_chunk_scan"),
    rule("mamba.scan", Ssm, Base, r"selective_(scan|state)|^ssm_|causal_conv1d|_mamba_|(^|_)ssu(_|$)|(^|_)conv_state_"),
    rule("linear_attention.norm", Norm, Base, r"^_?gdn_(rms|layer)_?norm"),
    rule(
        "linear_attention",
        Ssm,
        Base,
        r"(?i)gated_delta|delta_rule|gated_linear_attn|^gdr_|^rwkv_|^_?gdn_|^fused_gdn|^chunk_fwd_kernel_|recompute_w_u|merge_16x16_to_\d+x\d+_inverse|^fused_recurrent_|lightning_attn|^kernel_flashkda|(^|_)kda(_|$)",
    ),
];

pub(super) const SAMPLING: &[Rule] = &[
    rule("flashinfer.sampling", Sampling, Function, r"^flashinfer::sampling::"),
    rule(
        "sampling.top",
        Sampling,
        Base,
        r"(?i)sampling|^_?topk_topp|^topKStage[12]|^top(1|k)_large_stage|^_?(temperature|min_p|bad_words|gumbel_sample)_",
    ),
    rule("sampling.penalties", Sampling, Base, r"(?i)penalt(y|ies)"),
    rule(
        "sampling.verify",
        Sampling,
        Base,
        r"^_?rejection_|_(re)?sampled?(_|$)|^_?resample|draft_tokens|logits_(stats|bias)|TopPRenorm|TopKRenorm|TopKMaskLogits|^sample_recovered_tokens|greedy_select|^categorical_|sample_kernel$",
    ),
    rule("sampling.argmax", Sampling, Base, r"(?i)^(fast_)?argmax_|_argmax(_|$)"),
];

pub(super) const LAYERS: &[Rule] = &[
    rule(
        "trtllm.activation",
        Activation,
        Function,
        r"^moe::dev::activation::|(^|::)(do|doGated|moe)?[aA]ctivation(DeepSeek)?Kernel$",
    ),
    rule("act_and_mul", Activation, Base, r"act_and_mul|^_?act_mul"),
    rule("cute_dsl.norm", Norm, Base, r"^kernel_cutlass_.*norm"),
    rule("cute_dsl.quantize", Quantize, Base, r"^kernel_cutlass_.*quantize"),
    rule("norm.rms", Norm, Base, r"(?i)rms_?norm|_rms_norm|fused_rms_|QKNormRope"),
    rule("norm.layer", Norm, Base, r"(?i)layer_?norm|^ln_(fwd|bwd)_kernel"),
    rule("norm.template", Norm, Template, r"^ck_tile::kentry<.*(Rmsnorm2dFwd|Layernorm2dFwd)"),
    rule("norm.words", Norm, Base, r"(^|_)norm(_|$)|(^|_)rms(_|$)|^fused_add_rms"),
    rule("rope.engines", Rope, Base, r"(?i)rotary|mrope|(^|_)rope(_|$)|RopeQuantize|applyRope|^rope_"),
    rule("activation.words", Activation, Base, r"(?i)(^|_)(silu|gelu|swiglu|geglu|reglu|relu|glu)(_|$)|leaky_relu"),
    rule("softmax.words", Softmax, Base, r"(?i)^_?soft_?max_|_softmax(_|$)"),
    // `dequant` before `quant`.
    rule(
        "dequantize",
        Dequantize,
        Base,
        r"(?i)(^|_)dequant|[A-Za-z0-9]Dequant|^afq_dequant|^reconstruct_(gptq|exllama)|^fp8_to_dtype_scaled",
    ),
    rule(
        "quantize.fp8",
        Quantize,
        Base,
        r"(?i)scaled_(fp8|int8|fp4)_quant|_token_(group_)?quant|per_group_scaled_quant|^segmented_max_reduction$|^cvt_fp16_to_fp4|^scale_1x128|^scale_128x128",
    ),
    rule(
        "quantize.words",
        Quantize,
        Base,
        r"(?i)quantiz|(^|_)quant(_|$)|_to_(fp8|e4m3|e5m2|fp4|nvfp4|mxfp[48])(_|$)|quant_fp8|QuantKernel|^kQuantize",
    ),
    rule("hadamard", Fft, Base, r"(?i)hadamard|^fwht"),
];
