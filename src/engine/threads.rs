//! The engine's thread pool: low latency between operators, no stall when the machine is busy.
//!
//! A decode step is some hundred operators of a few to a few hundred microseconds, so waking threads through the kernel for
//! each would cost more than the work. Workers therefore spin for a bounded time before they park. What sets this pool apart from
//! a barrier pool (candle's, or OpenMP's) is that nobody waits for a thread that never came: work is cut into more tasks than
//! threads, each thread takes the next one, and when the tasks run out the job is closed. A worker that the kernel did not
//! schedule in time has not joined and is not waited for; under contention the caller simply does more of the work itself. A worker that loses
//! its core inside a task is waited for asleep, so that the kernel can give it the caller's.

use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

/// How long an idle worker spins before it parks. Long enough to bridge the serial parts of a step, short enough that an idle
/// engine (between repeats, while sampling) burns nothing that a user would notice.
const SPIN: Duration = Duration::from_micros(60);
/// Spins between two looks at the clock.
const SPINS_PER_CHECK: u32 = 32;
/// How long the caller spins for workers that are inside a last task. Tasks take microseconds, so a worker that needs longer has lost its core;
/// if the caller sleeps, the kernel finds a core idle and moves the worker there, while a caller that spins or yields keeps it waiting
/// for milliseconds.
const WAIT: Duration = Duration::from_micros(30);
/// Set in the state word when no further worker may join.
const CLOSED: u64 = 1 << 31;

/// A job: a borrowed closure, its lifetime erased. `run` does not return before every worker that joined has left.
#[derive(Clone, Copy)]
struct Job {
    task: *const (dyn Fn(usize) + Sync),
    tasks: usize,
}

struct Shared {
    /// `epoch << 32 | CLOSED | joined`.
    state: AtomicU64,
    /// Workers that joined the present job and left it again.
    left: AtomicU32,
    /// Next task of the present job.
    next: AtomicUsize,
    /// Written only while the state is closed and everyone has left.
    job: UnsafeCell<Option<Job>>,
    /// Which workers are parked (or about to be).
    parked: Box<[AtomicBool]>,
    stop: AtomicBool,
    /// Whether the caller sleeps until the last worker has left.
    waiting: AtomicBool,
    caller: Mutex<Option<Thread>>,
    panic: Mutex<Option<Box<dyn std::any::Any + Send>>>,
}

// SAFETY: `job` is written only by the thread inside `run` (which holds `call`), and only when no worker is between joining and
// leaving; workers read it only after joining through an acquire on `state`. The closure behind the pointer is `Sync`.
unsafe impl Sync for Shared {}
// SAFETY: as above; nothing in it is tied to a thread.
unsafe impl Send for Shared {}

impl Shared {
    /// Takes tasks until none is left.
    fn work(&self, job: Job) {
        // SAFETY: the caller joined the job (or owns it), so the closure is alive until it leaves.
        let task = unsafe { &*job.task };
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            if index >= job.tasks {
                return;
            }
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| task(index))) {
                self.panic.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(payload);
            }
        }
    }

    fn worker(&self, id: usize) {
        let mut seen = 0u64;
        loop {
            let state = self.wait_for_job(id, seen);
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let epoch = state >> 32;
            seen = epoch;
            // Join, unless the job was closed meanwhile.
            let mut current = state;
            let joined = loop {
                if current >> 32 != epoch || current & CLOSED != 0 {
                    break false;
                }
                match self.state.compare_exchange_weak(current, current + 1, Ordering::AcqRel, Ordering::Acquire) {
                    Ok(_) => break true,
                    Err(now) => current = now,
                }
            };
            if joined {
                // SAFETY: joined, so the job was published before the acquire above and will not change until we leave.
                if let Some(job) = unsafe { *self.job.get() } {
                    self.work(job);
                }
                // The caller announces that it sleeps before it looks at the count; this counts before it looks at the announcement.
                self.left.fetch_add(1, Ordering::SeqCst);
                if self.waiting.load(Ordering::SeqCst)
                    && let Some(caller) = &*self.caller.lock().unwrap_or_else(PoisonError::into_inner)
                {
                    caller.unpark();
                }
            }
        }
    }

    /// Waits until `joined` workers have left the job.
    fn wait_for_workers(&self, joined: u32) {
        let start = Instant::now();
        loop {
            for _ in 0..SPINS_PER_CHECK {
                if self.left.load(Ordering::Acquire) >= joined {
                    return;
                }
                std::hint::spin_loop();
            }
            if start.elapsed() > WAIT {
                break;
            }
        }
        *self.caller.lock().unwrap_or_else(PoisonError::into_inner) = Some(std::thread::current());
        self.waiting.store(true, Ordering::SeqCst);
        while self.left.load(Ordering::SeqCst) < joined {
            std::thread::park();
        }
        self.waiting.store(false, Ordering::Relaxed);
    }

    /// Spins, then parks, until the epoch differs from `seen` and the job is open.
    fn wait_for_job(&self, id: usize, seen: u64) -> u64 {
        let fresh = |state: u64| state >> 32 != seen && state & CLOSED == 0;
        let start = Instant::now();
        loop {
            for _ in 0..SPINS_PER_CHECK {
                let state = self.state.load(Ordering::Acquire);
                if fresh(state) || self.stop.load(Ordering::Relaxed) {
                    return state;
                }
                std::hint::spin_loop();
            }
            if start.elapsed() > SPIN {
                break;
            }
        }
        loop {
            // Announce first, look again, then sleep: the publisher looks at the flag after it has changed the state.
            self.parked[id].store(true, Ordering::SeqCst);
            let state = self.state.load(Ordering::SeqCst);
            if fresh(state) || self.stop.load(Ordering::SeqCst) {
                self.parked[id].store(false, Ordering::Relaxed);
                return state;
            }
            std::thread::park();
        }
    }
}

