//! The emulation itself, by small kernels whose results are known and by mistakes that it has to notice.

use half::{bf16, f16};
use perfprof::engine::gpu::backend::{Arg, Buffer, GpuBackend, GpuResult, Launch};
use perfprof::engine::gpu::kernel::{Kernel, Module, Source};

use super::{EmulatedBackend, Order, backend, with_order};

const TEXT: &str = r#"
#define PP_KERNEL extern "C" __global__ void

template <int BARRIER>
__device__ inline void sum_tree(float* out, const float* in, float* scratch) {
    scratch[threadIdx.x] = in[threadIdx.x];
    for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
        if (BARRIER) {
            __syncthreads();
        }
        if (threadIdx.x < half) {
            scratch[threadIdx.x] += scratch[threadIdx.x + half];
        }
    }
    if (threadIdx.x == 0) {
        out[blockIdx.x] = scratch[0];
    }
}
PP_KERNEL sum(float* out, const float* in) {
    __shared__ float scratch[256];
    sum_tree<1>(out, in, scratch);
}
PP_KERNEL sum_without_barrier(float* out, const float* in) {
    __shared__ float scratch[256];
    sum_tree<0>(out, in, scratch);
}
PP_KERNEL leftover(float* out) {
    __shared__ float scratch[1];
    if (threadIdx.x == 0 && blockIdx.x == 0) {
        scratch[0] = 1.0f;
    }
    __syncthreads();
    out[blockIdx.x] = scratch[0];
}
PP_KERNEL divergent(float* out) {
    if (threadIdx.x != 5) {
        __syncthreads();
    }
    out[threadIdx.x] = 1.0f;
}
PP_KERNEL split_barrier(float* out) {
    if (threadIdx.x < 8) {
        __syncthreads();
    } else {
        out[threadIdx.x] = 1.0f;
        __syncthreads();
    }
}
PP_KERNEL half_a_shuffle(float* out) {
    if (threadIdx.x < 16) {
        out[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 1.0f, 1);
    } else {
        __syncthreads();
    }
}
PP_KERNEL shuffles(unsigned* out, unsigned long long* wide) {
    const unsigned lane = threadIdx.x % 32;
    const unsigned row = threadIdx.x * 8;
    out[row] = __shfl_xor_sync(0xffffffffu, lane, 5);
    out[row + 1] = __shfl_sync(0xffffffffu, lane, 3, 8);
    out[row + 2] = __shfl_up_sync(0xffffffffu, lane, 2);
    out[row + 3] = __shfl_down_sync(0xffffffffu, lane, 3, 16);
    out[row + 4] = __ballot_sync(0xffffffffu, lane % 3 == 0);
    out[row + 5] = __any_sync(0xffffffffu, lane == 9) + 2 * __any_sync(0xffffffffu, lane == 32);
    out[row + 6] = __all_sync(0xffffffffu, lane < 32) + 2 * __all_sync(0xffffffffu, lane < 31);
    // Half warps on their own, in an order that is not theirs.
    out[row + 7] = lane < 16 ? __shfl_xor_sync(0x0000ffffu, lane, 1) : __shfl_xor_sync(0xffff0000u, lane, 2);
    wide[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 0x100000000ull * lane + 7, 1);
}
PP_KERNEL warp_exchange(float* out, unsigned sync) {
    __shared__ float scratch[32];
    scratch[threadIdx.x] = (float)threadIdx.x;
    if (sync) {
        __syncwarp();
    }
    out[threadIdx.x] = scratch[31 - threadIdx.x];
}

// out (16 × 8) = a (16 × 16, row-major) · b (8 × 16: column-major 16 × 8), fragments from memory one by one as the tables of PTX say.
template <int BF16>
__device__ inline void product(float* out, const unsigned short* a, const unsigned short* b) {
    const unsigned lane = threadIdx.x, group = lane / 4, t = lane % 4;
    unsigned fragment_a[4], fragment_b[2];
    const unsigned* words_a = (const unsigned*)a;
    const unsigned* words_b = (const unsigned*)b;
    fragment_a[0] = words_a[group * 8 + t];
    fragment_a[1] = words_a[(group + 8) * 8 + t];
    fragment_a[2] = words_a[group * 8 + t + 4];
    fragment_a[3] = words_a[(group + 8) * 8 + t + 4];
    fragment_b[0] = words_b[group * 8 + t];
    fragment_b[1] = words_b[group * 8 + t + 4];
    float d[4] = {1.0f, 1.0f, 1.0f, 1.0f};
    if (BF16) {
        pp_emu_mma_m16n8k16_bf16(d, fragment_a, fragment_b);
    } else {
        pp_emu_mma_m16n8k16_f16(d, fragment_a, fragment_b);
    }
    out[group * 8 + 2 * t] = d[0];
    out[group * 8 + 2 * t + 1] = d[1];
    out[(group + 8) * 8 + 2 * t] = d[2];
    out[(group + 8) * 8 + 2 * t + 1] = d[3];
}
PP_KERNEL product_f16(float* out, const unsigned short* a, const unsigned short* b) { product<0>(out, a, b); }
PP_KERNEL product_bf16(float* out, const unsigned short* a, const unsigned short* b) { product<1>(out, a, b); }

