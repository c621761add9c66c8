//! Without a GPU: buffers and the worker for themselves, and what opening says here.

use std::sync::MutexGuard;

use super::*;

/// The exchange is one for the process: tests that use it take turns.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn request() -> (*mut u8, usize, usize) {
    let (mut buffer, mut size, mut most) = (std::ptr::null_mut(), 0, 99);
    // SAFETY: places to write to.
    unsafe { buffer_requested(&raw mut buffer, &raw mut size, &raw mut most) };
    (buffer, size, most)
}

#[test]
fn a_buffer_is_there_at_once_even_while_the_pool_is_locked() {
    let _turn = turn();
    let held = EXCHANGE.pool.lock().unwrap_or_else(PoisonError::into_inner);
    let before = EXCHANGE.allocated.load(Ordering::Relaxed);
    // On this very thread: a callback that waited for the lock would never return.
    let (buffer, size, most) = request();
    assert!(!buffer.is_null() && (buffer as usize).is_multiple_of(BUFFER_ALIGNMENT));
    assert_eq!((size, most), (BUFFER_BYTES, 0));
    assert_eq!(EXCHANGE.allocated.load(Ordering::Relaxed), before + 1);
    drop(held);
    EXCHANGE.put_back(Buffer(buffer));
    let (again, ..) = request();
    assert_eq!(again, buffer, "what was put back is used again");
    assert_eq!(EXCHANGE.allocated.load(Ordering::Relaxed), before + 1);
    EXCHANGE.put_back(Buffer(again));
}

#[test]
fn an_empty_buffer_comes_back_to_the_pool_and_is_counted() {
    let _turn = turn();
    worker().unwrap();
    Collector::take().unwrap();
    let (buffer, size, _) = request();
    let waiting = EXCHANGE.pool.lock().unwrap().len();
    // Without the library the count of dropped records cannot be asked for.
    if find_library().is_err() {
        EXCHANGE.put_back(Buffer(buffer));
        return;
    }
    // SAFETY: the buffer is one of ours.
    unsafe { buffer_completed(std::ptr::null_mut(), 0, buffer, size, 0) };
    let recording = Collector::take().unwrap();
    assert_eq!((recording.buffers, recording.dropped_records(), recording.kernels.len()), (1, 0, 0));
    assert_eq!(EXCHANGE.pool.lock().unwrap().len(), waiting + 1);
    assert_eq!(Collector::take().unwrap().buffers, 0, "taken is gone");
}

#[test]
fn opening_without_the_library_or_a_driver_says_what_is_missing() {
    let _turn = turn();
    for _ in 0..2 {
        // The second time tells the same: a refusal leaves nothing held.
        match Collector::open() {
            Err(TracerError::NoLibrary { tried }) => assert_eq!(tried, ["libcupti.so.13", "libcupti.so"]),
            Err(error @ TracerError::Call { .. }) => {
                assert!(error.hint().is_some_and(|hint| hint.contains("doctor")), "{error}");
            }
            // Where there is a GPU, a second one must wait for the first.
            Ok(_open) => assert_eq!(Collector::open().err(), Some(TracerError::AlreadyOpen)),
            Err(error) => panic!("{error}"),
        }
    }
}

/// Skips what needs the library itself; it needs no GPU.
fn library() -> bool {
    let found = find_library().is_ok();
    if !found {
        tracing::info!("skipped: no libcupti.so.13 on LD_LIBRARY_PATH");
    }
    found
}

#[test]
fn the_library_walks_records_as_they_are_decoded_and_knows_the_names_of_functions() {
    let _turn = turn();
    if !library() {
        return;
    }
    // A driver call, a kernel without a name, a runtime call: kinds, sizes and offsets as in the C headers.
    let mut bytes = vec![0_u64; (40 + 216 + 40) / 8];
    let mut put = |offset: usize, value: u32| {
        let word = &mut bytes[offset / 8];
        let shift = 8 * (offset % 8);
        *word = *word & !(u64::from(u32::MAX) << shift) | u64::from(value) << shift;
    };
    for (offset, kind, function) in [(0, 4, 307), (256, 5, 211)] {
        put(offset, kind);
        put(offset + 4, function);
        put(offset + 32, 9);
    }
    put(40, 10);
    put(40 + 92, 9);
    let valid = bytes.len() * 8;
    let buffer = Buffer(bytes.as_mut_ptr().cast());
    let (mut recording, mut names) = (Recording::default(), NameTable::default());
    decode_buffer(&buffer, valid, &mut recording, &mut names);
    name_calls(&mut recording);
    assert_eq!((recording.calls.len(), recording.kernels.len()), (2, 1));
    assert!(recording.unknown_kinds.is_empty(), "{:?}", recording.unknown_kinds);
    assert_eq!((recording.kernels[0].correlation, recording.calls[1].correlation), (9, 9));
    let name = |class, function| recording.call_names[&(class, function)].as_str();
    assert_eq!(name(ApiClass::DRIVER, 307), "cuLaunchKernel");
    assert_eq!(name(ApiClass::RUNTIME, 211), "cudaLaunchKernel_v7000");
}

#[test]
fn the_librarys_clock_and_ours_go_alike() {
    let _turn = turn();
    if !library() {
        return;
    }
    let (began, began_at) = (ClockSample::take(timestamp).unwrap(), Instant::now());
    std::thread::sleep(std::time::Duration::from_millis(20));
    let (ended, elapsed) = (ClockSample::take(timestamp).unwrap(), began_at.elapsed().as_nanos() as f64);
    let map = super::super::clock::ClockMap::between(began, ended).unwrap();
    let by_cupti = map.ns_of_stamp(ended.cupti_ns) as f64;
    // A busy machine may pause the test between the reads.
    assert!((by_cupti / elapsed - 1.0).abs() < 0.05, "{by_cupti} ns against {elapsed} ns");
    assert_eq!(map.ns_of_ticks(ended.ticks), by_cupti as i64);
}
