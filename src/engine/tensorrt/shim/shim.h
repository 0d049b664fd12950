// The C ABI between cfvit and one major version of TensorRT. `shim.cc` implements it once for each set of headers; `sys.rs` mirrors
// it in Rust, field by field: change both, and CFVIT_TRT_ABI with them.
//
// Rules of every call:
// - It returns CFVIT_TRT_OK or CFVIT_TRT_FAILED. After a failure `last_message` tells why: the call, and the first error that TensorRT
//   logged meanwhile. The text belongs to the calling thread and lives until its next failing call.
// - No C++ exception leaves it.
// - Handles are opaque. Whoever made one destroys it; a context before its engine, an engine before its runtime. NULL may be destroyed.
// - Text that comes out (names, messages) lives as long as the handle that it was asked of.
#ifndef CFVIT_TRT_SHIM_H
#define CFVIT_TRT_SHIM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// The number of this interface. It stands in every plan's key.
#define CFVIT_TRT_ABI 1
// Most dimensions of a tensor (TensorRT's own limit).
#define CFVIT_TRT_MAX_DIMS 8

enum { CFVIT_TRT_OK = 0, CFVIT_TRT_FAILED = 1 };

// The headers that a shim was compiled with, and so the only libraries that it may drive.
#define CFVIT_TRT_8 8
#define CFVIT_TRT_10 10
#define CFVIT_TRT_11 11
#define CFVIT_TRT_RTX 1

// Severities of log messages, as TensorRT's.
enum {
    CFVIT_TRT_INTERNAL_ERROR = 0,
    CFVIT_TRT_ERROR = 1,
    CFVIT_TRT_WARNING = 2,
    CFVIT_TRT_INFO = 3,
    CFVIT_TRT_VERBOSE = 4
};

// Number formats of tensors.
enum { CFVIT_TRT_FLOAT = 0, CFVIT_TRT_HALF = 1, CFVIT_TRT_INT32 = 2, CFVIT_TRT_INT64 = 3, CFVIT_TRT_OTHER = 99 };

typedef struct CfvitTrtRuntime CfvitTrtRuntime;
typedef struct CfvitTrtEngine CfvitTrtEngine;
typedef struct CfvitTrtContext CfvitTrtContext;
typedef struct CfvitTrtBlob CfvitTrtBlob;

// Takes one log message; called from any thread, must not unwind.
typedef void (*CfvitTrtLog)(int32_t severity, const char *message);
// Takes the progress of a build: `step` of `steps` done in `phase` (steps = 0: the phase is over). Returns 0 to cancel.
typedef int32_t (*CfvitTrtProgress)(const char *phase, int32_t step, int32_t steps);

// What the caller found in the libraries with dlsym. `version` is what getInferLibVersion gave.
typedef struct {
    int32_t version;
    void *create_builder; // createInferBuilder_INTERNAL
    void *create_runtime; // createInferRuntime_INTERNAL
    void *create_parser;  // createNvOnnxParser_INTERNAL; NULL where nothing is built
} CfvitTrtEntries;

typedef struct {
    const void *onnx; // a whole ONNX file, weights included
    size_t onnx_size;
    int32_t half;               // 1: FP16 may be used (TensorRT 8 needs to be told; from 10 on the graph's own types count)
    int32_t optimisation_level; // 0 to 5; -1: TensorRT's default
    int32_t compute_capability; // 0: this machine's GPU; 86 for SM 8.6: RTX only
    uint64_t workspace;         // bytes of GPU memory for one layer's scratch space
    const void *timing_cache;   // of an earlier build, or NULL
    size_t timing_cache_size;
    CfvitTrtProgress progress; // or NULL
} CfvitTrtBuild;

typedef struct {
    CfvitTrtBlob *plan;
    CfvitTrtBlob *timing_cache; // NULL where TensorRT gives none
} CfvitTrtBuilt;

typedef struct {
    const char *name;
    int32_t type;
    int32_t is_input;
    int32_t rank;
    int64_t dims[CFVIT_TRT_MAX_DIMS];
} CfvitTrtTensor;

// All calls of one shim.
typedef struct {
    uint32_t abi;
    int32_t flavour;            // CFVIT_TRT_8 …
    int32_t header_version[4];  // major, minor, patch, build of the headers

    const char *(*last_message)(void);
    // Where log messages go from now on, for the whole process.
    void (*set_log)(CfvitTrtLog log);
    // Errors logged so far, internal ones included.
    uint64_t (*error_count)(void);

    // Builds the plan of one ONNX file.
    int32_t (*build)(const CfvitTrtEntries *entries, const CfvitTrtBuild *options, CfvitTrtBuilt *built);
    const void *(*blob_data)(const CfvitTrtBlob *blob);
    size_t (*blob_size)(const CfvitTrtBlob *blob);
    void (*blob_destroy)(CfvitTrtBlob *blob);

    // Needs an initialised CUDA driver (cuInit): without one some versions give a pointer that points nowhere.
    int32_t (*runtime_create)(const CfvitTrtEntries *entries, CfvitTrtRuntime **runtime);
    void (*runtime_destroy)(CfvitTrtRuntime *runtime);

    // The plan may be freed afterwards.
    int32_t (*engine_load)(CfvitTrtRuntime *runtime, const void *plan, size_t size, CfvitTrtEngine **engine);
    void (*engine_destroy)(CfvitTrtEngine *engine);
    int32_t (*engine_tensor_count)(const CfvitTrtEngine *engine);
    int32_t (*engine_tensor)(const CfvitTrtEngine *engine, int32_t index, CfvitTrtTensor *tensor);
    // Bytes of GPU memory that a context of this engine takes for activations and scratch space.
    int64_t (*engine_device_memory)(const CfvitTrtEngine *engine);
    // The layers as JSON text (not terminated by a zero).
    int32_t (*engine_inspect)(const CfvitTrtEngine *engine, CfvitTrtBlob **json);

    int32_t (*context_create)(CfvitTrtEngine *engine, CfvitTrtContext **context);
    void (*context_destroy)(CfvitTrtContext *context);
    // Binds a tensor to GPU memory; both kinds must be bound before the first enqueue.
    int32_t (*context_bind)(CfvitTrtContext *context, const char *tensor, void *address);
    // Puts one inference on `stream` (a CUstream).
    int32_t (*context_enqueue)(CfvitTrtContext *context, void *stream);
} CfvitTrtApi;

// Each compiled shim exports one of these; which ones there are is decided by build.rs.
const CfvitTrtApi *cfvit_trt_shim_8(void);
const CfvitTrtApi *cfvit_trt_shim_10(void);
const CfvitTrtApi *cfvit_trt_shim_11(void);
const CfvitTrtApi *cfvit_trt_shim_rtx(void);

#ifdef __cplusplus
}
#endif
#endif
