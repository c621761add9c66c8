//! Takes activity records from CUPTI.
//!
//! CUPTI asks for buffers and hands full ones back on threads of the program, inside its CUDA calls: there nothing may wait. A buffer comes
//! from a pool whose lock is only tried, and from the allocator where none is at hand; a full one goes down an unbounded channel to a thread
//! that decodes it and puts it back into the pool.

use std::alloc::{Layout, alloc};
use std::ffi::{CStr, c_char, c_void};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError, TryLockError, mpsc};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use cudarc::cupti::result::{self, CuptiError, activity};
use cudarc::cupti::sys;

use super::ActivitySource;
use super::clock::ClockSample;
use super::decode::{Decoded, NameTable, decode};
use super::error::TracerError;
use super::records::{Dropped, Recording};
use crate::trace::host::ApiClass;

/// Bytes of a buffer: some 20,000 kernels.
const BUFFER_BYTES: usize = 4 << 20;
/// CUPTI asks for buffers aligned to this.
const BUFFER_ALIGNMENT: usize = 8;
/// Buffers made ready before the first record.
const BUFFERS_READY: usize = 8;
/// CUDA 13.0, whose layouts of records are read.
const OLDEST_VERSION: u32 = 130_000;
/// Names the library may have.
const LIBRARY_NAMES: [&CStr; 2] = [c"libcupti.so.13", c"libcupti.so"];
/// `CUPTI_ACTIVITY_FLAG_FLUSH_FORCED`: buffers with records that are not complete, too.
const FLUSH_FORCED: u32 = 1;

/// Kinds without which a trace is none.
const NEEDED: [sys::CUpti_ActivityKind; 5] = [
    sys::CUpti_ActivityKind::CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL,
    sys::CUpti_ActivityKind::CUPTI_ACTIVITY_KIND_MEMCPY,
    sys::CUpti_ActivityKind::CUPTI_ACTIVITY_KIND_MEMSET,
    sys::CUpti_ActivityKind::CUPTI_ACTIVITY_KIND_RUNTIME,
    sys::CUpti_ActivityKind::CUPTI_ACTIVITY_KIND_DRIVER,
];
/// Kinds a trace is better with. Whole graphs are not among them: with them CUPTI would leave out the kernels of graphs.
const WANTED: [sys::CUpti_ActivityKind; 4] = [
    sys::CUpti_ActivityKind::CUPTI_ACTIVITY_KIND_MEMCPY2,
    sys::CUpti_ActivityKind::CUPTI_ACTIVITY_KIND_SYNCHRONIZATION,
    sys::CUpti_ActivityKind::CUPTI_ACTIVITY_KIND_OVERHEAD,
    sys::CUpti_ActivityKind::CUPTI_ACTIVITY_KIND_DEVICE,
];

/// A buffer on its way.
#[derive(Debug)]
struct Buffer(*mut u8);

// SAFETY: a buffer has one holder at a time: the pool, CUPTI, the channel or the worker.
unsafe impl Send for Buffer {}

impl Buffer {
    /// New memory; `None` where there is none left.
    fn allocate() -> Option<Self> {
        let layout = Layout::from_size_align(BUFFER_BYTES, BUFFER_ALIGNMENT).ok()?;
        // SAFETY: the layout is not empty.
        let pointer = unsafe { alloc(layout) };
        // Never freed: a buffer goes back to the pool, and CUPTI may hold some until the process ends.
        (!pointer.is_null()).then_some(Self(pointer))
    }
}

/// What the worker is told.
enum Message {
    /// A full buffer with its queue and the bytes in it that are records.
    Full { context: u64, stream: u32, buffer: Buffer, valid: usize },
    /// Hand over what was decoded since the last time.
    Take(mpsc::Sender<Recording>),
}

/// What CUPTI's callbacks reach: they are given nothing of ours.
struct Exchange {
    pool: Mutex<Vec<Buffer>>,
    /// Buffers allocated inside a callback.
    allocated: AtomicU64,
    worker: OnceLock<mpsc::Sender<Message>>,
    /// A collector is open.
    held: AtomicBool,
}

static EXCHANGE: Exchange = Exchange {
    pool: Mutex::new(Vec::new()),
    allocated: AtomicU64::new(0),
    worker: OnceLock::new(),
    held: AtomicBool::new(false),
};

