//! Attention, its second passes, its caches, its plans.

use super::Part::{Base, Function, Template};
use super::{Rule, rule};
use crate::analysis::classify::class::KernelClass::{
    Attention, AttentionCombine, AttentionDecode, AttentionIndex, AttentionPrefill, InputPreparation, KvWrite,
};

pub(super) const RULES: &[Rule] = &[
    // Plans, masks and index lists; before the kernels they prepare, whose names they carry.
    rule(
        "attention.metadata",
        InputPreparation,
        Base,
        r"(?i)metadata|prepare_varlen|kv_indices|slot_mapping|mask_to_KV_max|mask_to_sparse_indices",
    ),
    rule(
        "attention.indices",
        InputPreparation,
        Base,
        r"(?i)^_?(build|compute|create|convert|expand|pack|get)_.*(indices|indexes|kv_indptr|lens|seq_?lens|positions|block_tables?)",
    ),
    rule(
        "vllm.advance_step",
        InputPreparation,
        Base,
        r"^(advance_step|eagle_prepare_|_?prepare_(pos|prefill|decode|inputs|next|rope_positions))|_block_tables(_|$)",
    ),
    // Scores and selection of the tokens a sparse attention reads.
    rule("attention.index_logits", AttentionIndex, Base, r"(?i)mqa_logits|(^|_)indexer(_|$)"),
    rule("vllm.top_k_per_row", AttentionIndex, Base, r"^topKPerRow|^_dsv4_topk"),
    // Writes of keys and values.
    rule("vllm.reshape_and_cache", KvWrite, Base, r"reshape_and_cache|concat_and_cache|^cp_gather_and_upconvert"),
    rule("kv.append", KvWrite, Base, r"AppendPagedKV|AppendPagedKVMla"),
    rule(
        "kv.store",
        KvWrite,
        Base,
        r"(?i)store_kv_?cache|set_(mla_)?kv_buffer|store_flashmla_cache|destindex_copy_kv|update_?kv_?cache|AssignQKV|kv_cache_(write|store|scatter)|write_kv_cache|(save|store)_kv(_|$)",
    ),
    rule("kv.norm_rope_cache", KvWrite, Base, r"(?i)(norm|rope|rotary).*_(cache|insert)(_|$)"),
    rule("llama_cpp.set_rows", KvWrite, Base, r"^k_set_rows"),
    // Second passes.
    rule(
        "flash.combine",
        AttentionCombine,
        Function,
        r"(?i)flash_?fwd_.*combine|FlashAttnFwdCombine|flash_attn_(combine|stream_k_fixup)|combine_attn_seqk|^fmhaReductionKernel$",
    ),
    rule("flash.combine_cute", AttentionCombine, Template, r"^cutlass::device_kernel<flash::FlashAttnFwdCombine"),
    rule(
        "attention.merge",
        AttentionCombine,
        Base,
        r"MergeState|^merge_state|merge_attn_states|_correct_attn_cp_out|^variable_length_merge_states|AttentionSumKernel|paged_attention_v2_reduce|paged_attention_ll4mi_reduce|^reduce_segments$|^_fwd_kernel_stage2$|_merge_splitk|sparse_mla_decode.*_merge",
    ),
    // Kernels whose names say which phase they are made for.
    rule("trtllm_gen.decode", AttentionDecode, Base, r"^fmhaSm1\d\d[a-z]?Kernel_.*ForGen$"),
    rule("trtllm_gen.prefill", AttentionPrefill, Base, r"^fmhaSm1\d\d[a-z]?Kernel_.*Context$"),
    rule("trtllm.fmha_v2", AttentionPrefill, Base, r"^fmha_v2_"),
    rule("trtllm.masked_mha", AttentionDecode, Base, r"masked_multihead_attention|^mmha_|^kernel_mha(_impl)?$"),
    rule("vllm.paged_attention", AttentionDecode, Base, r"^paged_attention_(v1|v2|ll4mi)|^pa_(bf16|fp16|fp8|a16w8)_"),
    rule("flashinfer.decode", AttentionDecode, Base, r"^(Batch|Single)DecodeWith"),
    rule("flashinfer.prefill", AttentionPrefill, Base, r"^(SinglePrefillWith|BatchPrefillWithRagged|FP8PrefillWith)"),
    // Its tensor-core decode runs the paged prefill kernel too, so the name does not tell the phase.
    rule(
        "flashinfer.attention",
        Attention,
        Base,
        r"^(BatchPrefillWithPaged|PrefillWithKVCache|BatchMLAPage|(Batch)?PODWith)",
    ),
    rule("flash.mla_decode", AttentionDecode, Base, r"^flash_fwd_splitkv_mla|sparse_attn_fwd_decode"),
    rule(
        "triton.decode_stage",
        AttentionDecode,
        Base,
        r"^_fwd_(grouped_)?kernel_stage1|^kernel_unified_attention_3d$|^_fwd_grouped_kernel",
    ),
    rule(
        "attention.decode",
        AttentionDecode,
        Base,
        r"(?i)(attn|attention|mla|flash)_.*decode|(^|_)decode_(attn|attention)|^_?paged_decode_split|flash_c\d+_decode",
    ),
    rule(
        "attention.prefill",
        AttentionPrefill,
        Base,
        r"(?i)(attn|attention|mla|flash)_.*prefill|(^|_)prefill_(attn|attention)",
    ),
    // Vector kernels are chosen for at most a few query columns.
    rule("llama_cpp.flash_vec", AttentionDecode, Base, r"^flash_attn_(ext_vec|vec_ext)"),
    rule("llama_cpp.flash", Attention, Base, r"^flash_attn_(ext|tile|wmma|sinks)"),
    // The rest does not say.
    rule(
        "flash.attn3",
        Attention,
        Template,
        r"^cutlass::device_kernel<(flash::)?(enable_[a-z0-9_]+<)?(flash::)?FlashAttn(Fwd|Bwd)",
    ),
    rule("cute_dsl.attention", Attention, Base, r"^kernel_cutlass_.*(flash_fwd|[aA]ttn|[aA]ttention)"),
    rule("flash.fwd_bwd", Attention, Base, r"^flash_(fwd|bwd)_|^_flash_attn_fwd|^compute_attn_ws"),
    rule("cutlass.fmha", Attention, Base, r"^(fmha_cutlass[FB]_|attention_kernel_batched_impl|fused_attn_device)"),
    rule("cudnn.sdpa", Attention, Base, r"^cudnn_generated_.*sdpa"),
    rule(
        "triton.attention",
        Attention,
        Base,
        r"^(_attn_fwd|_fwd_kernel|_bwd_kernel_dq|_bwd_kernel_dk_dv|kernel_unified_attention(_2d)?|_fused_attention_kernel|attention_kernel_ws)$",
    ),
    rule("amd.fmha", Attention, Template, r"FmhaFwdKernel|FmhaBwd|^aiter::fmha_fwd|^aiter::mla_"),
    rule("attention.sparse", Attention, Base, r"(?i)^_?sparse_(attn|attention)_|^attention_[a-z0-9]"),
];
