// What the two halves of the stand-in share: libcuda.so.1 (cuda.cc, world.cc) and libnvinfer.so (nvinfer.cc, builder.cc).
#pragma once

#include <cstddef>

struct StandinStream;

extern "C" {

// One piece of work on a stream. It runs when somebody waits for the stream, never before, as on a busy device.
struct StandinWork {
    // `in_graph`: run by a graph's launch. Gives 0, or the CUresult with which the device is lost.
    int (*run)(void* state, bool in_graph);
    void (*drop)(void* state);
    void* state;
};

// Puts `work` on the stream, or into the graph being captured from it. False where the stream cannot take it.
bool standin_enqueue(StandinStream* stream, StandinWork work);

// Ends the process with a message unless `bytes` bytes at `address` are device-visible memory that has not been freed.
void standin_check_memory(const void* address, size_t bytes, const char* who);

// Whether the fault `name` of CFVIT_STANDIN_FAULT (`name` or `name:N`, comma-separated) strikes at this call: at each one, or at the
// Nth that asks.
bool standin_fault(const char* name);

// Counts a call; the counts are written to CFVIT_STANDIN_COUNTS at the end, `name number` a line.
void standin_called(const char* name);

// Objects that must be gone at the end of the process: `change` is 1 for a new one, -1 for one that goes.
void standin_live(const char* kind, int change);

// Says what the program did wrong and ends it with exit code 77.
[[noreturn]] void standin_violation(const char* format, ...) __attribute__((format(printf, 1, 2)));
}
