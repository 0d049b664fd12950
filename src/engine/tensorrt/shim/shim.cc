// The C ABI of shim.h over NVIDIA's C++ classes. build.rs compiles this file once for each set of headers it is given, with
// `nvinfer1` and `nvonnxparser` renamed per set: inline functions of two majors must not be merged by the linker.
//
// Only virtual calls and three entry points, found by the caller with dlsym: no symbol of TensorRT is needed to link.
#include "builder.h"
#include "support.h"

namespace {

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
