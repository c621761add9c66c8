//! PyTorch's own kernels and what its compiler and XLA generate.

use super::Part::{Base, Function, Template};
use super::{Rule, rule};
use crate::analysis::classify::class::KernelClass::{
    Activation, Attention, Cast, Copy, Elementwise, Fill, Gather, Gemm, Loss, Norm, Pooling, Random, Reduction,
    Sampling, Scan, Scatter, Softmax, Sort,
};

pub(super) const RULES: &[Rule] = &[
    rule("pytorch.fill", Fill, Template, r"elementwise_kernel.*(FillFunctor|arange_cuda_out|linspace|eye_out)"),
    rule(
        "pytorch.cast",
        Cast,
        Template,
        r"elementwise_kernel.*((bfloat16|float16|float8)[a-z0-9]*_copy_kernel|gpu_kernel_impl<(void )?at::native::direct_copy_kernel|direct_copy_kernel.*LoadWithCast)",
    ),
    rule(
        "pytorch.copy",
        Copy,
        Template,
        r"elementwise_kernel.*(direct_copy_kernel|copy_device_to_device)|^at::native::CatArrayBatchedCopy",
    ),
    rule(
        "pytorch.activation",
        Activation,
        Template,
        r"elementwise_kernel.*::(GeluCUDA|silu_kernel|sigmoid_kernel|threshold_kernel|elu_kernel|leaky_relu|hardswish|hardsigmoid|softplus|mish_kernel|glu_kernel|relu_kernel)",
    ),
    rule(
        "pytorch.index_put",
        Scatter,
        Template,
        r"index_put_kernel_impl|^at::native::(indexing_backward|indexFunc(Large|Small)Index|indexAdd)|_scatter_gather_elementwise_kernel<.*_cuda_scatter_gather_internal_kernel<(\(bool\))?(true|1)",
    ),
    rule(
        "pytorch.index",
        Gather,
        Template,
        r"index_kernel_impl|^at::native::(indexSelect|vectorized_gather|embedding|EmbeddingBag|index_elementwise)|_scatter_gather_elementwise_kernel<.*_cuda_scatter_gather_internal_kernel<(\(bool\))?(false|0)",
    ),
    rule("pytorch.random", Random, Base, r"^distribution_(elementwise|nullary)|^fused_dropout_kernel"),
    rule("pytorch.argmax", Sampling, Template, r"^at::native::reduce_kernel<.*Arg(Max|Min)Ops"),
    rule("pytorch.multinomial", Sampling, Base, r"^(sampleMultinomial|renormRowsL1)"),
    rule("pytorch.reduce", Reduction, Function, r"^at::native::reduce_kernel"),
    rule(
        "pytorch.softmax",
        Softmax,
        Base,
        r"^(cunn_SoftMax|cunn_SpatialSoftMax|softmax_warp_(forward|backward)|softMaxForward)",
    ),
    rule(
        "pytorch.norm",
        Norm,
        Base,
        r"^(vectorized_layer_norm_kernel|RowwiseMoments|LayerNormForward|GroupNorm|cuApplyLayerNorm|batch_norm_|rms_norm_kernel)",
    ),
    rule(
        "pytorch.top_k",
        Sort,
        Function,
        r"^at::native::(sbtopk|mbtopk|bitonicSort|radixSort|segmented_sort|sort_postprocess|fill_(reverse_)?indices)",
    ),
    rule("pytorch.scan", Scan, Base, r"^tensor_kernel_scan_"),
    rule("pytorch.loss", Loss, Base, r"nll_loss|ClassNLLCriterion|(^|_)cross_entropy_"),
    rule(
        "pytorch.pooling",
        Pooling,
        Base,
        r"^(max|avg|adaptive_average|adaptive_max)_?pool.*(forward|backward|nchw|nhwc|_out)|^upsample_.*_out_frame",
    ),
    rule("pytorch.triangle", Elementwise, Base, r"^triu_tril_kernel"),
    rule("pytorch.foreach", Elementwise, Function, r"^at::native::multi_tensor_apply_kernel"),
    rule(
        "pytorch.elementwise",
        Elementwise,
        Function,
        r"^at::native::(vectorized_(templated_)?|unrolled_|legacy_)?elementwise_kernel(_manual_unroll|_with_index)?$",
    ),
];

pub(super) const COMPILED: &[Rule] = &[
    // A template names the operator it was made for.
    rule("inductor.attention", Attention, Base, r"^triton_tem_fused_.*attention"),
    rule("inductor.gemm", Gemm, Base, r"^triton_tem_fused_.*(mm|bmm|addmm|linear)"),
    rule("inductor.norm", Norm, Base, r"^triton_(red|per)_fused_.*(rms_norm|layer_norm|group_norm|rsqrt)"),
    rule("inductor.activation", Activation, Base, r"^triton_(poi|red|per)_fused_.*(silu|gelu|relu|sigmoid_mul|swiglu)"),
    rule("inductor.softmax", Softmax, Base, r"^triton_(red|per)_fused_.*softmax|^triton_softmax"),
    rule("inductor.argmax", Sampling, Base, r"^triton_(red|per)_fused_.*argmax"),
    rule("inductor.scatter", Scatter, Base, r"^triton_poi_fused_(index_put|scatter)(_\d+)?$"),
    rule("inductor.gather", Gather, Base, r"^triton_poi_fused_(embedding|index|gather|index_select)(_\d+)?$"),
    rule("inductor.cast", Cast, Base, r"^triton_poi_fused__to_copy_\d+$"),
    rule("inductor.scan", Scan, Base, r"^triton_spl_fused_"),
    rule("inductor.reduction", Reduction, Base, r"^triton_(red|per)_fused"),
    rule("inductor.pointwise", Elementwise, Base, r"^triton_poi_fused"),
    rule("xla.gemm", Gemm, Base, r"^(triton_)?gemm_fusion|^cublas_gemm"),
    rule("xla.cast", Cast, Base, r"^(loop|wrapped)_convert(_fusion)?(_\d+)*$"),
    rule("xla.copy", Copy, Base, r"^(input|loop|wrapped)_(transpose|concatenate|copy|slice|pad)(_fusion)?(_\d+)*$"),
    rule("xla.gather", Gather, Base, r"^(loop|wrapped)_gather(_fusion)?(_\d+)*$"),
    rule("xla.scatter", Scatter, Base, r"^(input|wrapped)_scatter(_fusion)?(_\d+)*$"),
    rule("xla.reduction", Reduction, Base, r"^(input|wrapped)_(\w+_)?reduce(_fusion)?(_\d+)*$"),
    rule(
        "xla.elementwise",
        Elementwise,
        Base,
        r"^(loop|wrapped)_(add|multiply|subtract|divide|select|maximum|minimum|exponential|tanh|compare|negate|power|log|sqrt|rsqrt|and|or)(_fusion)?(_\d+)*$",
    ),
];
