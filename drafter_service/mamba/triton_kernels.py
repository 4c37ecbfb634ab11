"""The Triton kernels of a step in the slots themselves; `drafter_service.mamba.triton_steps` launches them.

Every program reads its row's parent by index and writes its child: no state is gathered before or scattered after.
A row may be its own parent, since each number is read before it is written by the same program.

There are no types for Triton, so mypy sees nothing in here.
"""

# ruff: noqa: N803 -- what is known when a kernel is compiled is in capitals, as everywhere in Triton

import triton
import triton.language as tl


@triton.jit
def convolve_rows(
    inputs,  # (n, C), strides (input_stride, 1)
    taps,  # (K, C)
    bias,  # (C,)
    slots,  # (num_slots, numbers), see `drafter_service.mamba.slot_layout.SlotLayout`
    parents,  # (n,)
    children,  # (n,)
    output,  # (n, C): silu of the convolution
    input_stride,
    slot_stride,
    WINDOW: tl.constexpr,  # K
    WIDTH: tl.constexpr,  # C
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0)
    channels = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    is_channel = channels < WIDTH
    parent = slots + tl.load(parents + row).to(tl.int64) * slot_stride
    child = slots + tl.load(children + row).to(tl.int64) * slot_stride
    value = tl.load(inputs + row * input_stride + channels, mask=is_channel, other=0.0)
    for step in tl.static_range(WINDOW):
        tap = tl.load(taps + step * WIDTH + channels, mask=is_channel, other=0.0)
        if step + 1 < WINDOW:
            before = tl.load(parent + (step + 1) * WIDTH + channels, mask=is_channel, other=0.0).to(tl.float32)
        else:
            before = tl.load(bias + channels, mask=is_channel, other=0.0)
        after = before + tap * value
        if step == 0:
            tl.store(output + row * WIDTH + channels, after * tl.sigmoid(after), mask=is_channel)
        else:
            tl.store(child + step * WIDTH + channels, after, mask=is_channel)


@triton.jit
def recur_rows(
    inputs,  # (n, D), strides (input_stride, 1)
    time_steps,  # (n, H) raw, strides (time_step_stride, 1)
    time_step_bias,  # (H,)
    gates,  # (n, D), strides (gate_stride, 1)
    drives,  # (n, G * S), strides (drive_stride, 1)
    readouts,  # (n, G * S), strides (drive_stride, 1)
    log2_decay,  # (S, D), or (H,)
    skip,  # (D,)
    slots,  # (num_slots, numbers), the state from STATE_OFFSET on: (G, S, D / G)
    parents,  # (n,)
    children,  # (n,)
    output,  # (n, D)
    input_stride,
    time_step_stride,
    gate_stride,
    drive_stride,
    slot_stride,
    smallest_step,
    largest_step,
    HAS_BIAS: tl.constexpr,
    HAS_LIMITS: tl.constexpr,
    DECAY_BY_STATE: tl.constexpr,  # (S, D), not (H,)
    STATE_OFFSET: tl.constexpr,
    STATE_SIZE: tl.constexpr,  # S
    WIDTH: tl.constexpr,  # D
    HEAD_WIDTH: tl.constexpr,  # D / H
    GROUP_WIDTH: tl.constexpr,  # D / G
    BLOCK_STATE: tl.constexpr,  # a power of two, at least S
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0)
    channels = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    is_channel = channels < WIDTH
    heads = channels // HEAD_WIDTH
    groups = channels // GROUP_WIDTH
    numbers = tl.arange(0, BLOCK_STATE)
    is_number = (numbers < STATE_SIZE)[:, None] & is_channel[None, :]

    raw = tl.load(time_steps + row * time_step_stride + heads, mask=is_channel, other=0.0)
    if HAS_BIAS:
        raw += tl.load(time_step_bias + heads, mask=is_channel, other=0.0)
    # softplus; log(1 + x) as accurate as log1p: what rounding adds to x is divided out again
    grown = tl.exp(tl.minimum(raw, 20.0))
    sum_of_one = 1.0 + grown
    is_lost = sum_of_one == 1.0
    small = tl.log(sum_of_one) * (grown / tl.where(is_lost, 1.0, sum_of_one - 1.0))
    time_step = tl.where(raw > 20.0, raw, tl.where(is_lost, grown, small))
    if HAS_LIMITS:
        time_step = tl.minimum(tl.maximum(time_step, smallest_step), largest_step)

    if DECAY_BY_STATE:
        rates = tl.load(log2_decay + numbers[:, None] * WIDTH + channels[None, :], mask=is_number, other=0.0)
    else:
        rates = tl.load(log2_decay + heads, mask=is_channel, other=0.0)[None, :]
    decay = tl.exp2(time_step[None, :] * rates)
    value = tl.load(inputs + row * input_stride + channels, mask=is_channel, other=0.0)
    by_group = row * drive_stride + groups[None, :] * STATE_SIZE + numbers[:, None]
    drive = tl.load(drives + by_group, mask=is_number, other=0.0)
    readout = tl.load(readouts + by_group, mask=is_number, other=0.0)

    parent = slots + tl.load(parents + row).to(tl.int64) * slot_stride + STATE_OFFSET
    child = slots + tl.load(children + row).to(tl.int64) * slot_stride + STATE_OFFSET
    place = (groups[None, :] * STATE_SIZE + numbers[:, None]) * GROUP_WIDTH + (channels % GROUP_WIDTH)[None, :]
    state = tl.load(parent + place, mask=is_number, other=0.0).to(tl.float32)
    state = state * decay + drive * (time_step * value)[None, :]
    tl.store(child + place, state, mask=is_number)

    read = tl.sum(state * readout, axis=0)
    read += tl.load(skip + channels, mask=is_channel, other=0.0) * value
    gate = tl.load(gates + row * gate_stride + channels, mask=is_channel, other=0.0)
    tl.store(output + row * WIDTH + channels, read * gate * tl.sigmoid(gate), mask=is_channel)
