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

/// Colour class of a cause of idle time ([`crate::analysis::idle::IdleCause::name`]), of `busy` and of `below_1us`; `None` for other words.
pub(in crate::report) fn cause_color(cause: &str) -> Option<&'static str> {
    Some(match cause {
        "busy" => "i0",
        "host_sync" => "i1",
        "host_busy" => "i2",
        "host_launch" => "i3",
        "allocation" => "i4",
        "module_load" => "i5",
        "graph_setup" => "i6",
        "profiler_overhead" => "i7",
        "stream_dependency" => "i8",
        "copy_dependency" => "i9",
        "graph_boundary" => "i10",
        "queue_latency" => "i11",
        "below_1us" => "i12",
        "before_work" | "after_work" => "i13",
        "unknown" => "i14",
        _ => return None,
    })
}

/// Colour class of any bar of the timeline.
pub(in crate::report) fn bar_color(class: &str) -> &'static str {
    match class {
        "idle" => "i13",
        "launch_call" => "k4",
        "memory_call" => "k9",
        "cuda_graph" | "decode" => "k0",
        "sync_call" | "prefill" => "k1",
        "copy_call" => "k5",
        "step" | "training_step" => "k2",
        other => cause_color(other).unwrap_or_else(|| kernel_color(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::idle::IdleCause;

    #[test]
    fn every_cause_has_a_colour() {
        for cause in IdleCause::ALL {
            assert!(cause_color(cause.name()).is_some(), "{}", cause.name());
        }
    }
}
