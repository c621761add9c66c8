//! Scrapes the server's `/metrics` on a thread of its own, so that no request waits for it.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::prometheus;
use crate::load::client::simple::{Question, ask};
use crate::load::client::target::Target;
use crate::net::clock::now_ns;
use crate::net::tls::TlsClient;
use crate::record::load::LOAD_SCHEMA_VERSION;
use crate::record::load::server_metrics::{ServerMetrics, ServerSample};

/// How long one scrape may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Where and how often to look.
#[derive(Debug, Clone)]
pub struct ScrapePlan {
    /// The server, resolved.
    pub target: Target,
    /// Path of the metrics, from the root.
    pub path: String,
    /// Encryption.
    pub tls: Option<TlsClient>,
    /// Header lines, e.g. of the key.
    pub headers: String,
    /// Time between two looks.
    pub interval: Duration,
    /// Begin of the run's clock.
    pub origin_ns: u64,
}

impl ScrapePlan {
    /// One look: whose names they are, and the values.
    ///
    /// # Errors
    /// Why there are none, in words.
    pub fn look(&self) -> Result<(&'static str, ServerSample), String> {
        let question = Question {
            method: "GET",
            path: &self.path,
            headers: &self.headers,
            body: b"",
            timeout: TIMEOUT,
            watch: None,
        };
        let before = now_ns();
        let reply = ask(&self.target, self.tls.as_ref(), &question).map_err(|error| error.to_string())?;
        let middle = before + (now_ns() - before) / 2;
        if reply.head.status != 200 {
            return Err(format!("status {}", reply.head.status));
        }
        let text = String::from_utf8_lossy(&reply.body);
        prometheus::read(&text, middle.saturating_sub(self.origin_ns))
            .ok_or_else(|| "no names that are known".to_owned())
    }

    /// Where it looks, without secrets.
    pub fn url(&self) -> String {
        let scheme = if self.target.tls { "https" } else { "http" };
        format!("{scheme}://{}{}", self.target.host_header(), self.path)
    }
}

#[derive(Debug, Default)]
struct Kept {
    samples: Vec<ServerSample>,
    failures: u64,
    first_failure: Option<String>,
}

/// Looks until it is told to stop.
#[derive(Debug)]
pub struct Scraper {
    plan: ScrapePlan,
    dialect: &'static str,
    kept: Arc<Mutex<Kept>>,
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Scraper {
    /// Looks once, and goes on looking if that gave anything.
    ///
    /// # Errors
    /// Why there is nothing to look at.
    pub fn start(plan: ScrapePlan) -> Result<Self, String> {
        let (dialect, first) = plan.look()?;
        let kept = Arc::new(Mutex::new(Kept { samples: vec![first], ..Kept::default() }));
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let thread = std::thread::Builder::new().name("perfprof-scrape".to_owned()).spawn({
            let (plan, kept, stop) = (plan.clone(), Arc::clone(&kept), Arc::clone(&stop));
            move || run(&plan, &kept, &stop)
        });
        let thread = thread.map_err(|error| error.to_string())?;
        Ok(Self { plan, dialect, kept, stop, thread: Some(thread) })
    }

    /// Whose names were found.
    pub fn dialect(&self) -> &str {
        self.dialect
    }

    /// Looks a last time, stops, and gives what was seen.
    pub fn finish(mut self, run_id: &str) -> ServerMetrics {
        self.end();
        let last = self.plan.look();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        match last {
            Ok((_, sample)) => kept.samples.push(sample),
            Err(reason) => {
                kept.failures += 1;
                kept.first_failure.get_or_insert(reason);
            }
        }
        ServerMetrics {
            schema_version: LOAD_SCHEMA_VERSION,
            run_id: run_id.to_owned(),
            url: self.plan.url(),
            dialect: self.dialect.to_owned(),
            interval_s: self.plan.interval.as_secs_f64(),
            samples: std::mem::take(&mut kept.samples),
            failures: kept.failures,
            first_failure: kept.first_failure.take(),
        }
    }

    fn end(&mut self) {
        *self.stop.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.stop.1.notify_all();
        if let Some(thread) = self.thread.take() {
            // A look that hangs ends by its time limit; a thread that panicked has kept what it saw.
            let _ = thread.join();
        }
    }
}

impl Drop for Scraper {
    fn drop(&mut self) {
        self.end();
    }
}

fn run(plan: &ScrapePlan, kept: &Mutex<Kept>, stop: &(Mutex<bool>, Condvar)) {
    let mut next = Instant::now() + plan.interval;
    loop {
        {
            let mut stopped = stop.0.lock().unwrap_or_else(PoisonError::into_inner);
            loop {
                let left = next.saturating_duration_since(Instant::now());
                if *stopped || left.is_zero() {
                    break;
                }
                stopped = stop.1.wait_timeout(stopped, left).unwrap_or_else(PoisonError::into_inner).0;
            }
            if *stopped {
                return;
            }
        }
        let seen = plan.look();
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        match seen {
            Ok((_, sample)) => kept.samples.push(sample),
            Err(reason) => {
                kept.failures += 1;
                kept.first_failure.get_or_insert(reason);
            }
        }
        drop(kept);
        // Late looks are left out, not made up for.
        let now = Instant::now();
        while next <= now {
            next += plan.interval;
        }
    }
}
