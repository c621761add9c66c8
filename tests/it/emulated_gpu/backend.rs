//! [`GpuBackend`] on the host.

use std::any::Any;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use perfprof::engine::gpu::backend::{
    Address, Arg, Buffer, DeviceFacts, Event, Gemm, GpuBackend, GpuError, GpuResult, Graph, Launch,
};
use perfprof::engine::gpu::kernel::Kernel;

use super::compile::{self, Order};
use super::gemm;
use super::memory::Memory;

/// What events tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clock {
    /// The time of the host.
    Host,
    /// Every launch and product takes this many ns, all else none.
    Virtual(u64),
}

/// How the device behaves.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) facts: DeviceFacts,
    /// `None`: as PP_EMU_SEED says, forward without it.
    pub(crate) order: Option<Order>,
    pub(crate) clock: Clock,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            facts: DeviceFacts {
                name: "emulated device".to_owned(),
                compute_capability: (9, 0),
                multiprocessors: 4,
                max_shared_bytes: 232_448,
                memory_bytes: 1 << 30,
            },
            order: None,
            clock: Clock::Host,
        }
    }
}

/// Work of the stream.
#[derive(Debug, Clone)]
enum Work {
    Launch(Kernel, Launch, Vec<Arg>),
    Gemm(Gemm),
    Fill(Address, u64, u8),
    Copy(Address, Address, u64),
}

#[derive(Default)]
struct State {
    memory: Memory,
    /// The recording, while there is one.
    capture: Option<Vec<Work>>,
    /// What was done during the recording that a device would not have allowed.
    capture_fault: Option<String>,
    virtual_ns: u64,
    launches: u64,
}

struct Inner {
    options: Options,
    state: Mutex<State>,
    started: Instant,
}

/// A device made of the host's threads and memory.
pub(crate) struct EmulatedBackend {
    inner: Arc<Inner>,
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses what must not happen while a recording is made; like a device, the recording is lost with it.
    fn outside_of_capture(&self, what: &str) -> GpuResult<()> {
        let mut state = self.state();
        if state.capture.is_none() {
            return Ok(());
        }
        let reason = "not allowed while a graph is recorded";
        state.capture_fault.get_or_insert_with(|| format!("{what} is {reason}"));
        Err(GpuError::new(what, reason))
    }

    fn submit(&self, work: Work) -> GpuResult<()> {
        self.check(&work)?;
        let mut state = self.state();
        if let Some(capture) = &mut state.capture {
            capture.push(work);
            return Ok(());
        }
        drop(state);
        self.execute(&work)
    }

    fn holds(&self, what: &str, operand: &str, address: Address, bytes: u64) -> GpuResult<()> {
        if self.state().memory.holds(address.0, bytes) {
            return Ok(());
        }
        Err(GpuError::new(what, format!("{operand} ({:#x}, {bytes} bytes) is not in memory of the device", address.0)))
    }

    /// Whether the operands are live and of the right kinds.
    fn check(&self, work: &Work) -> GpuResult<()> {
        match work {
            Work::Launch(kernel, launch, args) => self.check_launch(kernel, launch, args),
            Work::Gemm(gemm) => {
                let what = "multiplying";
                let (m, n, k) = (u64::from(gemm.m), u64::from(gemm.n), u64::from(gemm.k));
                if m == 0 || n == 0 || k == 0 || u64::from(gemm.c_stride) < n {
                    return Err(GpuError::new(
                        what,
                        format!("a product with m, n, k = {m}, {n}, {k}, c_stride = {}", gemm.c_stride),
                    ));
                }
                let width = if gemm.accumulate_f32 { 4 } else { 2 };
                self.holds(what, "a", gemm.a, m * k * 2)?;
                self.holds(what, "w", gemm.w, n * k * 2)?;
                self.holds(what, "c", gemm.c, ((m - 1) * u64::from(gemm.c_stride) + n) * width)
            }
            Work::Fill(to, bytes, _) => self.holds("filling memory", "its target", *to, *bytes),
            Work::Copy(to, from, bytes) => {
                self.holds("copying", "the target", *to, *bytes)?;
                self.holds("copying", "the source", *from, *bytes)
            }
        }
    }

