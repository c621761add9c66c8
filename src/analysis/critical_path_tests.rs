use proptest::prelude::*;

use super::super::random_trace::{any_trace, sound_trace};
use super::*;
use crate::trace::activity::{CopyKind, SyncKind};
use crate::trace::builder::TimelineBuilder;

const US: i64 = 1_000;
const NAMES: [&str; 3] = ["gemm", "norm", "rope"];

/// One class for each kernel name, in the order of `kernel_names`, and one that no kernel has.
fn classes_of(t: &Timeline) -> (Vec<String>, Vec<u16>) {
    let mut names: Vec<String> = t.kernel_names.iter().map(|name| t.text(name.short).to_owned()).collect();
    let rows = (0..names.len() as u16).collect();
    names.push("none".to_owned());
    (names, rows)
}

fn analyse(t: &Timeline) -> Option<CriticalPath> {
    let (names, rows) = classes_of(t);
    let path = critical_path(t, KernelClasses { names: &names, of_kernel_name: &rows }, 10)?;
    assert_sound(&path);
    Some(path)
}

fn assert_sound(path: &CriticalPath) {
    assert_eq!(path.by_kind.iter().map(|row| row.time_ns).sum::<u64>(), path.length_ns, "{path:?}");
    assert_eq!(path.length_ns, path.window.len_ns());
    let kernels = kind(path, PathKind::Kernel);
    assert_eq!(path.by_class.iter().map(|row| row.time_ns).sum::<u64>(), kernels);
    assert_eq!(path.by_kernel.iter().map(|row| row.time_ns).sum::<u64>() + path.other_kernels_ns, kernels);
    for row in &path.what_if {
        assert_eq!(row.length_ns + row.gain_ns, path.length_ns);
    }
    let nothing = path.what_if.last().unwrap();
    assert_eq!((nothing.class.as_str(), nothing.gain_ns), ("none", 0), "the trace itself comes out of the simulation");
}

fn kind(path: &CriticalPath, kind: PathKind) -> u64 {
    path.by_kind.iter().find(|row| row.kind == kind).map_or(0, |row| row.time_ns)
}

fn gain(path: &CriticalPath, class: &str) -> u64 {
    path.what_if.iter().find(|row| row.class == class).unwrap().gain_ns
}

/// What a program does; times in us.
#[derive(Debug, Clone)]
enum Step {
    /// The host computes.
    Host(i64),
    Kernel {
        stream: usize,
        name: usize,
        work: i64,
    },
    BlockingCopy {
        stream: usize,
        work: i64,
    },
    SyncStream(usize),
    SyncDevice,
    Record {
        stream: usize,
        event: usize,
    },
    StreamWait {
        stream: usize,
        event: usize,
    },
    SyncEvent(usize),
}

/// Every call takes this long.
const CALL: i64 = 2;
/// From the begin of a launch to the earliest begin of its work.
const LATENCY: i64 = 4;
/// From one operation to the next on a stream, and from an event to what waits for it.
const TURNAROUND: i64 = 1;
/// From the end of work to the return of what waits for it.
const RETURN: i64 = 2;

