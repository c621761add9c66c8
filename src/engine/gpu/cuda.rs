//! The backend on a real device: one context, one non-blocking stream, kernels from NVRTC, products from cuBLAS.

use std::any::Any;
use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::cublas::{result as blas, sys as blas_sys};
use cudarc::driver::{CudaContext, CudaStream, result, sys};

use super::backend::{
    Address, Arg, Buffer, DeviceFacts, Event, Gemm, GpuBackend, GpuError, GpuResult, Graph, HalfType, Launch,
};
use super::kernel::{Kernel, Module};
use super::nvrtc::Compiler;
use crate::engine::device::has_library;

/// Dynamic shared memory every kernel may use without asking.
const SHARED_WITHOUT_ASKING: u32 = 48 * 1024;
/// Workspace of cuBLAS; what NVIDIA recommends for Hopper. Given once, since a captured graph may not allocate.
const BLAS_WORKSPACE_BYTES: u64 = 32 << 20;

/// A loaded module and its functions.
struct Loaded {
    module: sys::CUmodule,
    functions: HashMap<&'static str, Function>,
}

struct Function {
    handle: sys::CUfunction,
    /// Dynamic shared memory it was allowed so far.
    shared_bytes: u32,
}

// SAFETY: module and function handles belong to the context and may be used from any thread that has it bound.
unsafe impl Send for Loaded {}

/// cuBLAS on the stream.
struct Blas {
    handle: blas_sys::cublasHandle_t,
    _workspace: Buffer,
}

// SAFETY: the handle is used under a lock.
unsafe impl Send for Blas {}

impl Drop for Blas {
    fn drop(&mut self) {
        // SAFETY: the handle came from `cublasCreate` and is destroyed once. Nothing can be done about a failure here.
        let _ = unsafe { blas::destroy_handle(self.handle) };
    }
}

/// See the module documentation.
pub struct CudaBackend {
    // In the order in which they must go: what uses the stream first.
    blas: Mutex<Option<Blas>>,
    modules: Mutex<HashMap<Module, Loaded>>,
    compiler: Compiler,
    facts: DeviceFacts,
    stream: Arc<CudaStream>,
}

impl CudaBackend {
    /// Opens device `ordinal`. The driver library must have been found before, see [`crate::engine::device::cuda`].
    ///
    /// # Errors
    /// What the driver said.
    pub fn open(ordinal: usize) -> GpuResult<Arc<Self>> {
        let what = "opening the device";
        let context = CudaContext::new(ordinal).map_err(|error| GpuError::new(what, error))?;
        // SAFETY: all memory of this backend is used on its one stream, so no other stream has to wait for it.
        unsafe { context.disable_event_tracking() };
        let stream = context.new_stream().map_err(|error| GpuError::new(what, error))?;
        Self::on(stream)
    }