    fn check_launch(&self, kernel: &Kernel, launch: &Launch, args: &[Arg]) -> GpuResult<()> {
        let what = || format!("launching {} of {}", kernel.function, kernel.module.name());
        let module = compile::load(&kernel.module)?;
        let Some(letters) = module.parameters(kernel.function) else {
            return Err(GpuError::new(what(), "there is no such kernel"));
        };
        let passed: String = args
            .iter()
            .map(|arg| match arg {
                Arg::Address(_) => 'p',
                Arg::U32(_) => 'u',
                Arg::I32(_) => 'i',
                Arg::U64(_) => 'l',
                Arg::F32(_) => 'f',
            })
            .collect();
        if passed != letters {
            return Err(GpuError::new(what(), format!("it takes ({letters}), it is given ({passed})")));
        }
        for (index, arg) in args.iter().enumerate() {
            if let Arg::Address(address) = arg
                && *address != Address::NULL
            {
                self.holds(&what(), &format!("argument {index}"), *address, 1)?;
            }
        }
        let shared = module.static_shared + launch.shared_bytes;
        if shared > self.options.facts.max_shared_bytes {
            return Err(GpuError::new(what(), format!("{shared} bytes of shared memory are more than the device has")));
        }
        Ok(())
    }

    fn execute(&self, work: &Work) -> GpuResult<()> {
        match work {
            Work::Launch(kernel, launch, args) => {
                let what = || format!("running {} of {}", kernel.function, kernel.module.name());
                let module = compile::load(&kernel.module)?;
                let mut values: Vec<u64> = args
                    .iter()
                    .map(|arg| match *arg {
                        Arg::Address(address) => address.0,
                        Arg::U32(value) => u64::from(value),
                        Arg::I32(value) => u64::from(value.cast_unsigned()),
                        Arg::U64(value) => value,
                        Arg::F32(value) => u64::from(value.to_bits()),
                    })
                    .collect();
                let ran = module.launch(
                    kernel.function,
                    launch.grid,
                    launch.block,
                    launch.shared_bytes,
                    &mut values,
                    self.options.order,
                );
                ran.map_err(|reason| GpuError::new(what(), reason))?;
                if let Some(damage) = self.state().memory.damage() {
                    return Err(GpuError::new(what(), damage));
                }
                self.count_launch();
            }
            Work::Gemm(product) => {
                gemm::run(product);
                self.count_launch();
            }
            // SAFETY: `check` found the ranges in live memory, which is freed only by another call.
            Work::Fill(to, bytes, value) => unsafe {
                std::ptr::write_bytes(to.0 as *mut u8, *value, *bytes as usize);
            },
            // SAFETY: as above; the ranges may overlap.
            Work::Copy(to, from, bytes) => unsafe {
                std::ptr::copy(from.0 as *const u8, to.0 as *mut u8, *bytes as usize);
            },
        }
        Ok(())
    }

    fn count_launch(&self) {
        let mut state = self.state();
        state.launches += 1;
        if let Clock::Virtual(ns) = self.options.clock {
            state.virtual_ns += ns;
        }
    }

    fn now_ns(&self) -> u64 {
        match self.options.clock {
            Clock::Host => self.started.elapsed().as_nanos() as u64,
            Clock::Virtual(_) => self.state().virtual_ns,
        }
    }
}

impl EmulatedBackend {
    /// A device; the caller has seen that there is a compiler.
    pub(crate) fn new(options: Options) -> Self {
        Self { inner: Arc::new(Inner { options, state: Mutex::default(), started: Instant::now() }) }
    }

    /// Kernels and products run so far, those of graphs included.
    pub(crate) fn launches(&self) -> u64 {
        self.inner.state().launches
    }
}

struct EmulatedGraph {
    inner: Arc<Inner>,
    work: Vec<Work>,
}

impl Graph for EmulatedGraph {
    fn launch(&self) -> GpuResult<()> {
        self.inner.outside_of_capture("launching a graph")?;
        for work in &self.work {
            // Memory may have been freed since the recording.
            self.inner.check(work)?;
            self.inner.execute(work)?;
        }
        Ok(())
    }
    fn nodes(&self) -> usize {
        self.work.iter().filter(|work| matches!(work, Work::Launch(..) | Work::Gemm(_))).count()
    }
}

struct EmulatedEvent {
    inner: Arc<Inner>,
    at_ns: Mutex<Option<u64>>,
}

