//! The thread that looks at a device until it is told to stop.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::reading::{GpuFailure, GpuSource};
use super::series::{GpuSeries, GpuUse, SlowSample};
use super::source::NvmlSource;
use crate::hardware::identify::GpuIdentity;

/// Shortest and longest interval between looks.
pub const INTERVALS: std::ops::RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(1);
/// How often the slow metrics are read, and how often a lost device is looked for.
const SLOW_EVERY: Duration = Duration::from_secs(1);
/// How long a look that was asked for is waited for: a driver that hangs must not hold up the run.
const EDGE_LIMIT: Duration = Duration::from_millis(500);
/// How long a look in progress is waited for at the end.
const END_LIMIT: Duration = Duration::from_secs(2);

/// Looks that are made room for at a time: minutes of them at most intervals.
const ROOM: usize = 4096;

type Shared = Arc<Mutex<GpuSeries>>;

/// Looks at a device until it is told to stop.
#[derive(Debug)]
pub struct GpuSampler {
    interval: Duration,
    began: Instant,
    series: Shared,
    /// Asks for a look now; the answer is its time, or `None` if it failed.
    requests: mpsc::Sender<mpsc::Sender<Option<f64>>>,
    /// Dropped to stop the slow thread.
    slow_stop: Option<mpsc::Sender<()>>,
    threads: Vec<JoinHandle<()>>,
}

fn lock(series: &Shared) -> MutexGuard<'_, GpuSeries> {
    // A look is added whole or not at all.
    series.lock().unwrap_or_else(PoisonError::into_inner)
}

impl GpuSampler {
    /// Starts looking through `source` every `interval` (held within [`INTERVALS`]), and through `slow` at the slow metrics every second.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn start(
        mut source: Box<dyn GpuSource>,
        slow: Option<Box<dyn GpuSource>>,
        interval: Duration,
    ) -> Result<Self, String> {
        let interval = interval.clamp(*INTERVALS.start(), *INTERVALS.end());
        let began = Instant::now();
        let series = Shared::default();
        let no_thread = |error| format!("GPU metrics unavailable: no thread for the sampler: {error}");
        let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
        let (requests, receiver) = mpsc::channel();
        let into = Arc::clone(&series);
        let mut threads = vec![
            thread("gpu-sampler")
                .spawn(move || sample(source.as_mut(), interval, began, &into, &receiver))
                .map_err(no_thread)?,
        ];
        let mut slow_stop = None;
        if let Some(mut slow) = slow {
            let (stop, stopped) = mpsc::channel();
            let into = Arc::clone(&series);
            threads.push(
                thread("gpu-sampler-slow")
                    .spawn(move || sample_slow(slow.as_mut(), began, &into, &stopped))
                    .map_err(no_thread)?,
            );
            slow_stop = Some(stop);
        }
        Ok(Self { interval, began, series, requests, slow_stop, threads })
    }

    /// Starts looking at a real device.
    ///
    /// # Errors
    /// Why NVML cannot be used, in words.
    pub fn start_nvml(device: &GpuIdentity, interval: Duration) -> Result<Self, String> {
        let slow = NvmlSource::open(device)?;
        Self::start(Box::new(NvmlSource::open(device)?), Some(Box::new(slow)), interval)
    }

    /// The interval between looks.
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// Seconds since the sampler started.
    pub fn now_s(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// Makes room for the looks to come, so that the list of them does not grow, and be counted, during what is measured.
    pub fn reserve(&self) {
        let mut series = lock(&self.series);
        let more = series.samples.len().max(ROOM);
        series.samples.reserve(more);
    }

    /// Looks at once, on the sampler's own thread, and gives the time of the look; `None` if it failed or took too long.
    pub fn look(&self) -> Option<f64> {
        let (answer, answered) = mpsc::channel();
        self.requests.send(answer).ok()?;
        answered.recv_timeout(EDGE_LIMIT).ok()?
    }

    /// The device between two looks that [`Self::look`] made.
    pub fn during(&self, start_s: f64, end_s: f64) -> GpuUse {
        lock(&self.series).during(self.interval, start_s, end_s)
    }

    /// Stops and gives what was seen. Waits for a look in progress, but not for ever.
    pub fn finish(self) -> GpuSeries {
        let Self { series, requests, slow_stop, threads, .. } = self;
        drop((requests, slow_stop));
        let deadline = Instant::now() + END_LIMIT;
        for thread in threads {
            while !thread.is_finished() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(1));
            }
            if thread.is_finished() {
                // A source that panicked has added what it read before.
                let _ = thread.join();
            }
        }
        std::mem::take(&mut *lock(&series))
    }
}

fn sample(
    source: &mut dyn GpuSource,
    interval: Duration,
    began: Instant,
    series: &Shared,
    requests: &mpsc::Receiver<mpsc::Sender<Option<f64>>>,
) {
    let mut look = |edge: bool| {
        let result = source.read();
        let t_s = began.elapsed().as_secs_f64();
        let lost = matches!(result, Err(GpuFailure::Lost(_)));
        let seen = result.is_ok().then_some(t_s);
        lock(series).push(t_s, edge, result);
        (seen, lost)
    };
    let mut next = began;
    loop {
        let (_, lost) = look(false);
        let step = if lost { interval.max(SLOW_EVERY) } else { interval };
        // The grid stays where it was: looks that were missed are left out, not made up for in a burst.
        while next <= Instant::now() {
            next += step;
        }
        loop {
            match requests.recv_timeout(next.saturating_duration_since(Instant::now())) {
                // Nobody may be waiting any more.
                Ok(answer) => drop(answer.send(look(true).0)),
                Err(mpsc::RecvTimeoutError::Timeout) => break,
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}

fn sample_slow(source: &mut dyn GpuSource, began: Instant, series: &Shared, stop: &mpsc::Receiver<()>) {
    let mut last = false;
    loop {
        // A failure of the device is the other thread's to tell.
        if let Ok(reading) = source.read_slow() {
            lock(series).slow.push(SlowSample { t_s: began.elapsed().as_secs_f64(), reading });
        }
        if last {
            return;
        }
        // Once more at the end: errors of the last second count.
        last = !matches!(stop.recv_timeout(SLOW_EVERY), Err(mpsc::RecvTimeoutError::Timeout));
    }
}
