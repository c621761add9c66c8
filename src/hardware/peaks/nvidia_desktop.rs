//! NVIDIA GeForce, TITAN and professional desktop parts.

use super::{DevicePeaks, PCIE3_X16, PCIE4_X8, PCIE4_X16, PCIE5_X8, PCIE5_X16};

const TURING: &str = "NVIDIA Turing GPU Architecture whitepaper, table of GeForce RTX 20 parts (reference clocks, FP16 with FP32 accumulate) and GeForce RTX 20 SUPER product specifications";
const TURING_PRO: &str = "NVIDIA Turing GPU Architecture whitepaper, table of Quadro RTX and TITAN RTX parts";
const AMPERE: &str = "NVIDIA Ampere GA102 GPU Architecture whitepaper, comparison tables (dense, FP32 accumulate); parts not in them by its rates per SM at the boost clock of the GeForce RTX 30 specifications";
const AMPERE_PRO: &str = "NVIDIA RTX A-series datasheets, specifications (tensor figures with sparsity, halved); NVIDIA Ampere GA102 GPU Architecture whitepaper";
const ADA: &str = "NVIDIA Ada GPU Architecture whitepaper, comparison tables (dense, FP32 accumulate); parts not in them by its rates per SM at the boost clock of the GeForce RTX 40 specifications";
const ADA_PRO: &str =
    "NVIDIA RTX Ada Generation datasheets, specifications (tensor figures in FP8 with sparsity, halved)";
const BLACKWELL: &str = "NVIDIA RTX Blackwell GPU Architecture whitepaper, comparison tables (dense, FP32 accumulate); parts not in them by its rates per SM at the boost clock of the GeForce RTX 50 specifications";
const BLACKWELL_PRO: &str = "NVIDIA RTX PRO Blackwell GPU Architecture whitepaper, comparison table (dense); NVIDIA RTX PRO 6000 Blackwell datasheets";