// The same by ldmatrix; b lies as [k][n] where `trans`, so that it has to be transposed on the way.
PP_KERNEL product_by_ldmatrix(float* out, const unsigned short* a, const unsigned short* b, unsigned trans) {
    __shared__ __align__(16) unsigned short tile_a[16 * 16];
    __shared__ __align__(16) unsigned short tile_b[16 * 8];
    const unsigned lane = threadIdx.x;
    for (unsigned i = lane; i < 256; i += 32) {
        tile_a[i] = a[i];
    }
    for (unsigned i = lane; i < 128; i += 32) {
        tile_b[i] = b[i];
    }
    __syncwarp();
    unsigned fragment_a[4], fragment_b[2];
    pp_emu_ldmatrix_x4(fragment_a, tile_a + (lane % 16) * 16 + (lane / 16) * 8);
    if (trans) {
        pp_emu_ldmatrix_x2_trans(fragment_b, tile_b + (lane % 16) * 8);
    } else {
        pp_emu_ldmatrix_x2(fragment_b, tile_b + (lane % 8) * 16 + (lane / 8 % 2) * 8);
    }
    float d[4] = {1.0f, 1.0f, 1.0f, 1.0f};
    pp_emu_mma_m16n8k16_f16(d, fragment_a, fragment_b);
    for (unsigned v = 0; v < 4; v++) {
        out[(lane / 4 + 8 * (v / 2)) * 8 + 2 * (lane % 4) + v % 2] = d[v];
    }
}

// Copies two vectors of four floats, in two groups; the first is used while the second may be under way.
PP_KERNEL copy_async(float* out, const float* in, unsigned wait) {
    __shared__ __align__(16) float tile[8];
    if (threadIdx.x == 0) {
        pp_emu_cp_async16(tile, in);
        pp_emu_cp_async_commit();
        pp_emu_cp_async16(tile + 4, in + 4);
        pp_emu_cp_async_commit();
        pp_emu_cp_async_wait((int)wait);
    }
    __syncthreads();
    if (threadIdx.x < 8) {
        out[threadIdx.x] = tile[threadIdx.x];
    }
}
PP_KERNEL dynamic(float* out, unsigned used) {
    PP_DYNAMIC_SHARED(float, values);
    values[threadIdx.x < used ? threadIdx.x : 0] = 1.0f;
    __syncthreads();
    out[threadIdx.x] = values[0];
}
PP_KERNEL misaligned(float* out) {
    *(float4*)(out + 1) = make_float4(1.0f, 2.0f, 3.0f, 4.0f);
}
PP_KERNEL past_the_end(float* out, unsigned at) {
    if (threadIdx.x == 3) {
        out[at] = 1.0f;
    }
}
PP_KERNEL wild(float* out, unsigned long long at) {
    out[at] = 1.0f;
}
PP_KERNEL array_bound(float* out) {
    __shared__ float scratch[8];
    scratch[threadIdx.x] = 1.0f;
    out[threadIdx.x] = scratch[threadIdx.x];
}
PP_KERNEL indices(unsigned* out) {
    const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
    out[block * blockDim.x * blockDim.y * blockDim.z + thread] += 1000 * block + thread;
}
PP_KERNEL conversions(unsigned short* f16, unsigned short* bf16, float* wide, const float* in, unsigned count) {
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) {
        f16[i] = pp_emu_f32_to_f16(in[i]);
        bf16[i] = pp_emu_f32_to_bf16(in[i]);
        wide[i] = pp_emu_f16_to_f32((unsigned short)i);
    }
}
"#;

/// Runs one of the kernels above.
fn run(
    device: &EmulatedBackend,
    function: &'static str,
    grid: [u32; 3],
    block: [u32; 3],
    args: &[Arg],
) -> GpuResult<()> {
    run_with(device, function, grid, block, 0, args)
}

