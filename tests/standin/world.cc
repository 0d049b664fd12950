// The stand-in's bookkeeping: faults, counts, what is allowed, and what must be gone at the end. See cuda.cc.

#include "world.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <unistd.h>

// Leaked on purpose: the check at the end of the process must outlive every static.
World& world() {
    static World* world = new World;
    return *world;
}

extern "C" {

void standin_violation(const char* format, ...) {
    va_list arguments;
    va_start(arguments, format);
    std::fprintf(stderr, "STAND-IN VIOLATION: ");
    std::vfprintf(stderr, format, arguments);
    std::fprintf(stderr, "\n");
    va_end(arguments);
    std::fflush(stderr);
    _exit(77);
}

bool standin_fault(const char* name) {
    const char* faults = std::getenv("CFVIT_STANDIN_FAULT");
    if (!faults) return false;
    Lock lock(world().mutex);
    if (world().faults != faults) {
        world().faults = faults;
        world().asked.clear();
    }
    const size_t ask = ++world().asked[name];
    std::string rest(faults), wanted(name);
    for (size_t start = 0; start <= rest.size();) {
        const size_t end = std::min(rest.find(',', start), rest.size());
        const std::string fault = rest.substr(start, end - start);
        start = end + 1;
        if (fault == wanted) return true;
        if (fault.rfind(wanted + ":", 0) == 0 && std::strtoul(fault.c_str() + wanted.size() + 1, nullptr, 10) == ask) return true;
    }
    return false;
}

void standin_called(const char* name) {
    Lock lock(world().mutex);
    ++world().counts[name];
}

void standin_live(const char* kind, int change) {
    Lock lock(world().mutex);
    world().live[kind] += change;
}

void standin_check_memory(const void* address, size_t bytes, const char* who) {
    Lock lock(world().mutex);
    const uintptr_t start = reinterpret_cast<uintptr_t>(address);
    auto block = world().blocks.upper_bound(start);
    if (block == world().blocks.begin()) standin_violation("%s: %p is no device memory", who, address);
    --block;
    if (start + bytes > block->first + block->second.bytes)
        standin_violation("%s: %zu bytes at %p do not fit the %zu bytes allocated there", who, bytes, address, block->second.bytes);
    if (block->second.pinned && !block->second.mapped) standin_violation("%s: %p is pinned memory that is not mapped", who, address);
}

}  // extern "C"

namespace {

__attribute__((destructor)) void at_the_end() {
    World& all = world();
    Lock lock(all.mutex);
    if (const char* path = std::getenv("CFVIT_STANDIN_COUNTS")) {
        if (FILE* file = std::fopen(path, "w")) {
            for (const auto& [name, count] : all.counts) std::fprintf(file, "%s %zu\n", name.c_str(), count);
            std::fclose(file);
        }
    }
    if (!all.blocks.empty()) standin_violation("%zu blocks of memory were not freed", all.blocks.size());
    if (!all.streams.empty()) standin_violation("%zu streams were not destroyed", all.streams.size());
    if (!all.events.empty()) standin_violation("%zu events were not destroyed", all.events.size());
    if (!all.graphs.empty()) standin_violation("%zu graphs were not destroyed", all.graphs.size());
    if (!all.executables.empty()) standin_violation("%zu executable graphs were not destroyed", all.executables.size());
    if (all.contexts != 0) standin_violation("the device's context is still held %ld times", all.contexts);
    for (const auto& [kind, count] : all.live)
        if (count != 0) standin_violation("%ld objects of kind %s were not destroyed", count, kind.c_str());
}

}  // namespace