/// Executes a program on an ideal machine, with kernels of the name `free` taking no time: the trace, and the end of every call and operation
/// (`true` for operations), in us.
fn execute(steps: &[Step], free: Option<usize>) -> (Timeline, Vec<(i64, bool)>) {
    let mut b = TimelineBuilder::new();
    let process = b.process(1);
    let (thread, device) = (b.thread(process, 1), b.device(0));
    let streams: Vec<u32> = (0..3).map(|stream| b.stream(process, device, stream)).collect();
    let mut host = 0;
    let mut free_at = [None::<i64>; 3];
    let mut pending = [None::<i64>; 3];
    let mut recorded = [None::<i64>; 2];
    let mut ends = Vec::new();
    for (row, step) in steps.iter().enumerate() {
        let id = row as u32 + 1;
        let begin = host;
        if let Step::Host(time) = step {
            host += time;
            continue;
        }
        host += CALL;
        let start = |stream: usize, free_at: &[Option<i64>; 3], pending: &mut [Option<i64>; 3]| {
            let after = |end: Option<i64>| end.map_or(i64::MIN, |end| end + TURNAROUND);
            (begin + LATENCY).max(after(free_at[stream])).max(after(pending[stream].take()))
        };
        let returned = |ends: Option<i64>| (begin + CALL).max(ends.map_or(i64::MIN, |end| end + RETURN));
        match *step {
            Step::Host(_) => {}
            Step::Kernel { stream, name, work } => {
                b.call(thread, "cudaLaunchKernel_v7000", begin * US, host * US, id);
                let from = start(stream, &free_at, &mut pending);
                let to = from + if free == Some(name) { 0 } else { work };
                b.kernel(streams[stream], NAMES[name], from * US, to * US, id);
                free_at[stream] = Some(to);
                ends.push((to, true));
            }
            Step::BlockingCopy { stream, work } => {
                let from = start(stream, &free_at, &mut pending);
                let to = from + work;
                host = returned(Some(to));
                b.call(thread, "cudaMemcpy_v3020", begin * US, host * US, id);
                b.copy(streams[stream], CopyKind::DEVICE_TO_HOST, from * US, to * US, id, 4);
                free_at[stream] = Some(to);
                ends.push((to, true));
            }
            Step::SyncStream(stream) => {
                host = returned(free_at[stream]);
                b.call(thread, "cudaStreamSynchronize_v3020", begin * US, host * US, id);
                b.sync(streams[stream], SyncKind::STREAM, begin * US, host * US, id);
            }
            Step::SyncDevice => {
                host = returned(free_at.into_iter().flatten().max());
                b.call(thread, "cudaDeviceSynchronize_v3020", begin * US, host * US, id);
            }
            Step::Record { stream, event } => {
                b.call(thread, "cudaEventRecord_v3020", begin * US, host * US, id);
                recorded[event] = free_at[stream];
                let events = &mut b.timeline().events;
                events.time_ns.push(i64::MIN);
                events.stream.push(streams[stream]);
                events.correlation.push(id);
                events.event.push(event as u32 + 1);
            }
            Step::StreamWait { stream, event } => {
                b.call(thread, "cudaStreamWaitEvent_v3020", begin * US, host * US, id);
                b.sync(streams[stream], SyncKind::STREAM_WAIT_EVENT, begin * US, host * US, id);
                *b.timeline().syncs.event.last_mut().unwrap() = event as u32 + 1;
                pending[stream] = pending[stream].max(recorded[event]);
            }
            Step::SyncEvent(event) => {
                if recorded[event].is_none() {
                    host = begin;
                    continue;
                }
                host = returned(recorded[event]);
                b.call(thread, "cudaEventSynchronize_v3020", begin * US, host * US, id);
                b.sync(streams[0], SyncKind::EVENT, begin * US, host * US, id);
                *b.timeline().syncs.event.last_mut().unwrap() = event as u32 + 1;
            }
        }
        ends.push((host, false));
    }
    (b.finish(), ends)
}

