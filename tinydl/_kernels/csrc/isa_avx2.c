#define TD_ISA_AVX2 1
#define TD_ISA_NAME "avx2"
#define TD_TABLE td_avx2
#include "body.h"