    /// A backend on a stream that something else uses too, in the order of the calls: candle's.
    ///
    /// # Errors
    /// What the driver said.
    pub fn on(stream: Arc<CudaStream>) -> GpuResult<Arc<Self>> {
        let failed = |error| GpuError::new("asking the device what it is", error);
        let context = stream.context();
        context.bind_to_thread().map_err(failed)?;
        let device = context.cu_device();
        let attribute = |attribute| {
            // SAFETY: the device is that of a live context.
            unsafe { result::device::get_attribute(device, attribute) }.map(i32::unsigned_abs).map_err(failed)
        };
        use sys::CUdevice_attribute as A;
        let facts = DeviceFacts {
            name: result::device::get_name(device).map_err(failed)?,
            compute_capability: (
                attribute(A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
                attribute(A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
            ),
            multiprocessors: attribute(A::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
            max_shared_bytes: attribute(A::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?,
            // SAFETY: the device is that of a live context.
            memory_bytes: unsafe { result::device::total_mem(device) }.map_err(failed)? as u64,
        };
        let compiler = Compiler::new(facts.compute_capability);
        Ok(Arc::new(Self { blas: Mutex::new(None), modules: Mutex::new(HashMap::new()), compiler, facts, stream }))
    }

    /// The stream all work is put into.
    pub fn stream(&self) -> &Arc<CudaStream> {
        &self.stream
    }

    /// Makes the context current on this thread.
    fn bind(&self, what: &str) -> GpuResult<()> {
        self.stream.context().bind_to_thread().map_err(|error| GpuError::new(what, error))
    }

    /// The function `name` of `module`, compiled and loaded if it is the first of it, with room for `shared_bytes`.
    fn function(&self, module: &Module, name: &'static str, shared_bytes: u32) -> GpuResult<sys::CUfunction> {
        let mut modules = self.modules.lock().unwrap_or_else(PoisonError::into_inner);
        if !modules.contains_key(module) {
            let image = self.compiler.image(module)?;
            // SAFETY: the image is a cubin or PTX text that ends in zero, and the driver copies it.
            let handle = unsafe { result::module::load_data(image.as_ptr().cast()) }
                .map_err(|error| GpuError::new(format!("loading {}", module.name()), error))?;
            modules.insert(module.clone(), Loaded { module: handle, functions: HashMap::new() });
        }
        let loaded = modules.get_mut(module).expect("the module was just put there");
        let failed = |error| GpuError::new(format!("finding {name} in {}", module.name()), error);
        if !loaded.functions.contains_key(name) {
            let text = CString::new(name).map_err(|error| GpuError::new(name, error))?;
            // SAFETY: the module is loaded.
            let handle = unsafe { result::module::get_function(loaded.module, text) }.map_err(failed)?;
            loaded.functions.insert(name, Function { handle, shared_bytes: SHARED_WITHOUT_ASKING });
        }
        let found = loaded.functions.get_mut(name).expect("the function was just put there");
        if shared_bytes > found.shared_bytes {
            let attribute = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            // SAFETY: the function belongs to a loaded module.
            unsafe { result::function::set_function_attribute(found.handle, attribute, shared_bytes as i32) }.map_err(
                |error| GpuError::new(format!("giving {name} {shared_bytes} bytes of shared memory"), error),
            )?;
            found.shared_bytes = shared_bytes;
        }
        Ok(found.handle)
    }
}

impl Drop for CudaBackend {
    fn drop(&mut self) {
        let _ = self.bind("closing the device");
        let modules = std::mem::take(&mut *self.modules.lock().unwrap_or_else(PoisonError::into_inner));
        for loaded in modules.into_values() {
            // SAFETY: each module is unloaded once, after the last launch.
            let _ = unsafe { result::module::unload(loaded.module) };
        }
    }
}

/// An argument in memory, eight bytes each.
fn argument_bytes(arg: Arg) -> u64 {
    match arg {
        Arg::Address(address) => address.0,
        Arg::U32(value) => u64::from(value),
        Arg::I32(value) => u64::from(value.cast_unsigned()),
        Arg::U64(value) => value,
        Arg::F32(value) => u64::from(value.to_bits()),
    }
}

impl GpuBackend for CudaBackend {
    fn facts(&self) -> &DeviceFacts {
        &self.facts
    }

    fn free_bytes(&self) -> GpuResult<u64> {
        let what = "asking for free memory";
        self.bind(what)?;
        result::mem_get_info().map(|(free, _)| free as u64).map_err(|error| GpuError::new(what, error))
    }

    fn alloc(&self, bytes: u64) -> GpuResult<Buffer> {
        let what = || format!("allocating {bytes} bytes on the device");
        self.bind("allocating")?;
        // SAFETY: the memory is given back by the buffer, once. Zero bytes are one: the driver refuses none.
        let pointer =
            unsafe { result::malloc_sync(bytes.max(1) as usize) }.map_err(|error| GpuError::new(what(), error))?;
        let context = Arc::clone(self.stream.context());
        let release = move |address: Address| {
            if context.bind_to_thread().is_ok() {
                // SAFETY: the address came from `malloc_sync`. `cuMemFree` waits for the work that uses it.
                let _ = unsafe { result::free_sync(address.0) };
            }
        };
        Ok(Buffer::new(Address(pointer), bytes, Box::new(release)))
    }

    fn fill(&self, to: Address, bytes: u64, value: u8) -> GpuResult<()> {
        let what = "filling memory";
        self.bind(what)?;
        // SAFETY: the caller gives memory of this device.
        unsafe { result::memset_d8_async(to.0, value, bytes as usize, self.stream.cu_stream()) }
            .map_err(|error| GpuError::new(what, error))
    }

    fn upload(&self, to: Address, from: &[u8]) -> GpuResult<()> {
        let what = "copying to the device";
        self.bind(what)?;
        // SAFETY: the caller gives memory of this device. From pageable memory the call returns when the source was read.
        unsafe { result::memcpy_htod_async(to.0, from, self.stream.cu_stream()) }
            .map_err(|error| GpuError::new(what, error))
    }

    fn download(&self, from: Address, to: &mut [u8]) -> GpuResult<()> {
        let what = "copying from the device";
        self.bind(what)?;
        // SAFETY: the caller gives memory of this device; the stream is waited for while `to` is borrowed.
        unsafe { result::memcpy_dtoh_async(to, from.0, self.stream.cu_stream()) }
            .and_then(|()| self.stream.synchronize())
            .map_err(|error| GpuError::new(what, error))
    }

    fn copy(&self, to: Address, from: Address, bytes: u64) -> GpuResult<()> {
        let what = "copying on the device";
        self.bind(what)?;
        // SAFETY: the caller gives memory of this device.
        unsafe { result::memcpy_dtod_async(to.0, from.0, bytes as usize, self.stream.cu_stream()) }
            .map_err(|error| GpuError::new(what, error))
    }

    fn launch(&self, kernel: &Kernel, launch: Launch, args: &[Arg]) -> GpuResult<()> {
        self.bind("launching")?;
        let function = self.function(&kernel.module, kernel.function, launch.shared_bytes)?;
        let mut values: Vec<u64> = args.iter().map(|arg| argument_bytes(*arg)).collect();
        // The driver reads as many bytes of each as the kernel declares: on a little-endian host the low ones come first.
        let mut pointers: Vec<*mut c_void> = values.iter_mut().map(|value| (&raw mut *value).cast()).collect();
        let dims = |dims: [u32; 3]| (dims[0], dims[1], dims[2]);
        // SAFETY: number, order and types of the arguments are the contract of the kernel, which `check` verifies on every device.
        unsafe {
            result::launch_kernel(
                function,
                dims(launch.grid),
                dims(launch.block),
                launch.shared_bytes,
                self.stream.cu_stream(),
                &mut pointers,
            )
        }
        .map_err(|error| GpuError::new(format!("launching {} of {}", kernel.function, kernel.module.name()), error))
    }

    fn gemm(&self, gemm: &Gemm) -> GpuResult<()> {
        let what = "multiplying matrices with cuBLAS";
        self.bind(what)?;
        let mut blas_slot = self.blas.lock().unwrap_or_else(PoisonError::into_inner);
        if blas_slot.is_none() {
            if !has_library("libcublas.so.13") {
                return Err(GpuError::new(
                    what,
                    "libcublas.so.13 of the CUDA toolkit cannot be loaded (LD_LIBRARY_PATH)",
                ));
            }
            let failed = |error| GpuError::new("starting cuBLAS", format!("{error:?}"));
            let handle = blas::create_handle().map_err(failed)?;
            let workspace = self.alloc(BLAS_WORKSPACE_BYTES)?;
            // SAFETY: handle, stream and workspace live as long as the backend.
            unsafe {
                blas::set_stream(handle, self.stream.cu_stream().cast()).map_err(failed)?;
                blas_sys::cublasSetWorkspace_v2(
                    handle,
                    workspace.address().0 as *mut c_void,
                    BLAS_WORKSPACE_BYTES as usize,
                )
                .result()
                .map_err(failed)?;
            }
            *blas_slot = Some(Blas { handle, _workspace: workspace });
        }
        let handle = blas_slot.as_ref().expect("it was just made").handle;
        let half = match gemm.half {
            HalfType::F16 => blas_sys::cudaDataType::CUDA_R_16F,
            HalfType::BF16 => blas_sys::cudaDataType::CUDA_R_16BF,
        };
        let output = if gemm.accumulate_f32 { blas_sys::cudaDataType::CUDA_R_32F } else { half };
        let alpha = 1.0_f32;
        let beta = if gemm.accumulate_f32 { 1.0_f32 } else { 0.0 };
        use blas_sys::cublasOperation_t::{CUBLAS_OP_N, CUBLAS_OP_T};
        // cuBLAS is column-major: row-major c[m, n] is its c[n, m], so w comes first, transposed, and a second as it is.
        // SAFETY: the caller gives matrices of these shapes on this device; alpha and beta are read during the call.
        unsafe {
            blas::gemm_ex(
                handle,
                CUBLAS_OP_T,
                CUBLAS_OP_N,
                gemm.n as i32,
                gemm.m as i32,
                gemm.k as i32,
                (&raw const alpha).cast(),
                gemm.w.0 as *const c_void,
                half,
                gemm.k as i32,
                gemm.a.0 as *const c_void,
                half,
                gemm.k as i32,
                (&raw const beta).cast(),
                gemm.c.0 as *mut c_void,
                output,
                gemm.c_stride as i32,
                blas_sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
                blas_sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
            )
        }
        .map_err(|error| GpuError::new(what, format!("{error:?} for {} x {} x {}", gemm.m, gemm.n, gemm.k)))
    }

    fn synchronize(&self) -> GpuResult<()> {
        let what = "waiting for the device";
        self.bind(what)?;
        self.stream.synchronize().map_err(|error| GpuError::new(what, error))
    }

    fn begin_capture(&self) -> GpuResult<()> {
        let what = "starting the capture of a graph";
        self.bind(what)?;
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream is ours and not the legacy one.
        unsafe { result::stream::begin_capture(self.stream.cu_stream(), mode) }
            .map_err(|error| GpuError::new(what, error))
    }

    fn end_capture(&self) -> GpuResult<Box<dyn Graph>> {
        let what = "ending the capture of a graph";
        self.bind(what)?;
        // SAFETY: the stream is ours.
        let graph = unsafe { result::stream::end_capture(self.stream.cu_stream()) }
            .map_err(|error| GpuError::new(what, error))?;
        if graph.is_null() {
            return Err(GpuError::new(what, "the capture was broken by a call that cannot be part of a graph"));
        }
        let mut nodes = 0;
        // SAFETY: the graph is valid; a null list asks for the number.
        let counted = unsafe { sys::cuGraphGetNodes(graph, std::ptr::null_mut(), &raw mut nodes) };
        // SAFETY: the graph is valid.
        let instantiated = counted
            .result()
            .and_then(|()| unsafe { result::graph::instantiate(graph, sys::CUgraphInstantiate_flags(0)) });
        // SAFETY: the executable graph keeps what it needs.
        let _ = unsafe { result::graph::destroy(graph) };
        let executable = instantiated.map_err(|error| GpuError::new("instantiating a graph", error))?;
        // SAFETY: the graph is valid. Uploading now keeps it out of the first launch.
        unsafe { result::graph::upload(executable, self.stream.cu_stream()) }
            .map_err(|error| GpuError::new("uploading a graph", error))?;
        Ok(Box::new(CudaGraph { executable, nodes, stream: Arc::clone(&self.stream) }))
    }

    fn event(&self) -> GpuResult<Box<dyn Event>> {
        let what = "making an event";
        self.bind(what)?;
        let handle =
            result::event::create(sys::CUevent_flags::CU_EVENT_DEFAULT).map_err(|error| GpuError::new(what, error))?;
        Ok(Box::new(CudaEvent { handle, stream: Arc::clone(&self.stream) }))
    }
}

struct CudaGraph {
    executable: sys::CUgraphExec,
    nodes: usize,
    stream: Arc<CudaStream>,
}

// SAFETY: the handle belongs to the context and may be used from any thread that has it bound.
unsafe impl Send for CudaGraph {}

impl Graph for CudaGraph {
    fn launch(&self) -> GpuResult<()> {
        // SAFETY: graph and stream are valid.
        unsafe { result::graph::launch(self.executable, self.stream.cu_stream()) }
            .map_err(|error| GpuError::new("launching a graph", error))
    }
    fn nodes(&self) -> usize {
        self.nodes
    }
}

impl Drop for CudaGraph {
    fn drop(&mut self) {
        if self.stream.context().bind_to_thread().is_ok() {
            // SAFETY: destroyed once; the driver waits for a launch under way.
            let _ = unsafe { result::graph::exec_destroy(self.executable) };
        }
    }
}

struct CudaEvent {
    handle: sys::CUevent,
    stream: Arc<CudaStream>,
}

// SAFETY: events may be used from any thread that has their context bound.
unsafe impl Send for CudaEvent {}
// SAFETY: as above; recording and asking are calls of a driver that locks.
unsafe impl Sync for CudaEvent {}

impl Event for CudaEvent {
    fn record(&self) -> GpuResult<()> {
        // SAFETY: event and stream are valid.
        unsafe { result::event::record(self.handle, self.stream.cu_stream()) }
            .map_err(|error| GpuError::new("recording an event", error))
    }
    fn elapsed_ns(&self, later: &dyn Event) -> GpuResult<u64> {
        let what = "reading the time between events";
        let Some(later) = later.as_any().downcast_ref::<Self>() else {
            return Err(GpuError::new(what, "the events are of different backends"));
        };
        // SAFETY: both events are valid and were recorded on one stream.
        let ms = unsafe {
            result::event::synchronize(later.handle).and_then(|()| result::event::elapsed(self.handle, later.handle))
        }
        .map_err(|error| GpuError::new(what, error))?;
        Ok((f64::from(ms) * 1e6).round().max(0.0) as u64)
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Drop for CudaEvent {
    fn drop(&mut self) {
        if self.stream.context().bind_to_thread().is_ok() {
            // SAFETY: destroyed once.
            let _ = unsafe { result::event::destroy(self.handle) };
        }
    }
}
