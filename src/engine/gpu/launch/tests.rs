use super::attention::{decode_block, prefill_shared_bytes};
use super::gemv::Geometry;
use super::*;
use crate::engine::gpu::backend::DeviceFacts;

/// Shared memory a block may have on compute capability 8.9, the least of those we support.
const LEAST_SHARED: u32 = 99 * 1024;

fn h200() -> DeviceFacts {
    DeviceFacts {
        name: "NVIDIA H200".to_owned(),
        compute_capability: (9, 0),
        multiprocessors: 132,
        max_shared_bytes: 227 * 1024,
        memory_bytes: 141 << 30,
    }
}

const FORMATS: [WeightFormat; 4] = [WeightFormat::Half, WeightFormat::Q8_0, WeightFormat::Q4_0, WeightFormat::Q4_1];

#[test]
fn a_vector_is_staged_whole_and_many_wide_ones_in_tiles() {
    // 4096 values of two bytes; 256 blocks of 8 warps with 2 rows each.
    let one = Geometry::new(1, WeightFormat::Half, false, 4096);
    assert_eq!((one.shared_bytes, one.tile_values), (8192, 4096));
    assert_eq!(one.blocks(&h200(), 4096), 256);
    // More groups of rows than blocks that run at a time: three on each of 132 multiprocessors.
    assert_eq!(one.blocks(&h200(), 128_256), 396);
    // 14336 is 28 steps of 512 values.
    assert_eq!(Geometry::new(1, WeightFormat::Half, false, 14336).shared_bytes, 28672);
    // Eight of 14336 values do not fit 64 KiB; 4096 of each do.
    let eight = Geometry::new(8, WeightFormat::Half, false, 14336);
    assert_eq!((eight.shared_bytes, eight.tile_values), (65536, 4096));
    // 4-bit weights: a float for each 32 values more.
    assert_eq!(Geometry::new(1, WeightFormat::Q4_0, false, 4096).shared_bytes, 8192 + 512);
    // A gate and an up row make one output.
    assert_eq!(Geometry::new(1, WeightFormat::Half, true, 4096).outputs, 1);
}

#[test]
fn every_gemv_fits_the_smallest_device_and_leaves_no_block_idle() {
    let facts = DeviceFacts { max_shared_bytes: LEAST_SHARED, multiprocessors: 46, ..h200() };
    for format in FORMATS {
        for batch in 1..=MAX_BATCH {
            for inner in [32, 576, 896, 4096, 8192, 14336, 28672, 53248] {
                for is_gated in [false, true] {
                    let geometry = Geometry::new(batch, format, is_gated, inner);
                    assert!(geometry.shared_bytes + 1024 <= LEAST_SHARED, "{format:?} {batch} {inner}");
                    assert!(geometry.tile_values > 0 && geometry.tile_values.is_multiple_of(geometry.step_values));
                    assert!(geometry.shared_bytes >= 2 * batch * geometry.tile_values.min(inner));
                    for outer in [1, 17, 896, 151_936] {
                        let blocks = geometry.blocks(&facts, outer);
                        assert!(blocks >= 1 && (blocks - 1) * 8 * geometry.outputs < outer);
                    }
                }
            }
        }
    }
}

#[test]
fn attention_has_the_shared_memory_its_kernels_document() {
    // kernels/README.md has these numbers.
    assert_eq!(decode_block(64), (128, 39_424));
    assert_eq!(decode_block(128), (128, 74_496));
    assert_eq!(decode_block(256), (64, 77_056));
    assert_eq!(prefill_shared_bytes(64), 46_080);
    assert_eq!(prefill_shared_bytes(128), 87_040);
    assert_eq!(prefill_shared_bytes(256), 101_376);
    for head_dim in (16..=256).step_by(16) {
        assert!(decode_block(head_dim).1 <= LEAST_SHARED && prefill_shared_bytes(head_dim) <= LEAST_SHARED);
    }
}

#[test]
fn a_long_context_fills_the_device_and_a_short_one_is_not_cut_up() {
    let facts = h200();
    // 8 heads by 33 splits: 264 blocks, two for each multiprocessor.
    assert_eq!(splits(&facts, 1, 8, 32768), 33);
    assert_eq!(splits(&facts, 1, 8, 100), 2);
    assert_eq!(splits(&facts, 64, 8, 32768), 1);
    assert_eq!(splits(&facts, 1, 1, 131_072), 64);
    assert_eq!(attention_partial_bytes(1, 8, 33, 4, 128), 8 * 33 * 4 * 130 * 4);
}

#[test]
fn heads_without_kernels_are_named() {
    assert_eq!(unsupported_head(128, 4), None);
    assert_eq!(unsupported_head(96, 16), None);
    assert!(unsupported_head(72, 1).is_some_and(|reason| reason.contains("72")));
    assert!(unsupported_head(512, 1).is_some_and(|reason| reason.contains("512")));
    assert!(unsupported_head(128, 20).is_some_and(|reason| reason.contains("20 query heads")));
    assert!(unsupported_head(128, 0).is_some());
}

#[test]
fn a_vocabulary_is_spread_over_blocks_but_not_over_too_many() {
    assert_eq!(choice_chunks(1), 1);
    assert_eq!(choice_chunks(128_256), 63);
    assert_eq!(choice_chunks(1_000_000), 128);
}
