//! Memory traffic: copies are exact, and the sum that a pure read makes is that of all words modulo 2³².

use super::super::backend::{Arg, GpuResult, Launch};
use super::super::kernel::{Kernel, MEMORY, Module};
use super::Checks;
use super::comparison::Comparison;
use super::device::Device;

pub(super) fn run(checks: &mut Checks<'_>) {
    // Vectors of sixteen bytes, blocks, threads: fewer vectors than threads, no multiple of them, and enough for the unrolled loop.
    let small = vec![(1, 1, 256), (1_003, 2, 256), (5_000, 3, 512)];
    let full = vec![(1, 1, 256), (1_003, 2, 256), (1 << 20, 264, 512), ((1 << 22) + 5, 528, 1024)];
    for (count, blocks, threads) in checks.pick(full, small) {
        let name = format!("{count} vectors, {blocks} blocks of {threads}");
        checks.case("copy_vectors", name.clone(), |device| copy(device, count, blocks, threads));
        checks.case("read_vectors", name, |device| read(device, count, blocks, threads));
    }
}

fn launch(device: &Device<'_>, function: &'static str, blocks: u32, threads: u32, args: &[Arg]) -> GpuResult<()> {
    let kernel = Kernel { module: Module::new(MEMORY, &[]), function };
    let launch = Launch { grid: [blocks, 1, 1], block: [threads, 1, 1], shared_bytes: 0 };
    device.backend.launch(&kernel, launch, args)
}

fn words(device: &mut Device<'_>, count: usize) -> Vec<u32> {
    (0..count * 4).map(|_| device.random.bits() as u32).collect()
}

fn copy(device: &mut Device<'_>, count: usize, blocks: u32, threads: u32) -> GpuResult<Comparison> {
    let values = words(device, count);
    let input = device.u32s(&values)?;
    let out = device.output(count * 16)?;
    let args = [out.address().into(), (&input).into(), Arg::U64(count as u64)];
    launch(device, "copy_vectors", blocks, threads, &args)?;
    let mut comparison = Comparison::default();
    let got = device.read_u32s(&out, &mut comparison)?;
    comparison.bits(&got, &values);
    Ok(comparison)
}

fn read(device: &mut Device<'_>, count: usize, blocks: u32, threads: u32) -> GpuResult<Comparison> {
    let values = words(device, count);
    let input = device.u32s(&values)?;
    // The sum is added to what is there.
    let before = device.random.bits() as u32;
    let sink = device.u32s(&[before])?;
    let args = [(&input).into(), Arg::U64(count as u64), (&sink).into()];
    launch(device, "read_vectors", blocks, threads, &args)?;
    let mut comparison = Comparison::default();
    let sum = values.iter().fold(before, |sum, word| sum.wrapping_add(*word));
    comparison.bits(&device.download_u32s(&sink)?, &[sum]);
    Ok(comparison)
}