/// A pool of `threads − 1` workers; the caller is the last thread.
pub struct ThreadPool {
    shared: Arc<Shared>,
    workers: Vec<Thread>,
    handles: Vec<JoinHandle<()>>,
    /// One job at a time.
    call: Mutex<()>,
}

impl std::fmt::Debug for ThreadPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ThreadPool").field("threads", &self.threads()).finish()
    }
}

impl ThreadPool {
    /// A pool that works on `threads` threads (at least one), the caller's included.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub fn new(threads: usize) -> std::io::Result<Self> {
        let workers = threads.max(1) - 1;
        let shared = Arc::new(Shared {
            state: AtomicU64::new(CLOSED),
            left: AtomicU32::new(0),
            next: AtomicUsize::new(0),
            job: UnsafeCell::new(None),
            parked: (0..workers).map(|_| AtomicBool::new(false)).collect(),
            stop: AtomicBool::new(false),
            waiting: AtomicBool::new(false),
            caller: Mutex::new(None),
            panic: Mutex::new(None),
        });
        let mut pool =
            Self { shared: Arc::clone(&shared), workers: Vec::new(), handles: Vec::new(), call: Mutex::new(()) };
        for id in 0..workers {
            let shared = Arc::clone(&shared);
            let handle = std::thread::Builder::new().name(format!("engine-{id}")).spawn(move || shared.worker(id))?;
            pool.workers.push(handle.thread().clone());
            pool.handles.push(handle);
        }
        Ok(pool)
    }

    /// Threads that work, the caller's included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `task(0)` … `task(tasks − 1)`, each once, on any thread, and returns when all are done.
    ///
    /// # Panics
    /// Passes on the first panic of a task, after all others are done.
    pub fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        if tasks <= 1 || self.workers.is_empty() {
            (0..tasks).for_each(task);
            return;
        }
        let guard = self.call.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = &*self.shared;
        // SAFETY: erases the lifetime only; this function returns (or unwinds) after every worker has left the job.
        #[expect(clippy::transmute_ptr_to_ptr, reason = "a cast cannot change the lifetime of a trait object")]
        let task: *const (dyn Fn(usize) + Sync) =
            unsafe { std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), *const (dyn Fn(usize) + Sync)>(task) };
        let job = Job { task, tasks };
        // SAFETY: the previous job is closed and left, so nobody reads the cell.
        unsafe { *shared.job.get() = Some(job) };
        shared.left.store(0, Ordering::Relaxed);
        shared.next.store(0, Ordering::Relaxed);
        let epoch = ((shared.state.load(Ordering::Relaxed) >> 32) + 1) & 0xffff_ffff;
        shared.state.store(epoch << 32, Ordering::SeqCst);
        for (flag, worker) in shared.parked.iter().zip(&self.workers) {
            if flag.load(Ordering::SeqCst) && flag.swap(false, Ordering::SeqCst) {
                worker.unpark();
            }
        }
        shared.work(job);
        let joined = (shared.state.fetch_or(CLOSED, Ordering::AcqRel) & (CLOSED - 1)) as u32;
        shared.wait_for_workers(joined);
        let panic = shared.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(guard);
        if let Some(payload) = panic {
            resume_unwind(payload);
        }
    }

    /// Cuts `0..items` into ranges of at most `grain` and calls `work` on each, in parallel.
    pub fn for_ranges(&self, items: usize, grain: usize, work: &(dyn Fn(std::ops::Range<usize>) + Sync)) {
        let grain = grain.max(1);
        self.run(items.div_ceil(grain), &|index| {
            let start = index * grain;
            work(start..(start + grain).min(items));
        });
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for worker in &self.workers {
            worker.unpark();
        }
        for handle in self.handles.drain(..) {
            // A worker catches the panics of tasks, so it ends well.
            let _ = handle.join();
        }
    }
}

