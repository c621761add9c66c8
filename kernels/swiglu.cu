#include "common.cuh"
// The gated activation of a feed-forward block.
#define PP_BOUNDS 256

// out [rows, width] = silu(gate) * up, of gate_up [rows, 2 * width], gate first. width is a multiple of 8. Grid (ceil(width / 2048), rows), block 256.
PP_KERNEL swiglu(T* out, const T* gate_up, unsigned width) {
    const unsigned at = (blockIdx.x * blockDim.x + threadIdx.x) * 8u;
    if (at >= width) {
        return;
    }
    const unsigned long long row = blockIdx.y;
    const T* gates = gate_up + row * 2u * width + at;
    float gate[8];
    float up[8];
    pp_unpack8(gate, pp_load16(gates));
    pp_unpack8(up, pp_load16(gates + width));
#pragma unroll
    for (int i = 0; i < 8; i++) {
        gate[i] = pp_silu(gate[i]) * up[i];
    }
    pp_store16(out + row * width + at, pp_pack8(gate));
}
