//! Libraries of linear algebra, convolution, transforms and parallel primitives.

use super::Part::{Base, Function, Template};
use super::{Rule, rule};
use crate::analysis::classify::class::KernelClass::{
    Convolution, Copy, Elementwise, Fft, Fill, Gemm, GemmReduce, Gemv, Norm, Pooling, Random, Reduction, Scan, Sort,
};

pub(super) const RULES: &[Rule] = &[
    rule("cublas.split_k_reduce", GemmReduce, Base, r"^splitKreduce_kernel|^reduce_1Block_kernel"),
    rule(
        "cutlass.split_k_reduce",
        GemmReduce,
        Template,
        r"^cutlass::Kernel2?<cutlass::reduction::kernel::ReduceSplitK",
    ),
    rule("cublas.gemv", Gemv, Base, r"^gemv(NSP|2T|2N)_kernel|^gemv2[TN]_kernel_val|^dot_kernel$"),
    rule("cublas.gemvx", Gemv, Template, r"(^|::)gemvx::kernel|^kernel<.*cublasGemv"),
    rule("cublas.nvjet", Gemm, Base, r"^nvjet_"),
    // Convolutions carry the words of products; they come first.
    rule(
        "cudnn.convolution",
        Convolution,
        Base,
        r"^(cudnn_(infer|train)_)?(volta|turing|ampere|maxwell|pascal)_(fp16_|int8_)?(scudnn|h?s?\d*cudnn|cudnn)|fprop_implicit_gemm|dgrad_implicit|wgrad_implicit|_fprop_|implicit_convolve_sgemm|explicit_convolve_sgemm",
    ),
    rule(
        "cudnn.convolution_names",
        Convolution,
        Function,
        r"^(cudnn::)?(cnn::|winograd|detail::(dgrad|wgrad|implicit|explicit)|engines_precompiled::.*conv)|^cudnn::winograd|cask_cudnn|^(cudnn::cnn::)?(wgrad|dgrad)_alg|im2col4d|(^|::)(wgrad|dgrad)(2d)?_(alg0|engine)",
    ),
    rule("cudnn.norm", Norm, Base, r"^bn_(fw|bw)_"),
    rule("cudnn.layout", Copy, Base, r"^n(chwToNhwc|hwcToNchw)Kernel|^transpose_readWrite|^nhwcAddPadding"),
    rule("cudnn.scale", Elementwise, Base, r"^scalePackedTensor|^op_generic_tensor_kernel|^add_tensor_kernel"),
    rule("cudnn.pooling", Pooling, Base, r"^pooling_(fw|bw)_"),
    rule(
        "cublas.gemm",
        Gemm,
        Base,
        r"^(volta|turing|ampere|maxwell|pascal|hopper|ada|blackwell)_[a-z0-9_]*gemm|^sm\d+_xmma_gemm|^gemm(SN|k1|_kernel2x2|Ex)|^[sdhcz]gemm_(largek|sm|kernel)",
    ),
    rule("cutlass.name", Gemm, Base, r"^cutlass(3x)?_\w*gemm"),
    rule("cutlass.kernel2", Gemm, Template, r"^cutlass::Kernel2?<cutlass_\d+_\w*gemm"),
    rule(
        "cutlass3.gemm_universal",
        Gemm,
        Template,
        r"^cutlass::device_kernel<([a-z0-9_]+<)?(cutlass::gemm::kernel::)?GemmUniversal",
    ),
    rule("cutlass2.gemm", Gemm, Template, r"^cutlass::Kernel2?<([A-Za-z0-9_:]+<)?cutlass::gemm::"),
    rule("cutlass3.gemm", Gemm, Template, r"^cutlass::device_kernel<.*[gG]emm"),
    rule("cute_dsl.gemm", Gemm, Base, r"^kernel_cutlass_.*[gG]emm"),
    rule("deep_gemm", Gemm, Function, r"^deep_gemm::.*gemm"),
    rule("marlin", Gemm, Base, r"^Marlin(_24)?$"),
    rule("awq_gptq", Gemm, Base, r"^(awq_gemm_kernel|gemm_forward_4bit|gemm_half_q_half|MatMulFp4|machete)"),
    rule("bitsandbytes.gemv", Gemv, Base, r"^kgemm_4bit_inference_naive"),
    rule("bitsandbytes.gemm", Gemm, Base, r"^kgemm_4bit_inference$"),
    rule("trtllm.weight_only", Gemm, Function, r"::weight_only::kernel$"),
    rule("amd.tensile", Gemm, Base, r"^(Custom_)?C[a-z]{3}_A[a-z]{3}_B[a-z]{3}_"),
    rule("amd.ck_gemm", Gemm, Function, r"^ck::kernel_(batched_)?gemm|^aiter::(fp8gemm|f4gemm|bf16gemm|i8gemm)"),
    rule("gemm.first_word", Gemm, Base, r"^_?(batched_)?(gemm|matmul)_|^w\d+a\d+_|_einsum_kernel$"),
    rule("gemv.words", Gemv, Base, r"(?i)(^|_)(gemv|matvec)(_|$)"),
    rule("amd.skinny", Gemv, Base, r"^(wvSplitK|LLGemm1)"),
    rule("cub.reduce", Reduction, Function, r"cub::.*Device(Segmented)?Reduce|^thrust::.*reduce_kernel"),
    rule("cub.scan", Scan, Function, r"cub::.*DeviceScan"),
    rule("cub.sort", Sort, Function, r"cub::.*Device(Segmented)?(RadixSort|MergeSort|Sort)"),
    rule("cufft", Fft, Base, r"^(vector_fft|regular_fft|multi_bluestein)"),
    rule("curand", Random, Base, r"^(generate_seed_pseudo|gen_sequenced)"),
    rule("cupy.fill", Fill, Base, r"^cupy_fill"),
    rule("cupy.copy", Copy, Base, r"^cupy_copy_"),
    rule("cupy.elementwise", Elementwise, Base, r"^cupy_[a-z_]+__[a-z0-9_]+$"),
    rule("eigen.elementwise", Elementwise, Template, r"^Eigen::internal::EigenMetaKernel<.*CwiseBinaryOp"),
];