fn run_with(
    device: &EmulatedBackend,
    function: &'static str,
    grid: [u32; 3],
    block: [u32; 3],
    shared_bytes: u32,
    args: &[Arg],
) -> GpuResult<()> {
    let module = Module::new(Source { name: "snippets.cu", text: TEXT }, &[]);
    device.launch(&Kernel { module, function }, Launch { grid, block, shared_bytes }, args)
}

fn f32s(device: &EmulatedBackend, values: &[f32]) -> Buffer {
    bytes(device, &values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>())
}

fn bytes(device: &EmulatedBackend, values: &[u8]) -> Buffer {
    let buffer = device.alloc(values.len() as u64).expect("the device has room");
    device.upload(buffer.address(), values).expect("the buffer is as long as the values");
    buffer
}

fn read_f32s(device: &EmulatedBackend, buffer: &Buffer) -> Vec<f32> {
    read(device, buffer)
        .chunks_exact(4)
        .map(|bytes| f32::from_le_bytes(bytes.try_into().expect("chunks of four")))
        .collect()
}

fn read_u32s(device: &EmulatedBackend, buffer: &Buffer) -> Vec<u32> {
    read(device, buffer)
        .chunks_exact(4)
        .map(|bytes| u32::from_le_bytes(bytes.try_into().expect("chunks of four")))
        .collect()
}

fn read(device: &EmulatedBackend, buffer: &Buffer) -> Vec<u8> {
    let mut values = vec![0; buffer.bytes() as usize];
    device.download(buffer.address(), &mut values).expect("the values are as long as the buffer");
    values
}

/// What the device says to a launch that must fail.
fn refusal(function: &'static str, block: u32, shared_bytes: u32, args: &[Arg], device: &EmulatedBackend) -> String {
    run_with(device, function, [1, 1, 1], [block, 1, 1], shared_bytes, args)
        .expect_err("it must be refused")
        .to_string()
}

const ORDERS: [Order; 4] = [Order::Forward, Order::Random(1), Order::Random(2), Order::Random(3)];

#[test]
fn a_reduction_needs_its_barriers() {
    let mut wrong = 0;
    for order in ORDERS {
        let Some(device) = with_order(order) else { return };
        let values: Vec<f32> = (0..256).map(|i| i as f32).collect();
        let input = f32s(&device, &values);
        let out = f32s(&device, &[0.0; 3]);
        run(&device, "sum", [3, 1, 1], [256, 1, 1], &[(&out).into(), (&input).into()]).unwrap();
        assert_eq!(read_f32s(&device, &out), [32640.0; 3], "{order:?}");
        run(&device, "sum_without_barrier", [3, 1, 1], [256, 1, 1], &[(&out).into(), (&input).into()]).unwrap();
        wrong += usize::from(read_f32s(&device, &out) != [32640.0; 3]);
    }
    assert_eq!(wrong, ORDERS.len(), "the sum without barriers was right in some order");
}

#[test]
fn shared_memory_holds_nothing_of_the_block_before() {
    let Some(device) = with_order(Order::Forward) else { return };
    let out = f32s(&device, &[0.0; 2]);
    run(&device, "leftover", [2, 1, 1], [32, 1, 1], &[(&out).into()]).unwrap();
    let values = read_f32s(&device, &out);
    assert_eq!(values[0], 1.0);
    assert!(values[1].is_nan(), "{values:?}");
}

#[test]
fn a_barrier_that_not_all_reach_is_an_error_that_names_who_does_not() {
    let Some(device) = backend() else { return };
    let out = f32s(&device, &[0.0; 64]);
    let said = refusal("divergent", 64, 0, &[(&out).into()], &device);
    assert!(said.contains("block (0, 0, 0)") && said.contains("not reached by thread 5, which has returned"), "{said}");
    let said = refusal("split_barrier", 32, 0, &[(&out).into()], &device);
    assert!(said.contains("its warp is split over two barriers"), "{said}");
    let said = refusal("half_a_shuffle", 32, 0, &[(&out).into()], &device);
    assert!(said.contains("waits for lane 16") && said.contains("waits at a barrier"), "{said}");
    // The device works on.
    run(&device, "leftover", [1, 1, 1], [32, 1, 1], &[(&out).into()]).unwrap();
}

