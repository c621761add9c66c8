//! Checks of the table against arithmetic its authors did not use and against names real drivers report.

use super::*;

fn found(name: &str) -> &'static DevicePeaks {
    match lookup(name, None) {
        Lookup::Found(entry) => entry,
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn names_of_real_drivers_find_their_product() {
    for (name, product) in [
        ("NVIDIA H100 80GB HBM3", "NVIDIA H100 SXM5 80GB"),
        ("NVIDIA H100 PCIe", "NVIDIA H100 PCIe 80GB"),
        ("NVIDIA H100 NVL", "NVIDIA H100 NVL 94GB"),
        ("NVIDIA H200", "NVIDIA H200 SXM 141GB"),
        ("NVIDIA H200 NVL", "NVIDIA H200 NVL 141GB"),
        ("NVIDIA GH200 480GB", "NVIDIA GH200 96GB HBM3"),
        ("NVIDIA A100-SXM4-80GB", "NVIDIA A100 SXM4 80GB"),
        ("NVIDIA A100-SXM4-40GB", "NVIDIA A100 SXM4 40GB"),
        ("A100-SXM4-40GB", "NVIDIA A100 SXM4 40GB"),
        ("NVIDIA A100-PCIE-40GB", "NVIDIA A100 PCIe 40GB"),
        ("NVIDIA A100 80GB PCIe", "NVIDIA A100 PCIe 80GB"),
        ("Tesla V100-SXM2-16GB", "NVIDIA V100 SXM2 16GB"),
        ("Tesla V100-SXM2-32GB", "NVIDIA V100 SXM2 32GB"),
        ("Tesla T4", "NVIDIA T4"),
        ("NVIDIA A10", "NVIDIA A10"),
        ("NVIDIA A10G", "NVIDIA A10G"),
        ("NVIDIA L4", "NVIDIA L4"),
        ("NVIDIA L40S", "NVIDIA L40S"),
        ("NVIDIA B200", "NVIDIA B200 180GB"),
        ("NVIDIA GeForce RTX 4090", "NVIDIA GeForce RTX 4090"),
        ("NVIDIA GeForce RTX 4090 D", "NVIDIA GeForce RTX 4090 D"),
        ("GeForce RTX 2080 Ti", "NVIDIA GeForce RTX 2080 Ti"),
        ("NVIDIA RTX A6000", "NVIDIA RTX A6000"),
        ("NVIDIA RTX 6000 Ada Generation", "NVIDIA RTX 6000 Ada Generation"),
        ("Quadro RTX 6000", "NVIDIA Quadro RTX 6000"),
        (
            "NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition",
            "NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition",
        ),
        ("AMD Instinct MI300X", "AMD Instinct MI300X"),
        ("Intel(R) Data Center GPU Max 1550", "Intel Data Center GPU Max 1550"),
    ] {
        assert_eq!(found(name).product, product, "{name}");
    }
}

#[test]
fn a_pcie_part_never_takes_the_figures_of_an_sxm_part() {
    assert_eq!(found("NVIDIA A100-PCIE-40GB").bandwidth_bytes_per_s, 1555e9);
    assert_eq!(found("NVIDIA A100-SXM4-80GB").bandwidth_bytes_per_s, 2039e9);
    assert_eq!(found("NVIDIA H100 PCIe").dense(Format::BF16), Some(756e12));
}

#[test]
fn a_like_name_is_no_match() {
    for name in [
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "NVIDIA GeForce RTX 3080 Laptop GPU",
        "NVIDIA A100-SXM4-80GB MIG 1g.10gb",
        "GRID A100-10C",
        "NVIDIA GeForce GTX 1080 Ti",
        "NVIDIA Frobnicator 9000",
        "NVIDIA",
        "",
    ] {
        assert_eq!(lookup(name, None), Lookup::Unknown, "{name}");
    }
}

#[test]
fn part_of_a_name_gets_candidates_and_no_figure() {
    let Lookup::Ambiguous(candidates) = lookup("A100", None) else { panic!("A100 is four products") };
    assert_eq!(candidates.len(), 4);
    assert!(candidates.contains(&"NVIDIA A100 PCIe 40GB"));
}

#[test]
fn memory_tells_products_of_one_name_apart() {
    let name = "NVIDIA GeForce RTX 3080";
    assert!(matches!(lookup(name, None), Lookup::Ambiguous(list) if list.len() == 2));
    // 10 240 MiB and 12 288 MiB as the driver reports them, less what it reserves.
    let memory = |mib: u64| Some(mib << 20);
    assert!(matches!(lookup(name, memory(10_017)), Lookup::Found(entry) if entry.units == Some(68)));
    assert!(matches!(lookup(name, memory(12_053)), Lookup::Found(entry) if entry.units == Some(70)));
    // Reports of drivers: H100 81 559 MiB, H200 143 771 MiB, T4 15 109 MiB with ECC.
    for (name, mib) in [("NVIDIA H100 80GB HBM3", 81_559), ("NVIDIA H200", 143_771), ("Tesla T4", 15_109)] {
        assert!(matches!(lookup(name, memory(mib)), Lookup::Found(_)), "{name}");
    }
    // Two products of one name and one size stay two.
    assert!(matches!(lookup("NVIDIA GeForce RTX 3060 Ti", memory(8_192)), Lookup::Ambiguous(list) if list.len() == 2));
    // A size nobody sold under that name is another part, say a modified card.
    assert!(matches!(lookup("NVIDIA GeForce RTX 4090", memory(49_140)), Lookup::Ambiguous(_)));
    assert!(
        matches!(lookup("Apple M3 Max", memory(36 << 10)), Lookup::Found(entry) if entry.bandwidth_bytes_per_s == 300e9)
    );
    assert!(
        matches!(lookup("Apple M3 Max", memory(64 << 10)), Lookup::Found(entry) if entry.bandwidth_bytes_per_s == 400e9)
    );
}

#[test]
fn well_known_dense_figures_and_their_ratios_hold() {
    let bf16 = |name: &str| found(name).dense(Format::BF16).unwrap();
    let (h100, a100) = (bf16("NVIDIA H100 80GB HBM3"), bf16("NVIDIA A100-SXM4-80GB"));
    assert!((h100 / a100 - 3.17).abs() < 0.005);
    assert_eq!(bf16("NVIDIA H200"), h100, "the same chip with more memory");
    assert!((bf16("NVIDIA GeForce RTX 4090") / 165.2e12 - 1.0).abs() < 0.005);
    assert!((bf16("NVIDIA GeForce RTX 3090") / 71.0e12 - 1.0).abs() < 0.005);
    assert!((bf16("NVIDIA GeForce RTX 5090") / 209.5e12 - 1.0).abs() < 0.005);
    assert!(
        (found("NVIDIA H200").bandwidth_bytes_per_s / found("NVIDIA H100 80GB HBM3").bandwidth_bytes_per_s - 1.43)
            .abs()
            < 0.005
    );
}

#[test]
fn no_sixteen_bit_figure_is_one_printed_with_sparsity() {
    // The with-sparsity column of the sheets, 16-bit tensor TFLOPS. None of them is a dense figure of its own family.
    for (family, sparse) in [
        ("A100", 624.0),
        ("A30", 330.0),
        ("A10", 250.0),
        ("A40", 299.4),
        ("A6000", 309.7),
        ("L4", 242.0),
        ("L40S", 733.0),
        ("H100", 1979.0),
        ("H100", 1671.0),
        ("H100", 1513.0),
        ("H200", 1979.0),
        ("B200", 4500.0),
        ("4090", 330.3),
        ("3090", 142.0),
        ("5090", 419.0),
        ("MI300X", 2614.9),
    ] {
        let mut seen = 0;
        for entry in all().filter(|entry| entry.product.split(' ').any(|word| word == family)) {
            for value in [entry.dense.fp16, entry.dense.bf16].into_iter().flatten() {
                assert!((value / (sparse * T) - 1.0).abs() > 0.02, "{}: {value:e}", entry.product);
                seen += 1;
            }
        }
        assert!(seen > 0, "{family}");
    }
}

#[test]
fn every_entry_is_whole_and_cites_a_source() {
    let mut products = std::collections::BTreeSet::new();
    for entry in all() {
        assert!(entry.source.len() > 20, "{}", entry.product);
        assert!(products.insert(entry.product), "{} stands twice", entry.product);
        assert!((5e10..1e13).contains(&entry.bandwidth_bytes_per_s), "{}", entry.product);
        assert!((4 * GIB..=512 * GIB).contains(&entry.memory_bytes), "{}", entry.product);
        let figures = entry.dense.named().into_iter().filter_map(|(_, value)| value).collect::<Vec<_>>();
        assert!(!figures.is_empty() || entry.architecture == "Apple silicon", "{}", entry.product);
        assert!(figures.iter().all(|value| (5e11..2e16).contains(value)), "{}", entry.product);
        assert!(entry.tdp_w.is_none_or(|watts| (20.0..1500.0).contains(&watts)), "{}", entry.product);
        // A sheet's with-sparsity column would break this order: fewer bits never run slower.
        let dense = entry.dense;
        for (wide, narrow) in
            [(dense.fp32, dense.bf16), (dense.tf32, dense.bf16), (dense.bf16, dense.fp8), (dense.fp8, dense.fp4)]
        {
            if let (Some(wide), Some(narrow)) = (wide, narrow) {
                assert!(narrow >= wide * 0.99, "{}: {wide:e} > {narrow:e}", entry.product);
                assert!(narrow <= wide * 32.0, "{}: {wide:e} → {narrow:e}", entry.product);
            }
        }
        if let (Some(tf32), Some(bf16)) = (dense.tf32, dense.bf16) {
            assert!(
                (bf16 / tf32 - 2.0).abs() < 0.05,
                "{}: a tensor core does bf16 at twice the rate of tf32",
                entry.product
            );
        }
        if let (Some(bf16), Some(fp8)) = (dense.bf16, dense.fp8)
            && entry.architecture != "Gaudi"
        {
            assert!((fp8 / bf16 - 2.0).abs() < 0.05, "{}: fp8 runs at twice the rate of bf16", entry.product);
        }
    }
    assert!(products.len() > 80);
}

/// Dense operations per cycle of one SM or CU, from the architecture whitepapers and CDNA/RDNA instruction references: `(fp32,
/// 16-bit with 32-bit accumulation)`; the second of the two 16-bit rates is that of parts with half-rate accumulation.
fn rates(architecture: &str) -> Option<(f64, [f64; 2])> {
    Some(match architecture {
        "Volta" => (128.0, [1024.0, 1024.0]),
        "Turing" => (128.0, [1024.0, 512.0]),
        "Ampere GA100" => (128.0, [2048.0, 2048.0]),
        "Ampere GA10x" | "Ada" | "Blackwell RTX" => (256.0, [1024.0, 512.0]),
        "Hopper" | "CDNA 4" | "Xe-HPC" => (256.0, [4096.0, 4096.0]),
        "CDNA 2" => (256.0, [1024.0, 1024.0]),
        "CDNA 3" => (256.0, [2048.0, 2048.0]),
        "RDNA 3" => (256.0, [512.0, 512.0]),
        _ => return None,
    })
}

#[test]
fn figures_follow_from_units_clock_and_rate() {
    let mut checked = 0;
    for entry in all() {
        let (Some((fp32, [full, half])), Some(units), Some(mhz)) =
            (rates(entry.architecture), entry.units, entry.boost_mhz)
        else {
            continue;
        };
        let cycles = f64::from(units) * mhz * 1e6;
        let near = |value: f64, rate: f64| (value / (cycles * rate) - 1.0).abs() < 0.015;
        // Hopper's vector units clock higher than its tensor cores, and the entry has the latter's clock.
        if let Some(value) = entry.dense.fp32.filter(|_| entry.architecture != "Hopper") {
            assert!(near(value, fp32), "{}: fp32 {value:e} against {:e}", entry.product, cycles * fp32);
        }
        let sixteen = entry.dense.fp16.or(entry.dense.bf16).unwrap();
        assert!(
            near(sixteen, full) || near(sixteen, half),
            "{}: 16-bit {sixteen:e} is neither {:e} nor {:e}",
            entry.product,
            cycles * full,
            cycles * half
        );
        if entry.product.contains("GeForce") {
            assert!(near(sixteen, half), "{}: GeForce parts accumulate in fp32 at half rate", entry.product);
        }
        checked += 1;
    }
    assert!(checked > 60, "{checked}");
}

#[test]
fn block_formats_have_no_arithmetic() {
    assert_eq!(found("NVIDIA H200").dense(Format::Q4K), None);
    assert_eq!(found("Tesla T4").dense(Format::BF16), None);
}
