// A test double of libcuda.so.1: host memory plays the device's, streams hold work back until somebody waits for them. It does just what
// cfvit's runtime calls, and is strict: using what was freed, freeing twice, forgetting to free, and reading an event that nobody waited for
// end the process with exit code 77.
//
// Faults are switched on by CFVIT_STANDIN_FAULT: init, count, pinned, memory, capture, lost (see standin_fault), and those of nvinfer.cc.

#include "world.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace {

int device_context;
thread_local void* current = nullptr;

// Every call but the first ones needs a current context, and fails once the device is lost.
Result begin(const char* name, bool needs_context = true) {
    standin_called(name);
    if (needs_context && current != &device_context) return INVALID_CONTEXT;
    return world().lost;
}

int setting(const char* variable, int usual) {
    const char* value = std::getenv(variable);
    return value ? std::atoi(value) : usual;
}

template <class T>
void must_live(const std::set<T*>& set, T* object, const char* call, const char* kind) {
    if (!set.count(object)) standin_violation("%s of a %s that is not there (any more)", call, kind);
}

Result drain(StandinStream* stream) {
    std::vector<Entry> queue;
    queue.swap(stream->queue);
    for (Entry& entry : queue) {
        if (entry.event) {
            must_live(world().events, entry.event, "cuEventRecord", "event");
            entry.event->done = true;
            entry.event->time = Clock::now();
            continue;
        }
        if (standin_fault("lost")) world().lost = ILLEGAL_ADDRESS;
        if (world().lost == SUCCESS) world().lost = entry.work->work.run(entry.work->work.state, entry.in_graph);
        if (world().lost != SUCCESS) return world().lost;
    }
    return SUCCESS;
}

Result free_block(Address address, bool pinned, const char* call) {
    const auto block = world().blocks.find(address);
    if (block == world().blocks.end()) standin_violation("%s of %#llx, which is not allocated (any more)", call, address);
    if (block->second.pinned != pinned) standin_violation("%s of %#llx, which is the other kind of memory", call, address);
    for (StandinStream* stream : world().streams)
        for (const Entry& entry : stream->queue)
            if (entry.work && world().lost == SUCCESS) standin_violation("%s while work is on a stream", call);
    std::free(reinterpret_cast<void*>(address));
    world().blocks.erase(block);
    return world().lost;
}

void* allocate(size_t bytes, Block block) {
    void* memory = nullptr;
    if (posix_memalign(&memory, 256, bytes)) return nullptr;
    std::memset(memory, 0xA5, bytes);
    world().blocks[reinterpret_cast<uintptr_t>(memory)] = block;
    return memory;
}

}  // namespace