/// Length of the work of `ends` as the analysis defines it: what ended within the window of the original counts.
fn length_us(original: &[(i64, bool)], ends: &[(i64, bool)], window: Interval) -> i64 {
    let counts = original.iter().zip(ends).filter(|((end, is_op), _)| *is_op || end * US <= window.end_ns);
    counts.map(|(_, (end, _))| *end).max().unwrap_or(0).max(window.start_ns / US) - window.start_ns / US
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (1_i64..12).prop_map(Step::Host),
        12 => (0_usize..3, 0_usize..3, 1_i64..40).prop_map(|(stream, name, work)| Step::Kernel { stream, name, work }),
        1 => (0_usize..3, 1_i64..20).prop_map(|(stream, work)| Step::BlockingCopy { stream, work }),
        2 => (0_usize..3).prop_map(Step::SyncStream),
        1 => Just(Step::SyncDevice),
        2 => (0_usize..3, 0_usize..2).prop_map(|(stream, event)| Step::Record { stream, event }),
        2 => (0_usize..3, 0_usize..2).prop_map(|(stream, event)| Step::StreamWait { stream, event }),
        1 => (0_usize..2).prop_map(Step::SyncEvent),
    ];
    prop::collection::vec(step, 1..50)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    #[test]
    fn the_simulation_says_what_the_program_would_have_taken(mut program in steps()) {
        // The window begins with the first launch.
        program.insert(0, Step::Kernel { stream: 0, name: 0, work: 5 });
        let (t, original) = execute(&program, None);
        let path = analyse(&t).unwrap();
        for (name, text) in NAMES.iter().enumerate() {
            let Some(row) = path.what_if.iter().find(|row| row.class == *text) else { continue };
            let (_, ends) = execute(&program, Some(name));
            let expected = length_us(&original, &ends, path.window) * US;
            prop_assert_eq!(row.length_ns, expected as u64, "{} of {:?}", text, program);
        }
    }

    #[test]
    fn a_class_gains_at_most_its_time_on_the_path(t in sound_trace()) {
        if let Some(path) = analyse(&t) {
            for row in &path.what_if {
                let on_path = path.by_class.iter().find(|class| class.class == row.class).map_or(0, |class| class.time_ns);
                prop_assert!(row.gain_ns <= on_path && on_path <= row.kernel_ns, "{row:?} {on_path}");
            }
        }
    }

    #[test]
    fn on_any_trace_the_parts_add_up_and_the_simulation_gives_it_back(t in any_trace()) {
        prop_assert_eq!(analyse(&t).is_some(), t.op_count() > 0);
    }
}

#[test]
fn long_kernels_back_to_back_are_the_path_and_each_is_worth_its_time() {
    let kernel = |name| Step::Kernel { stream: 0, name, work: 100 };
    let (t, _) = execute(&[kernel(0), kernel(1), kernel(0), kernel(1)], None);
    let path = analyse(&t).unwrap();
    // 4 us until the first begins, 4 kernels, 3 turnarounds.
    assert_eq!(path.length_ns, 407_000);
    assert_eq!((kind(&path, PathKind::Kernel), kind(&path, PathKind::DeviceGap)), (400_000, 3_000));
    assert_eq!(kind(&path, PathKind::LaunchLatency), 4_000);
    // The second launch reaches the device 2 us after the first: 1 us of the first kernel was hidden behind it.
    assert_eq!((gain(&path, "gemm"), gain(&path, "norm")), (199_000, 200_000));
}

#[test]
fn kernels_that_hide_behind_their_launches_are_worth_nothing() {
    let steps: Vec<Step> =
        (0..10).flat_map(|_| [Step::Kernel { stream: 0, name: 0, work: 1 }, Step::Host(8)]).collect();
    let (t, _) = execute(&steps, None);
    let path = analyse(&t).unwrap();
    // Only the last one shows: 9 times 10 us of host, 4 us of launch, 1 us of work.
    assert_eq!((path.length_ns, gain(&path, "gemm")), (95_000, 1_000));
    assert_eq!((kind(&path, PathKind::HostOther), kind(&path, PathKind::HostApi)), (72_000, 18_000));
    assert!(path.host_share.unwrap() > 0.98);
}

#[test]
fn a_wait_leads_the_path_back_to_the_work_it_waited_for() {
    let steps = [
        Step::Kernel { stream: 0, name: 0, work: 100 },
        Step::SyncStream(0),
        Step::Host(8),
        Step::Kernel { stream: 0, name: 1, work: 10 },
    ];
    let (t, _) = execute(&steps, None);
    let path = analyse(&t).unwrap();
    assert_eq!((kind(&path, PathKind::SyncReturn), kind(&path, PathKind::HostOther)), (2_000, 8_000));
    assert_eq!((kind(&path, PathKind::Kernel), kind(&path, PathKind::LaunchLatency)), (110_000, 8_000));
    // Without the first kernel the wait is over when its work began; without the second only its own time is gone.
    assert_eq!((gain(&path, "gemm"), gain(&path, "norm")), (100_000, 10_000));
}

