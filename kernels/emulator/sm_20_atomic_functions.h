#pragma once // emulator_cuda.h has all of it, and comes first
