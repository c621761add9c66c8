//! AMD and Intel parts.

use super::{DevicePeaks, PCIE4_X8, PCIE4_X16, PCIE5_X16};

const MI200: &str = "AMD Instinct MI200 series accelerator datasheets, peak performance; AMD CDNA 2 whitepaper, table of the generations";
const MI300: &str = "AMD Instinct MI300X and MI325X accelerator datasheets, peak performance without sparsity; AMD CDNA 3 whitepaper, table of peak rates";
const MI350: &str = "AMD Instinct MI355X GPU datasheet, peak performance without sparsity";
const RDNA3: &str =
    "AMD Radeon RX 7900 XTX product specifications; AMD RDNA 3 instruction set architecture reference, WMMA rates";
const MAX: &str = "Intel Data Center GPU Max Series product brief and Xe-HPC architecture overview, peak rates of 128 Xe-cores at 1.6 GHz";
const GAUDI: &str = "Intel Gaudi 3 AI Accelerator White Paper, table comparing Gaudi 2 and Gaudi 3";
const ARC: &str = "Intel Arc B580 Graphics product specifications";

/// The entries.
pub(super) const DEVICES: &[DevicePeaks] = &[
    device! {
        "AMD Instinct MI210", [],
        chip "CDNA 2", None, units Some(104), mhz Some(1700.0),
        tflops { fp64: 45.3, fp32: 45.3, fp16: 181.0, bf16: 181.0, int8: 181.0 },
        gbs 1638.4, gib 64, l2 Some(8.0), watts Some(300.0), host PCIE4_X16, peer Some(300.0),
        note "",
        source MI200
    },
    device! {
        "AMD Instinct MI250X (one GCD)", ["AMD Instinct MI250X", "AMD Instinct MI250X/MI250"],
        chip "CDNA 2", None, units Some(110), mhz Some(1700.0),
        tflops { fp64: 47.9, fp32: 47.9, fp16: 191.5, bf16: 191.5, int8: 191.5 },
        gbs 1638.4, gib 64, l2 Some(8.0), watts Some(280.0), host PCIE4_X16, peer None,
        note "the driver shows each of the two dies of a card as one device; these are the figures of one",
        source MI200
    },
    device! {
        "AMD Instinct MI300X", ["AMD Instinct MI300X OAM"],
        chip "CDNA 3", None, units Some(304), mhz Some(2100.0),
        tflops { fp64: 163.4, fp32: 163.4, tf32: 653.7, fp16: 1307.4, bf16: 1307.4, fp8: 2614.9, int8: 2614.9 },
        gbs 5325.0, gib 192, l2 Some(32.0), watts Some(750.0), host PCIE5_X16, peer Some(896.0),
        note "",
        source MI300
    },
    device! {
        "AMD Instinct MI325X", [],
        chip "CDNA 3", None, units Some(304), mhz Some(2100.0),
        tflops { fp64: 163.4, fp32: 163.4, tf32: 653.7, fp16: 1307.4, bf16: 1307.4, fp8: 2614.9, int8: 2614.9 },
        gbs 6000.0, gib 256, l2 Some(32.0), watts Some(1000.0), host PCIE5_X16, peer Some(896.0),
        note "",
        source MI300
    },
    device! {
        "AMD Instinct MI355X", [],
        chip "CDNA 4", None, units Some(256), mhz Some(2400.0),
        tflops { fp64: 78.6, fp32: 157.3, fp16: 2516.6, bf16: 2516.6, fp8: 5033.2, int8: 5033.2, fp4: 10066.3 },
        gbs 8000.0, gib 288, l2 None, watts Some(1400.0), host PCIE5_X16, peer Some(1075.0),
        note "",
        source MI350
    },
    device! {
        "AMD Radeon RX 7900 XTX", [],
        chip "RDNA 3", None, units Some(96), mhz Some(2500.0),
        tflops { fp32: 61.4, fp16: 122.8, bf16: 122.8, int8: 122.8 },
        gbs 960.0, gib 24, l2 Some(6.0), watts Some(355.0), host PCIE4_X16, peer None,
        note "the fp32 figure needs dual-issued instructions",
        source RDNA3
    },
    device! {
        "Intel Data Center GPU Max 1550", ["Intel(R) Data Center GPU Max 1550"],
        chip "Xe-HPC", None, units Some(128), mhz Some(1600.0),
        tflops { fp64: 52.4, fp32: 52.4, tf32: 419.4, fp16: 838.9, bf16: 838.9, int8: 1677.7 },
        gbs 3276.8, gib 128, l2 Some(408.0), watts Some(600.0), host PCIE5_X16, peer None,
        note "figures of the whole card; a runtime that shows its two stacks as devices gives each one half",
        source MAX
    },
    device! {
        "Intel Gaudi 2", ["HL-225", "HL-225H"],
        chip "Gaudi", None, units None, mhz None,
        tflops { bf16: 432.0, fp8: 865.0 },
        gbs 2450.0, gib 96, l2 None, watts Some(600.0), host PCIE4_X16, peer None,
        note "",
        source GAUDI
    },
    device! {
        "Intel Gaudi 3", ["HL-325L"],
        chip "Gaudi", None, units None, mhz None,
        tflops { bf16: 1835.0, fp8: 1835.0 },
        gbs 3700.0, gib 128, l2 None, watts Some(900.0), host PCIE5_X16, peer None,
        note "",
        source GAUDI
    },
    device! {
        "Intel Arc B580", ["Intel(R) Arc(TM) B580 Graphics"],
        chip "Xe2-HPG", None, units Some(20), mhz Some(2670.0),
        tflops { fp32: 13.7, int8: 233.0 },
        gbs 456.0, gib 12, l2 Some(18.0), watts Some(190.0), host PCIE4_X8, peer None,
        note "",
        source ARC
    },
];