impl Event for EmulatedEvent {
    fn record(&self) -> GpuResult<()> {
        self.inner.outside_of_capture("recording an event")?;
        *self.at_ns.lock().unwrap_or_else(PoisonError::into_inner) = Some(self.inner.now_ns());
        Ok(())
    }
    fn elapsed_ns(&self, later: &dyn Event) -> GpuResult<u64> {
        let what = "reading an event";
        let Some(later) = later.as_any().downcast_ref::<Self>() else {
            return Err(GpuError::new(what, "it is another device's"));
        };
        let at = |event: &Self| {
            let at_ns = *event.at_ns.lock().unwrap_or_else(PoisonError::into_inner);
            at_ns.ok_or_else(|| GpuError::new(what, "it was never recorded"))
        };
        at(later)?.checked_sub(at(self)?).ok_or_else(|| GpuError::new(what, "the later event was recorded first"))
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl GpuBackend for EmulatedBackend {
    fn facts(&self) -> &DeviceFacts {
        &self.inner.options.facts
    }
    fn free_bytes(&self) -> GpuResult<u64> {
        Ok(self.inner.options.facts.memory_bytes.saturating_sub(self.inner.state().memory.used()))
    }
    fn alloc(&self, bytes: u64) -> GpuResult<Buffer> {
        self.inner.outside_of_capture("allocating memory")?;
        let what = || format!("allocating {bytes} bytes");
        if bytes > self.free_bytes()? {
            return Err(GpuError::new(what(), "out of memory"));
        }
        let address = self.inner.state().memory.alloc(bytes);
        let address = address.ok_or_else(|| GpuError::new(what(), "out of memory of the host"))?;
        let inner = Arc::clone(&self.inner);
        let release = move |address: Address| {
            // Nothing can be returned from a drop: the recording fails instead.
            let _ = inner.outside_of_capture("freeing memory");
            inner.state().memory.free(address.0);
        };
        Ok(Buffer::new(Address(address), bytes, Box::new(release)))
    }
    fn fill(&self, to: Address, bytes: u64, value: u8) -> GpuResult<()> {
        self.inner.submit(Work::Fill(to, bytes, value))
    }
    fn upload(&self, to: Address, from: &[u8]) -> GpuResult<()> {
        self.inner.outside_of_capture("copying from the host")?;
        self.inner.holds("copying from the host", "the target", to, from.len() as u64)?;
        // SAFETY: the target is live memory of the device, which is no Rust object.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to.0 as *mut u8, from.len()) };
        Ok(())
    }
    fn download(&self, from: Address, to: &mut [u8]) -> GpuResult<()> {
        self.inner.outside_of_capture("copying to the host")?;
        self.inner.holds("copying to the host", "the source", from, to.len() as u64)?;
        // SAFETY: as in `upload`.
        unsafe { std::ptr::copy_nonoverlapping(from.0 as *const u8, to.as_mut_ptr(), to.len()) };
        Ok(())
    }
    fn copy(&self, to: Address, from: Address, bytes: u64) -> GpuResult<()> {
        self.inner.submit(Work::Copy(to, from, bytes))
    }
    fn launch(&self, kernel: &Kernel, launch: Launch, args: &[Arg]) -> GpuResult<()> {
        self.inner.submit(Work::Launch(kernel.clone(), launch, args.to_vec()))
    }
    fn gemm(&self, gemm: &Gemm) -> GpuResult<()> {
        self.inner.submit(Work::Gemm(*gemm))
    }
    fn synchronize(&self) -> GpuResult<()> {
        self.inner.outside_of_capture("waiting for the device")
    }
    fn begin_capture(&self) -> GpuResult<()> {
        let mut state = self.inner.state();
        if state.capture.is_some() {
            return Err(GpuError::new("recording a graph", "one is being recorded"));
        }
        state.capture = Some(Vec::new());
        state.capture_fault = None;
        Ok(())
    }
    fn end_capture(&self) -> GpuResult<Box<dyn Graph>> {
        let mut state = self.inner.state();
        let what = "recording a graph";
        let work = state.capture.take().ok_or_else(|| GpuError::new(what, "none is being recorded"))?;
        match state.capture_fault.take() {
            Some(fault) => Err(GpuError::new(what, fault)),
            None => Ok(Box::new(EmulatedGraph { inner: Arc::clone(&self.inner), work })),
        }
    }
    fn event(&self) -> GpuResult<Box<dyn Event>> {
        self.inner.outside_of_capture("making an event")?;
        Ok(Box::new(EmulatedEvent { inner: Arc::clone(&self.inner), at_ns: Mutex::new(None) }))
    }
}
