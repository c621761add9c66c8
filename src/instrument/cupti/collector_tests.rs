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
