//! Mistakes in the kernels, one at a time: the checks must see each of them.
//!
//! What a mutation replaces must be in the source exactly once, so that a change of a kernel that makes one void is noticed.

use perfprof::engine::gpu::backend::{Address, Arg, Buffer, DeviceFacts, Event, Gemm, GpuBackend, GpuResult, Graph, HalfType, Launch};
use perfprof::engine::gpu::check::{self, Scale};
use perfprof::engine::gpu::kernel::{Kernel, Module, Source};

use super::{EmulatedBackend, Order, with_order};

/// A device that compiles one source changed.
struct Mutant {
    device: std::sync::Arc<EmulatedBackend>,
    source: Source,
}

impl GpuBackend for Mutant {
    fn launch(&self, kernel: &Kernel, launch: Launch, args: &[Arg]) -> GpuResult<()> {
        let mut kernel = kernel.clone();
        if kernel.module.source.name == self.source.name {
            kernel.module = Module { source: self.source, defines: kernel.module.defines };
        }
        self.device.launch(&kernel, launch, args)
    }
    fn facts(&self) -> &DeviceFacts {
        self.device.facts()
    }
    fn free_bytes(&self) -> GpuResult<u64> {
        self.device.free_bytes()
    }
    fn alloc(&self, bytes: u64) -> GpuResult<Buffer> {
        self.device.alloc(bytes)
    }
    fn fill(&self, to: Address, bytes: u64, value: u8) -> GpuResult<()> {
        self.device.fill(to, bytes, value)
    }
    fn upload(&self, to: Address, from: &[u8]) -> GpuResult<()> {
        self.device.upload(to, from)
    }
    fn download(&self, from: Address, to: &mut [u8]) -> GpuResult<()> {
        self.device.download(from, to)
    }
    fn copy(&self, to: Address, from: Address, bytes: u64) -> GpuResult<()> {
        self.device.copy(to, from, bytes)
    }
    fn prepare(&self, module: &Module) -> GpuResult<f64> {
        self.device.prepare(module)
    }
    fn gemm(&self, gemm: &Gemm) -> GpuResult<()> {
        self.device.gemm(gemm)
    }
    fn synchronize(&self) -> GpuResult<()> {
        self.device.synchronize()
    }
    fn begin_capture(&self) -> GpuResult<()> {
        self.device.begin_capture()
    }
    fn end_capture(&self) -> GpuResult<Box<dyn Graph>> {
        self.device.end_capture()
    }
    fn event(&self) -> GpuResult<Box<dyn Event>> {
        self.device.event()
    }
}

/// Source, filter of the cases, what is replaced, by what.
const MISTAKES: &[(Source, &str, &str, &str)] = &include!("mistakes.in");

#[test]
fn every_mistake_in_a_kernel_is_seen() {
    let mut unseen = Vec::new();
    for (source, filter, from, to) in MISTAKES {
        assert_eq!(source.text.matches(from).count(), 1, "{}: `{from}`", source.name);
        let text: &'static str = Box::leak(source.text.replace(from, to).into_boxed_str());
        let seen = [Order::Forward, Order::Random(1), Order::Random(2)].into_iter().any(|order| {
            let Some(device) = with_order(order) else { return true };
            let mutant = Mutant { device, source: Source { name: source.name, text } };
            let results = check::run(&mutant, HalfType::F16, 3, Some(filter), Scale::Small, &mut |_| {});
            assert!(!results.is_empty(), "no case has {filter} in its name");
            results.iter().any(|result| !result.ok)
        });
        if !seen {
            unseen.push(format!("{}: `{from}` → `{to}`", source.name));
        }
    }
    assert!(unseen.is_empty(), "{} mistakes went unseen:\n{}", unseen.len(), unseen.join("\n"));
}
