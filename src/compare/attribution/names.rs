//! Kernel names without what changes from one version, shape or tuning to the next.

use std::sync::LazyLock;

use regex::Regex;

use crate::analysis::kernel_names::{NameParts, demangle, shorten};

/// `128x256`, `64x64x32`: tiles, clusters, stages.
static TILE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\d+(?:x\d+)+").expect("the pattern is a constant and tested"));
/// A template argument that is a number or a truth value, with the comma before or after it.
static NUMBER_ARGUMENT: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"([<,]) *(?:-?\d+|#|true|false)([,>])").expect("the pattern is a constant and tested")
});
/// The running number at the end of a generated kernel (`triton_poi_fused_add_3`).
static RUNNING_NUMBER: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^([A-Za-z_][A-Za-z0-9_]*?[A-Za-z])_+\d+$").expect("the pattern is a constant and tested")
});

/// The name under which kernels of two traces are held to be the same: tile sizes, numeric template arguments and running numbers are taken out,
/// number formats and functors stay.
pub(in crate::compare) fn normal_name(full: &str) -> String {
    let demangled = demangle(full.trim());
    let parts = NameParts::of(&demangled);
    // What shortening would cut out of the middle of a long plain name may be all that tells two kernels apart.
    let short = if parts.template.contains('<') || parts.template.is_empty() { shorten(full) } else { parts.base };
    let mut name = TILE.replace_all(&short, "#").into_owned();
    loop {
        let fewer = NUMBER_ARGUMENT.replace_all(&name, |found: &regex::Captures<'_>| match (&found[1], &found[2]) {
            ("<", ",") => "<".to_owned(),
            (",", after) => after.to_owned(),
            _ => String::new(),
        });
        if fewer == name {
            break;
        }
        name = fewer.replace("< ", "<");
    }
    match RUNNING_NUMBER.captures(&name) {
        Some(found) => found[1].to_owned(),
        None => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_numbers_and_running_numbers_do_not_part_kernels() {
        for (a, b) in [
            (
                "ampere_fp16_s16816gemm_fp16_64x64_sliced1x2_ldg8_f2f_stages_64x5_tn",
                "ampere_fp16_s16816gemm_fp16_128x64_sliced1x2_ldg8_f2f_stages_32x6_tn",
            ),
            ("nvjet_tst_64x8_64x16_4x1_v_bz_TNT", "nvjet_tst_128x16_64x11_2x1_v_bz_TNT"),
            ("triton_poi_fused_add_mul_12", "triton_poi_fused_add_mul_3"),
            (
                "void at::native::vectorized_elementwise_kernel<4, at::native::FillFunctor<float>, std::array<char*, 1ul> >(int, float)",
                "void at::native::vectorized_elementwise_kernel<(int)8, at::native::FillFunctor<float>, std::array<char *, (unsigned long)1>>(int, T2)",
            ),
            (
                "sm90_xmma_gemm_f16f16_f16f32_f32_tn_n_tilesize128x128x64_warpgroupsize1x1x1_execute_segment_k_off_kernel__5x_cublas",
                "sm90_xmma_gemm_f16f16_f16f32_f32_tn_n_tilesize64x256x64_warpgroupsize2x1x1_execute_segment_k_off_kernel__5x_cublas",
            ),
        ] {
            assert_eq!(normal_name(a), normal_name(b));
        }
    }

    #[test]
    fn functors_formats_and_functions_part_kernels() {
        for (a, b) in [
            ("void rmsnorm<__half>(int)", "void rmsnorm<float>(int)"),
            ("gemv_q4", "gemv_q8"),
            (
                "void at::native::vectorized_elementwise_kernel<4, at::native::FillFunctor<float>>(int)",
                "void at::native::vectorized_elementwise_kernel<4, at::native::AddFunctor<float>>(int)",
            ),
            ("ampere_fp16_s16816gemm_fp16_64x64_tn", "ampere_bf16_s16816gemm_bf16_64x64_tn"),
        ] {
            assert_ne!(normal_name(a), normal_name(b));
        }
        assert_eq!(normal_name("void f<1, 2, 3>(int)"), normal_name("void f<(int)7>(int)"));
        assert_eq!(normal_name(""), "");
    }
}
