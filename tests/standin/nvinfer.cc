// A test double of libnvinfer and libnvonnxparser, binary-compatible with the headers that it is compiled with: its classes implement NVIDIA's
// interfaces, so that callers find their virtual tables as they expect them. A method that cfvit does not call ends the process
// (defaults.h, made from the headers by the test).
//
// A "plan" is text that names a stage, a model and its tensors; running it is running cfvit's CPU engine on that model (engine.rs).
//
// Faults, see standin_fault: deserialize, context, enqueue, wrong, wrong-fp16 (logits are off by 1 in every run), graph (in a graph's launch
// only).

#include "nvinfer.h"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

using namespace nvinfer1;

namespace {

constexpr const char* MAGIC = "cfvit stand-in plan 1";

ILogger* logger = nullptr;

struct Tensor {
    bool input;
    std::string name;
    DataType type;
    Dims dims;
    size_t bytes;
};

struct Description {
    std::string stage, model, precision;
    std::vector<Tensor> tensors;

    const Tensor* find(const char* name) const {
        for (const Tensor& tensor : tensors)
            if (tensor.name == name) return &tensor;
        return nullptr;
    }

    // False for what is no plan of the stand-in's.
    bool parse(const std::string& text) {
        std::istringstream lines(text);
        std::string line;
        if (!std::getline(lines, line) || line != MAGIC) return false;
        bool ended = false;
        while (std::getline(lines, line)) {
            std::istringstream words(line);
            std::string key;
            words >> key;
            if (key == "stage") words >> stage;
            else if (key == "precision") words >> precision;
            else if (key == "model") std::getline(words >> std::ws, model);
            else if (key == "end") ended = true;
            else if (key == "input" || key == "output") {
                Tensor tensor{key == "input", {}, DataType::kFLOAT, {}, 0};
                std::string element;
                words >> tensor.name >> element;
                if (element == "f16") tensor.type = DataType::kHALF;
                else if (element == "i32") tensor.type = DataType::kINT32;
                else if (element != "f32") return false;
                tensor.bytes = element == "f16" ? 2 : 4;
                for (int64_t size; words >> size && tensor.dims.nbDims < Dims::MAX_DIMS;) {
                    tensor.dims.d[tensor.dims.nbDims++] = size;
                    tensor.bytes *= size;
                }
                tensors.push_back(tensor);
            } else return false;
        }
        return ended;
    }
};

std::mutex contexts_mutex;
std::set<const void*>& live_contexts() {
    static auto* contexts = new std::set<const void*>;
    return *contexts;
}

class Context;

// A run that waits on a stream: the addresses are those at the time of the enqueue.
struct Pending {
    const Context* context;
    const Description* description;
    std::vector<void*> addresses;
};

int run_pending(void* state, bool in_graph) {
    const Pending& pending = *static_cast<Pending*>(state);
    {
        std::lock_guard<std::mutex> lock(contexts_mutex);
        if (!live_contexts().count(pending.context)) standin_violation("a run of an execution context that was destroyed");
    }
    const Description& description = *pending.description;
    std::vector<RawTensor> tensors;
    for (size_t i = 0; i < description.tensors.size(); ++i) {
        const Tensor& tensor = description.tensors[i];
        standin_check_memory(pending.addresses[i], tensor.bytes, tensor.name.c_str());
        tensors.push_back({tensor.name.c_str(), pending.addresses[i], tensor.bytes, static_cast<int>(tensor.type)});
    }
    static const auto run = reinterpret_cast<StandinRun>(standin_engine_function("cfvit_standin_run"));
    if (run(description.stage.c_str(), description.model.c_str(), tensors.data(), tensors.size()) != 0)
        standin_violation("the %s stage could not be run, see above", description.stage.c_str());
    standin_called(("run " + description.stage).c_str());
    const bool wrong = standin_fault("wrong") || (description.precision == "fp16" && standin_fault("wrong-fp16"));
    if (wrong || (in_graph && standin_fault("graph"))) {
        for (const RawTensor& tensor : tensors) {
            const bool logits = std::strstr(tensor.name, "_logits") != nullptr;
            if (logits) static_cast<float*>(tensor.data)[0] += 1.0f;
        }
    }
    return 0;
}

void drop_pending(void* state) { delete static_cast<Pending*>(state); }

class Context final : public IExecutionContext, public apiv::DefaultVExecutionContext {
  public:
    Context(const ICudaEngine& engine, int& siblings, std::shared_ptr<const Description> description)
        : engine(engine), siblings(siblings), description(std::move(description)) {
        mImpl = this;
        ++siblings;
        addresses.resize(this->description->tensors.size(), nullptr);
        standin_live("IExecutionContext", 1);
        std::lock_guard<std::mutex> lock(contexts_mutex);
        live_contexts().insert(this);
    }
    ~Context() noexcept override {
        --siblings;
        standin_live("IExecutionContext", -1);
        std::lock_guard<std::mutex> lock(contexts_mutex);
        live_contexts().erase(this);
    }

