// From an ONNX file to a plan.
#ifndef CFVIT_TRT_BUILDER_H
#define CFVIT_TRT_BUILDER_H

#include "support.h"

#include <map>

namespace {

#if HAS_PROGRESS
// Phases are nested, and begin and end on several threads.
class Progress final : public nvinfer1::IProgressMonitor {
public:
    explicit Progress(CfvitTrtProgress tell) : tell_(tell) {}
    void phaseStart(char const *phase, char const *, int32_t steps) noexcept override { remember(phase, steps), tell_(phase, 0, steps); }
    bool stepComplete(char const *phase, int32_t step) noexcept override { return tell_(phase, step + 1, steps(phase)) != 0; }
    void phaseFinish(char const *phase) noexcept override { tell_(phase, 0, 0); }

private:
    void remember(char const *phase, int32_t steps) noexcept {
        try {
            std::lock_guard<std::mutex> lock(mutex_);
            steps_[phase] = steps;
        } catch (...) { // no memory for a name: its steps are told without their number
        }
    }
    int32_t steps(char const *phase) noexcept {
        try {
            std::lock_guard<std::mutex> lock(mutex_);
            auto const found = steps_.find(phase);
            return found == steps_.end() ? 0 : found->second;
        } catch (...) {
            return 0;
        }
    }
    CfvitTrtProgress tell_;
    std::mutex mutex_;
    std::map<std::string, int32_t> steps_;
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
bool any_half_product(nvinfer1::INetworkDefinition &network) {
    for (int32_t i = 0; i < network.getNbLayers(); ++i) {
        nvinfer1::ILayer &layer = *network.getLayer(i);
        if (layer.getType() == nvinfer1::LayerType::kMATRIX_MULTIPLY && layer.getOutput(0)->getType() == nvinfer1::DataType::kHALF) {
            return true;
        }
    }
    return false;
}

// With weak typing the types in the graph are hints. Layers that the graph computes in FP32 (patches, normalisations, logits, class
// attention) are asked to stay there.
void keep_float_islands(nvinfer1::INetworkDefinition &network, nvinfer1::IBuilderConfig &config) {
    using nvinfer1::LayerType;
    if (!any_half_product(network)) {
        // An FP16 graph has them: this parser does not tell its types, and FP32 would be asked for everywhere.
        logger().log(ILogger::Severity::kWARNING, "the parser does not tell which layers are FP16: TensorRT chooses for all of them");
        return;
    }
    config.setFlag(nvinfer1::BuilderFlag::kPREFER_PRECISION_CONSTRAINTS);
    for (int32_t i = 0; i < network.getNbLayers(); ++i) {
        nvinfer1::ILayer &layer = *network.getLayer(i);
        LayerType const type = layer.getType();
        bool const computes = type == LayerType::kELEMENTWISE || type == LayerType::kUNARY || type == LayerType::kREDUCE
            || type == LayerType::kMATRIX_MULTIPLY || type == LayerType::kCONVOLUTION || type == LayerType::kSOFTMAX;
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

// Fills `network` from the ONNX file; null after a failure. The parser owns weights that the network refers to, so it must live until the
// plan is built.
std::unique_ptr<nvonnxparser::IParser> parse(
    nvinfer1::INetworkDefinition &network, CfvitTrtEntries const &entries, CfvitTrtBuild const &options) {
    using Create = void *(*)(void *, void *, int);
    void *made = reinterpret_cast<Create>(entries.create_parser)(&network, static_cast<ILogger *>(&logger()), NV_ONNX_PARSER_VERSION);
    if (!usable(made)) {
        fail("createNvOnnxParser");
        return nullptr;
    }
    std::unique_ptr<nvonnxparser::IParser> parser(static_cast<nvonnxparser::IParser *>(made));
    if (!parser->parse(options.onnx, options.onnx_size)) {
        fail(("parse: " + parser_errors(*parser)).c_str());
        return nullptr;
    }
    return parser;
}

// Gives `config` the timings of an earlier build, or an empty cache where they are damaged or another device's.
std::unique_ptr<nvinfer1::ITimingCache> set_timings(nvinfer1::IBuilderConfig &config, CfvitTrtBuild const &options) {
    for (size_t size : {options.timing_cache_size, size_t{0}}) {
        void const *bytes = size == 0 ? nullptr : options.timing_cache;
        std::unique_ptr<nvinfer1::ITimingCache> cache(config.createTimingCache(bytes, size));
        if (cache && config.setTimingCache(*cache, false)) {
            return cache;
        }
    }
    return nullptr;
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
        std::unique_ptr<nvonnxparser::IParser> parser = parse(*network, *entries, *options);
        if (!parser) {
            return CFVIT_TRT_FAILED;
        }
        configure(*network, *config, *entries, *options);
        std::unique_ptr<nvinfer1::ITimingCache> cache = set_timings(*config, *options);
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
        nvinfer1::IHostMemory *timings = cache ? cache->serialize() : nullptr;
        built->timing_cache = timings == nullptr ? nullptr : blob(timings);
        return CFVIT_TRT_OK;
    });
}

} // namespace

#endif