/// A pointer that may cross threads: each task writes a region of its own.
#[derive(Clone, Copy)]
pub(crate) struct SharedMut<T>(*mut T, usize);
// SAFETY: users promise disjoint regions, see `slice`.
unsafe impl<T: Send> Sync for SharedMut<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for SharedMut<T> {}

impl<T> SharedMut<T> {
    /// Wraps `slice` for the time of one parallel job.
    pub(crate) fn new(slice: &mut [T]) -> Self {
        Self(slice.as_mut_ptr(), slice.len())
    }
    /// The part `range`.
    ///
    /// # Safety
    /// No two tasks may hold overlapping ranges at once, and the wrapped slice must outlive the job.
    #[expect(clippy::mut_from_ref, reason = "disjointness is the caller's promise")]
    pub(crate) unsafe fn slice(&self, range: std::ops::Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.1, "range lies inside the wrapped slice");
        // SAFETY: inside the slice by the assertion, disjoint by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(range.start), range.end - range.start) }
    }
    /// A pointer to the part `range`, for tasks whose elements lie strided among each other's.
    pub(crate) fn pointer(&self, range: std::ops::Range<usize>) -> *mut T {
        assert!(range.start <= range.end && range.end <= self.1, "range lies inside the wrapped slice");
        // SAFETY: inside the slice by the assertion.
        unsafe { self.0.add(range.start) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    #[test]
    fn every_task_runs_once_whatever_the_number_of_threads() {
        for threads in [1, 2, 3, 8] {
            let pool = ThreadPool::new(threads).unwrap();
            for tasks in [0, 1, 2, 7, 100, 1000] {
                let counts: Vec<AtomicU64> = (0..tasks).map(|_| AtomicU64::new(0)).collect();
                for _ in 0..20 {
                    pool.run(tasks, &|index| {
                        counts[index].fetch_add(1, Ordering::Relaxed);
                    });
                }
                assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 20));
            }
        }
    }

    #[test]
    fn parked_workers_wake_up_again() {
        let pool = ThreadPool::new(2).unwrap();
        let sum = AtomicU64::new(0);
        for _ in 0..5 {
            std::thread::sleep(Duration::from_millis(2));
            pool.run(64, &|index| {
                sum.fetch_add(index as u64, Ordering::Relaxed);
            });
        }
        assert_eq!(sum.load(Ordering::Relaxed), 5 * 64 * 63 / 2);
    }

    /// A worker that needs much longer than the caller spins: the caller sleeps, and is woken when the task is done, not before.
    #[test]
    fn the_caller_sleeps_until_a_slow_task_is_done() {
        let pool = ThreadPool::new(2).unwrap();
        for _ in 0..20 {
            let (caller, slow) = (std::thread::current().id(), AtomicBool::new(false));
            let done = AtomicU64::new(0);
            pool.run(2, &|_| {
                if std::thread::current().id() == caller {
                    // Until the worker has the other task, or nobody came for it.
                    let start = Instant::now();
                    while !slow.load(Ordering::SeqCst) && start.elapsed() < Duration::from_millis(5) {
                        std::hint::spin_loop();
                    }
                } else {
                    slow.store(true, Ordering::SeqCst);
                    std::thread::sleep(Duration::from_millis(2));
                }
                done.fetch_add(1, Ordering::SeqCst);
            });
            assert_eq!(done.load(Ordering::SeqCst), 2);
        }
    }

    #[test]
    fn a_panic_in_a_task_reaches_the_caller_and_the_pool_stays_usable() {
        let pool = ThreadPool::new(3).unwrap();
        let result = catch_unwind(AssertUnwindSafe(|| {
            pool.run(10, &|index| assert!(index != 7, "task seven"));
        }));
        assert!(result.is_err());
        let done = AtomicU64::new(0);
        pool.run(10, &|_| {
            done.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(done.load(Ordering::Relaxed), 10);
    }

    #[test]
    fn ranges_cover_all_items_without_overlap() {
        let pool = ThreadPool::new(2).unwrap();
        let mut items = vec![0u32; 103];
        let shared = SharedMut::new(&mut items);
        pool.for_ranges(103, 10, &|range| {
            // SAFETY: ranges of `for_ranges` are disjoint.
            for item in unsafe { shared.slice(range) } {
                *item += 1;
            }
        });
        assert!(items.iter().all(|item| *item == 1));
    }
}
