// Found before the CUDA toolkit's own header; cuda.h has its contents.
#pragma once
#include "cuda.h"
