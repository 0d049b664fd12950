// TensorRT's headers need these two names of CUDA's runtime and nothing else.
#pragma once
typedef struct CUevent_st *cudaEvent_t;
typedef struct CUstream_st *cudaStream_t;
