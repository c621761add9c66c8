//! Which ranges a library or a framework emits about itself.

/// Domains of libraries, in lower case.
const DOMAINS: [&str; 16] = [
    "cccl", "nccl", "cublas", "cublaslt", "cudnn", "cusparse", "cusolver", "cufft", "tensorrt", "mpi", "ucx",
    "nvshmem", "libcudf", "raft", "nvcomp", "cutensor",
];
/// Begins of names, in lower case.
const PREFIXES: [&str; 12] = [
    "cub::", "thrust::", "nccl", "cublas", "cudnn", "cusparse", "cusolver", "cufft", "curand", "mpi_", "nvshmem",
    "ucp_",
];

/// Whether a range label (`domain:name` or `name`) is one that a library emits about itself, not the user about their work.
pub(crate) fn is_library_range(label: &str) -> bool {
    let starts = |name: &str| {
        PREFIXES.iter().any(|prefix| name.get(..prefix.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(prefix)))
    };
    if starts(label) {
        return true;
    }
    match label.split_once(':') {
        // `cub::Sum` has no domain; its first part is a namespace.
        Some((_, name)) if name.starts_with(':') => false,
        Some((domain, name)) => DOMAINS.iter().any(|known| domain.eq_ignore_ascii_case(known)) || starts(name),
        None => false,
    }
}

/// Whether a range name is an operator of a framework, as PyTorch emits them with `emit_nvtx`.
pub(crate) fn is_framework_range(label: &str) -> bool {
    label.starts_with("aten::") || label.starts_with("autograd::") || label.contains(", op_id = ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_told_from_users() {
        for label in [
            "cub::DeviceReduce::Sum",
            "CCCL:cub::DeviceReduce::Sum",
            "ncclAllReduce",
            "NCCL:ncclSend",
            "cublasCreate_v2",
            "MPI:MPI_Send",
        ] {
            assert!(is_library_range(label), "{label}");
        }
        for label in ["decode", "layer.3", "my:attn", "Loop", "nvtx::thing", "mpiRank", "ünïcode", ""] {
            assert!(!is_library_range(label), "{label}");
        }
        assert!(is_framework_range("aten::copy_, op_id = 991065") && !is_framework_range("attention"));
    }
}