impl Exchange {
    /// A buffer from the pool if its lock is free and one is there, else a new one.
    fn buffer(&self) -> Option<Buffer> {
        let ready = match self.pool.try_lock() {
            Ok(mut pool) => pool.pop(),
            Err(TryLockError::Poisoned(pool)) => pool.into_inner().pop(),
            Err(TryLockError::WouldBlock) => None,
        };
        ready.or_else(|| {
            self.allocated.fetch_add(1, Ordering::Relaxed);
            Buffer::allocate()
        })
    }

    /// Puts a buffer back; only the worker and the opener wait for the lock.
    fn put_back(&self, buffer: Buffer) {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
    }
}

/// CUPTI asks for a buffer. Without one it drops records, and counts them.
unsafe extern "C" fn buffer_requested(buffer: *mut *mut u8, size: *mut usize, most_records: *mut usize) {
    let (pointer, bytes) = match EXCHANGE.buffer() {
        Some(buffer) => (buffer.0, BUFFER_BYTES),
        None => (std::ptr::null_mut(), 0),
    };
    // SAFETY: CUPTI passes places to write to.
    unsafe {
        buffer.write(pointer);
        size.write(bytes);
        // As many as fit.
        most_records.write(0);
    }
}

/// CUPTI hands a buffer back.
unsafe extern "C" fn buffer_completed(
    context: cudarc::driver::sys::CUcontext,
    stream: u32,
    buffer: *mut u8,
    _size: usize,
    valid: usize,
) {
    if buffer.is_null() {
        return;
    }
    let full = Message::Full { context: context as u64, stream, buffer: Buffer(buffer), valid };
    if let Some(worker) = EXCHANGE.worker.get() {
        // The worker lives as long as the process.
        let _ = worker.send(full);
    }
}

/// Asked for by `cuptiSubscribe`; no domain is enabled, so that it is never called.
unsafe extern "C" fn no_callback(
    _data: *mut c_void,
    _domain: sys::CUpti_CallbackDomain,
    _function: sys::CUpti_CallbackId,
    _call: *const c_void,
) {
}

/// Turns a result of CUPTI into ours.
fn check(call: &'static str, result: Result<(), CuptiError>) -> Result<(), TracerError> {
    result.map_err(|error| {
        let text =
            error.error_string().map_or_else(|_| "unknown".to_owned(), |text| text.to_string_lossy().into_owned());
        TracerError::of_call(call, error.0 as u32, &text)
    })
}

/// CUPTI's clock.
fn timestamp() -> Result<u64, TracerError> {
    let mut now = 0;
    // SAFETY: a place to write to.
    check("cuptiGetTimestamp", unsafe { result::get_timestamp(&raw mut now) })?;
    Ok(now)
}

/// The bindings end the process where the library is missing: look first.
fn find_library() -> Result<(), TracerError> {
    let found = LIBRARY_NAMES.iter().any(|name| {
        // SAFETY: a name ending in zero; libcupti runs no code of ours when it is loaded. It stays loaded.
        !unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_LAZY) }.is_null()
    });
    if !found {
        let tried = LIBRARY_NAMES.iter().map(|name| name.to_string_lossy().into_owned()).collect();
        return Err(TracerError::NoLibrary { tried });
    }
    let mut found = 0;
    // SAFETY: a place to write to.
    check("cuptiGetVersion", unsafe { sys::cuptiGetVersion(&raw mut found) }.result())?;
    if found < OLDEST_VERSION { Err(TracerError::TooOld { found }) } else { Ok(()) }
}

/// The worker's channel; started with the first collector.
fn worker() -> Result<&'static mpsc::Sender<Message>, TracerError> {
    if let Some(sender) = EXCHANGE.worker.get() {
        return Ok(sender);
    }
    let (sender, receiver) = mpsc::channel();
    std::thread::Builder::new()
        .name("cupti records".to_owned())
        .spawn(move || work(&receiver))
        .map_err(|_| TracerError::WorkerGone)?;
    Ok(EXCHANGE.worker.get_or_init(|| sender))
}

