// What the stand-in's device knows: see cuda.cc.
#pragma once

#include "standin.h"

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

using Result = int;
using Address = unsigned long long;

constexpr Result SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NO_DEVICE = 100, INVALID_CONTEXT = 201, NOT_READY = 600,
                 ILLEGAL_ADDRESS = 700, CAPTURE_INVALIDATED = 901;

using Clock = std::chrono::steady_clock;

struct Work {
    StandinWork work;
    explicit Work(StandinWork work) : work(work) {}
    Work(const Work&) = delete;
    ~Work() { work.drop(work.state); }
};

struct Event {
    bool recorded = false, done = false;
    Clock::time_point time;
};

// Exactly one of: work, an event to be recorded.
struct Entry {
    std::shared_ptr<Work> work;
    bool in_graph;
    Event* event;
};

struct Graph {
    std::vector<std::shared_ptr<Work>> nodes;
};

struct Block {
    size_t bytes;
    bool pinned, mapped;
};

struct World {
    std::recursive_mutex mutex;
    std::map<uintptr_t, Block> blocks;
    std::set<StandinStream*> streams;
    std::set<Event*> events;
    std::set<Graph*> graphs, executables;
    std::map<std::string, size_t> counts;
    std::map<std::string, long> live;
    std::string faults;
    std::map<std::string, size_t> asked;  // since `faults` changed
    long contexts = 0;
    Result lost = SUCCESS;
};

World& world();

using Lock = std::lock_guard<std::recursive_mutex>;

struct StandinStream {
    std::vector<Entry> queue;
    std::unique_ptr<Graph> capture;
};
