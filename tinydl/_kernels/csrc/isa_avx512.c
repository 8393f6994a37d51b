#define TD_ISA_AVX512 1
#define TD_ISA_NAME "avx512"
#define TD_TABLE td_avx512
#include "body.h"