/// Decodes buffers until the process ends.
fn work(receiver: &mpsc::Receiver<Message>) {
    let mut recording = Recording::default();
    let mut names = NameTable::default();
    for message in receiver {
        match message {
            Message::Full { context, stream, buffer, valid } => {
                recording.buffers += 1;
                decode_buffer(&buffer, valid, &mut recording, &mut names);
                add_dropped(context, stream, &mut recording);
                EXCHANGE.put_back(buffer);
            }
            Message::Take(reply) => {
                recording.kernel_names = std::mem::take(&mut names).names;
                name_calls(&mut recording);
                // Whoever asked may be gone.
                let _ = reply.send(std::mem::take(&mut recording));
            }
        }
    }
}

fn decode_buffer(buffer: &Buffer, valid: usize, recording: &mut Recording, names: &mut NameTable) {
    if valid == 0 {
        return;
    }
    let mut record: *mut sys::CUpti_Activity = std::ptr::null_mut();
    // SAFETY: CUPTI filled the buffer and gave it up; `record` is null for the first and then what the last call set.
    while unsafe { activity::get_next_record(buffer.0, valid, &raw mut record) }.is_ok() && !record.is_null() {
        // SAFETY: the record is whole, and its names live as long as its module.
        match unsafe { decode(record.cast::<u8>().cast_const(), names) } {
            Decoded::Record(record) => recording.push(record),
            Decoded::Unknown(kind) => *recording.unknown_kinds.entry(kind).or_default() += 1,
        }
    }
}

fn add_dropped(context: u64, stream: u32, recording: &mut Recording) {
    let mut records = 0_usize;
    let handle = context as cudarc::driver::sys::CUcontext;
    // SAFETY: the queue is the one CUPTI named; a place to write to. The count starts anew with each call.
    let counted = unsafe { activity::get_num_dropped_records(handle, stream, &raw mut records) };
    if counted.is_ok() && records > 0 {
        let records = records as u64;
        match recording.dropped.iter_mut().find(|queue| (queue.context, queue.stream) == (context, stream)) {
            Some(queue) => queue.records += records,
            None => recording.dropped.push(Dropped { context, stream, records }),
        }
    }
}

/// Looks up each function once.
fn name_calls(recording: &mut Recording) {
    for call in &recording.calls {
        recording.call_names.entry((call.class, call.function)).or_insert_with(|| {
            let domain = if call.class == ApiClass::RUNTIME {
                sys::CUpti_CallbackDomain::CUPTI_CB_DOMAIN_RUNTIME_API
            } else {
                sys::CUpti_CallbackDomain::CUPTI_CB_DOMAIN_DRIVER_API
            };
            let mut name: *const c_char = std::ptr::null();
            // SAFETY: a place to write to; the text is a constant of the library.
            let found = unsafe { result::get_callback_name(domain, call.function, &raw mut name) }.is_ok();
            if found && !name.is_null() {
                // SAFETY: as above.
                unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned()
            } else {
                format!("function {}", call.function)
            }
        });
    }
}

/// The open tracer; there is one at a time.
#[derive(Debug)]
pub(super) struct Collector {
    subscriber: sys::CUpti_SubscriberHandle,
    /// Kinds enabled by the recording under way.
    enabled: Vec<sys::CUpti_ActivityKind>,
    began: ClockSample,
    began_at: Instant,
    epoch_ns: Option<i64>,
    /// Allocations of buffers before the recording.
    allocated_before: u64,
}

impl Collector {
    /// Loads CUPTI, takes it for this process, and tries whether kernels can be recorded.
    pub(super) fn open() -> Result<Self, TracerError> {
        find_library()?;
        if EXCHANGE.held.swap(true, Ordering::AcqRel) {
            return Err(TracerError::AlreadyOpen);
        }
        let opened = Self::open_held();
        if opened.is_err() {
            EXCHANGE.held.store(false, Ordering::Release);
        }
        opened
    }

