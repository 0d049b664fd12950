// The C ABI of shim.h over NVIDIA's C++ classes. build.rs compiles this file once for each set of headers it is given, with
// `nvinfer1` and `nvonnxparser` renamed per set: inline functions of two majors must not be merged by the linker.
//
// Only virtual calls and three entry points, found by the caller with dlsym: no symbol of TensorRT is needed to link.
#include "shim.h"

#include <NvInfer.h>
#include <NvOnnxParser.h>

#include <atomic>
#include <cstdio>
#include <exception>
#include <memory>
#include <mutex>
#include <string>

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
    std::string first() {
        std::lock_guard<std::mutex> lock(mutex_);
        return first_;
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
        std::string why = logger().first();
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

#if HAS_PROGRESS
class Progress final : public nvinfer1::IProgressMonitor {
public:
    explicit Progress(CfvitTrtProgress tell) : tell_(tell) {}
    void phaseStart(char const *phase, char const *, int32_t steps) noexcept override { steps_ = steps, tell_(phase, 0, steps); }
    bool stepComplete(char const *phase, int32_t step) noexcept override { return tell_(phase, step + 1, steps_) != 0; }
    void phaseFinish(char const *phase) noexcept override { tell_(phase, 0, 0); }

private:
    CfvitTrtProgress tell_;
    std::atomic<int32_t> steps_{0};
};
#endif

uint32_t network_flags() {
#if FLAVOUR == CFVIT_TRT_8
    return 1U << static_cast<uint32_t>(nvinfer1::NetworkDefinitionCreationFlag::kEXPLICIT_BATCH);
#elif ASK_STRONG_TYPING
    return 1U << static_cast<uint32_t>(nvinfer1::NetworkDefinitionCreationFlag::kSTRONGLY_TYPED);
#else
    return 0;
#endif
}

// Sets the architecture that a plan is for. False: not one that this library can build for.
bool set_target(nvinfer1::IBuilderConfig &config, int32_t capability) {
#if FLAVOUR == CFVIT_TRT_RTX
    using nvinfer1::ComputeCapability;
    ComputeCapability target = ComputeCapability::kCURRENT;
    switch (capability) {
    case 0: break;
    case 75: target = ComputeCapability::kSM75; break;
    case 80: target = ComputeCapability::kSM80; break;
    case 86: target = ComputeCapability::kSM86; break;
    case 89: target = ComputeCapability::kSM89; break;
    case 120: target = ComputeCapability::kSM120; break;
    default: return false;
    }
    return config.setNbComputeCapabilities(1) && config.setComputeCapability(target, 0);
#else
    static_cast<void>(config);
    return capability == 0;
#endif
}

#if WEAK_TYPING
// With weak typing the types in the graph are hints. Layers that the graph computes in FP32 (normalisations, logits, class attention)
// are asked to stay there.
void keep_float_islands(nvinfer1::INetworkDefinition &network, nvinfer1::IBuilderConfig &config) {
    using nvinfer1::LayerType;
    config.setFlag(nvinfer1::BuilderFlag::kPREFER_PRECISION_CONSTRAINTS);
    for (int32_t i = 0; i < network.getNbLayers(); ++i) {
        nvinfer1::ILayer &layer = *network.getLayer(i);
        LayerType const type = layer.getType();
        bool const computes = type == LayerType::kELEMENTWISE || type == LayerType::kUNARY || type == LayerType::kREDUCE
            || type == LayerType::kMATRIX_MULTIPLY || type == LayerType::kSOFTMAX;
        if (computes && layer.getOutput(0)->getType() == nvinfer1::DataType::kFLOAT) {
            layer.setPrecision(nvinfer1::DataType::kFLOAT);
        }
    }
}
#endif

void configure(nvinfer1::INetworkDefinition &network, nvinfer1::IBuilderConfig &config, CfvitTrtEntries const &entries,
    CfvitTrtBuild const &options) {
    config.setMemoryPoolLimit(nvinfer1::MemoryPoolType::kWORKSPACE, options.workspace);
    config.setProfilingVerbosity(nvinfer1::ProfilingVerbosity::kDETAILED); // names the kernels to the inspector; costs no time
    if (options.half == 0) {
        config.clearFlag(nvinfer1::BuilderFlag::kTF32); // FP32 is asked for where FP16 was not exact enough
    }
#if WEAK_TYPING
    if (options.half != 0) {
        config.setFlag(nvinfer1::BuilderFlag::kFP16);
        keep_float_islands(network, config);
    }
#else
    static_cast<void>(network);
#endif
#if HAS_8_6_OPTIONS
    if (FLAVOUR != CFVIT_TRT_8 || entries.version >= 8600) {
        config.setMaxAuxStreams(0); // one stream: a CUDA graph of it can be captured
        if (options.optimisation_level >= 0) {
            config.setBuilderOptimizationLevel(options.optimisation_level);
        }
    }
#else
    static_cast<void>(entries);
#endif
}

// What the parser found wrong, one error a line.
std::string parser_errors(nvonnxparser::IParser const &parser) {
    std::string all;
    for (int32_t i = 0; i < parser.getNbErrors(); ++i) {
        nvonnxparser::IParserError const *error = parser.getError(i);
        all += (i == 0 ? "" : "; ") + std::string(error->desc()) + " (node " + std::to_string(error->node()) + ")";
    }
    return all;
}

CfvitTrtBlob *blob(nvinfer1::IHostMemory *memory) {
    auto made = std::make_unique<CfvitTrtBlob>();
    made->memory.reset(memory);
    return made.release();
}

int32_t build(CfvitTrtEntries const *entries, CfvitTrtBuild const *options, CfvitTrtBuilt *built) noexcept {
    *built = {nullptr, nullptr};
    return guarded("build", [&]() -> int32_t {
        // Destroyed in the opposite order: what was made by something goes before it.
#if HAS_PROGRESS
        std::unique_ptr<Progress> progress;
#endif
        std::unique_ptr<nvinfer1::IBuilder> builder(call_entry<nvinfer1::IBuilder>(entries->create_builder));
        if (!builder) {
            return fail("createInferBuilder");
        }
        std::unique_ptr<nvinfer1::INetworkDefinition> network(builder->createNetworkV2(network_flags()));
        std::unique_ptr<nvinfer1::IBuilderConfig> config(builder->createBuilderConfig());
        if (!network || !config) {
            return fail("createNetworkV2");
        }
        if (!set_target(*config, options->compute_capability)) {
            return fail("setComputeCapability: not a target that this library builds for");
        }
        using CreateParser = void *(*)(void *, void *, int);
        void *made = reinterpret_cast<CreateParser>(entries->create_parser)(
            network.get(), static_cast<ILogger *>(&logger()), NV_ONNX_PARSER_VERSION);
        if (!usable(made)) {
            return fail("createNvOnnxParser");
        }
        std::unique_ptr<nvonnxparser::IParser> parser(static_cast<nvonnxparser::IParser *>(made));
        if (!parser->parse(options->onnx, options->onnx_size)) {
            return fail(("parse: " + parser_errors(*parser)).c_str());
        }
        configure(*network, *config, *entries, *options);
        std::unique_ptr<nvinfer1::ITimingCache> cache(
            config->createTimingCache(options->timing_cache, options->timing_cache == nullptr ? 0 : options->timing_cache_size));
        bool cached = cache && config->setTimingCache(*cache, false);
        if (!cached && options->timing_cache != nullptr) { // damaged, or of another device: begin a new one
            cache.reset(config->createTimingCache(nullptr, 0));
            cached = cache && config->setTimingCache(*cache, false);
        }
#if HAS_PROGRESS
        if (options->progress != nullptr) {
            progress = std::make_unique<Progress>(options->progress);
            config->setProgressMonitor(progress.get());
        }
#endif
        std::unique_ptr<nvinfer1::IHostMemory> plan(builder->buildSerializedNetwork(*network, *config));
        if (!plan || plan->size() == 0) {
            return fail("buildSerializedNetwork");
        }
        built->plan = blob(plan.release());
        nvinfer1::IHostMemory *timings = cached ? cache->serialize() : nullptr;
        built->timing_cache = timings == nullptr ? nullptr : blob(timings);
        return CFVIT_TRT_OK;
    });
}

void const *blob_data(CfvitTrtBlob const *blob) noexcept {
    return blob->memory ? blob->memory->data() : static_cast<void const *>(blob->text.data());
}
size_t blob_size(CfvitTrtBlob const *blob) noexcept { return blob->memory ? blob->memory->size() : blob->text.size(); }

int32_t runtime_create(CfvitTrtEntries const *entries, CfvitTrtRuntime **runtime) noexcept {
    *runtime = nullptr;
    return guarded("createInferRuntime", [&]() -> int32_t {
        auto made = std::make_unique<CfvitTrtRuntime>();
        made->it.reset(call_entry<nvinfer1::IRuntime>(entries->create_runtime));
        if (!made->it) {
            return fail("createInferRuntime");
        }
        *runtime = made.release();
        return CFVIT_TRT_OK;
    });
}

int32_t engine_load(CfvitTrtRuntime *runtime, void const *plan, size_t size, CfvitTrtEngine **engine) noexcept {
    *engine = nullptr;
    return guarded("deserializeCudaEngine", [&]() -> int32_t {
        auto made = std::make_unique<CfvitTrtEngine>();
        made->it.reset(runtime->it->deserializeCudaEngine(plan, size));
        if (!made->it) {
            return fail("deserializeCudaEngine");
        }
        *engine = made.release();
        return CFVIT_TRT_OK;
    });
}

int32_t engine_tensor_count(CfvitTrtEngine const *engine) noexcept { return engine->it->getNbIOTensors(); }

int32_t type_code(nvinfer1::DataType type) {
    switch (type) {
    case nvinfer1::DataType::kFLOAT: return CFVIT_TRT_FLOAT;
    case nvinfer1::DataType::kHALF: return CFVIT_TRT_HALF;
    case nvinfer1::DataType::kINT32: return CFVIT_TRT_INT32;
#if FLAVOUR != CFVIT_TRT_8
    case nvinfer1::DataType::kINT64: return CFVIT_TRT_INT64;
#endif
    default: return CFVIT_TRT_OTHER;
    }
}

int32_t engine_tensor(CfvitTrtEngine const *engine, int32_t index, CfvitTrtTensor *tensor) noexcept {
    return guarded("getIOTensorName", [&]() -> int32_t {
        char const *name = engine->it->getIOTensorName(index);
        if (name == nullptr) {
            return fail("getIOTensorName");
        }
        nvinfer1::Dims const shape = engine->it->getTensorShape(name);
        if (shape.nbDims < 0 || shape.nbDims > CFVIT_TRT_MAX_DIMS) {
            return fail("getTensorShape");
        }
        *tensor = {};
        tensor->name = name;
        tensor->type = type_code(engine->it->getTensorDataType(name));
        tensor->is_input = engine->it->getTensorIOMode(name) == nvinfer1::TensorIOMode::kINPUT ? 1 : 0;
        tensor->rank = shape.nbDims;
        for (int32_t i = 0; i < shape.nbDims; ++i) {
            tensor->dims[i] = static_cast<int64_t>(shape.d[i]);
        }
        return CFVIT_TRT_OK;
    });
}

int64_t engine_device_memory(CfvitTrtEngine const *engine) noexcept {
#if FLAVOUR == CFVIT_TRT_8 || FLAVOUR == CFVIT_TRT_10 // V2 came in 10.3; 10.0 to 10.2 lack it
    return static_cast<int64_t>(engine->it->getDeviceMemorySize());
#else
    return engine->it->getDeviceMemorySizeV2();
#endif
}

int32_t engine_inspect(CfvitTrtEngine const *engine, CfvitTrtBlob **json) noexcept {
    *json = nullptr;
    return guarded("createEngineInspector", [&]() -> int32_t {
        std::unique_ptr<nvinfer1::IEngineInspector> inspector(engine->it->createEngineInspector());
        char const *text = inspector ? inspector->getEngineInformation(nvinfer1::LayerInformationFormat::kJSON) : nullptr;
        if (text == nullptr) {
            return fail("getEngineInformation");
        }
        auto made = std::make_unique<CfvitTrtBlob>();
        made->text = text;
        *json = made.release();
        return CFVIT_TRT_OK;
    });
}

int32_t context_create(CfvitTrtEngine *engine, CfvitTrtContext **context) noexcept {
    *context = nullptr;
    return guarded("createExecutionContext", [&]() -> int32_t {
        auto made = std::make_unique<CfvitTrtContext>();
        made->it.reset(engine->it->createExecutionContext());
        if (!made->it) {
            return fail("createExecutionContext");
        }
        *context = made.release();
        return CFVIT_TRT_OK;
    });
}

int32_t context_bind(CfvitTrtContext *context, char const *tensor, void *address) noexcept {
    return guarded("setTensorAddress", [&]() -> int32_t {
        return context->it->setTensorAddress(tensor, address) ? CFVIT_TRT_OK : fail((std::string("setTensorAddress ") + tensor).c_str());
    });
}

// On the frame path: no lock and no allocation unless it fails.
int32_t context_enqueue(CfvitTrtContext *context, void *stream) noexcept {
    return context->it->enqueueV3(static_cast<cudaStream_t>(stream)) ? CFVIT_TRT_OK : fail("enqueueV3");
}

char const *last_message() noexcept { return last_message_text.c_str(); }
void set_log(CfvitTrtLog log) noexcept { logger().send_to(log); }
uint64_t error_count() noexcept { return logger().errors(); }

void blob_destroy(CfvitTrtBlob *blob) noexcept { delete blob; }
void runtime_destroy(CfvitTrtRuntime *runtime) noexcept { delete runtime; }
void engine_destroy(CfvitTrtEngine *engine) noexcept { delete engine; }
void context_destroy(CfvitTrtContext *context) noexcept { delete context; }

} // namespace

extern "C" CfvitTrtApi const *SHIM_NAME(void) {
    static CfvitTrtApi const api = {
        CFVIT_TRT_ABI,
        FLAVOUR,
        {NV_TENSORRT_MAJOR, NV_TENSORRT_MINOR, NV_TENSORRT_PATCH, NV_TENSORRT_BUILD},
        last_message,
        set_log,
        error_count,
        build,
        blob_data,
        blob_size,
        blob_destroy,
        runtime_create,
        runtime_destroy,
        engine_load,
        engine_destroy,
        engine_tensor_count,
        engine_tensor,
        engine_device_memory,
        engine_inspect,
        context_create,
        context_destroy,
        context_bind,
        context_enqueue,
    };
    return &api;
}