    IExecutionContext* getPImpl() noexcept override { return this; }
    const ICudaEngine& getEngine() const noexcept override { return engine; }
    Dims getTensorShape(const char* name) const noexcept override {
        const Tensor* tensor = description->find(name);
        return tensor ? tensor->dims : Dims{-1, {}};
    }
    bool setTensorAddress(const char* name, void* data) noexcept override {
        for (size_t i = 0; i < addresses.size(); ++i) {
            const Tensor& tensor = description->tensors[i];
            if (tensor.name != name) continue;
            standin_check_memory(data, tensor.bytes, name);
            addresses[i] = data;
            return true;
        }
        standin_log(ILogger::Severity::kERROR, std::string("setTensorAddress: no tensor ") + name);
        return false;
    }
    const void* getTensorAddress(const char* name) const noexcept override {
        const Tensor* tensor = description->find(name);
        return tensor ? addresses[tensor - description->tensors.data()] : nullptr;
    }
    bool setInputShape(const char* name, const Dims& dims) noexcept override {
        const Tensor* tensor = description->find(name);
        return tensor && tensor->input && tensor->dims.nbDims == dims.nbDims
            && std::equal(dims.d, dims.d + dims.nbDims, tensor->dims.d);
    }
    bool allInputDimensionsSpecified() const noexcept override { return true; }
    int32_t inferShapes(int32_t, const char**) noexcept override { return 0; }
    void setEnqueueEmitsProfile(bool) noexcept override {}
    bool enqueueV3(cudaStream_t stream) noexcept override {
        standin_called(("enqueueV3 " + description->stage).c_str());
        for (size_t i = 0; i < addresses.size(); ++i)
            if (!addresses[i]) standin_violation("enqueueV3 without an address for %s", description->tensors[i].name.c_str());
        if (standin_fault("enqueue")) {
            standin_log(ILogger::Severity::kERROR, "enqueueV3: the test double was told to fail");
            return false;
        }
        auto* pending = new Pending{this, description.get(), addresses};
        return standin_enqueue(reinterpret_cast<StandinStream*>(stream), {run_pending, drop_pending, pending});
    }

  private:
    const ICudaEngine& engine;
    int& siblings;
    std::shared_ptr<const Description> description;
    std::vector<void*> addresses;
};

class Inspector final : public IEngineInspector, public apiv::DefaultVEngineInspector {
  public:
    Inspector() { mImpl = this; standin_live("IEngineInspector", 1); }
    ~Inspector() noexcept override { standin_live("IEngineInspector", -1); }
    IEngineInspector* getPImpl() noexcept override { return this; }
    const char* getEngineInformation(LayerInformationFormat) const noexcept override { 
        return "{\"Layers\": [{\"Name\": \"attention\", \"TacticName\": \"_gemm_mha_v2_0x1\"}, {\"Name\": \"mlp\", \"TacticName\": \"gemm\"}]}";
    }
};

class Engine final : public ICudaEngine, public apiv::DefaultVCudaEngine {
  public:
    explicit Engine(std::shared_ptr<const Description> description) : description(std::move(description)) {
        mImpl = this;
        standin_live("ICudaEngine", 1);
    }
    ~Engine() noexcept override {
        if (contexts != 0) standin_violation("an engine was destroyed before its execution contexts");
        standin_live("ICudaEngine", -1);
    }