/// The entries.
pub(super) const DEVICES: &[DevicePeaks] = &[
    device! {
        "NVIDIA GeForce RTX 2060", ["GeForce RTX 2060"],
        chip "Turing", Some((7, 5)), units Some(30), mhz Some(1680.0),
        tflops { fp32: 6.5, fp16: 25.8, int8: 103.2 },
        gbs 336.0, gib 6, l2 Some(3.0), watts Some(160.0), host PCIE3_X16, peer None,
        note "",
        source TURING
    },
    device! {
        "NVIDIA GeForce RTX 2060 SUPER", ["GeForce RTX 2060 SUPER"],
        chip "Turing", Some((7, 5)), units Some(34), mhz Some(1650.0),
        tflops { fp32: 7.2, fp16: 28.7, int8: 114.9 },
        gbs 448.0, gib 8, l2 Some(4.0), watts Some(175.0), host PCIE3_X16, peer None,
        note "",
        source TURING
    },
    device! {
        "NVIDIA GeForce RTX 2070", ["GeForce RTX 2070"],
        chip "Turing", Some((7, 5)), units Some(36), mhz Some(1620.0),
        tflops { fp32: 7.5, fp16: 29.9, int8: 119.4 },
        gbs 448.0, gib 8, l2 Some(4.0), watts Some(175.0), host PCIE3_X16, peer None,
        note "",
        source TURING
    },
    device! {
        "NVIDIA GeForce RTX 2070 SUPER", ["GeForce RTX 2070 SUPER"],
        chip "Turing", Some((7, 5)), units Some(40), mhz Some(1770.0),
        tflops { fp32: 9.1, fp16: 36.2, int8: 145.0 },
        gbs 448.0, gib 8, l2 Some(4.0), watts Some(215.0), host PCIE3_X16, peer None,
        note "",
        source TURING
    },
    device! {
        "NVIDIA GeForce RTX 2080", ["GeForce RTX 2080"],
        chip "Turing", Some((7, 5)), units Some(46), mhz Some(1710.0),
        tflops { fp32: 10.1, fp16: 40.3, int8: 161.1 },
        gbs 448.0, gib 8, l2 Some(4.0), watts Some(215.0), host PCIE3_X16, peer None,
        note "",
        source TURING
    },
    device! {
        "NVIDIA GeForce RTX 2080 SUPER", ["GeForce RTX 2080 SUPER"],
        chip "Turing", Some((7, 5)), units Some(48), mhz Some(1815.0),
        tflops { fp32: 11.2, fp16: 44.6, int8: 178.4 },
        gbs 495.9, gib 8, l2 Some(4.0), watts Some(250.0), host PCIE3_X16, peer None,
        note "",
        source TURING
    },
    device! {
        "NVIDIA GeForce RTX 2080 Ti", ["GeForce RTX 2080 Ti"],
        chip "Turing", Some((7, 5)), units Some(68), mhz Some(1545.0),
        tflops { fp32: 13.4, fp16: 53.8, int8: 215.2 },
        gbs 616.0, gib 11, l2 Some(5.5), watts Some(250.0), host PCIE3_X16, peer None,
        note "",
        source TURING
    },
    device! {
        "NVIDIA TITAN RTX", ["TITAN RTX"],
        chip "Turing", Some((7, 5)), units Some(72), mhz Some(1770.0),
        tflops { fp32: 16.3, fp16: 130.5, int8: 261.0 },
        gbs 672.0, gib 24, l2 Some(6.0), watts Some(280.0), host PCIE3_X16, peer Some(100.0),
        note "",
        source TURING_PRO
    },
    device! {
        "NVIDIA Quadro RTX 6000", ["Quadro RTX 6000"],
        chip "Turing", Some((7, 5)), units Some(72), mhz Some(1770.0),
        tflops { fp32: 16.3, fp16: 130.5, int8: 261.0 },
        gbs 672.0, gib 24, l2 Some(6.0), watts Some(260.0), host PCIE3_X16, peer Some(100.0),
        note "",
        source TURING_PRO
    },
    device! {
        "NVIDIA Quadro RTX 8000", ["Quadro RTX 8000"],
        chip "Turing", Some((7, 5)), units Some(72), mhz Some(1770.0),
        tflops { fp32: 16.3, fp16: 130.5, int8: 261.0 },
        gbs 672.0, gib 48, l2 Some(6.0), watts Some(260.0), host PCIE3_X16, peer Some(100.0),
        note "",
        source TURING_PRO
    },
    device! {
        "NVIDIA GeForce RTX 3060 12GB", ["NVIDIA GeForce RTX 3060"],
        chip "Ampere GA10x", Some((8, 6)), units Some(28), mhz Some(1777.0),
        tflops { fp32: 12.7, tf32: 12.7, fp16: 25.5, bf16: 25.5, int8: 101.9 },
        gbs 360.0, gib 12, l2 Some(3.0), watts Some(170.0), host PCIE4_X16, peer None,
        note "",
        source AMPERE
    },
    device! {
        "NVIDIA GeForce RTX 3060 8GB", ["NVIDIA GeForce RTX 3060"],
        chip "Ampere GA10x", Some((8, 6)), units Some(28), mhz Some(1777.0),
        tflops { fp32: 12.7, tf32: 12.7, fp16: 25.5, bf16: 25.5, int8: 101.9 },
        gbs 240.0, gib 8, l2 None, watts Some(170.0), host PCIE4_X16, peer None,
        note "",
        source AMPERE
    },
    device! {
        "NVIDIA GeForce RTX 3060 Ti GDDR6", ["NVIDIA GeForce RTX 3060 Ti"],
        chip "Ampere GA10x", Some((8, 6)), units Some(38), mhz Some(1665.0),
        tflops { fp32: 16.2, tf32: 16.2, fp16: 32.4, bf16: 32.4, int8: 129.6 },
        gbs 448.0, gib 8, l2 Some(4.0), watts Some(200.0), host PCIE4_X16, peer None,
        note "",
        source AMPERE
    },
    device! {
        "NVIDIA GeForce RTX 3060 Ti GDDR6X", ["NVIDIA GeForce RTX 3060 Ti"],
        chip "Ampere GA10x", Some((8, 6)), units Some(38), mhz Some(1665.0),
        tflops { fp32: 16.2, tf32: 16.2, fp16: 32.4, bf16: 32.4, int8: 129.6 },
        gbs 608.0, gib 8, l2 Some(4.0), watts Some(200.0), host PCIE4_X16, peer None,
        note "",
        source AMPERE
    },
    device! {
        "NVIDIA GeForce RTX 3070", ["NVIDIA GeForce RTX 3070"],
        chip "Ampere GA10x", Some((8, 6)), units Some(46), mhz Some(1725.0),
        tflops { fp32: 20.3, tf32: 20.3, fp16: 40.6, bf16: 40.6, int8: 162.5 },
        gbs 448.0, gib 8, l2 Some(4.0), watts Some(220.0), host PCIE4_X16, peer None,
        note "",
        source AMPERE
    },
    device! {
        "NVIDIA GeForce RTX 3070 Ti", ["NVIDIA GeForce RTX 3070 Ti"],
        chip "Ampere GA10x", Some((8, 6)), units Some(48), mhz Some(1770.0),
        tflops { fp32: 21.7, tf32: 21.7, fp16: 43.5, bf16: 43.5, int8: 174.0 },
        gbs 608.0, gib 8, l2 Some(4.0), watts Some(290.0), host PCIE4_X16, peer None,
        note "",
        source AMPERE
    },
    device! {
        "NVIDIA GeForce RTX 3080 10GB", ["NVIDIA GeForce RTX 3080"],
        chip "Ampere GA10x", Some((8, 6)), units Some(68), mhz Some(1710.0),
        tflops { fp32: 29.8, tf32: 29.8, fp16: 59.5, bf16: 59.5, int8: 238.1 },
        gbs 760.0, gib 10, l2 Some(5.0), watts Some(320.0), host PCIE4_X16, peer None,
        note "",
        source AMPERE
    },
    device! {
        "NVIDIA GeForce RTX 3080 12GB", ["NVIDIA GeForce RTX 3080"],
        chip "Ampere GA10x", Some((8, 6)), units Some(70), mhz Some(1710.0),
        tflops { fp32: 30.6, tf32: 30.6, fp16: 61.3, bf16: 61.3, int8: 245.1 },
        gbs 912.0, gib 12, l2 Some(6.0), watts Some(350.0), host PCIE4_X16, peer None,
        note "",
        source AMPERE
    },
    device! {
        "NVIDIA GeForce RTX 3080 Ti", ["NVIDIA GeForce RTX 3080 Ti"],
        chip "Ampere GA10x", Some((8, 6)), units Some(80), mhz Some(1665.0),
        tflops { fp32: 34.1, tf32: 34.1, fp16: 68.2, bf16: 68.2, int8: 272.8 },
        gbs 912.0, gib 12, l2 Some(6.0), watts Some(350.0), host PCIE4_X16, peer None,
        note "",
        source AMPERE
    },
    device! {
        "NVIDIA GeForce RTX 3090", ["NVIDIA GeForce RTX 3090"],
        chip "Ampere GA10x", Some((8, 6)), units Some(82), mhz Some(1695.0),
        tflops { fp32: 35.6, tf32: 35.6, fp16: 71.2, bf16: 71.2, int8: 284.7 },
        gbs 936.0, gib 24, l2 Some(6.0), watts Some(350.0), host PCIE4_X16, peer Some(112.5),
        note "",
        source AMPERE
    },
    device! {
        "NVIDIA GeForce RTX 3090 Ti", ["NVIDIA GeForce RTX 3090 Ti"],
        chip "Ampere GA10x", Some((8, 6)), units Some(84), mhz Some(1860.0),
        tflops { fp32: 40.0, tf32: 40.0, fp16: 80.0, bf16: 80.0, int8: 320.0 },
        gbs 1008.0, gib 24, l2 Some(6.0), watts Some(450.0), host PCIE4_X16, peer Some(112.5),
        note "",
        source AMPERE
    },
    device! {
        "NVIDIA RTX A4000", ["NVIDIA RTX A4000"],
        chip "Ampere GA10x", Some((8, 6)), units Some(48), mhz Some(1560.0),
        tflops { fp32: 19.2, tf32: 38.4, fp16: 76.7, bf16: 76.7, int8: 153.4 },
        gbs 448.0, gib 16, l2 Some(4.0), watts Some(140.0), host PCIE4_X16, peer None,
        note "",
        source AMPERE_PRO
    },
    device! {
        "NVIDIA RTX A5000", ["NVIDIA RTX A5000"],
        chip "Ampere GA10x", Some((8, 6)), units Some(64), mhz Some(1695.0),
        tflops { fp32: 27.8, tf32: 55.5, fp16: 111.1, bf16: 111.1, int8: 222.2 },
        gbs 768.0, gib 24, l2 Some(6.0), watts Some(230.0), host PCIE4_X16, peer Some(112.5),
        note "",
        source AMPERE_PRO
    },
    device! {
        "NVIDIA RTX A6000", ["NVIDIA RTX A6000"],
        chip "Ampere GA10x", Some((8, 6)), units Some(84), mhz Some(1800.0),
        tflops { fp32: 38.7, tf32: 77.4, fp16: 154.8, bf16: 154.8, int8: 309.6 },
        gbs 768.0, gib 48, l2 Some(6.0), watts Some(300.0), host PCIE4_X16, peer Some(112.5),
        note "",
        source AMPERE_PRO
    },
    device! {
        "NVIDIA GeForce RTX 4060", ["NVIDIA GeForce RTX 4060"],
        chip "Ada", Some((8, 9)), units Some(24), mhz Some(2460.0),
        tflops { fp32: 15.1, tf32: 15.1, fp16: 30.2, bf16: 30.2, fp8: 60.5, int8: 120.9 },
        gbs 272.0, gib 8, l2 Some(24.0), watts Some(115.0), host PCIE4_X8, peer None,
        note "",
        source ADA
    },
    device! {
        "NVIDIA GeForce RTX 4060 Ti 8GB", ["NVIDIA GeForce RTX 4060 Ti"],
        chip "Ada", Some((8, 9)), units Some(34), mhz Some(2535.0),
        tflops { fp32: 22.1, tf32: 22.1, fp16: 44.1, bf16: 44.1, fp8: 88.3, int8: 176.5 },
        gbs 288.0, gib 8, l2 Some(32.0), watts Some(160.0), host PCIE4_X8, peer None,
        note "",
        source ADA
    },
    device! {
        "NVIDIA GeForce RTX 4060 Ti 16GB", ["NVIDIA GeForce RTX 4060 Ti"],
        chip "Ada", Some((8, 9)), units Some(34), mhz Some(2535.0),
        tflops { fp32: 22.1, tf32: 22.1, fp16: 44.1, bf16: 44.1, fp8: 88.3, int8: 176.5 },
        gbs 288.0, gib 16, l2 Some(32.0), watts Some(165.0), host PCIE4_X8, peer None,
        note "",
        source ADA
    },
    device! {
        "NVIDIA GeForce RTX 4070 GDDR6X", ["NVIDIA GeForce RTX 4070"],
        chip "Ada", Some((8, 9)), units Some(46), mhz Some(2475.0),
        tflops { fp32: 29.1, tf32: 29.1, fp16: 58.3, bf16: 58.3, fp8: 116.6, int8: 233.2 },
        gbs 504.0, gib 12, l2 Some(36.0), watts Some(200.0), host PCIE4_X16, peer None,
        note "",
        source ADA
    },
    device! {
        "NVIDIA GeForce RTX 4070 GDDR6", ["NVIDIA GeForce RTX 4070"],
        chip "Ada", Some((8, 9)), units Some(46), mhz Some(2475.0),
        tflops { fp32: 29.1, tf32: 29.1, fp16: 58.3, bf16: 58.3, fp8: 116.6, int8: 233.2 },
        gbs 480.0, gib 12, l2 Some(36.0), watts Some(200.0), host PCIE4_X16, peer None,
        note "",
        source ADA
    },
    device! {
        "NVIDIA GeForce RTX 4070 SUPER", ["NVIDIA GeForce RTX 4070 SUPER"],
        chip "Ada", Some((8, 9)), units Some(56), mhz Some(2475.0),
        tflops { fp32: 35.5, tf32: 35.5, fp16: 71.0, bf16: 71.0, fp8: 141.9, int8: 283.9 },
        gbs 504.0, gib 12, l2 Some(48.0), watts Some(220.0), host PCIE4_X16, peer None,
        note "",
        source ADA
    },
    device! {
        "NVIDIA GeForce RTX 4070 Ti", ["NVIDIA GeForce RTX 4070 Ti"],
        chip "Ada", Some((8, 9)), units Some(60), mhz Some(2610.0),
        tflops { fp32: 40.1, tf32: 40.1, fp16: 80.2, bf16: 80.2, fp8: 160.4, int8: 320.7 },
        gbs 504.0, gib 12, l2 Some(48.0), watts Some(285.0), host PCIE4_X16, peer None,
        note "",
        source ADA
    },
    device! {
        "NVIDIA GeForce RTX 4070 Ti SUPER", ["NVIDIA GeForce RTX 4070 Ti SUPER"],
        chip "Ada", Some((8, 9)), units Some(66), mhz Some(2610.0),
        tflops { fp32: 44.1, tf32: 44.1, fp16: 88.2, bf16: 88.2, fp8: 176.4, int8: 352.8 },
        gbs 672.0, gib 16, l2 Some(48.0), watts Some(285.0), host PCIE4_X16, peer None,
        note "",
        source ADA
    },
    device! {
        "NVIDIA GeForce RTX 4080", ["NVIDIA GeForce RTX 4080"],
        chip "Ada", Some((8, 9)), units Some(76), mhz Some(2505.0),
        tflops { fp32: 48.7, tf32: 48.7, fp16: 97.5, bf16: 97.5, fp8: 194.9, int8: 389.9 },
        gbs 716.8, gib 16, l2 Some(64.0), watts Some(320.0), host PCIE4_X16, peer None,
        note "",
        source ADA
    },
    device! {
        "NVIDIA GeForce RTX 4080 SUPER", ["NVIDIA GeForce RTX 4080 SUPER"],
        chip "Ada", Some((8, 9)), units Some(80), mhz Some(2550.0),
        tflops { fp32: 52.2, tf32: 52.2, fp16: 104.4, bf16: 104.4, fp8: 208.9, int8: 417.8 },
        gbs 736.3, gib 16, l2 Some(64.0), watts Some(320.0), host PCIE4_X16, peer None,
        note "",
        source ADA
    },
    device! {
        "NVIDIA GeForce RTX 4090 D", ["NVIDIA GeForce RTX 4090 D"],
        chip "Ada", Some((8, 9)), units Some(114), mhz Some(2520.0),
        tflops { fp32: 73.5, tf32: 73.5, fp16: 147.1, bf16: 147.1, fp8: 294.2, int8: 588.3 },
        gbs 1008.0, gib 24, l2 Some(72.0), watts Some(425.0), host PCIE4_X16, peer None,
        note "",
        source ADA
    },
    device! {
        "NVIDIA GeForce RTX 4090", ["NVIDIA GeForce RTX 4090"],
        chip "Ada", Some((8, 9)), units Some(128), mhz Some(2520.0),
        tflops { fp32: 82.6, tf32: 82.6, fp16: 165.2, bf16: 165.2, fp8: 330.3, int8: 660.6 },
        gbs 1008.0, gib 24, l2 Some(72.0), watts Some(450.0), host PCIE4_X16, peer None,
        note "",
        source ADA
    },
    device! {
        "NVIDIA RTX 4000 Ada Generation", ["NVIDIA RTX 4000 Ada Generation"],
        chip "Ada", Some((8, 9)), units Some(48), mhz Some(2175.0),
        tflops { fp32: 26.7, tf32: 53.5, fp16: 106.9, bf16: 106.9, fp8: 213.8, int8: 213.8 },
        gbs 360.0, gib 20, l2 Some(48.0), watts Some(130.0), host PCIE4_X16, peer None,
        note "",
        source ADA_PRO
    },
    device! {
        "NVIDIA RTX 4500 Ada Generation", ["NVIDIA RTX 4500 Ada Generation"],
        chip "Ada", Some((8, 9)), units Some(60), mhz Some(2580.0),
        tflops { fp32: 39.6, tf32: 79.2, fp16: 158.5, bf16: 158.5, fp8: 317.0, int8: 317.0 },
        gbs 432.0, gib 24, l2 Some(48.0), watts Some(210.0), host PCIE4_X16, peer None,
        note "",
        source ADA_PRO
    },
    device! {
        "NVIDIA RTX 5000 Ada Generation", ["NVIDIA RTX 5000 Ada Generation"],
        chip "Ada", Some((8, 9)), units Some(100), mhz Some(2550.0),
        tflops { fp32: 65.3, tf32: 130.6, fp16: 261.1, bf16: 261.1, fp8: 522.2, int8: 522.2 },
        gbs 576.0, gib 32, l2 Some(72.0), watts Some(250.0), host PCIE4_X16, peer None,
        note "",
        source ADA_PRO
    },
    device! {
        "NVIDIA RTX 6000 Ada Generation", ["NVIDIA RTX 6000 Ada Generation"],
        chip "Ada", Some((8, 9)), units Some(142), mhz Some(2505.0),
        tflops { fp32: 91.1, tf32: 182.1, fp16: 364.2, bf16: 364.2, fp8: 728.5, int8: 728.5 },
        gbs 960.0, gib 48, l2 Some(96.0), watts Some(300.0), host PCIE4_X16, peer None,
        note "",
        source ADA_PRO
    },
    device! {
        "NVIDIA GeForce RTX 5060", ["NVIDIA GeForce RTX 5060"],
        chip "Blackwell RTX", Some((12, 0)), units Some(30), mhz Some(2497.0),
        tflops { fp32: 19.2, tf32: 19.2, fp16: 38.4, bf16: 38.4, fp8: 76.7, int8: 153.4, fp4: 306.8 },
        gbs 448.0, gib 8, l2 Some(32.0), watts Some(145.0), host PCIE5_X8, peer None,
        note "",
        source BLACKWELL
    },
    device! {
        "NVIDIA GeForce RTX 5060 Ti 8GB", ["NVIDIA GeForce RTX 5060 Ti"],
        chip "Blackwell RTX", Some((12, 0)), units Some(36), mhz Some(2572.0),
        tflops { fp32: 23.7, tf32: 23.7, fp16: 47.4, bf16: 47.4, fp8: 94.8, int8: 189.6, fp4: 379.3 },
        gbs 448.0, gib 8, l2 Some(32.0), watts Some(180.0), host PCIE5_X8, peer None,
        note "",
        source BLACKWELL
    },
    device! {
        "NVIDIA GeForce RTX 5060 Ti 16GB", ["NVIDIA GeForce RTX 5060 Ti"],
        chip "Blackwell RTX", Some((12, 0)), units Some(36), mhz Some(2572.0),
        tflops { fp32: 23.7, tf32: 23.7, fp16: 47.4, bf16: 47.4, fp8: 94.8, int8: 189.6, fp4: 379.3 },
        gbs 448.0, gib 16, l2 Some(32.0), watts Some(180.0), host PCIE5_X8, peer None,
        note "",
        source BLACKWELL
    },
    device! {
        "NVIDIA GeForce RTX 5070", ["NVIDIA GeForce RTX 5070"],
        chip "Blackwell RTX", Some((12, 0)), units Some(48), mhz Some(2512.0),
        tflops { fp32: 30.9, tf32: 30.9, fp16: 61.7, bf16: 61.7, fp8: 123.5, int8: 246.9, fp4: 493.9 },
        gbs 672.0, gib 12, l2 Some(48.0), watts Some(250.0), host PCIE5_X16, peer None,
        note "",
        source BLACKWELL
    },
    device! {
        "NVIDIA GeForce RTX 5070 Ti", ["NVIDIA GeForce RTX 5070 Ti"],
        chip "Blackwell RTX", Some((12, 0)), units Some(70), mhz Some(2452.0),
        tflops { fp32: 43.9, tf32: 43.9, fp16: 87.9, bf16: 87.9, fp8: 175.8, int8: 351.5, fp4: 703.0 },
        gbs 896.0, gib 16, l2 Some(48.0), watts Some(300.0), host PCIE5_X16, peer None,
        note "",
        source BLACKWELL
    },
    device! {
        "NVIDIA GeForce RTX 5080", ["NVIDIA GeForce RTX 5080"],
        chip "Blackwell RTX", Some((12, 0)), units Some(84), mhz Some(2617.0),
        tflops { fp32: 56.3, tf32: 56.3, fp16: 112.6, bf16: 112.6, fp8: 225.1, int8: 450.2, fp4: 900.4 },
        gbs 960.0, gib 16, l2 Some(64.0), watts Some(360.0), host PCIE5_X16, peer None,
        note "",
        source BLACKWELL
    },
    device! {
        "NVIDIA GeForce RTX 5090", ["NVIDIA GeForce RTX 5090"],
        chip "Blackwell RTX", Some((12, 0)), units Some(170), mhz Some(2407.0),
        tflops { fp32: 104.8, tf32: 104.8, fp16: 209.5, bf16: 209.5, fp8: 419.0, int8: 838.0, fp4: 1676.0 },
        gbs 1792.0, gib 32, l2 Some(96.0), watts Some(575.0), host PCIE5_X16, peer None,
        note "",
        source BLACKWELL
    },
    device! {
        "NVIDIA RTX PRO 6000 Blackwell Workstation Edition", [],
        chip "Blackwell RTX", Some((12, 0)), units Some(188), mhz Some(2617.0),
        tflops { fp32: 125.9, tf32: 251.9, fp16: 503.8, bf16: 503.8, fp8: 1007.6, int8: 1007.6, fp4: 2015.2 },
        gbs 1792.0, gib 96, l2 Some(128.0), watts Some(600.0), host PCIE5_X16, peer None,
        note "",
        source BLACKWELL_PRO
    },
    device! {
        "NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition", [],
        chip "Blackwell RTX", Some((12, 0)), units Some(188), mhz Some(2280.0),
        tflops { fp32: 109.7, tf32: 219.4, fp16: 438.9, bf16: 438.9, fp8: 877.8, int8: 877.8, fp4: 1755.6 },
        gbs 1792.0, gib 96, l2 Some(128.0), watts Some(300.0), host PCIE5_X16, peer None,
        note "",
        source BLACKWELL_PRO
    },
    device! {
        "NVIDIA RTX PRO 6000 Blackwell Server Edition", [],
        chip "Blackwell RTX", Some((12, 0)), units Some(188), mhz None,
        tflops { fp32: 120.0 },
        gbs 1597.0, gib 96, l2 Some(128.0), watts Some(600.0), host PCIE5_X16, peer None,
        note "tensor figures are published rounded to one digit only",
        source BLACKWELL_PRO
    },
];