#[test]
fn shuffles_and_votes_do_what_the_cuda_guide_says() {
    for order in ORDERS {
        let Some(device) = with_order(order) else { return };
        let out = device.alloc(64 * 8 * 4).unwrap();
        let wide = device.alloc(64 * 8).unwrap();
        run(&device, "shuffles", [1, 1, 1], [64, 1, 1], &[(&out).into(), (&wide).into()]).unwrap();
        let (out, wide) = (read_u32s(&device, &out), read(&device, &wide));
        for thread in 0..64_u32 {
            let lane = thread % 32;
            let expected = [
                lane ^ 5,
                lane / 8 * 8 + 3,
                if lane < 2 { lane } else { lane - 2 },
                if lane % 16 + 3 > 15 { lane } else { lane + 3 },
                0x4924_9249,
                1,
                1,
                if lane < 16 { lane ^ 1 } else { lane ^ 2 },
            ];
            assert_eq!(out[thread as usize * 8..][..8], expected, "lane {lane}, {order:?}");
            let value = u64::from_le_bytes(wide[thread as usize * 8..][..8].try_into().unwrap());
            assert_eq!(value, (u64::from(lane ^ 1) << 32) + 7);
        }
    }
}

#[test]
fn lanes_that_exchange_through_shared_memory_need_a_syncwarp() {
    for order in ORDERS {
        let Some(device) = with_order(order) else { return };
        let out = f32s(&device, &[0.0; 32]);
        let reversed: Vec<f32> = (0..32).rev().map(|i| i as f32).collect();
        run(&device, "warp_exchange", [1, 1, 1], [32, 1, 1], &[(&out).into(), 1_u32.into()]).unwrap();
        assert_eq!(read_f32s(&device, &out), reversed);
        run(&device, "warp_exchange", [1, 1, 1], [32, 1, 1], &[(&out).into(), 0_u32.into()]).unwrap();
        assert!(read_f32s(&device, &out).iter().any(|value| value.is_nan()), "{order:?}");
    }
}

/// Small integers, so that sums are exact: a (16 × 16), b (16 × 8), and 1 + a · b.
fn matrices() -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let a: Vec<f32> = (0..256).map(|i| ((i * 37 + 11) % 23) as f32 - 11.0).collect();
    let b: Vec<f32> = (0..128).map(|i| ((i * 29 + 5) % 19) as f32 - 9.0).collect();
    let mut out = vec![1.0; 128];
    for row in 0..16 {
        for column in 0..8 {
            out[row * 8 + column] += (0..16).map(|k| a[row * 16 + k] * b[k * 8 + column]).sum::<f32>();
        }
    }
    (a, b, out)
}

fn transposed(b: &[f32]) -> Vec<f32> {
    (0..128).map(|i| b[i % 16 * 8 + i / 16]).collect()
}

fn halves(device: &EmulatedBackend, values: &[f32], is_bf16: bool) -> Buffer {
    let bits = |value: &f32| if is_bf16 { bf16::from_f32(*value).to_bits() } else { f16::from_f32(*value).to_bits() };
    bytes(device, &values.iter().flat_map(|value| bits(value).to_le_bytes()).collect::<Vec<_>>())
}

#[test]
fn a_tensor_core_product_is_a_matrix_product() {
    let (a, b, expected) = matrices();
    for order in ORDERS {
        let Some(device) = with_order(order) else { return };
        for (function, is_bf16) in [("product_f16", false), ("product_bf16", true)] {
            let operands = [&a, &transposed(&b)].map(|values| halves(&device, values, is_bf16));
            let out = f32s(&device, &[0.0; 128]);
            let args = [(&out).into(), (&operands[0]).into(), (&operands[1]).into()];
            run(&device, function, [1, 1, 1], [32, 1, 1], &args).unwrap();
            assert_eq!(read_f32s(&device, &out), expected, "{function}");
        }
        for trans in [0_u32, 1] {
            let b = if trans == 1 { b.clone() } else { transposed(&b) };
            let operands = [&a, &b].map(|values| halves(&device, values, false));
            let out = f32s(&device, &[0.0; 128]);
            let args = [(&out).into(), (&operands[0]).into(), (&operands[1]).into(), trans.into()];
            run(&device, "product_by_ldmatrix", [1, 1, 1], [32, 1, 1], &args).unwrap();
            assert_eq!(read_f32s(&device, &out), expected, "trans = {trans}");
        }
    }
}

#[test]
fn an_asynchronous_copy_arrives_at_its_wait() {
    let Some(device) = with_order(Order::Forward) else { return };
    let values: Vec<f32> = (0..8).map(|i| i as f32).collect();
    let input = f32s(&device, &values);
    let out = f32s(&device, &[0.0; 8]);
    // All but `wait` groups have arrived.
    for (wait, arrived) in [(0_u32, 8), (1, 4), (2, 0)] {
        let args = [(&out).into(), (&input).into(), wait.into()];
        run(&device, "copy_async", [1, 1, 1], [32, 1, 1], &args).unwrap();
        let got = read_f32s(&device, &out);
        assert_eq!(got[..arrived], values[..arrived], "wait {wait}");
        assert!(got[arrived..].iter().all(|value| value.is_nan()), "wait {wait}: {got:?}");
    }
}

