//! Which colour class a bar of a trace has: related things share a hue, the same in every chart.

/// Colour class of a kernel class ([`crate::analysis::classify::KernelClass::name`]).
pub(in crate::report) fn kernel_color(class: &str) -> &'static str {
    match class {
        "gemm" | "gemv" | "gemm_reduce" | "moe_gemm" | "lora" | "convolution" => "k0",
        "attention" | "attention_prefill" | "attention_decode" | "attention_combine" | "ssm" => "k1",
        "norm" => "k2",
        "activation" | "softmax" => "k3",
        "rope" | "input_preparation" => "k4",
        "kv_write" | "memcpy" | "memset" | "copy" | "fill" => "k5",
        "elementwise" | "cast" | "quantize" | "dequantize" | "reduction" | "scan" | "pooling" => "k6",
        "gather" | "scatter" | "moe_routing" => "k7",
        "sampling" | "sort" | "random" => "k8",
        "communication" => "k9",
        _ => "k10",
    }
}

/// Colour class of a cause of idle time; what is busy is blue, what nobody can name is grey.
pub(in crate::report) fn cause_color(cause: &str) -> &'static str {
    match cause {
        "busy" => "i0",
        "unknown" | "not_known" | "other" => "i8",
        _ => {
            const COLORS: [&str; 7] = ["i1", "i2", "i3", "i4", "i5", "i6", "i7"];
            CAUSES.iter().position(|known| *known == cause).map_or("i8", |at| COLORS[at % COLORS.len()])
        }
    }
}

/// Causes in the order of their colours.
const CAUSES: [&str; 0] = [];

/// Colour class of any bar of the timeline.
pub(in crate::report) fn bar_color(class: &str) -> &'static str {
    match class {
        "range" | "operator" | "api_call" => "k10",
        "launch_call" => "k4",
        "sync_call" => "k1",
        "copy_call" => "k5",
        "memory_call" => "k9",
        "cuda_graph" | "decode" => "k0",
        "prefill" => "k1",
        "step" | "training_step" => "k2",
        other if CAUSES.contains(&other) => cause_color(other),
        other => kernel_color(other),
    }
}
