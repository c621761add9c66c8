//! The device the GPU engine drives, behind one trait: memory, kernel launches, matrix products, graphs and events.
//!
//! [`super::cuda::CudaBackend`] is the real one (feature `cuda`). The tests have another: it compiles the same `kernels/*.cu` for the host and
//! runs them thread by thread, so that the kernels' arithmetic and everything this crate does around them is checked where there is no GPU.

use std::fmt;
use std::sync::Arc;

use super::kernel::Kernel;

/// An error of the device, of the compiler of its kernels, or of a library.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {reason}")]
pub struct GpuError {
    /// What was tried, e.g. `launching rms_norm`.
    pub what: String,
    /// What the driver, the compiler or the library said.
    pub reason: String,
}

impl GpuError {
    /// An error of `what`.
    pub fn new(what: impl Into<String>, reason: impl fmt::Display) -> Self {
        Self { what: what.into(), reason: reason.to_string() }
    }
}

/// A result of the device.
pub type GpuResult<T> = Result<T, GpuError>;

/// An address in the memory of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Address(pub u64);

impl Address {
    /// The null pointer, for an operand a kernel is told not to use.
    pub const NULL: Self = Self(0);

    /// `bytes` further on.
    #[must_use]
    pub fn offset(self, bytes: u64) -> Self {
        Self(self.0 + bytes)
    }
}

/// Memory of a device; freed when dropped.
pub struct Buffer {
    address: Address,
    bytes: u64,
    /// Frees the memory.
    release: Option<Box<dyn FnOnce(Address) + Send>>,
}

impl Buffer {
    /// Memory at `address` that `release` gives back.
    pub fn new(address: Address, bytes: u64, release: Box<dyn FnOnce(Address) + Send>) -> Self {
        Self { address, bytes, release: Some(release) }
    }
    /// Where it begins.
    pub fn address(&self) -> Address {
        self.address
    }
    /// How long it is.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(release) = self.release.take() {
            release(self.address);
        }
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({:#x}, {} bytes)", self.address.0, self.bytes)
    }
}

/// One argument of a kernel, passed by value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Arg {
    /// A pointer.
    Address(Address),
    /// `unsigned`.
    U32(u32),
    /// `int`.
    I32(i32),
    /// `unsigned long long`.
    U64(u64),
    /// `float`.
    F32(f32),
}

impl From<Address> for Arg {
    fn from(value: Address) -> Self {
        Self::Address(value)
    }
}
impl From<&Buffer> for Arg {
    fn from(value: &Buffer) -> Self {
        Self::Address(value.address())
    }
}
impl From<u32> for Arg {
    fn from(value: u32) -> Self {
        Self::U32(value)
    }
}
impl From<f32> for Arg {
    fn from(value: f32) -> Self {
        Self::F32(value)
    }
}

/// Shape of a launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Launch {
    /// Blocks.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub block: [u32; 3],
    /// Dynamic shared memory of a block.
    pub shared_bytes: u32,
}

/// Type of a matrix of 16-bit values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HalfType {
    /// IEEE half precision.
    F16,
    /// bfloat16.
    BF16,
}

impl HalfType {
    /// `f16` or `bf16`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F16 => "f16",
            Self::BF16 => "bf16",
        }
    }
}

/// A product `c[m, n] = a[m, k] · w[n, k]ᵀ (+ c)`; all row-major and without gaps but for the row strides; sums in f32.
#[derive(Debug, Clone, Copy)]
pub struct Gemm {
    /// Type of `a` and `w`.
    pub half: HalfType,
    /// Rows of `a` and `c`.
    pub m: u32,
    /// Rows of `w`, columns of `c`.
    pub n: u32,
    /// Columns of `a` and `w`.
    pub k: u32,
    /// `[m, k]`.
    pub a: Address,
    /// `[n, k]`.
    pub w: Address,
    /// `[m, n]`.
    pub c: Address,
    /// Whether `c` is f32 and the product is added to it; else `c` is of type `half` and is overwritten.
    pub accumulate_f32: bool,
    /// Values from one row of `c` to the next; at least `n`.
    pub c_stride: u32,
}

/// A recorded sequence of launches.
pub trait Graph: Send {
    /// Launches all of it on the stream of its backend.
    fn launch(&self) -> GpuResult<()>;
    /// Number of kernel launches in it.
    fn nodes(&self) -> usize;
}

/// A point in the order of a stream, with a time.
pub trait Event: Send + Sync {
    /// Records it on the stream.
    fn record(&self) -> GpuResult<()>;
    /// ns from this event to `later`; waits for both.
    fn elapsed_ns(&self, later: &dyn Event) -> GpuResult<u64>;
    /// The event behind the trait.
    fn as_any(&self) -> &dyn std::any::Any;
}

/// What a device is.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceFacts {
    /// e.g. `NVIDIA H200`.
    pub name: String,
    /// e.g. (9, 0).
    pub compute_capability: (u32, u32),
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
    /// Shared memory a block may be given, bytes.
    pub max_shared_bytes: u32,
    /// Memory, bytes.
    pub memory_bytes: u64,
}

/// A device with one stream. All work is in the order of the calls; calls return before the work is done, except where they say so.
pub trait GpuBackend: Send + Sync {
    /// What the device is.
    fn facts(&self) -> &DeviceFacts;
    /// Free memory in bytes.
    fn free_bytes(&self) -> GpuResult<u64>;
    /// New memory with undefined content.
    fn alloc(&self, bytes: u64) -> GpuResult<Buffer>;
    /// Fills memory with a byte.
    fn fill(&self, to: Address, bytes: u64, value: u8) -> GpuResult<()>;
    /// Copies from the host; the source may be reused at return.
    fn upload(&self, to: Address, from: &[u8]) -> GpuResult<()>;
    /// Copies to the host; waits for it.
    fn download(&self, from: Address, to: &mut [u8]) -> GpuResult<()>;
    /// Copies within the device.
    fn copy(&self, to: Address, from: Address, bytes: u64) -> GpuResult<()>;
    /// Launches a kernel.
    fn launch(&self, kernel: &Kernel, launch: Launch, args: &[Arg]) -> GpuResult<()>;
    /// Multiplies matrices.
    fn gemm(&self, gemm: &Gemm) -> GpuResult<()>;
    /// Waits until all work is done.
    fn synchronize(&self) -> GpuResult<()>;
    /// From here on launches are recorded and not run; memory may be neither made, freed nor copied to or from the host.
    fn begin_capture(&self) -> GpuResult<()>;
    /// Ends recording. Where the recording failed the device is back in its normal state.
    fn end_capture(&self) -> GpuResult<Box<dyn Graph>>;
    /// A new event.
    fn event(&self) -> GpuResult<Box<dyn Event>>;
}

/// A backend that several owners use.
pub type SharedBackend = Arc<dyn GpuBackend>;
