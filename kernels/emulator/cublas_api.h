#pragma once
#include "mma.h" // it brings the 16-bit types, as CUDA's own does
