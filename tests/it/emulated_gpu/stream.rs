//! The emulated device as a device: memory, arguments, recordings, events, products.

use half::{bf16, f16};
use perfprof::engine::gpu::backend::{Address, Arg, Gemm, GpuBackend, HalfType, Launch};
use perfprof::engine::gpu::kernel::{Kernel, Module, Source};

use super::{Clock, EmulatedBackend, Options, backend, with_options};

const TEXT: &str = r#"
#define PP_KERNEL extern "C" __global__ void
PP_KERNEL add(float* values, float by) {
    values[threadIdx.x] += by;
}
"#;

fn add() -> Kernel {
    Kernel { module: Module::new(Source { name: "add.cu", text: TEXT }, &[]), function: "add" }
}

fn launch_add(device: &EmulatedBackend, args: &[Arg]) -> Result<(), String> {
    let launch = Launch { grid: [1, 1, 1], block: [4, 1, 1], shared_bytes: 0 };
    device.launch(&add(), launch, args).map_err(|error| error.to_string())
}

fn floats(device: &EmulatedBackend, at: Address, count: usize) -> Vec<f32> {
    let mut bytes = vec![0; count * 4];
    device.download(at, &mut bytes).expect("the memory is live");
    bytes.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().expect("chunks of four"))).collect()
}

#[test]
fn memory_is_undefined_until_written_and_ends_where_it_ends() {
    let Some(device) = backend() else { return };
    let buffer = device.alloc(16).unwrap();
    assert!(floats(&device, buffer.address(), 4).iter().all(|value| value.is_nan()));
    assert!(device.upload(buffer.address().offset(8), &[0; 12]).is_err());
    let free = device.free_bytes().unwrap();
    drop(buffer);
    assert_eq!(device.free_bytes().unwrap(), free + 16);
    let refused = device.alloc(device.facts().memory_bytes + 1).unwrap_err();
    assert!(refused.to_string().contains("out of memory"), "{refused}");
}

#[test]
fn arguments_must_match_the_kernel_and_point_to_live_memory() {
    let Some(device) = backend() else { return };
    let buffer = device.alloc(16).unwrap();
    device.fill(buffer.address(), 16, 0).unwrap();
    launch_add(&device, &[(&buffer).into(), 2.5_f32.into()]).unwrap();
    assert_eq!(floats(&device, buffer.address(), 4), [2.5; 4]);
    let said = launch_add(&device, &[(&buffer).into(), 2_u32.into()]).unwrap_err();
    assert!(said.contains("it takes (pf), it is given (pu)"), "{said}");
    assert!(launch_add(&device, &[(&buffer).into()]).is_err());
    let address = buffer.address();
    drop(buffer);
    let said = launch_add(&device, &[address.into(), 1.0_f32.into()]).unwrap_err();
    assert!(said.contains("argument 0") && said.contains("not in memory of the device"), "{said}");
}

#[test]
fn a_recording_runs_when_it_is_launched_with_the_arguments_it_was_given() {
    let Some(device) = backend() else { return };
    let buffer = device.alloc(16).unwrap();
    device.fill(buffer.address(), 16, 0).unwrap();
    device.begin_capture().unwrap();
    for by in [1.0_f32, 10.0] {
        launch_add(&device, &[(&buffer).into(), by.into()]).unwrap();
    }
    let graph = device.end_capture().unwrap();
    assert_eq!(graph.nodes(), 2);
    assert_eq!(floats(&device, buffer.address(), 4), [0.0; 4], "it ran while it was recorded");
    graph.launch().unwrap();
    graph.launch().unwrap();
    assert_eq!(floats(&device, buffer.address(), 4), [22.0; 4]);
    assert_eq!(device.launches(), 4);
    drop(buffer);
    assert!(graph.launch().is_err(), "it used memory that is freed");
}

#[test]
fn a_recording_with_a_copy_to_the_host_fails_and_leaves_the_device_usable() {
    let Some(device) = backend() else { return };
    let buffer = device.alloc(16).unwrap();
    device.begin_capture().unwrap();
    assert!(device.download(buffer.address(), &mut [0; 4]).is_err());
    assert!(device.alloc(4).is_err());
    assert!(device.end_capture().is_err());
    device.fill(buffer.address(), 16, 0).unwrap();
    launch_add(&device, &[(&buffer).into(), 1.0_f32.into()]).unwrap();
    assert_eq!(floats(&device, buffer.address(), 4), [1.0; 4]);
    device.begin_capture().unwrap();
    drop(buffer);
    let said = device.end_capture().err().unwrap().to_string();
    assert!(said.contains("freeing memory"), "{said}");
}

#[test]
fn events_of_a_virtual_clock_count_launches() {
    let Some(device) = with_options(Options { clock: Clock::Virtual(1500), ..Options::default() }) else { return };
    let buffer = device.alloc(16).unwrap();
    let (before, after) = (device.event().unwrap(), device.event().unwrap());
    assert!(before.elapsed_ns(&*after).is_err(), "neither was recorded");
    before.record().unwrap();
    for _ in 0..3 {
        launch_add(&device, &[(&buffer).into(), 1.0_f32.into()]).unwrap();
    }
    after.record().unwrap();
    assert_eq!(before.elapsed_ns(&*after).unwrap(), 4500);
}

#[test]
fn products_round_once_or_are_added() {
    let Some(device) = backend() else { return };
    let (m, n, k) = (3_usize, 5_usize, 19_usize);
    let a: Vec<f32> = (0..m * k).map(|i| ((i * 13 + 3) % 17) as f32 - 8.0).collect();
    let w: Vec<f32> = (0..n * k).map(|i| ((i * 7 + 1) % 11) as f32 - 5.0).collect();
    for half in [HalfType::F16, HalfType::BF16] {
        let bits = |value: f32| match half {
            HalfType::F16 => f16::from_f32(value).to_bits(),
            HalfType::BF16 => bf16::from_f32(value).to_bits(),
        };
        let upload = |values: &[f32]| {
            let buffer = device.alloc(values.len() as u64 * 2).unwrap();
            let bytes: Vec<u8> = values.iter().flat_map(|value| bits(*value).to_le_bytes()).collect();
            device.upload(buffer.address(), &bytes).unwrap();
            buffer
        };
        let (left, right) = (upload(&a), upload(&w));
        let c_stride = n as u32 + 2;
        let c = device.alloc(((m - 1) * c_stride as usize + n) as u64 * 4).unwrap();
        device.fill(c.address(), c.bytes(), 0).unwrap();
        let mut gemm = Gemm {
            half,
            m: m as u32,
            n: n as u32,
            k: k as u32,
            a: left.address(),
            w: right.address(),
            c: c.address(),
            accumulate_f32: true,
            c_stride,
        };
        device.gemm(&gemm).unwrap();
        device.gemm(&gemm).unwrap();
        let sums = floats(&device, c.address(), (m - 1) * c_stride as usize + n);
        gemm.accumulate_f32 = false;
        device.gemm(&gemm).unwrap();
        let mut rounded = vec![0; c.bytes() as usize];
        device.download(c.address(), &mut rounded).unwrap();
        for row in 0..m {
            for column in 0..n {
                let exact: f32 = (0..k).map(|i| a[row * k + i] * w[column * k + i]).sum();
                let at = row * c_stride as usize + column;
                assert_eq!(sums[at], 2.0 * exact);
                assert_eq!(u16::from_le_bytes(rounded[2 * at..][..2].try_into().unwrap()), bits(exact));
            }
        }
        gemm.m += 1;
        assert!(device.gemm(&gemm).is_err(), "the rows of a end");
    }
}