    ICudaEngine* getPImpl() noexcept override { return this; }
    int32_t getNbLayers() const noexcept override { return 1; }
    const char* getName() const noexcept override { return description->stage.c_str(); }
    int32_t getNbOptimizationProfiles() const noexcept override { return 1; }
    int32_t getNbAuxStreams() const noexcept override { return 0; }
    int64_t getDeviceMemorySizeV2() const noexcept override { return 1 << 20; }
    int32_t getNbIOTensors() const noexcept override { return static_cast<int32_t>(description->tensors.size()); }
    const char* getIOTensorName(int32_t index) const noexcept override {
        return index >= 0 && index < getNbIOTensors() ? description->tensors[index].name.c_str() : nullptr;
    }
    Dims getTensorShape(const char* name) const noexcept override {
        const Tensor* tensor = description->find(name);
        return tensor ? tensor->dims : Dims{-1, {}};
    }
    DataType getTensorDataType(const char* name) const noexcept override {
        const Tensor* tensor = description->find(name);
        return tensor ? tensor->type : DataType::kFLOAT;
    }
    TensorLocation getTensorLocation(const char*) const noexcept override { return TensorLocation::kDEVICE; }
    TensorFormat getTensorFormat(const char*) const noexcept override { return TensorFormat::kLINEAR; }
    bool isShapeInferenceIO(const char*) const noexcept override { return false; }
    TensorIOMode getTensorIOMode(const char* name) const noexcept override {
        const Tensor* tensor = description->find(name);
        return !tensor ? TensorIOMode::kNONE : tensor->input ? TensorIOMode::kINPUT : TensorIOMode::kOUTPUT;
    }
    IEngineInspector* createEngineInspector() const noexcept override { return new Inspector; }
    IExecutionContext* createExecutionContext(ExecutionContextAllocationStrategy) noexcept override {
        if (standin_fault("context")) {
            standin_log(ILogger::Severity::kERROR, "createExecutionContext: the test double was told to fail");
            return nullptr;
        }
        return new Context(*this, contexts, description);
    }

  private:
    std::shared_ptr<const Description> description;
    int contexts = 0;
};

class Runtime final : public IRuntime, public apiv::DefaultVRuntime {
  public:
    Runtime() { mImpl = this; standin_live("IRuntime", 1); }
    ~Runtime() noexcept override { standin_live("IRuntime", -1); }
    IRuntime* getPImpl() noexcept override { return this; }
    ILogger* getLogger() const noexcept override { return logger; }
    void setErrorRecorder(IErrorRecorder*) noexcept override {}
    bool setMaxThreads(int32_t) noexcept override { return true; }
    void setEngineHostCodeAllowed(bool) noexcept override {}
    ICudaEngine* deserializeCudaEngine(const void* blob, std::size_t size) noexcept override {
        standin_called("deserializeCudaEngine");
        auto description = std::make_shared<Description>();
        if (standin_fault("deserialize") || !description->parse(std::string(static_cast<const char*>(blob), size))) {
            standin_log(ILogger::Severity::kERROR, "deserializeCudaEngine: this is no plan of the test double");
            return nullptr;
        }
        return new Engine(std::move(description));
    }
};

}  // namespace

void standin_set_logger(ILogger* given) { logger = given; }

void standin_log(ILogger::Severity severity, const std::string& message) {
    if (logger) logger->log(severity, message.c_str());
}

void* standin_engine_function(const char* name) {
    const char* path = std::getenv("CFVIT_STANDIN_ENGINE");
    void* library = path ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : nullptr;
    void* function = library ? dlsym(library, name) : nullptr;
    if (!function) standin_violation("CFVIT_STANDIN_ENGINE gives no %s: %s", name, path ? dlerror() : "it is not set");
    return function;
}

extern "C" {

int32_t getInferLibVersion() noexcept { return NV_TENSORRT_VERSION; }
int32_t getInferLibBuildVersion() noexcept { return NV_TENSORRT_BUILD; }

void* createInferRuntime_INTERNAL(void* given, int32_t) noexcept {
    standin_set_logger(static_cast<ILogger*>(given));
    return static_cast<IRuntime*>(new Runtime);
}

}  // extern "C"
