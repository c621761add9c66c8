//! NVIDIA data-center and embedded parts.

use super::{DevicePeaks, NVLINK_C2C, PCIE3_X16, PCIE4_X16, PCIE5_X16};

const VOLTA: &str = "NVIDIA Tesla V100 datasheet (2020), specifications table; NVIDIA Tesla V100 GPU Architecture whitepaper, table of Tesla accelerators";
const T4: &str = "NVIDIA T4 datasheet, specifications; NVIDIA Turing GPU Architecture whitepaper, appendix on Tesla T4";
const A100: &str = "NVIDIA A100 80GB/40GB datasheet, specifications (dense column); NVIDIA A100 Tensor Core GPU Architecture whitepaper, table of A100 performance";
const A30: &str = "NVIDIA A30 datasheet, specifications (dense column)";
const A10: &str = "NVIDIA A10 datasheet, specifications (dense column)";
const A10G: &str = "NVIDIA A10G datasheet, specifications (dense column)";
const A2: &str = "NVIDIA A2 datasheet, specifications (dense column)";
const A40: &str = "NVIDIA A40 datasheet, specifications (dense column); NVIDIA Ampere GA102 GPU Architecture whitepaper, appendix on A40";
const L4: &str = "NVIDIA L4 datasheet, specifications (printed with sparsity, halved); NVIDIA Ada GPU Architecture whitepaper, appendix on L4";
const L40: &str = "NVIDIA L40 datasheet, specifications (dense column)";
const L40S: &str = "NVIDIA L40S datasheet, specifications (dense column)";
const H100: &str = "NVIDIA H100 Tensor Core GPU Architecture whitepaper, table of H100 performance (dense figures); NVIDIA H100 datasheet (printed with sparsity)";
const H100_NVL: &str = "NVIDIA H100 datasheet, H100 NVL column (printed with sparsity, halved)";
const H200: &str = "NVIDIA H200 datasheet, specifications (printed with sparsity, halved)";
const H20: &str = "NVIDIA H20 datasheet as distributed by system makers";
const GH200: &str = "NVIDIA GH200 Grace Hopper Superchip datasheet, specifications (printed with sparsity, halved)";
const B200: &str = "NVIDIA Blackwell Architecture Technical Brief, table of system specifications, per GPU of HGX B200 (halved where with sparsity); DGX B200 datasheet (64 TB/s for 8)";
const GB200: &str = "NVIDIA GB200 NVL72 specifications, divided by 72 GPUs (halved where with sparsity)";
const B300: &str = "NVIDIA HGX B300 specifications, divided by 8 GPUs (halved where with sparsity)";
const GB300: &str = "NVIDIA GB300 NVL72 specifications, divided by 72 GPUs (halved where with sparsity)";
const ORIN: &str =
    "NVIDIA Jetson AGX Orin Series Technical Brief, table of Jetson Orin modules (int8 with sparsity, halved)";
const THOR: &str = "NVIDIA Jetson Thor Series datasheet, AI performance (dense)";
const GB10: &str = "NVIDIA DGX Spark specifications (1 PFLOP of FP4 with sparsity, halved)";

