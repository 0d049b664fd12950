// What every part of the shim uses: which headers these are, the one logger, and how failures are told.
#ifndef CFVIT_TRT_SUPPORT_H
#define CFVIT_TRT_SUPPORT_H

#include "shim.h"

#include <NvInfer.h>
#include <NvOnnxParser.h>

#include <atomic>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#if defined(TRT_MAJOR_RTX)
#define FLAVOUR CFVIT_TRT_RTX
#define SHIM_NAME cfvit_trt_shim_rtx
#elif NV_TENSORRT_MAJOR == 8
#define FLAVOUR CFVIT_TRT_8
#define SHIM_NAME cfvit_trt_shim_8
#elif NV_TENSORRT_MAJOR == 10
#define FLAVOUR CFVIT_TRT_10
#define SHIM_NAME cfvit_trt_shim_10
#elif NV_TENSORRT_MAJOR == 11
#define FLAVOUR CFVIT_TRT_11
#define SHIM_NAME cfvit_trt_shim_11
#else
#error "cfvit drives TensorRT 8.5, 8.6, 10, 11 and TensorRT-RTX; these headers are of another major version"
#endif
#if NV_TENSORRT_MAJOR == 8 && NV_TENSORRT_MINOR < 5
#error "TensorRT older than 8.5 (JetPack older than 5.1) has no enqueueV3"
#endif

// Weak typing (kFP16) was the only way until 8.6 and is gone in 11 and RTX 1.5; strong typing is asked for from 10 to RTX 1.4 and
// the only way since.
#if FLAVOUR == CFVIT_TRT_8
#define WEAK_TYPING 1
#else
#define WEAK_TYPING 0
#endif
#if FLAVOUR == CFVIT_TRT_10 || (FLAVOUR == CFVIT_TRT_RTX && NV_TENSORRT_MINOR < 5)
#define ASK_STRONG_TYPING 1
#else
#define ASK_STRONG_TYPING 0
#endif
// Added in 8.6. Headers of 8.6 also drive 8.5 libraries, so the library's version counts too.
#if NV_TENSORRT_MAJOR == 8 && NV_TENSORRT_MINOR < 6 && FLAVOUR == CFVIT_TRT_8
#define HAS_8_6_OPTIONS 0
#else
#define HAS_8_6_OPTIONS 1
#endif
#if FLAVOUR == CFVIT_TRT_8
#define HAS_PROGRESS 0
#else
#define HAS_PROGRESS 1
#endif

struct CfvitTrtBlob {
    std::unique_ptr<nvinfer1::IHostMemory> memory;
    std::string text; // where TensorRT gave no IHostMemory
};
struct CfvitTrtRuntime {
    std::unique_ptr<nvinfer1::IRuntime> it;
};
struct CfvitTrtEngine {
    std::unique_ptr<nvinfer1::ICudaEngine> it;
};
struct CfvitTrtContext {
    std::unique_ptr<nvinfer1::IExecutionContext> it;
};

namespace {

using nvinfer1::ILogger;

// The address space below this holds no object: TensorRT 11 has been seen to return 0x228 for a runtime that it could not make.
constexpr uintptr_t kLowestPointer = 4096;

// TensorRT keeps the first logger that it sees for the whole process, so there is one, and it is never freed.
class Logger final : public ILogger {
public:
    void log(Severity severity, char const *message) noexcept override {
        if (severity <= Severity::kERROR) {
            remember(message);
        }
        if (CfvitTrtLog sink = sink_.load()) {
            sink(static_cast<int32_t>(severity), message);
        }
    }
    void send_to(CfvitTrtLog sink) noexcept { sink_ = sink; }
    uint64_t errors() const noexcept { return errors_; }
    void forget() noexcept {
        std::lock_guard<std::mutex> lock(mutex_);
        first_.clear();
    }
    // The first error since the last call of this or of forget.
    std::string take_first() {
        std::lock_guard<std::mutex> lock(mutex_);
        return std::exchange(first_, std::string());
    }

private:
    void remember(char const *message) noexcept {
        ++errors_;
        std::lock_guard<std::mutex> lock(mutex_);
        if (first_.empty()) {
            try {
                first_ = message;
            } catch (...) { // no memory for a message: it is still counted
            }
        }
    }
    std::atomic<CfvitTrtLog> sink_{nullptr};
    std::atomic<uint64_t> errors_{0};
    std::mutex mutex_;
    std::string first_;
};

Logger &logger() {
    static Logger *one = new Logger;
    return *one;
}

thread_local std::string last_message_text;

int32_t fail(char const *message) noexcept {
    try {
        std::string why = logger().take_first();
        last_message_text = why.empty() ? std::string(message) : std::string(message) + ": " + why;
    } catch (...) {
        last_message_text.clear();
    }
    return CFVIT_TRT_FAILED;
}

// Runs a call's body. What it throws becomes a failure.
template <typename Body> int32_t guarded(char const *call, Body body) noexcept {
    try {
        logger().forget();
        return body();
    } catch (std::exception const &e) {
        try {
            return fail((std::string(call) + ": " + e.what()).c_str());
        } catch (...) {
            return fail(call);
        }
    } catch (...) {
        return fail(call);
    }
}

// Whether `pointer` can be an object. A bogus one must not even be destroyed.
bool usable(void const *pointer) { return reinterpret_cast<uintptr_t>(pointer) >= kLowestPointer; }

template <typename T> T *call_entry(void *entry) {
    using Create = void *(*)(void *, int32_t);
    uint64_t const before = logger().errors();
    void *made = reinterpret_cast<Create>(entry)(static_cast<ILogger *>(&logger()), NV_TENSORRT_VERSION);
    // An object made under protest is not used; when it cannot be one it is not even destroyed.
    if (logger().errors() != before) {
        return nullptr;
    }
    return usable(made) ? static_cast<T *>(made) : nullptr;
}

} // namespace

#endif
