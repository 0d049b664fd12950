// What nvinfer.cc (runtime) and builder.cc (builder and ONNX parser) share.
#pragma once

#include "standin.h"

#include <NvInfer.h>
#include <NvOnnxParser.h>

#include "defaults.h"

#include <string>
#include <utility>

// As in engine.rs.
struct RawTensor {
    const char* name;
    void* data;
    size_t bytes;
    int element;
};
using StandinRun = int (*)(const char* stage, const char* model, const RawTensor* tensors, size_t count);
using StandinTake = void (*)(void* to, const void* bytes, size_t count);
using StandinPlan = int (*)(const void* onnx, size_t bytes, void* to, StandinTake take);

// A function of the library that CFVIT_STANDIN_ENGINE names.
void* standin_engine_function(const char* name);

void standin_set_logger(nvinfer1::ILogger* logger);
void standin_log(nvinfer1::ILogger::Severity severity, const std::string& message);

class StandinMemory final : public nvinfer1::IHostMemory, public nvinfer1::apiv::DefaultVHostMemory {
  public:
    explicit StandinMemory(std::string bytes) : bytes(std::move(bytes)) {
        mImpl = this;
        standin_live("IHostMemory", 1);
    }
    ~StandinMemory() noexcept override { standin_live("IHostMemory", -1); }
    void* data() const noexcept override { return const_cast<char*>(bytes.data()); }
    std::size_t size() const noexcept override { return bytes.size(); }
    nvinfer1::DataType type() const noexcept override { return nvinfer1::DataType::kINT8; }

  private:
    std::string bytes;
};