#[test]
fn accesses_outside_of_memory_and_misaligned_ones_are_errors() {
    let Some(device) = with_order(Order::Forward) else { return };
    let out = f32s(&device, &[0.0; 32]);
    run_with(&device, "dynamic", [1, 1, 1], [32, 1, 1], 128, &[(&out).into(), 32_u32.into()]).unwrap();
    let said = refusal("dynamic", 32, 124, &[(&out).into(), 32_u32.into()], &device);
    assert!(said.contains("a write 0 bytes past the end of dynamic shared memory (124 bytes)"), "{said}");
    let said = refusal("misaligned", 1, 0, &[(&out).into()], &device);
    assert!(said.contains("misaligned") && said.contains("line "), "{said}");
    let said = refusal("array_bound", 9, 0, &[(&out).into()], &device);
    assert!(said.contains("thread (8, 0, 0)") && said.contains("outside of the array"), "{said}");
    let said = refusal("wild", 1, 0, &[(&out).into(), Arg::U64(1 << 40)], &device);
    assert!(said.contains("memory that is not the kernel's"), "{said}");
    // Last, as the damage stays.
    let said = refusal("past_the_end", 32, 0, &[(&out).into(), 33_u32.into()], &device);
    assert!(said.contains("running past_the_end of snippets.cu") && said.contains("4 bytes past its end"), "{said}");
}

#[test]
fn every_thread_of_every_block_runs_once() {
    for order in ORDERS {
        let Some(device) = with_order(order) else { return };
        let out = device.alloc(3 * 2 * 5 * 12 * 4).unwrap();
        device.fill(out.address(), out.bytes(), 0).unwrap();
        run(&device, "indices", [3, 2, 5], [2, 3, 2], &[(&out).into()]).unwrap();
        let expected: Vec<u32> = (0..30).flat_map(|block| (0..12).map(move |thread| 1000 * block + thread)).collect();
        assert_eq!(read_u32s(&device, &out), expected, "{order:?}");
    }
}

#[test]
fn conversions_round_to_nearest_even() {
    let Some(device) = backend() else { return };
    // Every f16 value in f32, numbers around and halfway between them, and the edges.
    let mut values: Vec<f32> = Vec::new();
    for bits in (0..=u16::MAX).step_by(7) {
        let value = f16::from_bits(bits).to_f32();
        let next = f16::from_bits(bits.wrapping_add(1)).to_f32();
        values.extend([
            value,
            f32::midpoint(value, next),
            f32::from_bits(value.to_bits() ^ 1),
            value * 1e-3,
            value * 1e7,
        ]);
    }
    values.extend([65519.0, 65520.0, 2.0_f32.powi(-25), 3.0e-8, f32::MAX, f32::INFINITY, -0.0, f32::NAN]);
    let count = values.len() as u32;
    let input = f32s(&device, &values);
    let [narrow, brain] = [0, 1].map(|_| device.alloc(u64::from(count) * 2).unwrap());
    let wide = device.alloc(u64::from(count) * 4).unwrap();
    let args = [(&narrow).into(), (&brain).into(), (&wide).into(), (&input).into(), count.into()];
    run(&device, "conversions", [count.div_ceil(256), 1, 1], [256, 1, 1], &args).unwrap();
    let (narrow, brain, wide) = (read(&device, &narrow), read(&device, &brain), read_f32s(&device, &wide));
    for (index, value) in values.iter().enumerate() {
        let got = |bytes: &[u8]| u16::from_le_bytes(bytes[2 * index..][..2].try_into().unwrap());
        if value.is_nan() {
            assert!(f16::from_bits(got(&narrow)).is_nan() && bf16::from_bits(got(&brain)).is_nan());
        } else {
            assert_eq!(got(&narrow), f16::from_f32(*value).to_bits(), "f16 of {value:e}");
            assert_eq!(got(&brain), bf16::from_f32(*value).to_bits(), "bf16 of {value:e}");
        }
        let exact = f16::from_bits(index as u16).to_f32();
        assert!(wide[index] == exact || wide[index].is_nan() && exact.is_nan(), "f32 of f16 {index:#x}");
    }
}
