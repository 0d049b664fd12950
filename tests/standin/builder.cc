// The stand-in's builder and ONNX parser: see nvinfer.cc. "Building" writes down the graph's inputs and outputs; which model a plan is for is
// told by CFVIT_STANDIN_MODEL.
//
// Faults, see standin_fault: parse, build, scratch (fails with more than 128 MiB of scratch space), killed (as the kernel does where memory is
// short), timings (those of an earlier build are refused, as another device's).

#include "nvinfer.h"

#include <csignal>

using namespace nvinfer1;

namespace {

class Network final : public INetworkDefinition, public apiv::DefaultVNetworkDefinition {
  public:
    Network() { mImpl = this; standin_live("INetworkDefinition", 1); }
    ~Network() noexcept override { standin_live("INetworkDefinition", -1); }
    int32_t getNbLayers() const noexcept override { return 0; }
    std::string onnx;
};

class TimingCache final : public ITimingCache, public apiv::DefaultVTimingCache {
  public:
    explicit TimingCache(bool earlier) : earlier(earlier) { mImpl = this; standin_live("ITimingCache", 1); }
    ~TimingCache() noexcept override { standin_live("ITimingCache", -1); }
    IHostMemory* serialize() const noexcept override { return new StandinMemory("timings"); }
    const bool earlier;
};

class Config final : public IBuilderConfig, public apiv::DefaultVBuilderConfig {
  public:
    Config() { mImpl = this; standin_live("IBuilderConfig", 1); }
    ~Config() noexcept override { standin_live("IBuilderConfig", -1); }
    void setFlag(BuilderFlag) noexcept override {}
    void clearFlag(BuilderFlag) noexcept override {}
    void setProfilingVerbosity(ProfilingVerbosity) noexcept override {}
    void setMemoryPoolLimit(MemoryPoolType, std::size_t bytes) noexcept override { scratch = bytes; }
    void setBuilderOptimizationLevel(int32_t) noexcept override {}
    bool setMaxAuxStreams(int32_t streams) noexcept override {
        if (streams != 0) standin_violation("an engine with more streams than one cannot be captured");
        return true;
    }
    void setProgressMonitor(IProgressMonitor* given) noexcept override { monitor = given; }
    ITimingCache* createTimingCache(const void* bytes, std::size_t size) const noexcept override {
        const bool earlier = std::string(static_cast<const char*>(bytes), size) == "timings";
        if (size != 0 && !earlier) return nullptr;
        return new TimingCache(earlier);
    }
    bool setTimingCache(const ITimingCache& cache, bool ignore_mismatch) noexcept override {
        if (ignore_mismatch) standin_violation("another device's timings would be used");
        const bool earlier = static_cast<const TimingCache&>(cache).earlier;
        if (earlier && standin_fault("timings")) return false;
        standin_called(earlier ? "setTimingCache: earlier" : "setTimingCache: empty");
        return true;
    }
    IProgressMonitor* monitor = nullptr;
    std::size_t scratch = 0;
};

class Builder final : public IBuilder, public apiv::DefaultVBuilder {
  public:
    Builder() { mImpl = this; standin_live("IBuilder", 1); }
    ~Builder() noexcept override { standin_live("IBuilder", -1); }
    IBuilderConfig* createBuilderConfig() noexcept override { return new Config; }
    INetworkDefinition* createNetworkV2(NetworkDefinitionCreationFlags) noexcept override { return new Network; }
    IHostMemory* buildSerializedNetwork(INetworkDefinition& network, IBuilderConfig& config) noexcept override {
        standin_called("buildSerializedNetwork");
        if (standin_fault("killed")) std::raise(SIGKILL);
        if (standin_fault("build") || (standin_fault("scratch") && static_cast<Config&>(config).scratch > size_t(128) << 20)) {
            standin_log(ILogger::Severity::kERROR, "buildSerializedNetwork: the test double was told to fail");
            return nullptr;
        }
        if (IProgressMonitor* monitor = static_cast<Config&>(config).monitor) {
            monitor->phaseStart("Pretending", nullptr, 1);
            monitor->stepComplete("Pretending", 0);
            monitor->phaseFinish("Pretending");
        }
        const std::string& onnx = static_cast<Network&>(network).onnx;
        std::string plan;
        const auto append = [](void* to, const void* bytes, size_t count) {
            static_cast<std::string*>(to)->append(static_cast<const char*>(bytes), count);
        };
        const auto make = reinterpret_cast<StandinPlan>(standin_engine_function("cfvit_standin_plan"));
        return make(onnx.data(), onnx.size(), &plan, append) == 0 ? new StandinMemory(std::move(plan)) : nullptr;
    }
};

class ParserError final : public nvonnxparser::DefaultIParserError {
  public:
    const char* desc() const override { return "the test double was told to fail"; }
    int node() const override { return 0; }
};

class Parser final : public nvonnxparser::DefaultIParser {
  public:
    explicit Parser(Network& network) : network(network) { standin_live("IParser", 1); }
    ~Parser() noexcept override { standin_live("IParser", -1); }
    bool parse(const void* onnx, size_t size, const char*) noexcept override {
        failed = standin_fault("parse");
        network.onnx.assign(static_cast<const char*>(onnx), size);
        return !failed;
    }
    int getNbErrors() const noexcept override { return failed; }
    const nvonnxparser::IParserError* getError(int) const noexcept override { return &error; }

  private:
    Network& network;
    ParserError error;
    bool failed = false;
};

}  // namespace

extern "C" {

void* createInferBuilder_INTERNAL(void* logger, int32_t) noexcept {
    standin_set_logger(static_cast<ILogger*>(logger));
    return static_cast<IBuilder*>(new Builder);
}

void* createNvOnnxParser_INTERNAL(void* network, void*, int) noexcept {
    return static_cast<nvonnxparser::IParser*>(new Parser(static_cast<Network&>(*static_cast<INetworkDefinition*>(network))));
}

}  // extern "C"