    fn open_held() -> Result<Self, TracerError> {
        worker()?;
        while EXCHANGE.pool.lock().unwrap_or_else(PoisonError::into_inner).len() < BUFFERS_READY {
            let Some(buffer) = Buffer::allocate() else { break };
            // Touch the memory now: a page fault later would be booked to the program.
            // SAFETY: the buffer is ours and this long.
            unsafe { buffer.0.write_bytes(1, BUFFER_BYTES) };
            EXCHANGE.put_back(buffer);
        }
        let mut subscriber: sys::CUpti_SubscriberHandle = std::ptr::null_mut();
        // A subscriber stands for the right to CUPTI: where another profiler is in the process, this is what fails.
        // SAFETY: a place to write to, and a callback that lives as long as the process.
        let subscribed = unsafe { result::subscribe(&raw mut subscriber, Some(no_callback), std::ptr::null_mut()) };
        check("cuptiSubscribe", subscribed)?;
        let mut collector = Self {
            subscriber,
            enabled: Vec::new(),
            began: ClockSample::default(),
            began_at: Instant::now(),
            epoch_ns: None,
            allocated_before: 0,
        };
        // Ids of the operating system, by which calls are joined with our ranges; the default are those of pthreads.
        let system = sys::CUpti_ActivityThreadIdType::CUPTI_ACTIVITY_THREAD_ID_TYPE_SYSTEM;
        check("cuptiSetThreadIdType", result::set_thread_id_type(system))?;
        let registered = activity::register_callbacks(Some(buffer_requested), Some(buffer_completed));
        check("cuptiActivityRegisterCallbacks", registered)?;
        collector.enable()?;
        collector.disable();
        Ok(collector)
    }

    fn enable(&mut self) -> Result<(), TracerError> {
        for kind in NEEDED {
            if let Err(error) = check("cuptiActivityEnable", activity::enable(kind)) {
                self.disable();
                return Err(error);
            }
            self.enabled.push(kind);
        }
        for kind in WANTED {
            match check("cuptiActivityEnable", activity::enable(kind)) {
                Ok(()) => self.enabled.push(kind),
                Err(error) => tracing::debug!(?kind, %error, "CUPTI does not record this kind"),
            }
        }
        Ok(())
    }

    fn disable(&mut self) {
        for kind in self.enabled.drain(..) {
            if let Err(error) = check("cuptiActivityDisable", activity::disable(kind)) {
                tracing::debug!(?kind, %error, "CUPTI does not stop recording this kind");
            }
        }
    }

    /// What the worker decoded since the last time.
    fn take() -> Result<Recording, TracerError> {
        let (sender, receiver) = mpsc::channel();
        worker()?.send(Message::Take(sender)).map_err(|_| TracerError::WorkerGone)?;
        receiver.recv().map_err(|_| TracerError::WorkerGone)
    }
}

impl ActivitySource for Collector {
    fn begin(&mut self) -> Result<(), TracerError> {
        // Records that came late belong to no recording.
        Self::take()?;
        self.allocated_before = EXCHANGE.allocated.load(Ordering::Relaxed);
        self.enable()?;
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).ok();
        self.epoch_ns = since_epoch.and_then(|time| i64::try_from(time.as_nanos()).ok());
        self.began = ClockSample::take(timestamp)?;
        self.began_at = Instant::now();
        Ok(())
    }

    fn end(&mut self) -> Result<Recording, TracerError> {
        let elapsed = self.began_at.elapsed();
        let ended = ClockSample::take(timestamp);
        self.disable();
        // Returns when every buffer was handed over.
        check("cuptiActivityFlushAll", activity::flush_all(FLUSH_FORCED))?;
        let mut recording = Self::take()?;
        recording.began = self.began;
        recording.ended = ended?;
        recording.elapsed_ns = u64::try_from(elapsed.as_nanos()).ok();
        recording.epoch_ns = self.epoch_ns;
        recording.process = std::process::id();
        // SAFETY: the call takes nothing and cannot fail.
        recording.thread = unsafe { libc::gettid() }.cast_unsigned();
        recording.buffers_allocated = EXCHANGE.allocated.load(Ordering::Relaxed) - self.allocated_before;
        tracing::debug!(
            buffers = recording.buffers,
            allocated = recording.buffers_allocated,
            kernels = recording.kernels.len(),
            calls = recording.calls.len(),
            "activity records taken"
        );
        Ok(recording)
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.disable();
        // SAFETY: the handle is the one of `open`, given back once.
        if let Err(error) = check("cuptiUnsubscribe", unsafe { result::unsubscribe(self.subscriber) }) {
            tracing::debug!(%error, "CUPTI keeps its subscriber");
        }
        EXCHANGE.held.store(false, Ordering::Release);
    }
}

#[cfg(test)]
#[path = "collector_tests.rs"]
mod tests;