extern "C" {

bool standin_enqueue(StandinStream* stream, StandinWork work) {
    Lock lock(world().mutex);
    auto owned = std::make_shared<Work>(work);
    if (!stream) standin_violation("work on the default stream");
    must_live(world().streams, stream, "an enqueue", "stream");
    if (current != &device_context) return false;
    if (world().lost != SUCCESS) return false;
    if (stream->capture) stream->capture->nodes.push_back(std::move(owned));
    else stream->queue.push_back({std::move(owned), false, nullptr});
    return true;
}

Result cuInit(unsigned) {
    standin_called("cuInit");
    return standin_fault("init") ? NO_DEVICE : SUCCESS;
}

Result cuDriverGetVersion(int* version) {
    *version = setting("CFVIT_STANDIN_DRIVER", 12060);
    return SUCCESS;
}

Result cuDeviceGetCount(int* count) {
    *count = standin_fault("count") ? 0 : 1;
    return SUCCESS;
}

Result cuDeviceGet(int* device, int ordinal) {
    *device = 0;
    return ordinal == 0 ? SUCCESS : 101;
}

Result cuDeviceGetName(char* name, int length, int) {
    std::snprintf(name, length, "cfvit test double");
    return SUCCESS;
}

// 16: multiprocessors; 19: mapped host memory; 75, 76: compute capability 8.7; no memory pools.
Result cuDeviceGetAttribute(int* value, int attribute, int) {
    switch (attribute) {
        case 16: *value = setting("CFVIT_STANDIN_SM", 8); break;
        case 19: *value = 1; break;
        case 75: *value = 8; break;
        case 76: *value = 7; break;
        default: *value = 0;
    }
    return SUCCESS;
}

Result cuDeviceTotalMem_v2(size_t* bytes, int) {
    *bytes = size_t(8) << 30;
    return SUCCESS;
}

Result cuDevicePrimaryCtxRetain(void** context, int) {
    Lock lock(world().mutex);
    if (world().lost != SUCCESS) return world().lost;
    ++world().contexts;
    *context = &device_context;
    return SUCCESS;
}

Result cuDevicePrimaryCtxRelease_v2(int) {
    Lock lock(world().mutex);
    if (--world().contexts < 0) standin_violation("the device's context was released more often than retained");
    return world().lost;
}

Result cuCtxGetCurrent(void** context) {
    *context = current;
    return SUCCESS;
}

Result cuCtxSetCurrent(void* context) {
    current = context;
    return SUCCESS;
}

Result cuCtxSynchronize() {
    Lock lock(world().mutex);
    if (Result failed = begin("cuCtxSynchronize")) return failed;
    for (StandinStream* stream : world().streams)
        if (Result failed = drain(stream)) return failed;
    return SUCCESS;
}

Result cuStreamCreate(StandinStream** stream, unsigned) {
    Lock lock(world().mutex);
    if (Result failed = begin("cuStreamCreate")) return failed;
    *stream = new StandinStream;
    world().streams.insert(*stream);
    return SUCCESS;
}

Result cuStreamDestroy_v2(StandinStream* stream) {
    Lock lock(world().mutex);
    must_live(world().streams, stream, "cuStreamDestroy", "stream");
    if (!stream->queue.empty() && world().lost == SUCCESS) standin_violation("a stream was destroyed with work on it");
    world().streams.erase(stream);
    delete stream;
    return world().lost;
}

Result cuStreamSynchronize(StandinStream* stream) {
    Lock lock(world().mutex);
    if (Result failed = begin("cuStreamSynchronize")) return failed;
    must_live(world().streams, stream, "cuStreamSynchronize", "stream");
    if (stream->capture) return CAPTURE_INVALIDATED;
    return drain(stream);
}

// Mode 1 is thread-local, the one in which other threads may allocate meanwhile.
Result cuStreamBeginCapture_v2(StandinStream* stream, int mode) {
    Lock lock(world().mutex);
    if (Result failed = begin("cuStreamBeginCapture")) return failed;
    must_live(world().streams, stream, "cuStreamBeginCapture", "stream");
    if (mode != 1) standin_violation("a capture in mode %d, not thread-local", mode);
    if (stream->capture) standin_violation("a capture within a capture");
    stream->capture = std::make_unique<Graph>();
    return SUCCESS;
}

Result cuStreamEndCapture(StandinStream* stream, Graph** graph) {
    Lock lock(world().mutex);
    *graph = nullptr;
    if (Result failed = begin("cuStreamEndCapture")) return failed;
    must_live(world().streams, stream, "cuStreamEndCapture", "stream");
    if (!stream->capture) standin_violation("the end of a capture that was not begun");
    std::unique_ptr<Graph> captured = std::move(stream->capture);
    if (standin_fault("capture")) return CAPTURE_INVALIDATED;
    *graph = captured.release();
    world().graphs.insert(*graph);
    return SUCCESS;
}

Result cuGraphInstantiateWithFlags(Graph** executable, Graph* graph, unsigned long long) {
    Lock lock(world().mutex);
    if (Result failed = begin("cuGraphInstantiate")) return failed;
    must_live(world().graphs, graph, "cuGraphInstantiate", "graph");
    *executable = new Graph(*graph);
    world().executables.insert(*executable);
    return SUCCESS;
}

Result cuGraphUpload(Graph* executable, StandinStream* stream) {
    Lock lock(world().mutex);
    if (Result failed = begin("cuGraphUpload")) return failed;
    must_live(world().executables, executable, "cuGraphUpload", "graph");
    must_live(world().streams, stream, "cuGraphUpload", "stream");
    return SUCCESS;
}

Result cuGraphLaunch(Graph* executable, StandinStream* stream) {
    Lock lock(world().mutex);
    if (Result failed = begin("cuGraphLaunch")) return failed;
    must_live(world().executables, executable, "cuGraphLaunch", "graph");
    must_live(world().streams, stream, "cuGraphLaunch", "stream");
    for (const auto& node : executable->nodes) stream->queue.push_back({node, true, nullptr});
    return SUCCESS;
}

Result cuGraphExecDestroy(Graph* executable) {
    Lock lock(world().mutex);
    must_live(world().executables, executable, "cuGraphExecDestroy", "graph");
    world().executables.erase(executable);
    delete executable;
    return world().lost;
}

Result cuGraphDestroy(Graph* graph) {
    Lock lock(world().mutex);
    must_live(world().graphs, graph, "cuGraphDestroy", "graph");
    world().graphs.erase(graph);
    delete graph;
    return world().lost;
}

Result cuEventCreate(Event** event, unsigned flags) {
    Lock lock(world().mutex);
    if (Result failed = begin("cuEventCreate")) return failed;
    if (flags & 2) standin_violation("an event without timing");
    *event = new Event;
    world().events.insert(*event);
    return SUCCESS;
}

Result cuEventRecord(Event* event, StandinStream* stream) {
    Lock lock(world().mutex);
    if (Result failed = begin("cuEventRecord")) return failed;
    must_live(world().events, event, "cuEventRecord", "event");
    must_live(world().streams, stream, "cuEventRecord", "stream");
    if (stream->capture) standin_violation("an event recorded within a capture");
    *event = Event{true, false, {}};
    stream->queue.push_back({nullptr, false, event});
    return SUCCESS;
}

Result cuEventSynchronize(Event* event) {
    Lock lock(world().mutex);
    if (Result failed = begin("cuEventSynchronize")) return failed;
    must_live(world().events, event, "cuEventSynchronize", "event");
    if (!event->recorded || event->done) return SUCCESS;
    for (StandinStream* stream : world().streams)
        if (Result failed = drain(stream)) return failed;
    return SUCCESS;
}

Result cuEventElapsedTime(float* milliseconds, Event* start, Event* end) {
    Lock lock(world().mutex);
    if (Result failed = begin("cuEventElapsedTime")) return failed;
    must_live(world().events, start, "cuEventElapsedTime", "event");
    must_live(world().events, end, "cuEventElapsedTime", "event");
    if (!start->recorded || !end->recorded) return INVALID_VALUE;
    if (!start->done || !end->done) return NOT_READY;
    *milliseconds = std::chrono::duration<float, std::milli>(end->time - start->time).count();
    return SUCCESS;
}

Result cuEventDestroy_v2(Event* event) {
    Lock lock(world().mutex);
    must_live(world().events, event, "cuEventDestroy", "event");
    for (StandinStream* stream : world().streams)
        for (const Entry& entry : stream->queue)
            if (entry.event == event && world().lost == SUCCESS) standin_violation("an event was destroyed before it was reached");
    world().events.erase(event);
    delete event;
    return world().lost;
}

// Flags: 1 portable, 2 mapped, 4 write-combined.
Result cuMemHostAlloc(void** memory, size_t bytes, unsigned flags) {
    Lock lock(world().mutex);
    if (Result failed = begin("cuMemHostAlloc")) return failed;
    if (bytes == 0) return INVALID_VALUE;
    if (standin_fault("pinned")) return OUT_OF_MEMORY;
    if (!(flags & 1)) standin_violation("pinned memory that is not portable");
    *memory = allocate(bytes, {bytes, true, (flags & 2) != 0});
    return *memory ? SUCCESS : OUT_OF_MEMORY;
}

// The device's address of pinned memory is the host's own here.
Result cuMemHostGetDevicePointer_v2(Address* address, void* memory, unsigned) {
    Lock lock(world().mutex);
    if (Result failed = begin("cuMemHostGetDevicePointer")) return failed;
    standin_check_memory(memory, 1, "cuMemHostGetDevicePointer");
    *address = reinterpret_cast<Address>(memory);
    return SUCCESS;
}

Result cuMemFreeHost(void* memory) {
    Lock lock(world().mutex);
    standin_called("cuMemFreeHost");
    return free_block(reinterpret_cast<Address>(memory), true, "cuMemFreeHost");
}

Result cuMemAlloc_v2(Address* address, size_t bytes) {
    Lock lock(world().mutex);
    if (Result failed = begin("cuMemAlloc")) return failed;
    if (bytes == 0) return INVALID_VALUE;
    if (standin_fault("memory")) return OUT_OF_MEMORY;
    *address = reinterpret_cast<Address>(allocate(bytes, {bytes, false, false}));
    return *address ? SUCCESS : OUT_OF_MEMORY;
}

Result cuMemFree_v2(Address address) {
    Lock lock(world().mutex);
    standin_called("cuMemFree");
    return free_block(address, false, "cuMemFree");
}

Result cuMemsetD8_v2(Address address, unsigned char byte, size_t bytes) {
    Lock lock(world().mutex);
    if (Result failed = begin("cuMemsetD8")) return failed;
    standin_check_memory(reinterpret_cast<void*>(address), bytes, "cuMemsetD8");
    std::memset(reinterpret_cast<void*>(address), byte, bytes);
    return SUCCESS;
}

// Waits for nothing but the default stream, on which nothing is: whoever reads what a stream writes must have waited for it.
Result cuMemcpyDtoH_v2(void* host, Address address, size_t bytes) {
    Lock lock(world().mutex);
    if (Result failed = begin("cuMemcpyDtoH")) return failed;
    standin_check_memory(reinterpret_cast<void*>(address), bytes, "cuMemcpyDtoH");
    std::memcpy(host, reinterpret_cast<void*>(address), bytes);
    return SUCCESS;
}

Result cuMemGetInfo_v2(size_t* free, size_t* total) {
    *free = setting("CFVIT_STANDIN_FREE", 1 << 30);
    *total = size_t(8) << 30;
    return SUCCESS;
}

Result cuGetErrorName(Result error, const char** name) {
    switch (error) {
        case INVALID_VALUE: *name = "CUDA_ERROR_INVALID_VALUE"; break;
        case OUT_OF_MEMORY: *name = "CUDA_ERROR_OUT_OF_MEMORY"; break;
        case NO_DEVICE: *name = "CUDA_ERROR_NO_DEVICE"; break;
        case INVALID_CONTEXT: *name = "CUDA_ERROR_INVALID_CONTEXT"; break;
        case NOT_READY: *name = "CUDA_ERROR_NOT_READY"; break;
        case ILLEGAL_ADDRESS: *name = "CUDA_ERROR_ILLEGAL_ADDRESS"; break;
        case CAPTURE_INVALIDATED: *name = "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"; break;
        default: *name = nullptr; return INVALID_VALUE;
    }
    return SUCCESS;
}

Result cuGetErrorString(Result error, const char** words) {
    const Result known = cuGetErrorName(error, words);
    if (known == SUCCESS) *words = "as the test double was told";
    return known;
}

}  // extern "C"