/// The entries.
pub(super) const DEVICES: &[DevicePeaks] = &[
    device! {
        "NVIDIA V100 SXM2 16GB", ["Tesla V100-SXM2-16GB"],
        chip "Volta", Some((7, 0)), units Some(80), mhz Some(1530.0),
        tflops { fp64: 7.8, fp32: 15.7, fp16: 125.0 },
        gbs 900.0, gib 16, l2 Some(6.0), watts Some(300.0), host PCIE3_X16, peer Some(300.0),
        note "",
        source VOLTA
    },
    device! {
        "NVIDIA V100 SXM2 32GB", ["Tesla V100-SXM2-32GB"],
        chip "Volta", Some((7, 0)), units Some(80), mhz Some(1530.0),
        tflops { fp64: 7.8, fp32: 15.7, fp16: 125.0 },
        gbs 900.0, gib 32, l2 Some(6.0), watts Some(300.0), host PCIE3_X16, peer Some(300.0),
        note "",
        source VOLTA
    },
    device! {
        "NVIDIA V100 PCIe 16GB", ["Tesla V100-PCIE-16GB"],
        chip "Volta", Some((7, 0)), units Some(80), mhz Some(1370.0),
        tflops { fp64: 7.0, fp32: 14.0, fp16: 112.0 },
        gbs 900.0, gib 16, l2 Some(6.0), watts Some(250.0), host PCIE3_X16, peer None,
        note "",
        source VOLTA
    },
    device! {
        "NVIDIA V100 PCIe 32GB", ["Tesla V100-PCIE-32GB"],
        chip "Volta", Some((7, 0)), units Some(80), mhz Some(1370.0),
        tflops { fp64: 7.0, fp32: 14.0, fp16: 112.0 },
        gbs 900.0, gib 32, l2 Some(6.0), watts Some(250.0), host PCIE3_X16, peer None,
        note "",
        source VOLTA
    },
    device! {
        "NVIDIA V100S PCIe 32GB", ["Tesla V100S-PCIE-32GB"],
        chip "Volta", Some((7, 0)), units Some(80), mhz Some(1597.0),
        tflops { fp64: 8.2, fp32: 16.4, fp16: 130.0 },
        gbs 1134.0, gib 32, l2 Some(6.0), watts Some(250.0), host PCIE3_X16, peer None,
        note "",
        source VOLTA
    },
    device! {
        "NVIDIA T4", ["Tesla T4"],
        chip "Turing", Some((7, 5)), units Some(40), mhz Some(1590.0),
        tflops { fp32: 8.1, fp16: 65.0, int8: 130.0 },
        gbs 320.0, gib 16, l2 Some(4.0), watts Some(70.0), host PCIE3_X16, peer None,
        note "",
        source T4
    },
    device! {
        "NVIDIA A100 SXM4 40GB", ["NVIDIA A100-SXM4-40GB"],
        chip "Ampere GA100", Some((8, 0)), units Some(108), mhz Some(1410.0),
        tflops { fp64: 19.5, fp32: 19.5, tf32: 156.0, fp16: 312.0, bf16: 312.0, int8: 624.0 },
        gbs 1555.0, gib 40, l2 Some(40.0), watts Some(400.0), host PCIE4_X16, peer Some(600.0),
        note "",
        source A100
    },
    device! {
        "NVIDIA A100 SXM4 80GB", ["NVIDIA A100-SXM4-80GB"],
        chip "Ampere GA100", Some((8, 0)), units Some(108), mhz Some(1410.0),
        tflops { fp64: 19.5, fp32: 19.5, tf32: 156.0, fp16: 312.0, bf16: 312.0, int8: 624.0 },
        gbs 2039.0, gib 80, l2 Some(40.0), watts Some(400.0), host PCIE4_X16, peer Some(600.0),
        note "",
        source A100
    },
    device! {
        "NVIDIA A100 PCIe 40GB", ["NVIDIA A100-PCIE-40GB"],
        chip "Ampere GA100", Some((8, 0)), units Some(108), mhz Some(1410.0),
        tflops { fp64: 19.5, fp32: 19.5, tf32: 156.0, fp16: 312.0, bf16: 312.0, int8: 624.0 },
        gbs 1555.0, gib 40, l2 Some(40.0), watts Some(250.0), host PCIE4_X16, peer Some(600.0),
        note "",
        source A100
    },
    device! {
        "NVIDIA A100 PCIe 80GB", ["NVIDIA A100 80GB PCIe", "NVIDIA A100-PCIE-80GB"],
        chip "Ampere GA100", Some((8, 0)), units Some(108), mhz Some(1410.0),
        tflops { fp64: 19.5, fp32: 19.5, tf32: 156.0, fp16: 312.0, bf16: 312.0, int8: 624.0 },
        gbs 1935.0, gib 80, l2 Some(40.0), watts Some(300.0), host PCIE4_X16, peer Some(600.0),
        note "",
        source A100
    },
    device! {
        "NVIDIA A30", ["NVIDIA A30"],
        chip "Ampere GA100", Some((8, 0)), units Some(56), mhz Some(1440.0),
        tflops { fp64: 10.3, fp32: 10.3, tf32: 82.0, fp16: 165.0, bf16: 165.0, int8: 330.0 },
        gbs 933.0, gib 24, l2 Some(24.0), watts Some(165.0), host PCIE4_X16, peer Some(200.0),
        note "",
        source A30
    },
    device! {
        "NVIDIA A10", ["NVIDIA A10"],
        chip "Ampere GA10x", Some((8, 6)), units Some(72), mhz Some(1695.0),
        tflops { fp32: 31.2, tf32: 62.5, fp16: 125.0, bf16: 125.0, int8: 250.0 },
        gbs 600.0, gib 24, l2 Some(6.0), watts Some(150.0), host PCIE4_X16, peer None,
        note "",
        source A10
    },
    device! {
        "NVIDIA A10G", ["NVIDIA A10G"],
        chip "Ampere GA10x", Some((8, 6)), units Some(80), mhz Some(1710.0),
        tflops { fp32: 35.0, tf32: 35.0, fp16: 70.0, bf16: 70.0, int8: 140.0 },
        gbs 600.0, gib 24, l2 None, watts Some(300.0), host PCIE4_X16, peer None,
        note "fp32 accumulation runs at half rate on this part",
        source A10G
    },
    device! {
        "NVIDIA A2", ["NVIDIA A2"],
        chip "Ampere GA10x", Some((8, 6)), units Some(10), mhz Some(1770.0),
        tflops { fp32: 4.5, tf32: 9.0, fp16: 18.0, bf16: 18.0, int8: 36.0 },
        gbs 200.0, gib 16, l2 None, watts Some(60.0), host PCIE4_X16, peer None,
        note "",
        source A2
    },
    device! {
        "NVIDIA A40", ["NVIDIA A40"],
        chip "Ampere GA10x", Some((8, 6)), units Some(84), mhz Some(1740.0),
        tflops { fp32: 37.4, tf32: 74.8, fp16: 149.7, bf16: 149.7, int8: 299.3 },
        gbs 696.0, gib 48, l2 Some(6.0), watts Some(300.0), host PCIE4_X16, peer Some(112.5),
        note "",
        source A40
    },
    device! {
        "NVIDIA L4", ["NVIDIA L4"],
        chip "Ada", Some((8, 9)), units Some(58), mhz Some(2040.0),
        tflops { fp32: 30.3, tf32: 60.5, fp16: 121.0, bf16: 121.0, fp8: 242.5, int8: 242.5 },
        gbs 300.0, gib 24, l2 Some(48.0), watts Some(72.0), host PCIE4_X16, peer None,
        note "",
        source L4
    },
    device! {
        "NVIDIA L40", ["NVIDIA L40"],
        chip "Ada", Some((8, 9)), units Some(142), mhz Some(2490.0),
        tflops { fp32: 90.5, tf32: 90.5, fp16: 181.05, bf16: 181.05, fp8: 362.0, int8: 362.0 },
        gbs 864.0, gib 48, l2 Some(96.0), watts Some(300.0), host PCIE4_X16, peer None,
        note "",
        source L40
    },
    device! {
        "NVIDIA L40S", ["NVIDIA L40S"],
        chip "Ada", Some((8, 9)), units Some(142), mhz Some(2520.0),
        tflops { fp32: 91.6, tf32: 183.0, fp16: 362.05, bf16: 362.05, fp8: 733.0, int8: 733.0 },
        gbs 864.0, gib 48, l2 Some(96.0), watts Some(350.0), host PCIE4_X16, peer None,
        note "",
        source L40S
    },
    device! {
        "NVIDIA H100 SXM5 80GB", ["NVIDIA H100 80GB HBM3"],
        chip "Hopper", Some((9, 0)), units Some(132), mhz Some(1830.0),
        tflops { fp64: 66.9, fp32: 66.9, tf32: 494.7, fp16: 989.4, bf16: 989.4, fp8: 1978.9, int8: 1978.9 },
        gbs 3350.0, gib 80, l2 Some(50.0), watts Some(700.0), host PCIE5_X16, peer Some(900.0),
        note "",
        source H100
    },
    device! {
        "NVIDIA H100 PCIe 80GB", ["NVIDIA H100 PCIe"],
        chip "Hopper", Some((9, 0)), units Some(114), mhz Some(1620.0),
        tflops { fp64: 51.2, fp32: 51.2, tf32: 378.0, fp16: 756.0, bf16: 756.0, fp8: 1513.0, int8: 1513.0 },
        gbs 2000.0, gib 80, l2 Some(50.0), watts Some(350.0), host PCIE5_X16, peer Some(600.0),
        note "",
        source H100
    },
    device! {
        "NVIDIA H100 NVL 94GB", ["NVIDIA H100 NVL"],
        chip "Hopper", Some((9, 0)), units Some(132), mhz None,
        tflops { fp64: 60.0, fp32: 60.0, tf32: 417.5, fp16: 835.5, bf16: 835.5, fp8: 1670.5, int8: 1670.5 },
        gbs 3900.0, gib 94, l2 Some(50.0), watts Some(400.0), host PCIE5_X16, peer Some(600.0),
        note "",
        source H100_NVL
    },
    device! {
        "NVIDIA H200 SXM 141GB", ["NVIDIA H200"],
        chip "Hopper", Some((9, 0)), units Some(132), mhz Some(1830.0),
        tflops { fp64: 66.9, fp32: 66.9, tf32: 494.7, fp16: 989.4, bf16: 989.4, fp8: 1978.9, int8: 1978.9 },
        gbs 4800.0, gib 141, l2 Some(50.0), watts Some(700.0), host PCIE5_X16, peer Some(900.0),
        note "",
        source H200
    },
    device! {
        "NVIDIA H200 NVL 141GB", ["NVIDIA H200 NVL"],
        chip "Hopper", Some((9, 0)), units Some(132), mhz None,
        tflops { fp64: 60.0, fp32: 60.0, tf32: 417.5, fp16: 835.5, bf16: 835.5, fp8: 1670.5, int8: 1670.5 },
        gbs 4800.0, gib 141, l2 Some(50.0), watts Some(600.0), host PCIE5_X16, peer Some(900.0),
        note "",
        source H200
    },
    device! {
        "NVIDIA H20 96GB", ["NVIDIA H20"],
        chip "Hopper", Some((9, 0)), units Some(78), mhz None,
        tflops { fp64: 1.0, fp32: 44.0, tf32: 74.0, fp16: 148.0, bf16: 148.0, fp8: 296.0, int8: 296.0 },
        gbs 4000.0, gib 96, l2 Some(60.0), watts Some(400.0), host PCIE5_X16, peer Some(900.0),
        note "",
        source H20
    },
    device! {
        "NVIDIA GH200 96GB HBM3", ["NVIDIA GH200 480GB"],
        chip "Hopper", Some((9, 0)), units Some(132), mhz Some(1830.0),
        tflops { fp64: 66.9, fp32: 66.9, tf32: 494.7, fp16: 989.4, bf16: 989.4, fp8: 1978.9, int8: 1978.9 },
        gbs 4000.0, gib 96, l2 None, watts Some(1000.0), host NVLINK_C2C, peer Some(900.0),
        note "the power is that of the whole superchip with its Grace processor",
        source GH200
    },
    device! {
        "NVIDIA GH200 144GB HBM3e", ["NVIDIA GH200 144G HBM3e"],
        chip "Hopper", Some((9, 0)), units Some(132), mhz Some(1830.0),
        tflops { fp64: 66.9, fp32: 66.9, tf32: 494.7, fp16: 989.4, bf16: 989.4, fp8: 1978.9, int8: 1978.9 },
        gbs 4900.0, gib 144, l2 None, watts Some(1000.0), host NVLINK_C2C, peer Some(900.0),
        note "the power is that of the whole superchip with its Grace processor",
        source GH200
    },
    device! {
        "NVIDIA B200 180GB", ["NVIDIA B200"],
        chip "Blackwell", Some((10, 0)), units Some(148), mhz None,
        tflops { fp64: 37.0, fp32: 75.0, tf32: 1100.0, fp16: 2250.0, bf16: 2250.0, fp8: 4500.0, int8: 4500.0, fp4: 9000.0 },
        gbs 8000.0, gib 180, l2 None, watts Some(1000.0), host PCIE5_X16, peer Some(1800.0),
        note "NVIDIA prints 7.7 TB/s for some HGX B200 systems and 8 TB/s for DGX B200",
        source B200
    },
    device! {
        "NVIDIA GB200 186GB", ["NVIDIA GB200"],
        chip "Blackwell", Some((10, 0)), units Some(152), mhz None,
        tflops { fp64: 40.0, fp32: 80.0, tf32: 1250.0, fp16: 2500.0, bf16: 2500.0, fp8: 5000.0, int8: 5000.0, fp4: 10000.0 },
        gbs 8000.0, gib 186, l2 None, watts Some(1200.0), host NVLINK_C2C, peer Some(1800.0),
        note "",
        source GB200
    },
    device! {
        "NVIDIA B300 288GB", ["NVIDIA B300 SXM6 AC", "NVIDIA B300"],
        chip "Blackwell", Some((10, 3)), units Some(148), mhz None,
        tflops { fp64: 1.25, fp32: 75.0, tf32: 1125.0, fp16: 2250.0, bf16: 2250.0, fp8: 4500.0, fp4: 13500.0 },
        gbs 8000.0, gib 288, l2 None, watts Some(1100.0), host PCIE5_X16, peer Some(1800.0),
        note "NVIDIA has printed 105 and 108 PFLOPS of dense FP4 for eight GPUs",
        source B300
    },
    device! {
        "NVIDIA GB300 288GB", ["NVIDIA GB300"],
        chip "Blackwell", Some((10, 3)), units Some(152), mhz None,
        tflops { fp64: 1.25, fp32: 80.0, tf32: 1250.0, fp16: 2500.0, bf16: 2500.0, fp8: 5000.0, fp4: 15000.0 },
        gbs 8000.0, gib 288, l2 None, watts Some(1400.0), host NVLINK_C2C, peer Some(1800.0),
        note "",
        source GB300
    },
    device! {
        "NVIDIA Jetson AGX Orin 64GB", ["Orin", "NVIDIA Orin"],
        chip "Ampere GA10B", Some((8, 7)), units Some(16), mhz Some(1300.0),
        tflops { fp32: 5.3, int8: 85.0 },
        gbs 204.8, gib 64, l2 None, watts Some(60.0), host None, peer None,
        note "figures are for the highest power mode; int8 is the GPU without the deep-learning accelerators",
        source ORIN
    },
    device! {
        "NVIDIA Jetson AGX Orin 32GB", ["Orin", "NVIDIA Orin"],
        chip "Ampere GA10B", Some((8, 7)), units Some(14), mhz Some(930.0),
        tflops { fp32: 3.3, int8: 54.0 },
        gbs 204.8, gib 32, l2 None, watts Some(40.0), host None, peer None,
        note "figures are for the highest power mode; int8 is the GPU without the deep-learning accelerators",
        source ORIN
    },
    device! {
        "NVIDIA Jetson Orin NX 16GB", ["Orin", "NVIDIA Orin"],
        chip "Ampere GA10B", Some((8, 7)), units Some(8), mhz Some(918.0),
        tflops { fp32: 1.88, int8: 30.0 },
        gbs 102.4, gib 16, l2 None, watts Some(25.0), host None, peer None,
        note "figures are for the highest power mode; int8 is the GPU without the deep-learning accelerators",
        source ORIN
    },
    device! {
        "NVIDIA Jetson AGX Thor 128GB", ["NVIDIA Thor"],
        chip "Blackwell", Some((11, 0)), units Some(20), mhz None,
        tflops { fp32: 8.06, fp8: 517.0, fp4: 1035.0 },
        gbs 273.0, gib 128, l2 None, watts Some(130.0), host None, peer None,
        note "figures are for the highest power mode",
        source THOR
    },
    device! {
        "NVIDIA GB10", ["NVIDIA GB10"],
        chip "Blackwell", Some((12, 1)), units Some(48), mhz None,
        tflops { fp4: 500.0 },
        gbs 273.0, gib 128, l2 None, watts Some(140.0), host None, peer None,
        note "only FP4 is published; the power is that of the whole chip with its processor",
        source GB10
    },
];
