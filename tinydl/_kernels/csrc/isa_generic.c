#define TD_ISA_GENERIC 1
#define TD_ISA_NAME "generic"
#define TD_TABLE td_generic
#include "body.h"
