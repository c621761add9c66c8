//! Names of candle, mistral.rs and llama.cpp: plain C names, matched whole.

use super::Part::{Base, Template};
use super::{Rule, rule};
use crate::analysis::classify::class::KernelClass::{
    Activation, Cast, Convolution, Copy, Dequantize, Elementwise, Fill, Gather, Gemm, GemmReduce, Gemv, Norm, Pooling,
    Quantize, Reduction, Rope, Scan, Scatter, Softmax, Sort,
};

pub(super) const CANDLE: &[Rule] = &[
    rule("candle.activation", Activation, Base, r"^u(gelu|gelu_erf|relu|silu|sigmoid|elu)_[a-z0-9_]+$"),
    rule("candle.copy", Copy, Base, r"^(ucopy|copy2d)_[a-z0-9_]+$"),
    rule(
        "candle.unary",
        Elementwise,
        Base,
        r"^u(neg|recip|exp|log|sin|cos|tanh|erf|ceil|floor|round|normcdf|abs|sqr|sqrt|sign|powf)_[a-z0-9_]+$",
    ),
    rule(
        "candle.binary",
        Elementwise,
        Base,
        r"^(b(add|sub|mul|div|maximum|minimum)|eq|ne|lt|le|gt|ge|affine|where)_(([ui](8|16|32|64)|bf16|f16|f32|f64|f8_e4m3)_?)+$",
    ),
    rule(
        "candle.cast",
        Cast,
        Base,
        r"^cast_([ui](8|16|32|64)|bf16|f16|f32|f64|f8_e4m3)_([ui](8|16|32|64)|bf16|f16|f32|f64|f8_e4m3)$",
    ),
    rule("candle.fill", Fill, Base, r"^(fill|const_set|arange)_([ui](8|16|32|64)|bf16|f16|f32|f64|f8_e4m3)(_kernel)?$"),
    rule("candle.reduce", Reduction, Base, r"^fast_(sum|min|max)_[a-z0-9_]+$"),
    rule("candle.softmax", Softmax, Base, r"^softmax_(bf16|f16|f32|f64)$"),
    rule("candle.norm", Norm, Base, r"^(rmsnorm|layernorm)_(bf16|f16|f32|f64)$"),
    rule("candle.rope", Rope, Base, r"^rope(_i|_thd)?_(bf16|f16|f32|f64)$"),
    rule("candle.gather", Gather, Base, r"^(is|gather)_(u8|u32|i64|i32|i16)_[a-z0-9_]+$"),
    rule("candle.scatter", Scatter, Base, r"^(ia|sa|s)_(u8|u32|i64|i32|i16)_[a-z0-9_]+$"),
    rule("candle.sort", Sort, Base, r"^asort_(asc|desc)_[a-z0-9_]+$"),
    rule(
        "candle.convolution",
        Convolution,
        Base,
        r"^(conv[12]d|conv_transpose[12]d|im2col(1d)?|col2im1d)_(([ui](8|16|32|64))|bf16|f16|f32|f64)$",
    ),
    rule("candle.pooling", Pooling, Base, r"^((avg|max)_pool2d|upsample_(nearest|bilinear)2d)_[a-z0-9_]+$"),
    rule("mistralrs.glu", Activation, Base, r"^(fused_(split_)?glu_kernel|gptoss_swiglu)"),
    rule("mistralrs.cache_gather", Gather, Base, r"^gather_(kv_cache|mla_cache|rows|weighted)"),
    rule("mistralrs.afq_gemm", Gemm, Base, r"^(afq_qmm|fp8_matmul|mxfp4_matmul|fp8_gemm)"),
    rule("mistralrs.gemv", Gemv, Base, r"^(afq_qmv|mxfp4_vecmat|gemv_kernel_batched)"),
    rule("mistralrs.cast", Cast, Base, r"^(fp8_to_dtype|dtype_to_fp8)_kernel"),
    rule(
        "mistralrs.elementwise",
        Elementwise,
        Base,
        r"^(bitwise_(and|or|xor|not)_|(left|right)shift_kernel|apply_causal_mask)",
    ),
    rule("mistralrs.repack", Copy, Base, r"^(shuffle|make_sequential)_\dbit_kernel|^(un)?pack_\d+bit|_repack_kernel$"),
];

pub(super) const LLAMA_CPP: &[Rule] = &[
    rule("llama_cpp.mmvq", Gemv, Base, r"^(mul_mat_vec(_|$)|dequantize_mul_mat_vec)"),
    rule("llama_cpp.stream_k_fixup", GemmReduce, Base, r"^mul_mat_q_stream_k_fixup"),
    rule("llama_cpp.mmq", Gemm, Base, r"^mul_mat_(q|f)([0-9_]|$)"),
    rule("llama_cpp.rope", Rope, Base, r"^rope_(neox|norm|multi|vision)"),
    rule("llama_cpp.norm", Norm, Base, r"^(rms_norm|norm|group_norm|l2_norm)(_back|_mul_rope)?_f32"),
    rule("llama_cpp.softmax", Softmax, Base, r"^soft_max_(back_)?f32"),
    rule("llama_cpp.quantize", Quantize, Base, r"^(quantize_(q8_1|mmq)|mmvq_gguf_quantize|cpy_f32_q)"),
    rule("llama_cpp.dequantize", Dequantize, Base, r"^(dequantize_block|cpy_q_f32)"),
    rule("llama_cpp.get_rows", Gather, Base, r"^(k_get_rows|get_rows_)"),
    rule(
        "llama_cpp.cast",
        Cast,
        Template,
        r"^convert_unary|^cpy_scalar\w*<(&cpy_1_scalar<)?(float, (__half|half|__nv_bfloat16|nv_bfloat16|int)|(__half|half), (float|__nv_bfloat16|nv_bfloat16)|(__nv_bfloat16|nv_bfloat16), (float|__half|half))\W",
    ),
    rule(
        "llama_cpp.copy",
        Copy,
        Base,
        r"^(cpy_scalar|concat_(cont|non_cont|f32)|pad_(reflect_1d_kernel_)?f32|k_repeat|roll_f32)",
    ),
    rule(
        "llama_cpp.binary",
        Elementwise,
        Base,
        r"^(k_bin_bcast|scale_f32|softcap_(bf16|f16|f32)|op_clamp|add_id_kernel|acc_f32|diag_mask_inf|tri_kernel|timestep_embedding)",
    ),
    rule(
        "llama_cpp.activation",
        Activation,
        Template,
        r"^unary_(gated_)?op_kernel<&?\(?(op_)?(gelu|silu|relu|sigmoid|hardswish|hardsigmoid|leaky_relu|elu|softplus|gelu_erf|gelu_quick|xielu)|^unary_gated_op_kernel|^(swiglu_|xielu_|silu_back|leaky_relu)",
    ),
    rule("llama_cpp.unary", Elementwise, Base, r"^unary_op_kernel"),
    rule("llama_cpp.reduce", Reduction, Base, r"^(reduce_rows_f32|sum_rows|count_equal|divide_by_count)"),
    rule("llama_cpp.scan", Scan, Base, r"^cumsum_(cub_)?kernel"),
    rule("llama_cpp.sort", Sort, Base, r"^(k_argsort|top_k_radix|bitonic_sort_kernel)"),
    rule("llama_cpp.fill", Fill, Base, r"^(fill_kernel$|arange_f32$)"),
    rule("llama_cpp.convolution", Convolution, Base, r"^(im2col|conv[123]d_|conv_transpose_|col2im|conv2d_dw)"),
    rule("llama_cpp.pooling", Pooling, Base, r"^(pool[12]d_nchw|upscale_f32)"),
];