#[test]
fn work_of_another_stream_is_on_the_path_where_an_event_says_so() {
    let steps = [
        Step::Kernel { stream: 1, name: 0, work: 100 },
        Step::Record { stream: 1, event: 0 },
        Step::StreamWait { stream: 0, event: 0 },
        Step::Kernel { stream: 0, name: 1, work: 10 },
        // Runs beside, and matters to nobody.
        Step::Kernel { stream: 2, name: 2, work: 50 },
    ];
    let (t, _) = execute(&steps, None);
    let path = analyse(&t).unwrap();
    let names: Vec<&str> = path.by_kernel.iter().map(|row| row.kernel.as_str()).collect();
    assert_eq!(names, ["gemm", "norm"]);
    assert_eq!((gain(&path, "norm"), gain(&path, "rope")), (10_000, 0));
}

#[test]
fn nodes_of_a_graph_launch_follow_each_other_across_streams() {
    let mut b = TimelineBuilder::new();
    let p = b.process(1);
    let (thread, device) = (b.thread(p, 1), b.device(0));
    let streams = [b.stream(p, device, 1), b.stream(p, device, 2)];
    b.call(thread, "cudaGraphLaunch_v10000", 0, 5 * US, 1);
    b.kernel(streams[0], "gemm", 8 * US, 20 * US, 1);
    b.kernel(streams[1], "norm", 21 * US, 30 * US, 1);
    b.kernel(streams[0], "rope", 31 * US, 35 * US, 1);
    let path = analyse(&b.finish()).unwrap();
    assert_eq!(kind(&path, PathKind::Kernel), 25_000);
    assert_eq!((gain(&path, "gemm"), gain(&path, "norm"), gain(&path, "rope")), (12_000, 9_000, 4_000));
}

#[test]
fn more_classes_than_one_pass_takes_are_all_simulated() {
    let mut b = TimelineBuilder::new();
    let p = b.process(1);
    let (thread, device) = (b.thread(p, 1), b.device(0));
    let stream = b.stream(p, device, 1);
    b.call(thread, "cudaGraphLaunch_v10000", 0, 1, 1);
    let mut at = 10;
    for row in 0..20 {
        b.kernel(stream, &format!("k{row}"), at, at + 100 + row, 1);
        at += 100 + row;
    }
    let path = analyse(&b.finish()).unwrap();
    let gains: Vec<u64> = path.what_if.iter().map(|row| row.gain_ns).collect();
    let expected: Vec<u64> = (0..20).map(|row| 100 + row).chain([0]).collect();
    assert_eq!(gains, expected);
    assert_eq!(path.by_kernel.len(), 10);
}

#[test]
fn a_trace_without_work_has_no_path_and_one_without_links_is_named() {
    assert!(critical_path(&Timeline::default(), KernelClasses { names: &[], of_kernel_name: &[] }, 5).is_none());
    let mut b = TimelineBuilder::new();
    let p = b.process(1);
    let device = b.device(0);
    let stream = b.stream(p, device, 1);
    b.kernel(stream, "a", i64::MIN, i64::MIN + 5, 0);
    b.kernel(stream, "b", i64::MAX - 5, i64::MAX, 0);
    let t = b.finish();
    assert!(critical_path(&t, KernelClasses { names: &[], of_kernel_name: &[] }, 5).is_none());
}

#[test]
fn a_thread_that_starts_late_leads_back_to_the_one_that_worked_before() {
    let mut b = TimelineBuilder::new();
    let p = b.process(1);
    let (loader, worker, device) = (b.thread(p, 1), b.thread(p, 2), b.device(0));
    let streams = [b.stream(p, device, 1), b.stream(p, device, 2)];
    b.call(loader, "cudaMemcpy_v3020", 0, 100 * US, 1);
    b.copy(streams[0], CopyKind::HOST_TO_DEVICE, 5 * US, 98 * US, 1, 4);
    b.call(worker, "cudaLaunchKernel_v7000", 150 * US, 152 * US, 2);
    b.kernel(streams[1], "gemm", 155 * US, 200 * US, 2);
    let path = analyse(&b.finish()).unwrap();
    assert_eq!((kind(&path, PathKind::Unexplained), kind(&path, PathKind::Copy)), (0, 93_000));
    assert_eq!((kind(&path, PathKind::HostOther), kind(&path, PathKind::SyncReturn)), (50_000, 2_000));
}
